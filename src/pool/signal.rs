//! How the dispatcher sleeps, and who wakes it.
//!
//! # States
//!
//! | mode | meaning | who notifies the dispatcher |
//! |---|---|---|
//! | `RUNNING` | a thread works on the [dispatch state](crate::dispatcher::feed), or was notified | nobody needs to |
//! | `AWAITING_JOB` | no job waits | a submitter whose job enters the job channel |
//! | `AWAITING_LOW_WATER` | jobs wait, and enough are released | a worker that took one and finds few left |
//!
//! # Why no wake-up is lost
//!
//! A thread that leaves the dispatch state sets the mode, and *then* looks once more for what would
//! need a notification. The others do their part, and *then* read the mode. Both are sequentially
//! consistent, with fences. So either the first thread sees what happened, or another sees the
//! mode. One of those that see it changes it to `RUNNING`. That one notifies the dispatcher or, if
//! it is a worker, takes its place at the dispatch state.
//!
//! A job that enters the job channel while enough are released needs no dispatcher. Its submitter
//! changes `AWAITING_JOB` to `AWAITING_LOW_WATER`, and *then* looks whether there are still enough.
//!
//! Commands notify the dispatcher whatever the mode. The parker keeps a notification that comes
//! before the dispatcher parks.

use std::time::{Duration, Instant};

use crate::job::cancel::earliest;
use crate::sync::park::{Parker, Wake};
use crate::sync::time;
use crate::sync::{
    AtomicBool, AtomicU8, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
    fence,
};

const RUNNING: u8 = 0;
const AWAITING_JOB: u8 = 1;
const AWAITING_LOW_WATER: u8 = 2;

/// What the dispatcher waits for, when it has nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Until {
    Job = AWAITING_JOB,
    LowWater = AWAITING_LOW_WATER,
}

#[repr(align(128))]
pub(crate) struct DispatcherSignal {
    mode: AtomicU8,
    /// A sweep of the waiting jobs is wanted, because some were given up.
    sweep: AtomicBool,
    /// How many were given up since the last sweep.
    given_up: AtomicUsize,
    /// The next deadline of a waiting job, in nanoseconds after `start`.
    timer: AtomicU64,
    /// The dispatcher need not be told of a job that was accepted; see
    /// [`Autoscaler`](crate::dispatcher::autoscale::Autoscaler).
    watching: AtomicBool,
    start: Instant,
    parker: Parker,
}

/// No job that waits has a deadline.
const NEVER: u64 = u64::MAX;

impl DispatcherSignal {
    pub(crate) fn new() -> Self {
        DispatcherSignal {
            mode: AtomicU8::new(RUNNING),
            sweep: AtomicBool::new(false),
            given_up: AtomicUsize::new(0),
            timer: AtomicU64::new(NEVER),
            watching: AtomicBool::new(true),
            start: time::now(),
            parker: Parker::new(),
        }
    }

    /// Wakes the dispatcher, whatever the mode.
    pub(crate) fn notify(&self) {
        self.parker.wake();
    }

    /// A caller gave up on a job that may still wait. If `urgent`, its place is needed at once.
    /// Else the place is freed once an eighth of the `waiting` jobs are given up, so that each
    /// sweep frees many.
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

    /// Asks the dispatcher for a sweep.
    pub(crate) fn ask_sweep(&self) {
        if !self.sweep.swap(true, SeqCst) {
            self.notify();
        }
    }

    /// A job that may have to wait has this deadline.
    pub(crate) fn set_timer(&self, at: Instant) {
        let nanos = at.saturating_duration_since(self.start).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(NEVER);
        if self.timer.fetch_min(nanos, SeqCst) > nanos {
            self.notify(); // so that it sleeps for less long
        }
    }

    fn timer(&self) -> Option<Instant> {
        match self.timer.load(SeqCst) {
            NEVER => None,
            nanos => self.start.checked_add(Duration::from_nanos(nanos)),
        }
    }

    /// Is it time for a sweep of the waiting jobs? If so, the caller does it, and then sets the
    /// timer for the jobs that are left.
    pub(crate) fn take_sweep(&self) -> bool {
        let late = self.timer().is_some_and(|at| time::now() >= at);
        if late {
            self.timer.store(NEVER, SeqCst);
        }
        let asked = self.sweep.load(Relaxed) && self.sweep.swap(false, SeqCst);
        if asked {
            self.given_up.store(0, SeqCst);
        }
        late || asked
    }

    /// A job entered the job channel. `needed` tells whether the dispatcher has to handle it now.
    #[inline]
    pub(crate) fn job_arrived(&self, needed: impl Fn() -> bool) {
        fence(SeqCst);
        if self.mode.load(SeqCst) != AWAITING_JOB {
            return;
        }
        let notify = if !needed() && self.change(AWAITING_JOB, AWAITING_LOW_WATER) {
            needed() && self.change(AWAITING_LOW_WATER, RUNNING)
        } else {
            self.change(AWAITING_JOB, RUNNING)
        };
        if notify {
            self.notify();
        }
    }

    /// An elastic pool accepted a job. A sequentially consistent step lies between that and this
    /// call.
    pub(crate) fn job_accepted(&self) {
        if !self.watching.load(SeqCst) && !self.watching.swap(true, SeqCst) {
            self.notify();
        }
    }

    pub(crate) fn is_watching(&self) -> bool {
        self.watching.load(SeqCst)
    }

    pub(crate) fn set_watching(&self, watching: bool) {
        self.watching.store(watching, SeqCst);
    }

    /// A worker took a job, and `low` tells whether few are left. Returns whether this worker has
    /// to see to it that more follow.
    #[inline]
    pub(crate) fn job_taken(&self, low: impl FnOnce() -> bool) -> bool {
        fence(SeqCst);
        self.mode.load(SeqCst) == AWAITING_LOW_WATER
            && low()
            && self.change(AWAITING_LOW_WATER, RUNNING)
    }

    fn change(&self, from: u8, to: u8) -> bool {
        self.mode.compare_exchange(from, to, SeqCst, SeqCst).is_ok()
    }

    /// The caller leaves the dispatch state. Returns `false` if `stay` finds something to do after
    /// all, and no other thread has taken that on.
    pub(crate) fn leave(&self, until: Until, stay: impl FnOnce() -> bool) -> bool {
        let mode = until as u8;
        self.mode.store(mode, SeqCst);
        fence(SeqCst);
        !(stay() && self.change(mode, RUNNING))
    }

    /// The dispatcher works on the dispatch state.
    pub(crate) fn wake_up(&self) {
        self.mode.store(RUNNING, SeqCst);
    }

    /// The dispatcher has left the dispatch state, and sleeps until `until` at the latest.
    pub(crate) fn sleep(&self, until: Option<Instant>) {
        self.parker.park(earliest(self.timer(), until));
    }
}

/// Called when the token of a waiting job is cancelled.
impl Wake for DispatcherSignal {
    fn wake(&self) {
        self.ask_sweep();
    }
}
