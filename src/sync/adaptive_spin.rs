//! Whether it is worth a worker's while to search for long before it lies down.
//!
//! A long search spares a caller the waking of a worker, but takes a core from those who want it.
//! So the gaps between jobs are watched: how long a search had to be until there was a job. While
//! they are mostly shorter than the longest search, workers search for so long; else they have a
//! short look and lie down. A blocking caller and a worker that wake each other in turn leave gaps of
//! that kind, and so come back to searching.

use std::time::Duration;

use crate::sync::{AtomicU8, Ordering::Relaxed};

/// The longest search. To sleep and be woken takes some 40 µs on a virtual machine: a worker that
/// looked for less would sleep again before the caller that it woke can submit its next job.
pub(crate) const SEARCH: Duration = Duration::from_micros(100);

/// With this score a long search is worth it.
const WORTHWHILE: u8 = 8;

/// Short gaps add one, long ones halve it. Only a guess depends on it: updates may get lost.
pub(crate) struct AdaptiveSpin(AtomicU8);

impl Default for AdaptiveSpin {
    fn default() -> Self {
        AdaptiveSpin(AtomicU8::new(WORTHWHILE))
    }
}

impl AdaptiveSpin {
    pub(crate) fn is_worthwhile(&self) -> bool {
        self.0.load(Relaxed) >= WORTHWHILE
    }

    /// A worker searched in vain, and so long after it had begun there was a job.
    pub(crate) fn learn(&self, gap: Duration) {
        let score = self.0.load(Relaxed);
        let score = if gap < SEARCH {
            (score + 1).min(WORTHWHILE)
        } else {
            score / 2
        };
        self.0.store(score, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_micros(50);

    fn dark() -> AdaptiveSpin {
        let spin_score = AdaptiveSpin::default();
        for _ in 0..WORTHWHILE {
            spin_score.learn(SEARCH);
        }
        spin_score
    }

    #[test]
    fn one_gap_too_long_ends_long_searches_and_some_short_ones_bring_them_back() {
        let spin_score = AdaptiveSpin::default();
        assert!(spin_score.is_worthwhile(), "nothing is known yet");
        for _ in 0..100 {
            spin_score.learn(SHORT);
        }
        spin_score.learn(SEARCH);
        assert!(!spin_score.is_worthwhile());
        for _ in 0..WORTHWHILE / 2 {
            assert!(!spin_score.is_worthwhile());
            spin_score.learn(SHORT);
        }
        assert!(spin_score.is_worthwhile());
    }

    #[test]
    fn a_caller_and_a_worker_that_wake_each_other_come_back_to_searching() {
        let spin_score = dark();
        for _ in 0..WORTHWHILE {
            assert!(!spin_score.is_worthwhile());
            spin_score.learn(SHORT);
        }
        assert!(spin_score.is_worthwhile());
    }

    #[test]
    fn as_many_long_gaps_as_short_ones_are_no_reason_to_search() {
        let spin_score = dark();
        for _ in 0..100 {
            spin_score.learn(SHORT);
            assert!(!spin_score.is_worthwhile());
            spin_score.learn(SEARCH);
        }
    }
}
