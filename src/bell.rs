//! How the dispatcher sleeps, and who wakes it.
//!
//! # States
//!
//! | mode | the dispatcher | woken by |
//! |---|---|---|
//! | `AWAKE` | looks around, or was called | nobody needs to |
//! | `HUNGRY` | sleeps; no job waits | a job that enters the job channel |
//! | `SATED` | sleeps; jobs wait, and enough are released | a worker that took one and finds few left |
//!
//! Commands ring whatever the mode. The dispatcher sets the mode and *then* looks once more at what
//! would wake it; the others do their part and *then* read the mode (sequentially consistent, with
//! fences). So either the dispatcher sees it, or it is seen asleep and called; and a call that comes
//! before it parks is kept by the parker.

use std::time::{Duration, Instant};

use crate::cancel::earliest;
use crate::park::{Parker, Wake};
use crate::sync::{
    AtomicBool, AtomicU8, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
    fence,
};

const AWAKE: u8 = 0;
const HUNGRY: u8 = 1;
const SATED: u8 = 2;

/// What the dispatcher waits for when it has nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Until {
    Job = HUNGRY,
    LowWater = SATED,
}

#[repr(align(128))]
pub(crate) struct Bell {
    mode: AtomicU8,
    /// Jobs that wait are to be looked through, because some were given up.
    sweep: AtomicBool,
    /// So many were given up since the last time.
    given_up: AtomicUsize,
    /// When the next job that waits is late, in nanoseconds after `start`.
    alarm: AtomicU64,
    start: Instant,
    parker: Parker,
}

/// No job that waits has a deadline.
const NEVER: u64 = u64::MAX;

impl Bell {
    pub(crate) fn new() -> Self {
        Bell {
            mode: AtomicU8::new(AWAKE),
            sweep: AtomicBool::new(false),
            given_up: AtomicUsize::new(0),
            alarm: AtomicU64::new(NEVER),
            start: Instant::now(),
            parker: Parker::new(),
        }
    }

    /// A command was sent.
    pub(crate) fn ring(&self) {
        self.parker.wake();
    }

    /// A caller gave up on a job that may still wait. With `urgent`, its place is needed at once;
    /// else it is freed when an eighth of the `waiting` are gone, so that each look frees many.
    pub(crate) fn job_given_up(&self, waiting: usize, urgent: bool) {
        let given_up = self.given_up.fetch_add(1, SeqCst) + 1;
        if urgent || given_up >= waiting / 8 {
            self.ask_sweep();
        }
    }

    /// Were jobs given up that may still wait?
    pub(crate) fn has_given_up(&self) -> bool {
        self.given_up.load(Relaxed) > 0
    }

    pub(crate) fn ask_sweep(&self) {
        if !self.sweep.swap(true, SeqCst) {
            self.ring();
        }
    }

    /// A job that may have to wait is late from then on.
    pub(crate) fn set_alarm(&self, at: Instant) {
        let nanos = at.saturating_duration_since(self.start).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(NEVER);
        if self.alarm.fetch_min(nanos, SeqCst) > nanos {
            self.ring(); // to sleep anew, for less long
        }
    }

    fn alarm(&self) -> Option<Instant> {
        match self.alarm.load(SeqCst) {
            NEVER => None,
            nanos => self.start.checked_add(Duration::from_nanos(nanos)),
        }
    }

    /// Is it time to look through the waiting jobs? The one who asks does it, and then sets the
    /// alarm for those that are left.
    pub(crate) fn take_sweep(&self) -> bool {
        let late = self.alarm().is_some_and(|at| Instant::now() >= at);
        if late {
            self.alarm.store(NEVER, SeqCst);
        }
        let asked = self.sweep.load(Relaxed) && self.sweep.swap(false, SeqCst);
        if asked {
            self.given_up.store(0, SeqCst);
        }
        late || asked
    }

    /// A job entered the job channel.
    #[inline]
    pub(crate) fn job_arrived(&self) {
        fence(SeqCst);
        self.call_if(HUNGRY);
    }

    /// A worker took a job; `low` tells whether few are left.
    #[inline]
    pub(crate) fn job_taken(&self, low: impl FnOnce() -> bool) {
        fence(SeqCst);
        if self.mode.load(SeqCst) == SATED && low() {
            self.call_if(SATED);
        }
    }

    #[inline]
    fn call_if(&self, mode: u8) {
        if self.mode.load(SeqCst) == mode
            && self
                .mode
                .compare_exchange(mode, AWAKE, SeqCst, SeqCst)
                .is_ok()
        {
            self.ring();
        }
    }

    /// The dispatcher sleeps, at most to that moment, unless `stay` finds something to do after all.
    pub(crate) fn sleep(&self, until: Until, at: Option<Instant>, stay: impl FnOnce() -> bool) {
        self.mode.store(until as u8, SeqCst);
        fence(SeqCst);
        if !stay() {
            self.parker.park(earliest(self.alarm(), at));
        }
        self.mode.store(AWAKE, SeqCst);
    }
}

/// A token of a job that waits was cancelled.
impl Wake for Bell {
    fn wake(&self) {
        self.ask_sweep();
    }
}
