//! How often and when a job that failed is tried again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::job::Outcome;

/// Whether a job that failed gets another try; for [`JobBuilder::retry`](crate::JobBuilder::retry).
///
/// ```
/// use std::time::Duration;
/// use worker_pool::Retry;
///
/// // At most four tries: at once, and after 100 ms, 200 ms and 300 ms.
/// let retry = Retry::max_retries(3).backoff(Duration::from_millis(100), Duration::from_millis(300));
/// # let _ = retry;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "it is to be given to a submission"]
pub struct Retry {
    max_retries: u32,
    first: Duration,
    most: Duration,
    jitter: bool,
    panics: bool,
}

impl Retry {
    /// Up to so many further tries after the first, each as soon as the one before has failed.
    pub fn max_retries(max_retries: u32) -> Self {
        Retry {
            max_retries,
            first: Duration::ZERO,
            most: Duration::ZERO,
            jitter: false,
            panics: false,
        }
    }

    /// Waits before each further try: `first` before the second, then twice as long each time, but
    /// never longer than `most`.
    pub fn backoff(mut self, first: Duration, most: Duration) -> Self {
        (self.first, self.most) = (first, most);
        self
    }

    /// Shortens each wait at random, by up to a half, so that jobs that failed together are not
    /// tried again together.
    pub fn jitter(mut self) -> Self {
        self.jitter = true;
        self
    }

    /// Tries again also when the worker panicked, by another worker: the one that panicked leaves.
    pub fn also_panics(mut self) -> Self {
        self.panics = true;
        self
    }

    /// May another try follow after so many?
    pub(crate) fn more_after(&self, tries: u32) -> bool {
        tries <= self.max_retries
    }

    /// Is this an end after which it is tried again?
    pub(crate) fn follows(&self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Completed => false,
            Outcome::Failed => true,
            Outcome::Panicked => self.panics,
        }
    }

    /// The wait after so many tries.
    pub(crate) fn delay(&self, tries: u32) -> Duration {
        let whole = self.whole_delay(tries);
        if !self.jitter {
            return whole;
        }
        // Each has keys of its own.
        let random = RandomState::new().hash_one(tries);
        whole
            - whole
                .mul_f64(random as f64 / u64::MAX as f64 / 2.0)
                .min(whole)
    }

    fn whole_delay(&self, tries: u32) -> Duration {
        let doublings = tries.saturating_sub(1);
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn waits_double_up_to_the_most() {
        let retry = Retry::max_retries(9).backoff(MS, 5 * MS);
        let waits: Vec<_> = (1..=5).map(|tries| retry.delay(tries)).collect();
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
    fn so_many_tries_follow_the_first() {
        let retry = Retry::max_retries(2);
        assert!(retry.more_after(1) && retry.more_after(2) && !retry.more_after(3));
        assert!(!Retry::max_retries(0).more_after(1));
        assert!(retry.follows(Outcome::Failed) && !retry.follows(Outcome::Panicked));
        assert!(retry.also_panics().follows(Outcome::Panicked));
        assert!(!retry.also_panics().follows(Outcome::Completed));
    }
}
