//! When an elastic pool grows and shrinks: decisions, without thread, lock or clock.
//!
//! # How a job that waits too long is seen without a time stamp
//!
//! A baseline notes the number of accepted jobs. When `grow_after` has passed, more jobs wait than
//! were accepted since the baseline only if one from before it still waits. That job has waited for
//! at least `grow_after`. A job that came just after a baseline is seen at the end of the next one,
//! so after twice `grow_after` at the latest. (If later jobs go ahead of it, because their priority
//! is higher, it may take longer: jobs are only counted, not told apart.)
//!
//! # Timers
//!
//! There is a baseline only while jobs wait or came since the last one, and another worker is
//! allowed. There is a window for shrinking only while there are more workers than the minimum. So
//! an idle pool of the minimum size has no timer.

use std::time::{Duration, Instant};

/// How an elastic pool follows its load; see [`Builder::elastic`](crate::Builder::elastic).
///
/// It grows by one worker when a job has waited for [`grow_after`](Self::grow_after). This is seen
/// after twice that time at the latest. It does not grow again while that worker is being made. It
/// shrinks by one worker when for all of [`shrink_after`](Self::shrink_after) at least one worker
/// had nothing to do. While it is paused, it does neither. A worker that is gone for good is
/// replaced when jobs wait for it.
///
/// ```
/// use std::time::Duration;
/// use worker_pool::{Elastic, Job, Manager};
///
/// let elastic = Elastic::between(1, 8)
///     .grow_after(Duration::from_millis(50))
///     .shrink_after(Duration::from_secs(30));
/// let pool = Manager::<u32, u32>::builder()
///     .factory(|_| Ok::<_, String>(|job: Job<u32>| Ok(job.into_payload() + 1)))
///     .elastic(elastic)
///     .build()?;
/// assert_eq!(pool.workers().len(), 1);
/// assert_eq!(pool.submit(1)?, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "it takes effect through `Builder::elastic`"]
pub struct Elastic {
    pub(crate) least: usize,
    pub(crate) most: usize,
    grow_after: Duration,
    shrink_after: Duration,
}

/// The shortest time that `grow_after` and `shrink_after` can be.
const MIN_PERIOD: Duration = Duration::from_millis(1);

impl Elastic {
    /// At least `least` and at most `most` workers. By default, it grows after 100 milliseconds and
    /// shrinks after 10 seconds.
    pub const fn between(least: usize, most: usize) -> Self {
        Elastic {
            least,
            most,
            grow_after: Duration::from_millis(100),
            shrink_after: Duration::from_secs(10),
        }
    }

    /// How long a job may wait before another worker is added: at least a millisecond.
    pub fn grow_after(mut self, wait: Duration) -> Self {
        self.grow_after = wait.max(MIN_PERIOD);
        self
    }

    /// How long a worker must have had nothing to do before one is removed: at least a millisecond.
    pub fn shrink_after(mut self, idle: Duration) -> Self {
        self.shrink_after = idle.max(MIN_PERIOD);
        self
    }
}

/// What the pool looks like at one time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) now: Instant,
    /// Jobs that have not begun. Read before `accepted`.
    pub(crate) waiting: u64,
    /// Jobs accepted so far.
    pub(crate) accepted: u64,
    /// Workers that are there to stay.
    pub(crate) workers: usize,
    /// One of them is being made for the first time.
    pub(crate) making: bool,
    /// How many workers slept all the time since the present [`Scaler::window`] began.
    pub(crate) slept: usize,
    /// No job begins for now.
    pub(crate) paused: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Stay,
    Grow,
    Shrink,
}

/// How many jobs were accepted at some time, and when to compare.
#[derive(Debug, Clone, Copy)]
struct Baseline {
    accepted: u64,
    due: Instant,
}

#[derive(Debug)]
pub(crate) struct Scaler {
    rules: Elastic,
    baseline: Option<Baseline>,
    /// The end of the window in which some worker would have to sleep all the time.
    window: Option<Instant>,
    /// Jobs accepted until the last sample.
    seen: u64,
    /// Waiting jobs change nothing: no other worker may be added, or one is being made.
    held: bool,
}

impl Scaler {
    pub(crate) fn new(rules: Elastic) -> Self {
        Scaler {
            rules,
            baseline: None,
            window: None,
            seen: 0,
            held: false,
        }
    }

    pub(crate) fn look(&mut self, sample: Sample) -> Decision {
        let allowed = sample.workers < self.rules.most && !sample.paused;
        let decision = if self.waited_too_long(&sample) && allowed && !sample.making {
            Decision::Grow
        } else if self.slept_too_long(&sample) {
            Decision::Shrink
        } else {
            Decision::Stay
        };
        self.held = !allowed || sample.making || decision == Decision::Grow;
        if self.held {
            self.baseline = None;
            return decision;
        }
        let needed = sample.waiting > 0 || sample.accepted != self.seen;
        if self.baseline.is_none() && needed {
            let due = sample.now.checked_add(self.rules.grow_after);
            let accepted = sample.accepted;
            self.baseline = due.map(|due| Baseline { accepted, due });
        }
        self.seen = sample.accepted;
        decision
    }

    /// At the end of a baseline: does a job from before it still wait?
    fn waited_too_long(&mut self, sample: &Sample) -> bool {
        let due = self.baseline.take_if(|baseline| sample.now >= baseline.due);
        due.is_some_and(|baseline| {
            sample.waiting > sample.accepted.saturating_sub(baseline.accepted)
        })
    }

    /// At the end of a window: did a worker sleep all through it?
    fn slept_too_long(&mut self, sample: &Sample) -> bool {
        if sample.workers <= self.rules.least || sample.paused {
            self.window = None;
            return false;
        }
        let over = self.window.is_some_and(|end| sample.now >= end);
        if over || self.window.is_none() {
            self.window = sample.now.checked_add(self.rules.shrink_after);
        }
        over && sample.slept > 0
    }

    /// When the present window ends. When a new one begins, the caller counts sleepers anew.
    pub(crate) fn window(&self) -> Option<Instant> {
        self.window
    }

    /// When to take the next sample, if nothing happens before.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        let due = self.baseline.map(|baseline| baseline.due);
        [due, self.window].into_iter().flatten().min()
    }

    /// Must it be told of the next job that is accepted?
    pub(crate) fn is_calm(&self) -> bool {
        self.baseline.is_none() && !self.held
    }

    /// Jobs accepted until the last sample.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }
}

#[cfg(test)]
#[path = "elastic_tests.rs"]
mod tests;
