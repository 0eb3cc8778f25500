//! How often a worker is made anew, and after which pause: a decision without thread or clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often a worker that has a factory is made anew; see
/// [`Builder::restarts`](crate::Builder::restarts).
///
/// At most so many restarts within so long, counted for each worker: by default 5 in 10 seconds. One
/// more, and the worker is gone for good. Counted is every time it ends, by a panic or by
/// [`finish`](crate::WorkerHandle::finish), and every time its factory fails.
///
/// Before each restart there is a pause. It begins at 10 milliseconds and doubles up to a second
/// unless set, less a random part of at most a half, so that workers that failed together do not come
/// back together. A worker that then served for at least as long as restarts are counted begins
/// with the first pause again.
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
    most: Duration,
}

impl Default for Restarts {
    fn default() -> Self {
        Restarts::at_most(5)
    }
}

impl Restarts {
    /// At most so many, in 10 seconds. With 0, no worker is made anew.
    pub const fn at_most(limit: u32) -> Self {
        Restarts {
            limit,
            within: Duration::from_secs(10),
            first: Duration::from_millis(10),
            most: Duration::from_secs(1),
        }
    }

    /// As many as it takes, for ever.
    pub const fn without_limit() -> Self {
        Restarts::at_most(u32::MAX)
    }

    /// The time in which they are counted.
    pub const fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// The first pause before a restart, which doubles up to the longest.
    pub const fn back_off(mut self, first: Duration, longest: Duration) -> Self {
        self.first = first;
        self.most = longest;
        self
    }
}

/// The restarts of one worker.
#[derive(Debug)]
pub(crate) struct Restarter {
    rules: Restarts,
    /// When it was made anew, within the time that counts.
    recent: VecDeque<Instant>,
    pause: Duration,
    made: Option<Instant>,
    dice: u64,
}

impl Restarter {
    pub(crate) fn new(rules: Restarts, seed: u64) -> Self {
        Restarter {
            rules,
            recent: VecDeque::new(),
            pause: rules.first,
            made: None,
            // Neighbouring seeds far apart, and none zero.
            dice: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        }
    }

    /// The worker was made.
    pub(crate) fn made(&mut self, now: Instant) {
        self.made = Some(now);
    }

    /// The worker has ended, or could not be made: how long to wait before the next is made, if there
    /// is to be one.
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
        let served = self.made.take();
        if served.is_some_and(|since| now.saturating_duration_since(since) >= within) {
            self.pause = self.rules.first;
        }
        let pause = self.pause.min(self.rules.most);
        self.pause = pause.saturating_mul(2).min(self.rules.most);
        Some(pause - self.part_of(pause / 2))
    }

    /// Between nothing and `longest`.
    fn part_of(&mut self, longest: Duration) -> Duration {
        // xorshift64
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        let part = (self.dice >> 11) as f64 / (1_u64 << 53) as f64;
        longest.mul_f64(part)
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
    fn so_many_are_granted_within_so_long_and_no_more() {
        let now = Instant::now();
        let mut one = Restarter::new(rules(3), 1);
        for second in 0..3 {
            assert!(one.next(now + second * SECOND).is_some());
        }
        assert_eq!(
            one.next(now + 10 * SECOND),
            None,
            "the fourth in ten seconds"
        );
        assert!(
            one.next(now + 10 * SECOND + MILLI).is_some(),
            "the first is forgotten"
        );
        assert_eq!(one.next(now + 11 * SECOND), None);
        assert_eq!(Restarter::new(rules(0), 1).next(now), None);
    }

    #[test]
    fn no_limit_is_no_limit_and_remembers_nothing() {
        let now = Instant::now();
        let mut one = Restarter::new(Restarts::without_limit(), 1);
        for _ in 0..10_000 {
            assert!(one.next(now).is_some());
        }
        assert!(one.recent.is_empty());
    }

    #[test]
    fn pauses_double_up_to_the_longest_less_at_most_a_half() {
        let now = Instant::now();
        for seed in 0..1000 {
            let mut one = Restarter::new(rules(10), seed);
            for full in [10, 20, 40, 80, 80, 80] {
                let pause = one.next(now).expect("within the limit");
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
    fn who_served_well_begins_with_the_first_pause_again() {
        let mut now = Instant::now();
        let mut one = Restarter::new(rules(10), 1);
        for _ in 0..5 {
            one.next(now);
        }
        one.made(now);
        now += 9 * SECOND;
        assert!(one.next(now).unwrap() >= 40 * MILLI, "not long enough");
        one.made(now);
        now += 10 * SECOND;
        assert!(one.next(now).unwrap() <= 10 * MILLI);
        // Time that no worker served does not count.
        for _ in 0..4 {
            one.next(now);
        }
        assert!(one.next(now + 100 * SECOND).unwrap() >= 40 * MILLI);
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
