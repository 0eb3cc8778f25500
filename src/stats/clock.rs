//! For pools with timings: the clock, and which jobs wait since when.
//!
//! A channel's head cannot be looked at, so the jobs that wait are noted here once more. A job gets a
//! place by its number, where its submitter notes the stamp. Whoever ends its wait turns the place's
//! bit in a lane of its own: so submitters and workers write to different cache lines, and take no
//! lock. A place becomes free when the next job wants it, a lap later, and finds the bit turned. Where
//! that is not so, as more jobs wait than there are places or one waits for very long, the new job
//! goes to a list with a lock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::sync::time;
use crate::sync::{
    AtomicBool, AtomicU64, Mutex,
    Ordering::{Acquire, Relaxed, Release},
};

/// Nanoseconds since the pool was built.
pub(crate) type Stamp = u64;

/// What is written on the task of a job that waits: the low bits of its stamp, and its place.
pub(crate) type Noted = u64;

const PLACE_BITS: u32 = 13;
/// More than wait in a pool of the usual capacity.
const PLACES: usize = 1 << PLACE_BITS;
/// In place of a place: the job is in the list.
const LISTED: usize = PLACES - 1;
/// A task has room for 39 hours. In older pools, stamps are looked up.
const LOW: Stamp = (1 << (60 - PLACE_BITS)) - 1;

/// One for those who are no workers, and some for the workers to share.
const LANES: usize = 16;
const WORDS: usize = PLACES / 64;

pub(crate) struct WaitClock {
    start: Instant,
    /// Zero where no job is.
    stamps: Box<[AtomicU64]>,
    lanes: Box<[Lane]>,
    rest: Mutex<Rest>,
    /// There are stamps that a task has no room for.
    old: AtomicBool,
}

/// A bit for each place; it turns with each job that ends its wait.
#[repr(align(128))]
struct Lane([AtomicU64; WORDS]);

struct Rest {
    /// How the bits of all lanes together were when the places became free.
    free: [u64; WORDS],
    /// Jobs without a place: the low bits of their stamps, the stamps, and how many.
    listed: BTreeMap<(u64, Stamp), usize>,
}

impl WaitClock {
    pub(crate) fn new(start: Instant) -> Self {
        let lane = || Lane(std::array::from_fn(|_| AtomicU64::new(0)));
        WaitClock {
            start,
            stamps: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            lanes: (0..LANES).map(|_| lane()).collect(),
            rest: Mutex::new(Rest {
                free: [0; WORDS],
                listed: BTreeMap::new(),
            }),
            old: AtomicBool::new(false),
        }
    }

    pub(crate) fn now(&self) -> Stamp {
        let nanos = time::since(self.start).as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// A job waits from now on.
    pub(crate) fn begin_wait(&self, number: u64) -> Noted {
        self.enter(number, self.now())
    }

    fn enter(&self, number: u64, stamp: Stamp) -> Noted {
        let stamp = stamp.max(1);
        if stamp > LOW && !self.old.load(Relaxed) {
            self.old.store(true, Relaxed); // before the job is anywhere
        }
        let mut place = number as usize % PLACES;
        if place == LISTED || !self.take(place, stamp) {
            place = self.enter_late(place, stamp);
        }
        (stamp & LOW) << PLACE_BITS | place as u64
    }

    /// `false` if a job is there, or was and has not been cleared away.
    #[inline]
    fn take(&self, place: usize, stamp: Stamp) -> bool {
        let stamps = &self.stamps[place];
        stamps.compare_exchange(0, stamp, Acquire, Relaxed).is_ok()
    }

    /// Clears away what has gone in the neighbourhood, and finds a place in it or in the list.
    #[cold]
    fn enter_late(&self, place: usize, stamp: Stamp) -> usize {
        let mut rest = self.rest.lock();
        let word = place / 64;
        let bits = self.bits(word);
        let mut gone = bits ^ rest.free[word];
        rest.free[word] = bits;
        while gone != 0 {
            let bit = gone.trailing_zeros() as usize;
            self.stamps[word * 64 + bit].store(0, Release);
            gone &= gone - 1;
        }
        if place != LISTED && self.take(place, stamp) {
            return place;
        }
        *rest.listed.entry((stamp & LOW, stamp)).or_default() += 1;
        LISTED
    }

    /// The bits of all lanes together. Under the lock each turns once at most.
    fn bits(&self, word: usize) -> u64 {
        let words = self.lanes.iter().map(|lane| lane.0[word].load(Acquire));
        words.fold(0, |all, one| all ^ one)
    }

    /// A job waits no more; its stamp. Who calls often has a lane of its own, from 1 on.
    pub(crate) fn end_wait(&self, noted: Noted, lane: u64) -> Stamp {
        let low = noted >> PLACE_BITS;
        let place = noted as usize % PLACES;
        if place == LISTED {
            return self.leave_list(low);
        }
        let stamp = if self.old.load(Relaxed) {
            self.stamps[place].load(Relaxed)
        } else {
            low
        };
        let lane = match lane {
            0 => 0,
            lane => 1 + lane as usize % (LANES - 1),
        };
        self.lanes[lane].0[place / 64].fetch_xor(1 << (place % 64), Release);
        stamp
    }

    #[cold]
    fn leave_list(&self, low: u64) -> Stamp {
        let listed = &mut self.rest.lock().listed;
        let Some((&key, count)) = listed.range_mut((low, 0)..).next() else {
            debug_assert!(false, "a job ended its wait twice");
            return low;
        };
        debug_assert_eq!(key.0, low, "a job ended its wait twice");
        *count -= 1;
        if *count == 0 {
            listed.remove(&key);
        }
        key.1
    }

    /// For how long the oldest job has waited.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        let oldest = self.oldest_stamp()?;
        // After the look: no job has entered later than now.
        Some(Duration::from_nanos(self.now().saturating_sub(oldest)))
    }

    fn oldest_stamp(&self) -> Option<Stamp> {
        let rest = self.rest.lock();
        let mut oldest = rest.oldest_listed(self.now());
        for word in 0..WORDS {
            // Before the stamps: who is not gone here waits, or comes in a moment.
            let mut there = !(self.bits(word) ^ rest.free[word]);
            while there != 0 {
                let place = word * 64 + there.trailing_zeros() as usize;
                there &= there - 1;
                match self.stamps[place].load(Acquire) {
                    0 => {}
                    stamp => oldest = Some(oldest.map_or(stamp, |oldest| oldest.min(stamp))),
                }
            }
        }
        oldest
    }
}

impl Rest {
    /// Many may be listed, so not all are looked at. The low bits begin anew every 39 hours: jobs from
    /// before that have higher ones than there can be now.
    fn oldest_listed(&self, now: Stamp) -> Option<Stamp> {
        let first = self.listed.first_key_value();
        let mut from_before = self.listed.range((now & LOW, Stamp::MAX)..);
        let both = [first, from_before.next()];
        both.into_iter().flatten().map(|(key, _)| key.1).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_clock() -> WaitClock {
        WaitClock::new(Instant::now())
    }

    #[test]
    fn the_oldest_that_waits_is_found() {
        let wait_clock = wait_clock();
        let stamps = [10, 30, 20, 20, 40];
        let noted: Vec<_> = (1..)
            .zip(stamps)
            .map(|(n, at)| wait_clock.enter(n, at))
            .collect();
        let mut left = Vec::new();
        for job in [2, 0, 4, 3, 1] {
            left.push(wait_clock.oldest_stamp());
            assert_eq!(wait_clock.end_wait(noted[job], job as u64), stamps[job]);
        }
        assert_eq!(left, [Some(10), Some(10), Some(20), Some(20), Some(30)]);
        assert_eq!(wait_clock.oldest_stamp(), None);
    }

    /// Laps of the places, by whichever lane, and with one that waits for ever.
    #[test]
    fn places_are_taken_again() {
        let wait_clock = wait_clock();
        let first = wait_clock.enter(5, 1);
        for number in 6..4 * PLACES as u64 {
            let noted = wait_clock.enter(number, number);
            let late = number as usize % PLACES == 5 || number as usize % PLACES == LISTED;
            assert_eq!(noted as usize % PLACES == LISTED, late, "job {number}");
            if number % 500 == 0 {
                assert_eq!(wait_clock.oldest_stamp(), Some(1));
            }
            assert_eq!(wait_clock.end_wait(noted, number % 20), number);
        }
        assert_eq!(wait_clock.end_wait(first, 3), 1);
        assert_eq!(wait_clock.oldest_stamp(), None);
    }

    #[test]
    fn more_may_wait_than_there_are_places() {
        let wait_clock = wait_clock();
        let all = 3 * PLACES as u64;
        let noted: Vec<_> = (1..=all)
            .map(|number| wait_clock.enter(number, number / 2))
            .collect();
        for (number, noted) in (1..).zip(noted) {
            if number % 500 == 0 {
                assert_eq!(wait_clock.oldest_stamp(), Some(number / 2));
            }
            assert_eq!(wait_clock.end_wait(noted, 1), (number / 2).max(1));
        }
        assert_eq!(wait_clock.oldest_stamp(), None);
        assert!(wait_clock.rest.lock().listed.is_empty());
    }

    #[test]
    fn the_oldest_in_the_list_is_found_across_a_lap_of_the_low_bits() {
        let wait_clock = wait_clock();
        for stamp in [LOW + 5, LOW - 3, LOW + 9] {
            wait_clock.enter(LISTED as u64, stamp);
        }
        let rest = wait_clock.rest.lock();
        assert_eq!(rest.oldest_listed(LOW + 10), Some(LOW - 3));
    }

    #[test]
    fn a_wait_may_last_longer_than_a_ticket_has_room_for() {
        let wait_clock = wait_clock();
        let (young, listed) = (wait_clock.enter(1, 7), wait_clock.enter(LISTED as u64, 8));
        let old = wait_clock.enter(2, 3 * LOW);
        assert_eq!(wait_clock.oldest_stamp(), Some(7));
        assert_eq!(wait_clock.end_wait(young, 1), 7);
        assert_eq!(wait_clock.end_wait(listed, 1), 8);
        assert_eq!(wait_clock.end_wait(old, 1), 3 * LOW);
        assert_eq!(wait_clock.oldest_stamp(), None);
    }
}
