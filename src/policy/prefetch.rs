//! How many jobs to release ahead of the workers.

use std::time::{Duration, Instant};

/// The most jobs that are ever released ahead of the workers.
pub(crate) const MAX_LIMIT: usize = 4096;

/// From this depth on the released jobs are many.
pub(crate) const MANY: usize = 64;

/// So many jobs do not wait long for a worker that searches and has a core.
pub(crate) const UNATTENDED: usize = 16;

/// Are so few released jobs left that more should follow? Half of a few; of many an eighth, so that
/// the dispatcher is woken seldom and, between, the way past it is open.
pub(crate) fn is_low(ready: usize, limit: usize) -> bool {
    let mark = if limit < MANY { limit / 2 } else { limit / 8 };
    ready < limit && ready <= mark
}

/// The released jobs should last the workers about this long: much longer than it takes to wake the
/// dispatcher, much shorter than anybody notices. And so long that a submitter seldom finds neither
/// room there nor in the queue: one that was woken may wait for a core while the workers use all.
const HORIZON: Duration = Duration::from_millis(1);

/// What happened within so long says enough. Jobs that happen to end together say nothing about their
/// length.
const TERM: Duration = Duration::from_micros(200);

/// At each look the depth grows at most so many times.
const GROWTH: usize = 4;

/// Finds the depth of the ready channel: about one job per worker for long jobs, and as many as the
/// workers take in [`HORIZON`] for short ones.
#[derive(Debug)]
pub(crate) struct Prefetch {
    workers: usize,
    limit: usize,
    /// So many were released, if jobs still waited then: only workers change that.
    fed: Option<usize>,
    /// So many were taken since then, as far as is known, and was there once nothing left?
    taken: usize,
    since: Option<Instant>,
    starved: bool,
}

impl Prefetch {
    pub(crate) fn new() -> Self {
        Prefetch {
            workers: 0,
            limit: 0,
            fed: None,
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

    /// So many jobs are released now, and so many still wait.
    pub(crate) fn fed(&mut self, ready: usize, waiting: usize) {
        // With none waiting, submitters may go past the dispatcher, and nothing is known.
        self.fed = (waiting > 0).then_some(ready);
    }

    /// So many of them are left.
    pub(crate) fn look(&mut self, ready: usize, now: Instant) {
        if let Some(fed) = self.fed.take() {
            self.taken += fed.saturating_sub(ready);
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
            // They could have taken more.
            limit = limit.max(self.limit * 2);
        }
        self.set(limit.min(self.limit * GROWTH));
        (self.taken, self.since, self.starved) = (0, Some(now), false);
    }

    fn set(&mut self, limit: usize) {
        self.limit = limit.max(self.workers).min(MAX_LIMIT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the workers to the full depth, and looks when they have taken so many.
    fn round(prefetch: &mut Prefetch, now: &mut Instant, taken: usize, elapsed: Duration) {
        let limit = prefetch.limit();
        prefetch.fed(limit, 1);
        *now += elapsed;
        prefetch.look(limit - taken.min(limit), *now);
    }

    fn prefetch(workers: usize) -> (Prefetch, Instant) {
        let mut prefetch = Prefetch::new();
        prefetch.set_workers(workers);
        let now = Instant::now();
        prefetch.look(0, now);
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
    fn one_look_is_not_trusted_too_far() {
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
        prefetch.fed(1, 0);
        prefetch.look(0, now + TERM);
        assert_eq!(prefetch.limit(), 1);
    }

    #[test]
    fn without_workers_nothing_is_released() {
        let (mut prefetch, mut now) = prefetch(0);
        round(&mut prefetch, &mut now, 0, Duration::from_secs(1));
        assert_eq!(prefetch.limit(), 0);
    }
}
