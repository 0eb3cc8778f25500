//! Whether and when a job that failed gets another attempt.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::job::Outcome;

/// Whether a job that failed gets another attempt; for
/// [`JobBuilder::retry`](crate::JobBuilder::retry).
///
/// ```
/// use std::time::Duration;
/// use worker_pool::Retry;
///
/// // At most four attempts: at once, and after 100 ms, 200 ms and 300 ms.
/// let retry = Retry::max_retries(3).backoff(Duration::from_millis(100), Duration::from_millis(300));
/// # let _ = retry;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "it takes effect through `JobBuilder::retry`"]
pub struct Retry {
    max_retries: u32,
    first: Duration,
    max: Duration,
    jitter: bool,
    panics: bool,
}

impl Retry {
    /// Up to `max_retries` further attempts after the first, each as soon as the one before has
    /// failed.
    pub fn max_retries(max_retries: u32) -> Self {
        Retry {
            max_retries,
            first: Duration::ZERO,
            max: Duration::ZERO,
            jitter: false,
            panics: false,
        }
    }

    /// Waits before each further attempt: `first` before the second, then twice as long each time,
    /// but never longer than `max`.
    pub fn backoff(mut self, first: Duration, max: Duration) -> Self {
        (self.first, self.max) = (first, max);
        self
    }

    /// Shortens each wait at random, by up to a half, so that jobs that failed together do not run
    /// again together.
    pub fn jitter(mut self) -> Self {
        self.jitter = true;
        self
    }

    /// Another attempt also follows a panic, by another worker: the one that panicked leaves.
    pub fn also_panics(mut self) -> Self {
        self.panics = true;
        self
    }

    /// May another attempt follow after this many?
    pub(crate) fn more_after(&self, attempts: u32) -> bool {
        attempts <= self.max_retries
    }

    /// Is this an outcome that another attempt follows?
    pub(crate) fn follows(&self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Completed => false,
            Outcome::Failed => true,
            Outcome::Panicked => self.panics,
        }
    }

    /// The wait after this many attempts.
    pub(crate) fn delay(&self, attempts: u32) -> Duration {
        let whole = self.whole_delay(attempts);
        if !self.jitter {
            return whole;
        }
        // Each `RandomState` has other keys.
        let random = RandomState::new().hash_one(attempts);
        whole
            - whole
                .mul_f64(random as f64 / u64::MAX as f64 / 2.0)
                .min(whole)
    }

    fn whole_delay(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1);
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn waits_double_up_to_the_max() {
        let retry = Retry::max_retries(9).backoff(MS, 5 * MS);
        let waits: Vec<_> = (1..=5).map(|attempts| retry.delay(attempts)).collect();
        assert_eq!(waits, [MS, 2 * MS, 4 * MS, 5 * MS, 5 * MS]);
        assert_eq!(retry.delay(u32::MAX), 5 * MS);
        let forever = Retry::max_retries(9).backoff(Duration::MAX, Duration::MAX);
        assert_eq!(forever.delay(9), Duration::MAX);
        assert_eq!(Retry::max_retries(9).delay(3), Duration::ZERO);
    }

    #[test]
    fn jitter_takes_at_most_a_half() {
        let retry = Retry::max_retries(9).backoff(1000 * MS, 1000 * MS).jitter();
        let waits: Vec<_> = (0..100).map(|_| retry.delay(1)).collect();
        assert!(
            waits
                .iter()
                .all(|&wait| wait >= 500 * MS && wait <= 1000 * MS)
        );
        assert!(waits.iter().any(|wait| wait != &waits[0]));
        let zero = Retry::max_retries(1).jitter();
        assert_eq!(zero.delay(1), Duration::ZERO);
    }

    #[test]
    fn max_retries_follow_the_first_attempt() {
        let retry = Retry::max_retries(2);
        assert!(retry.more_after(1) && retry.more_after(2) && !retry.more_after(3));
        assert!(!Retry::max_retries(0).more_after(1));
        assert!(retry.follows(Outcome::Failed) && !retry.follows(Outcome::Panicked));
        assert!(retry.also_panics().follows(Outcome::Panicked));
        assert!(!retry.also_panics().follows(Outcome::Completed));
    }
}
