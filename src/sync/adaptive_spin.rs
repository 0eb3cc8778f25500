//! Whether a long search is worthwhile before a worker parks.
//!
//! A long search spares a caller the cost of waking a worker, but takes a core from other threads
//! that could use it. So the pool measures the gaps between jobs: how long a search had to be until
//! there was a job. While most gaps are shorter than the longest search, a worker searches for up to
//! that long. Otherwise it spins only briefly and parks. A blocking caller and a worker that wake
//! each other in turn leave such short gaps, so their pool returns to long searches.

use std::time::Duration;

use crate::sync::{AtomicU8, Ordering::Relaxed};

/// The longest search. To sleep and be woken takes some 40 µs on a virtual machine. A worker that
/// searched for less would sleep again before the caller that it woke can submit its next job.
pub(crate) const SEARCH: Duration = Duration::from_micros(100);

/// At this score, the highest, a long search is worthwhile.
const WORTHWHILE: u8 = 8;

/// A score. A short gap adds one to it, a long one halves it. Only a guess depends on it, so
/// concurrent updates may get lost.
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

    /// A worker searched in vain. `gap` is the time from the start of that search until there was a
    /// job.
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

    fn not_worthwhile() -> AdaptiveSpin {
        let adaptive_spin = AdaptiveSpin::default();
        for _ in 0..WORTHWHILE {
            adaptive_spin.learn(SEARCH);
        }
        adaptive_spin
    }

    #[test]
    fn one_gap_too_long_ends_long_searches_and_some_short_ones_bring_them_back() {
        let adaptive_spin = AdaptiveSpin::default();
        assert!(adaptive_spin.is_worthwhile(), "no gap is known yet");
        for _ in 0..100 {
            adaptive_spin.learn(SHORT);
        }
        adaptive_spin.learn(SEARCH);
        assert!(!adaptive_spin.is_worthwhile());
        for _ in 0..WORTHWHILE / 2 {
            assert!(!adaptive_spin.is_worthwhile());
            adaptive_spin.learn(SHORT);
        }
        assert!(adaptive_spin.is_worthwhile());
    }

    #[test]
    fn a_caller_and_a_worker_that_wake_each_other_return_to_long_searches() {
        let adaptive_spin = not_worthwhile();
        for _ in 0..WORTHWHILE {
            assert!(!adaptive_spin.is_worthwhile());
            adaptive_spin.learn(SHORT);
        }
        assert!(adaptive_spin.is_worthwhile());
    }

    #[test]
    fn as_many_long_gaps_as_short_ones_are_no_reason_to_search() {
        let adaptive_spin = not_worthwhile();
        for _ in 0..100 {
            adaptive_spin.learn(SHORT);
            assert!(!adaptive_spin.is_worthwhile());
            adaptive_spin.learn(SEARCH);
        }
    }
}
