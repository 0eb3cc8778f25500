//! How many jobs to release ahead of the workers.

use std::time::{Duration, Instant};

use crate::ready::MAX_DEPTH;

/// The released jobs should last the workers about this long: much longer than it takes to wake the
/// dispatcher, much shorter than anybody notices.
const HORIZON: Duration = Duration::from_micros(200);

/// Finds the depth of the ready channel: about one job per worker for long jobs, and as many as the
/// workers take in [`HORIZON`] for short ones.
#[derive(Debug)]
pub(crate) struct Pace {
    workers: usize,
    depth: usize,
    /// What was seen at the last look.
    taken: u64,
    at: Instant,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Pace {
            workers: 0,
            depth: 0,
            taken: 0,
            at: now,
        }
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    pub(crate) fn set_workers(&mut self, workers: usize) {
        self.workers = workers;
        self.set(self.depth);
    }

    /// So many jobs are ready now, and the workers have taken so many since the pool was built.
    pub(crate) fn look(&mut self, ready: usize, taken: u64, now: Instant) {
        let took = taken.saturating_sub(self.taken);
        let elapsed = now.saturating_duration_since(self.at);
        if took == 0 || elapsed.is_zero() {
            return;
        }
        self.taken = taken;
        self.at = now;
        let share = HORIZON.as_secs_f64() / elapsed.as_secs_f64();
        let fits = (took as f64 * share).min(MAX_DEPTH as f64) as usize;
        self.set(if ready > 0 {
            // The workers always had something to take: this is their own pace.
            fits
        } else if fits > self.workers {
            // They had not, and could have taken more.
            fits.max(self.depth * 2)
        } else {
            self.depth / 2
        });
    }

    fn set(&mut self, depth: usize) {
        let most = MAX_DEPTH.max(self.workers);
        self.depth = depth.clamp(self.workers, most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(workers: usize) -> (Pace, Instant) {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        pace.set_workers(workers);
        (pace, now)
    }

    #[test]
    fn long_jobs_are_released_one_per_worker() {
        let (mut pace, start) = pace(4);
        for step in 1..100 {
            // 4 workers, 10 ms per job
            pace.look(2, step * 4, start + Duration::from_millis(10) * step as u32);
            assert_eq!(pace.depth(), 4);
        }
    }

    #[test]
    fn short_jobs_are_released_for_the_horizon() {
        let (mut pace, start) = pace(2);
        pace.look(1, 1_000, start + Duration::from_millis(1)); // 1 µs each
        assert_eq!(pace.depth(), 200);
    }

    #[test]
    fn starved_workers_get_more_and_slow_callers_less() {
        let (mut pace, start) = pace(2);
        let mut now = start;
        for step in 1..20 {
            now += Duration::from_micros(10);
            pace.look(0, step * 2, now);
        }
        assert_eq!(pace.depth(), MAX_DEPTH);
        for step in 20..40 {
            now += Duration::from_secs(1);
            pace.look(0, step * 2, now);
        }
        assert_eq!(pace.depth(), 2);
    }

    #[test]
    fn without_workers_nothing_is_released() {
        let (mut pace, start) = pace(0);
        pace.look(0, 10, start + Duration::from_secs(1));
        assert_eq!(pace.depth(), 0);
    }
}
