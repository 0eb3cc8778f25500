//! For pools with timings: the clock, and which jobs wait since when.
//!
//! A channel's head cannot be looked at, so the jobs that wait are kept here once more, by their
//! time stamps. They come and go nearly in order; a few parts with a lock each keep submitters and
//! workers apart.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::sync::Mutex;

/// Nanoseconds since the pool was built.
pub(crate) type Stamp = u64;

const PARTS: usize = 16;

pub(crate) struct Timings {
    start: Instant,
    parts: [Mutex<Part>; PARTS],
}

/// Jobs that wait, by stamp.
#[derive(Default)]
#[repr(align(128))]
struct Part {
    jobs: VecDeque<Entry>,
    /// So many of them wait no more.
    gone: usize,
}

struct Entry {
    stamp: Stamp,
    gone: bool,
}

impl Timings {
    pub(crate) fn new(start: Instant) -> Self {
        Timings {
            start,
            parts: Default::default(),
        }
    }

    pub(crate) fn now(&self) -> Stamp {
        let nanos = self.start.elapsed().as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// A job waits from now on; its stamp.
    pub(crate) fn begin_wait(&self) -> Stamp {
        let stamp = self.now();
        self.part(stamp).lock().enter(stamp);
        stamp
    }

    /// The job with this stamp waits no more.
    pub(crate) fn end_wait(&self, stamp: Stamp) {
        self.part(stamp).lock().leave(stamp);
    }

    /// For how long the oldest job has waited.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        let oldest = self.parts.iter().filter_map(|part| part.lock().first());
        // After the look: no job has entered later than now.
        let oldest = oldest.min()?;
        Some(Duration::from_nanos(self.now().saturating_sub(oldest)))
    }

    fn part(&self, stamp: Stamp) -> &Mutex<Part> {
        // The upper bits of the product depend on all bits of the stamp.
        let mixed = stamp.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        &self.parts[(mixed >> 60) as usize % PARTS]
    }
}

impl Part {
    fn enter(&mut self, stamp: Stamp) {
        let entry = Entry { stamp, gone: false };
        match self.jobs.back() {
            // Another was faster between the clock and the lock.
            Some(last) if last.stamp > stamp => {
                let place = self.jobs.partition_point(|other| other.stamp <= stamp);
                self.jobs.insert(place, entry);
            }
            _ => self.jobs.push_back(entry),
        }
    }

    fn leave(&mut self, stamp: Stamp) {
        let first = self.jobs.partition_point(|other| other.stamp < stamp);
        let mut same = self.jobs.range_mut(first..);
        // Several may have come in one tick of the clock.
        let entry = same.find(|entry| !entry.gone);
        let entry = entry.filter(|entry| entry.stamp == stamp);
        debug_assert!(entry.is_some(), "a job ended its wait twice");
        if let Some(entry) = entry {
            entry.gone = true;
            self.gone += 1;
        }
        while self.jobs.front().is_some_and(|entry| entry.gone) {
            self.jobs.pop_front();
            self.gone -= 1;
        }
        // Behind one that waits for long.
        if self.gone > 32 && self.gone > self.jobs.len() / 2 {
            self.jobs.retain(|entry| !entry.gone);
            self.gone = 0;
        }
    }

    /// The oldest. Those that are gone are never first.
    fn first(&self) -> Option<Stamp> {
        self.jobs.front().map(|entry| entry.stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_the_oldest_that_waits() {
        let mut part = Part::default();
        for stamp in [10, 30, 20, 20, 40] {
            part.enter(stamp);
        }
        let mut left = Vec::new();
        for stamp in [20, 10, 40, 20, 30] {
            left.push(part.first());
            part.leave(stamp);
        }
        assert_eq!(left, [Some(10), Some(10), Some(20), Some(20), Some(30)]);
        assert_eq!((part.first(), part.jobs.len(), part.gone), (None, 0, 0));
    }

    #[test]
    fn one_that_waits_for_ever_does_not_keep_the_others() {
        let mut part = Part::default();
        part.enter(0);
        for stamp in 1..10_000 {
            part.enter(stamp);
            part.leave(stamp);
            assert!(part.jobs.len() <= 64);
        }
        assert_eq!(part.first(), Some(0));
    }
}
