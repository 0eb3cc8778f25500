//! How often a worker is restarted, and after which pause: decisions, without thread or clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often a worker that has a factory is restarted; see
/// [`Builder::restarts`](crate::Builder::restarts).
///
/// Each worker has a limit of restarts within a period: by default 5 in 10 seconds. If it ends once
/// more, it is gone for good. Each end counts, by a panic or by
/// [`finish`](crate::WorkerHandle::finish), and so does each failure of its factory.
///
/// Before each restart there is a pause. By default it begins at 10 milliseconds and doubles up to
/// a second. A random part of at most a half is taken off, so that workers that failed together do
/// not come back together. After a worker has served for at least the period, the pauses begin with
/// the first one again.
///
/// ```
/// use std::time::Duration;
/// use worker_pool::{Manager, Restarts};
///
/// let restarts = Restarts::at_most(3)
///     .within(Duration::from_secs(60))
///     .back_off(Duration::from_millis(100), Duration::from_secs(5));
/// let pool = Manager::<u32>::builder().restarts(restarts).build()?;
/// # Ok::<(), worker_pool::BuildError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "it takes effect through `Builder::restarts`"]
pub struct Restarts {
    limit: u32,
    within: Duration,
    first: Duration,
    longest: Duration,
}

impl Default for Restarts {
    fn default() -> Self {
        Restarts::at_most(5)
    }
}

impl Restarts {
    /// At most `limit` restarts in 10 seconds. With 0, no worker is restarted.
    pub const fn at_most(limit: u32) -> Self {
        Restarts {
            limit,
            within: Duration::from_secs(10),
            first: Duration::from_millis(10),
            longest: Duration::from_secs(1),
        }
    }

    /// As many restarts as it takes, for ever.
    pub const fn without_limit() -> Self {
        Restarts::at_most(u32::MAX)
    }

    /// The period in which restarts are counted.
    pub const fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// The first pause before a restart, and the longest one, up to which the pauses double.
    pub const fn back_off(mut self, first: Duration, longest: Duration) -> Self {
        self.first = first;
        self.longest = longest;
        self
    }
}

/// The restarts of one worker.
#[derive(Debug)]
pub(crate) struct Restarter {
    rules: Restarts,
    /// When it was restarted, within the period that counts.
    recent: VecDeque<Instant>,
    /// The next pause, before a random part is taken off.
    pause: Duration,
    /// When the worker was made that serves now.
    made: Option<Instant>,
    random: u64,
}

impl Restarter {
    pub(crate) fn new(rules: Restarts, seed: u64) -> Self {
        Restarter {
            rules,
            recent: VecDeque::new(),
            pause: rules.first,
            made: None,
            // Neighbouring seeds end up far apart, and none is zero.
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        }
    }

    /// The worker was made.
    pub(crate) fn made(&mut self, now: Instant) {
        self.made = Some(now);
    }

    /// The worker has ended, or could not be made. Returns the pause before the next one is made,
    /// or `None` if there is to be no other.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Duration> {
        let Restarts { limit, within, .. } = self.rules;
        if limit < u32::MAX {
            let old = |at: &Instant| now.saturating_duration_since(*at) > within;
            while self.recent.front().is_some_and(old) {
                self.recent.pop_front();
            }
            if self.recent.len() >= limit as usize {
                return None;
            }
            self.recent.push_back(now);
        }
        let made = self.made.take();
        if made.is_some_and(|since| now.saturating_duration_since(since) >= within) {
            self.pause = self.rules.first;
        }
        let pause = self.pause.min(self.rules.longest);
        self.pause = pause.saturating_mul(2).min(self.rules.longest);
        Some(pause - self.random_up_to(pause / 2))
    }

    /// A random time between zero and `max`.
    fn random_up_to(&mut self, max: Duration) -> Duration {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let fraction = (self.random >> 11) as f64 / (1_u64 << 53) as f64;
        max.mul_f64(fraction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MILLI: Duration = Duration::from_millis(1);

    fn rules(limit: u32) -> Restarts {
        Restarts::at_most(limit)
            .within(10 * SECOND)
            .back_off(10 * MILLI, 80 * MILLI)
    }

    #[test]
    fn the_limit_is_granted_within_the_period_and_no_more() {
        let now = Instant::now();
        let mut restarter = Restarter::new(rules(3), 1);
        for second in 0..3 {
            assert!(restarter.next(now + second * SECOND).is_some());
        }
        assert_eq!(
            restarter.next(now + 10 * SECOND),
            None,
            "the fourth in ten seconds"
        );
        assert!(
            restarter.next(now + 10 * SECOND + MILLI).is_some(),
            "the first is forgotten"
        );
        assert_eq!(restarter.next(now + 11 * SECOND), None);
        assert_eq!(Restarter::new(rules(0), 1).next(now), None);
    }

    #[test]
    fn no_limit_is_no_limit_and_remembers_nothing() {
        let now = Instant::now();
        let mut restarter = Restarter::new(Restarts::without_limit(), 1);
        for _ in 0..10_000 {
            assert!(restarter.next(now).is_some());
        }
        assert!(restarter.recent.is_empty());
    }

    #[test]
    fn pauses_double_up_to_the_longest_less_at_most_a_half() {
        let now = Instant::now();
        for seed in 0..1000 {
            let mut restarter = Restarter::new(rules(10), seed);
            for full in [10, 20, 40, 80, 80, 80] {
                let pause = restarter.next(now).expect("within the limit");
                let full = full * MILLI;
                assert!(pause <= full && pause >= full / 2, "{pause:?} of {full:?}");
            }
        }
    }

    #[test]
    fn workers_that_failed_together_come_back_apart() {
        let now = Instant::now();
        let mut pauses: Vec<_> = (1..=100)
            .map(|seed| Restarter::new(rules(1), seed).next(now).unwrap())
            .collect();
        pauses.sort();
        pauses.dedup();
        assert!(
            pauses.len() > 90,
            "{} different pauses of 100",
            pauses.len()
        );
    }

    #[test]
    fn after_long_service_the_pauses_begin_anew() {
        let mut now = Instant::now();
        let mut restarter = Restarter::new(rules(10), 1);
        for _ in 0..5 {
            restarter.next(now);
        }
        restarter.made(now);
        now += 9 * SECOND;
        assert!(
            restarter.next(now).unwrap() >= 40 * MILLI,
            "not long enough"
        );
        restarter.made(now);
        now += 10 * SECOND;
        assert!(restarter.next(now).unwrap() <= 10 * MILLI);
        // Time in which no worker served does not count.
        for _ in 0..4 {
            restarter.next(now);
        }
        assert!(restarter.next(now + 100 * SECOND).unwrap() >= 40 * MILLI);
    }

    #[test]
    fn absurd_rules_do_no_harm() {
        let now = Instant::now();
        let absurd = Restarts::at_most(9).back_off(Duration::MAX, Duration::MAX);
        assert!(Restarter::new(absurd, 1).next(now).is_some());
        let upside_down = Restarts::at_most(9).back_off(SECOND, MILLI);
        assert!(Restarter::new(upside_down, 1).next(now).unwrap() <= MILLI);
        let none = Restarts::at_most(9).back_off(Duration::ZERO, Duration::ZERO);
        assert_eq!(Restarter::new(none, 1).next(now), Some(Duration::ZERO));
    }
}
