//! How many jobs to release ahead of the workers.

use std::time::{Duration, Instant};

/// The most jobs that are ever released ahead of the workers.
pub(crate) const MAX_LIMIT: usize = 4096;

/// From this limit on, the released jobs are many.
pub(crate) const MANY: usize = 64;

/// Up to this many jobs do not wait long for a worker that searches and has a core.
pub(crate) const UNATTENDED: usize = 16;

/// Are so few released jobs left that more should follow? The low-water mark is half of a small
/// limit, and an eighth of a large one, so that the dispatcher is woken seldom and jobs can be
/// handed off in between.
pub(crate) fn is_low(ready: usize, limit: usize) -> bool {
    let low_water = if limit < MANY { limit / 2 } else { limit / 8 };
    ready < limit && ready <= low_water
}

/// The released jobs should last the workers about this long. It is much longer than it takes to
/// wake the dispatcher, and much shorter than anybody notices. It is also long enough that a
/// submitter seldom finds both the released jobs and the queue full: one that was woken may wait
/// for a core while the workers use all of them.
const HORIZON: Duration = Duration::from_millis(1);

/// What happens within this time says enough about the length of the jobs. Over a shorter time,
/// jobs that happen to end together would mislead.
const TERM: Duration = Duration::from_micros(200);

/// At each observation, the limit grows at most by this factor.
const GROWTH: usize = 4;

/// Finds how many jobs to have released: about one per worker if the jobs are long, and as many as
/// the workers take in [`HORIZON`] if they are short.
#[derive(Debug)]
pub(crate) struct Prefetch {
    workers: usize,
    limit: usize,
    /// How many were released, if jobs still waited then: from then on, only workers change that.
    released: Option<usize>,
    /// How many were taken since `since`, as far as is known.
    taken: usize,
    since: Option<Instant>,
    /// Since then, there was a time when nothing was left.
    starved: bool,
}

impl Prefetch {
    pub(crate) fn new() -> Self {
        Prefetch {
            workers: 0,
            limit: 0,
            released: None,
            taken: 0,
            since: None,
            starved: false,
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn set_workers(&mut self, workers: usize) {
        self.workers = workers;
        self.set(self.limit);
    }

    /// `ready` jobs are released now, and `waiting` still wait.
    pub(crate) fn released(&mut self, ready: usize, waiting: usize) {
        // If none waits, submitters may go past the dispatcher, and nothing is known.
        self.released = (waiting > 0).then_some(ready);
    }

    /// Now `ready` of them are left.
    pub(crate) fn observed(&mut self, ready: usize, now: Instant) {
        if let Some(released) = self.released.take() {
            self.taken += released.saturating_sub(ready);
            self.starved |= ready == 0;
        }
        let since = *self.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        if elapsed < TERM {
            return;
        }
        let fits = self.taken as f64 * HORIZON.as_secs_f64() / elapsed.as_secs_f64();
        let mut limit = fits.min(MAX_LIMIT as f64) as usize;
        if self.starved && limit > self.workers {
            // The workers could have taken more.
            limit = limit.max(self.limit * 2);
        }
        self.set(limit.min(self.limit * GROWTH));
        (self.taken, self.since, self.starved) = (0, Some(now), false);
    }

    fn set(&mut self, limit: usize) {
        self.limit = match self.workers {
            0 => 0, // nobody would take a job that is released
            workers => limit.max(workers).min(MAX_LIMIT),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Releases jobs up to the limit, and observes when the workers have taken this many.
    fn round(prefetch: &mut Prefetch, now: &mut Instant, taken: usize, elapsed: Duration) {
        let limit = prefetch.limit();
        prefetch.released(limit, 1);
        *now += elapsed;
        prefetch.observed(limit - taken.min(limit), *now);
    }

    fn prefetch(workers: usize) -> (Prefetch, Instant) {
        let mut prefetch = Prefetch::new();
        prefetch.set_workers(workers);
        let now = Instant::now();
        prefetch.observed(0, now);
        (prefetch, now)
    }

    #[test]
    fn long_jobs_are_released_one_per_worker() {
        let (mut prefetch, mut now) = prefetch(4);
        for _ in 0..100 {
            round(&mut prefetch, &mut now, 4, Duration::from_millis(10));
            assert_eq!(prefetch.limit(), 4);
        }
    }

    #[test]
    fn long_jobs_that_end_together_are_no_short_jobs() {
        let (mut prefetch, mut now) = prefetch(8);
        for _ in 0..100 {
            round(&mut prefetch, &mut now, 4, Duration::from_micros(5));
            round(&mut prefetch, &mut now, 4, Duration::from_micros(5));
            round(&mut prefetch, &mut now, 0, Duration::from_millis(30));
            assert_eq!(prefetch.limit(), 8);
        }
    }

    #[test]
    fn short_jobs_are_released_for_the_horizon() {
        let (mut prefetch, mut now) = prefetch(2);
        for _ in 0..1000 {
            // 1 µs each, and some are left
            let taken = (prefetch.limit() - 1).max(1);
            round(
                &mut prefetch,
                &mut now,
                taken,
                Duration::from_micros(taken as u64),
            );
        }
        let limit = prefetch.limit();
        assert!((999..=1000).contains(&limit), "{limit}");
    }

    #[test]
    fn starved_workers_get_more_until_the_jobs_are_long() {
        let (mut prefetch, mut now) = prefetch(2);
        for _ in 0..1000 {
            let all = prefetch.limit();
            round(&mut prefetch, &mut now, all, Duration::from_micros(10));
        }
        assert_eq!(prefetch.limit(), MAX_LIMIT);
        round(&mut prefetch, &mut now, 1000, Duration::from_secs(1));
        assert_eq!(prefetch.limit(), 2);
    }

    #[test]
    fn one_observation_is_not_trusted_too_far() {
        let (mut prefetch, mut now) = prefetch(100);
        round(&mut prefetch, &mut now, 0, Duration::from_micros(1));
        for _ in 0..100 {
            round(&mut prefetch, &mut now, 99, Duration::from_micros(2));
        }
        assert!(prefetch.limit() > 100 && prefetch.limit() <= 100 * GROWTH);
    }

    #[test]
    fn nothing_is_learnt_while_submitters_go_past() {
        let (mut prefetch, now) = prefetch(1);
        prefetch.released(1, 0);
        prefetch.observed(0, now + TERM);
        assert_eq!(prefetch.limit(), 1);
    }

    #[test]
    fn without_workers_nothing_is_released() {
        let (mut prefetch, mut now) = prefetch(0);
        round(&mut prefetch, &mut now, 0, Duration::from_secs(1));
        assert_eq!(prefetch.limit(), 0);
    }
}
