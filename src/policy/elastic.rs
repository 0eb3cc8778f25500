//! When an elastic pool grows and shrinks: decisions without thread, lock or clock.
//!
//! # How a job that waits too long is seen without a time stamp
//!
//! At a mark the number of accepted jobs is noted. When `grow_after` has passed, more jobs wait than
//! were accepted since the mark only if one of those from before the mark still waits: it has waited
//! for so long at least. A job that came just after a mark is seen at the end of the next one, so
//! after twice `grow_after` at the latest. (If later jobs go ahead of it, because their priority is
//! higher, it may take longer: it is counted, not known by name.)
//!
//! # Timers
//!
//! There is a mark only while jobs wait or came since the last one, and another worker is allowed;
//! there is a window for shrinking only while there are more workers than the least. So an idle pool
//! of the least size has no timer.

use std::time::{Duration, Instant};

/// How an elastic pool follows its load; see [`Builder::elastic`](crate::Builder::elastic).
///
/// It grows by one worker when some job has waited for [`grow_after`](Self::grow_after) (seen after
/// twice that at the latest), and not again while that worker is being made. It shrinks by one when
/// for all of [`shrink_after`](Self::shrink_after) at least one worker had nothing to do. It does
/// neither while it is paused. A worker that is gone for good is replaced when jobs wait for it.
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

/// No look follows the last more closely.
const MIN_PERIOD: Duration = Duration::from_millis(1);

impl Elastic {
    /// At least and at most so many workers. It grows after 100 milliseconds and shrinks after 10
    /// seconds unless set.
    pub const fn between(least: usize, most: usize) -> Self {
        Elastic {
            least,
            most,
            grow_after: Duration::from_millis(100),
            shrink_after: Duration::from_secs(10),
        }
    }

    /// How long a job may wait before there is another worker; a millisecond at least.
    pub fn grow_after(mut self, wait: Duration) -> Self {
        self.grow_after = wait.max(MIN_PERIOD);
        self
    }

    /// How long a worker must have had nothing to do before there is one less; a millisecond at least.
    pub fn shrink_after(mut self, idle: Duration) -> Self {
        self.shrink_after = idle.max(MIN_PERIOD);
        self
    }
}

/// A look at the pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) now: Instant,
    /// Jobs that have not begun; counted before `accepted`.
    pub(crate) waiting: u64,
    /// Jobs accepted so far.
    pub(crate) accepted: u64,
    /// Workers that are there to stay.
    pub(crate) workers: usize,
    /// One of them is made for the first time.
    pub(crate) making: bool,
    /// So many workers slept all the time since the last [`Scaler::window`] began.
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

#[derive(Debug, Clone, Copy)]
struct Baseline {
    accepted: u64,
    due: Instant,
}

#[derive(Debug)]
pub(crate) struct Scaler {
    rules: Elastic,
    mark: Option<Baseline>,
    /// When it ends: did a worker sleep all through it?
    window: Option<Instant>,
    /// Jobs accepted by the last look.
    seen: u64,
    /// Another worker may be added.
    can_grow: bool,
    /// Jobs change nothing: no other worker may be added, or one is being made.
    held: bool,
}

impl Scaler {
    pub(crate) fn new(rules: Elastic) -> Self {
        Scaler {
            rules,
            mark: None,
            window: None,
            seen: 0,
            can_grow: true,
            held: false,
        }
    }

    pub(crate) fn look(&mut self, look: Sample) -> Decision {
        let allowed = look.workers < self.rules.most && !look.paused;
        self.can_grow = allowed;
        let decision = if self.waited_too_long(&look) && allowed && !look.making {
            Decision::Grow
        } else if self.slept_too_long(&look) {
            Decision::Shrink
        } else {
            Decision::Stay
        };
        self.held = !allowed || look.making || decision == Decision::Grow;
        if self.held {
            self.mark = None;
            return decision;
        }
        let news = look.waiting > 0 || look.accepted != self.seen;
        if self.mark.is_none() && news {
            let due = look.now.checked_add(self.rules.grow_after);
            let accepted = look.accepted;
            self.mark = due.map(|due| Baseline { accepted, due });
        }
        self.seen = look.accepted;
        decision
    }

    /// At the end of a mark: does a job from before it still wait?
    fn waited_too_long(&mut self, look: &Sample) -> bool {
        let due = self.mark.take_if(|mark| look.now >= mark.due);
        due.is_some_and(|mark| look.waiting > look.accepted.saturating_sub(mark.accepted))
    }

    /// At the end of a window: did a worker sleep all through it?
    fn slept_too_long(&mut self, look: &Sample) -> bool {
        if look.workers <= self.rules.least || look.paused {
            self.window = None;
            return false;
        }
        let over = self.window.is_some_and(|end| look.now >= end);
        if over || self.window.is_none() {
            self.window = look.now.checked_add(self.rules.shrink_after);
        }
        over && look.slept > 0
    }

    /// When the present window ends. A new one counts sleepers anew.
    pub(crate) fn window(&self) -> Option<Instant> {
        self.window
    }

    /// When to look again, if nothing happens before.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        let due = self.mark.map(|mark| mark.due);
        [due, self.window].into_iter().flatten().min()
    }

    /// Has it to be told of the next job that is accepted?
    pub(crate) fn is_calm(&self) -> bool {
        self.mark.is_none() && !self.held
    }

    /// Jobs accepted by the last look.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    /// Another worker would be added if jobs waited long enough.
    pub(crate) fn can_grow(&self) -> bool {
        self.can_grow
    }
}

#[cfg(test)]
#[path = "elastic_tests.rs"]
mod tests;
