//! A pool's load over a window of time, from samples.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::hook::meter::Snapshot;

/// What a pool did within a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Load {
    /// Mean of busy / total, from 0 to 1.
    pub(crate) utilization: f64,
    /// Jobs that ended per second.
    pub(crate) completions: f64,
}

struct Sample {
    at: Instant,
    utilization: f64,
    finished: u64,
}

/// Samples of the last `span`, and the one before them.
pub(crate) struct Window {
    span: Duration,
    samples: VecDeque<Sample>,
}

impl Window {
    pub(crate) fn new(span: Duration) -> Window {
        Window {
            span,
            samples: VecDeque::new(),
        }
    }

    /// Whether the last sample is older than this, or there is none.
    pub(crate) fn is_older_than(&self, age: Duration) -> bool {
        let last = self.samples.back();
        last.is_none_or(|sample| sample.at.elapsed() >= age)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.samples.len()
    }

    pub(crate) fn clear(&mut self) {
        self.samples.clear();
    }

    pub(crate) fn push(&mut self, at: Instant, snapshot: &Snapshot) {
        self.samples.push_back(Sample {
            at,
            utilization: f64::from(snapshot.utilization()),
            finished: snapshot.finished,
        });
        // The oldest sample kept is the last one before the window: its value held when the window began.
        while self.samples.len() > 2 && at.duration_since(self.samples[1].at) >= self.span {
            self.samples.pop_front();
        }
    }

    /// The mean, each sample weighted by the time until the next. A single sample has no rate yet.
    pub(crate) fn load(&self) -> Load {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return Load {
                utilization: 0.0,
                completions: 0.0,
            };
        };
        let seconds = last.at.duration_since(first.at).as_secs_f64();
        if seconds <= 0.0 {
            return Load {
                utilization: last.utilization,
                completions: 0.0,
            };
        }
        let pairs = self.samples.iter().zip(self.samples.iter().skip(1));
        let area: f64 = pairs
            .map(|(a, b)| a.utilization * b.at.duration_since(a.at).as_secs_f64())
            .sum();
        Load {
            utilization: (area / seconds).clamp(0.0, 1.0),
            // A pool that was dropped takes its count with it: never below zero.
            completions: last.finished.saturating_sub(first.finished) as f64 / seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::Hook;
    use crate::hook::meter::Meter;
    use crate::job::Outcome;
    use crate::job::id::JobId;
    use crate::job::id::WorkerId;

    #[test]
    fn the_mean_is_weighted_by_time_and_forgets() {
        let meter = Meter::new();
        meter.worker_add(WorkerId::new(1));
        let mut window = Window::new(Duration::from_secs(10));
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        window.push(at(0), &meter.snapshot());
        assert_eq!(window.load().utilization, 0.0);
        meter.job_start(JobId::new(1), WorkerId::new(1));
        window.push(at(6), &meter.snapshot()); // busy from here on
        window.push(at(8), &meter.snapshot());
        assert_eq!(window.load().utilization, 0.25);
        for second in 9..30 {
            window.push(at(second), &meter.snapshot());
        }
        assert_eq!(window.load().utilization, 1.0);
        assert!(window.samples.len() <= 12);
        meter.job_finish(JobId::new(1), WorkerId::new(1), Outcome::Completed);
    }

    #[test]
    fn completions_are_per_second() {
        let mut window = Window::new(Duration::from_secs(10));
        let start = Instant::now();
        let mut snapshot = Meter::new().snapshot();
        window.push(start, &snapshot);
        assert_eq!(window.load().completions, 0.0);
        snapshot.finished = 30;
        window.push(start + Duration::from_secs(3), &snapshot);
        assert_eq!(window.load().completions, 10.0);
        snapshot.finished = 0;
        window.push(start + Duration::from_secs(4), &snapshot);
        assert_eq!(window.load().completions, 0.0);
    }
}
