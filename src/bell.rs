//! How the dispatcher sleeps, and who wakes it.
//!
//! # States
//!
//! | mode | the dispatcher | woken by |
//! |---|---|---|
//! | `AWAKE` | looks around, or was called | nobody needs to |
//! | `HUNGRY` | sleeps; no job waits | a job that enters the job channel |
//! | `SATED` | sleeps; jobs wait, and enough are released | a worker that took one and finds half of them gone |
//!
//! Commands ring whatever the mode. The dispatcher sets the mode and *then* looks once more at what
//! would wake it; the others do their part and *then* read the mode (sequentially consistent, with
//! fences). So either the dispatcher sees it, or it is seen asleep and called; and a call that comes
//! before it parks is kept by the parker.

use crate::park::{Parker, Wake};
use crate::sync::{
    AtomicBool, AtomicU8,
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
    /// A caller gave up on a job that waits.
    sweep: AtomicBool,
    parker: Parker,
}

impl Bell {
    pub(crate) fn new() -> Self {
        Bell {
            mode: AtomicU8::new(AWAKE),
            sweep: AtomicBool::new(false),
            parker: Parker::new(),
        }
    }

    /// A command was sent.
    pub(crate) fn ring(&self) {
        self.parker.wake();
    }

    /// A caller gave up on a job that may still wait.
    pub(crate) fn ask_sweep(&self) {
        if !self.sweep.swap(true, SeqCst) {
            self.ring();
        }
    }

    pub(crate) fn take_sweep(&self) -> bool {
        self.sweep.load(Relaxed) && self.sweep.swap(false, SeqCst)
    }

    /// A job entered the job channel.
    #[inline]
    pub(crate) fn job_arrived(&self) {
        fence(SeqCst);
        self.call_if(HUNGRY);
    }

    /// A worker took a job; `low` tells whether the ready channel is half empty.
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

    /// The dispatcher sleeps, unless `stay` finds something to do after all.
    pub(crate) fn sleep(&self, until: Until, stay: impl FnOnce() -> bool) {
        self.mode.store(until as u8, SeqCst);
        fence(SeqCst);
        if !stay() {
            self.parker.park(None);
        }
        self.mode.store(AWAKE, SeqCst);
    }
}
