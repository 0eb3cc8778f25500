//! Admission: how many jobs wait, and whether more may come. [`waiters`] holds the submitters that
//! wait for room.

pub(crate) mod run_queue;
mod waiters;

use std::time::Instant;

use crate::error::RejectReason;
use crate::pool::queue::waiters::Waiters;
use crate::sync::park::Parker;
use crate::sync::{Arc, AtomicU64, Ordering::SeqCst};

pub(crate) use crate::pool::queue::waiters::{Admitted, TryAcquireError, WaiterGuard};

/// No new jobs; those accepted still run.
const DRAINING: u64 = 1 << 40;
/// No new jobs; those that have not begun are rejected.
const CLOSING: u64 = 1 << 41;
/// Every job has its outcome and every worker is gone; what [`Admission::is_stopped`] tells.
const STOPPED: u64 = 1 << 42;
/// No job is handed off to the workers, which take none for now.
const PAUSED: u64 = 1 << 43;
/// Jobs are being moved to the workers. They no longer count as waiting, but no job may overtake
/// them.
const MOVING: u64 = 1 << 44;
/// The last worker is gone for good, and the pool rejects the jobs that nobody is there to run. Set
/// and cleared under the roster's lock, so that a thread that has added a worker finds it cleared.
const NO_WORKERS: u64 = 1 << 45;
const COUNT: u64 = (1 << 40) - 1;

pub(crate) struct Admission {
    word: Word,
    capacity: usize,
    waiters: Waiters,
}

/// Flags, and how many jobs have entered and are not yet released.
#[repr(align(128))]
struct Word(AtomicU64);

impl Admission {
    pub(crate) fn new(capacity: usize) -> Self {
        Admission {
            word: Word(AtomicU64::new(0)),
            capacity,
            waiters: Waiters::default(),
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    #[inline]
    fn has_any(&self, flags: u64) -> bool {
        self.word.0.load(SeqCst) & flags != 0
    }

    /// Jobs that wait.
    pub(crate) fn count(&self) -> usize {
        (self.word.0.load(SeqCst) & COUNT) as usize
    }

    /// Nothing waits and no flag is set: a job may go straight to the workers.
    #[inline]
    pub(crate) fn can_handoff(&self) -> bool {
        self.word.0.load(SeqCst) == 0
    }

    /// One job enters. The step that takes the place also checks room and flags.
    pub(crate) fn try_acquire(&self) -> Result<Admitted, TryAcquireError> {
        let mut word = self.word.0.load(SeqCst);
        loop {
            if word & DRAINING != 0 {
                return Err(TryAcquireError::Closed);
            }
            if word & NO_WORKERS != 0 {
                return Err(TryAcquireError::NoWorkers);
            }
            if (word & COUNT) as usize >= self.capacity {
                return Err(TryAcquireError::Full);
            }
            match self
                .word
                .0
                .compare_exchange_weak(word, word + 1, SeqCst, SeqCst)
            {
                Ok(_) => return Ok(Admitted::Queued),
                Err(now) => word = now,
            }
        }
    }

    /// This many jobs leave. Until [`stop_moving`](Self::stop_moving), no job goes past them. Only
    /// for the thread that holds the dispatch state.
    pub(crate) fn start_moving(&self, jobs: usize) {
        let before = self.word.0.load(SeqCst) & MOVING;
        // Only the holder of the dispatch state changes this flag.
        let change = (MOVING - before).wrapping_sub(jobs as u64);
        let before = self.word.0.fetch_add(change, SeqCst);
        debug_assert!(before & COUNT >= jobs as u64, "more left than entered");
    }

    /// This many jobs wait again: they found no place where they were to go, or get another
    /// attempt.
    pub(crate) fn requeue(&self, jobs: usize) {
        self.word.0.fetch_add(jobs as u64, SeqCst);
    }

    /// This many jobs have been moved.
    pub(crate) fn stop_moving(&self, jobs: usize) {
        self.word.0.fetch_and(!MOVING, SeqCst);
        if jobs > 0 {
            self.wake_waiters();
        }
    }

    /// This many jobs have left without the dispatch state.
    pub(crate) fn release(&self, jobs: usize) {
        let before = self.word.0.fetch_sub(jobs as u64, SeqCst);
        debug_assert!(before & COUNT >= jobs as u64, "more left than entered");
        self.wake_waiters();
    }

    /// There is more room than before.
    fn wake_waiters(&self) {
        self.waiters.wake_for_room(self.capacity, || self.count());
    }

    /// Submitters that wait for room.
    pub(crate) fn blocked(&self) -> usize {
        self.waiters.blocked()
    }

    /// Jobs that were counted as accepted, and whose submitters wait for room.
    pub(crate) fn undecided(&self) -> usize {
        self.waiters.undecided()
    }

    /// Would a job be let in now, or rejected for good?
    pub(crate) fn has_answer(&self) -> bool {
        let word = self.word.0.load(SeqCst);
        word & (DRAINING | NO_WORKERS) != 0 || ((word & COUNT) as usize) < self.capacity
    }

    /// Waits for room without blocking, until the guard is dropped: `parker` is woken when there
    /// may be room. After this call, the caller asks [`has_answer`](Self::has_answer).
    pub(crate) fn add_waiter(&self, parker: &Arc<Parker>) -> WaiterGuard<'_> {
        self.waiters.add(parker)
    }

    /// Blocks until `enter` lets the job in. `wait` blocks the thread until it is woken, until the
    /// given moment, or until it has its own reason to give up. A submitter that is not `patient`
    /// is hurried from the start; see [`waiters`].
    pub(crate) fn wait_for_room_with(
        &self,
        parker: &Arc<Parker>,
        patient: bool,
        enter: impl FnMut() -> Result<Admitted, TryAcquireError>,
        wait: impl FnMut(Option<Instant>) -> Result<(), RejectReason>,
    ) -> Result<Admitted, RejectReason> {
        self.waiters.wait(parker, patient, enter, wait)
    }

    /// Sets flags that keep jobs out, and tells those that wait. Was one of the flags new?
    fn shut_with(&self, flags: u64) -> bool {
        let before = self.word.0.fetch_or(flags, SeqCst);
        self.waiters.wake_all();
        before & flags != flags
    }

    /// No new jobs. Was this the first call?
    pub(crate) fn drain(&self) -> bool {
        self.shut_with(DRAINING)
    }

    /// No new jobs, and those that wait will not run. Was this the first call?
    pub(crate) fn close(&self) -> bool {
        self.shut_with(DRAINING | CLOSING)
    }

    /// The pool is closed.
    pub(crate) fn stop(&self) {
        self.shut_with(DRAINING | CLOSING | STOPPED);
    }

    pub(crate) fn is_shut(&self) -> bool {
        self.has_any(DRAINING)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.has_any(CLOSING)
    }

    /// The last worker is gone: jobs are rejected until [`clear_no_workers`](Self::clear_no_workers).
    pub(crate) fn set_no_workers(&self) {
        self.shut_with(NO_WORKERS);
    }

    /// There is a worker (again).
    pub(crate) fn clear_no_workers(&self) {
        if self.has_no_workers() {
            self.word.0.fetch_and(!NO_WORKERS, SeqCst);
        }
    }

    pub(crate) fn has_no_workers(&self) -> bool {
        self.has_any(NO_WORKERS)
    }

    /// Are released jobs rejected that no worker took?
    #[inline]
    pub(crate) fn rejects_released(&self) -> bool {
        self.has_any(CLOSING | NO_WORKERS)
    }

    pub(crate) fn pause(&self) {
        self.word.0.fetch_or(PAUSED, SeqCst);
    }

    pub(crate) fn resume(&self) {
        self.word.0.fetch_and(!PAUSED, SeqCst);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.has_any(PAUSED)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.has_any(STOPPED)
    }
}
