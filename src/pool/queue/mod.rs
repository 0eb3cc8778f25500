//! Admission: how many jobs wait, whether more may come, and who waits for room.
//!
//! # Why no submitter waits for room that is there
//!
//! One that finds no room first puts itself on the list and counts itself in `blocked`, and *then*
//! tries once more. Whoever makes room changes `word` and *then* reads `blocked` (all sequentially
//! consistent). So either the submitter sees the room, or it is seen and woken. One that was woken
//! and does not take the place wakes the next; one that was not fast enough is the next.
//!
//! To wake a submitter for every place takes cores away from the workers: some 10 µs each time. So at
//! first one is *patient*: it is woken when half of the places are free. After [`PATIENCE`] it counts
//! itself in `hurried`, and *then* tries once more; while any is hurried, those in line are woken for
//! the first place that is free.

pub(crate) mod run_queue;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::error::RejectReason;
use crate::sync::park::{Parker, Wake};
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering::SeqCst};

/// No new jobs; those accepted still run.
const DRAINING: u64 = 1 << 40;
/// No new jobs; those that have not begun are answered.
const CLOSING: u64 = 1 << 41;
/// Every job has its outcome and every worker is gone; what [`Admission::is_stopped`] tells the outside.
const STOPPED: u64 = 1 << 42;
/// No job goes straight to the workers, who take none for now.
const PAUSED: u64 = 1 << 43;
/// Jobs are being moved to the workers: they wait no more, and none may overtake them.
const MOVING: u64 = 1 << 44;
/// The last worker is gone for good, and the pool shall turn away what nobody is there to run. Set
/// and cleared under the roster's lock, so that whoever has added a worker finds it cleared.
const DESERTED: u64 = 1 << 45;
const COUNT: u64 = (1 << 40) - 1;

/// For so long a submitter waits until it is worth its while to be woken: much longer than waking it
/// takes, and not long for one whose way is blocked by a full queue.
const PATIENCE: Duration = Duration::from_millis(2);

/// Why a job may not enter now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TryAcquireError {
    Full,
    Shut,
    Deserted,
}

impl From<TryAcquireError> for RejectReason {
    fn from(refusal: TryAcquireError) -> Self {
        match refusal {
            TryAcquireError::Full => RejectReason::Full,
            TryAcquireError::Shut => RejectReason::Closed,
            TryAcquireError::Deserted => RejectReason::NoWorkers,
        }
    }
}

/// How a job got in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// It waits, and takes one of the places.
    Queued,
    /// Straight to the workers, past the queue.
    HandedOff,
}

pub(crate) struct Admission {
    word: Word,
    capacity: usize,
    blocked: AtomicUsize,
    /// Those of them that have counted in no job.
    onlookers: AtomicUsize,
    /// Those of all that want to be called for the first place.
    hurried: AtomicUsize,
    waiters: Mutex<VecDeque<Arc<Waiter>>>,
}

/// Flags, and how many jobs have entered and are not yet released.
#[repr(align(128))]
struct Word(AtomicU64);

impl Admission {
    pub(crate) fn new(capacity: usize) -> Self {
        Admission {
            word: Word(AtomicU64::new(0)),
            capacity,
            blocked: AtomicUsize::new(0),
            onlookers: AtomicUsize::new(0),
            hurried: AtomicUsize::new(0),
            waiters: Mutex::default(),
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Jobs that wait.
    pub(crate) fn count(&self) -> usize {
        (self.word.0.load(SeqCst) & COUNT) as usize
    }

    /// Nothing waits and everything is open: a job may go straight to the workers.
    #[inline]
    pub(crate) fn can_handoff(&self) -> bool {
        self.word.0.load(SeqCst) == 0
    }

    /// One job enters. Room and flags are judged in the step that takes the place.
    pub(crate) fn try_acquire(&self) -> Result<Admitted, TryAcquireError> {
        let mut word = self.word.0.load(SeqCst);
        loop {
            if word & DRAINING != 0 {
                return Err(TryAcquireError::Shut);
            }
            if word & DESERTED != 0 {
                return Err(TryAcquireError::Deserted);
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

    /// So many jobs leave; until [`stop_moving`](Self::stop_moving) none goes past them. Only for
    /// who is at the dispatch state.
    pub(crate) fn start_moving(&self, jobs: usize) {
        let before = self.word.0.load(SeqCst) & MOVING;
        // Only who is at the dispatch state changes this flag.
        let change = (MOVING - before).wrapping_sub(jobs as u64);
        let before = self.word.0.fetch_add(change, SeqCst);
        debug_assert!(before & COUNT >= jobs as u64, "more left than entered");
    }

    /// So many jobs found no place where they were to go, and wait again.
    pub(crate) fn come_back(&self, jobs: usize) {
        self.word.0.fetch_add(jobs as u64, SeqCst);
    }

    /// So many jobs have been moved on.
    pub(crate) fn stop_moving(&self, jobs: usize) {
        self.word.0.fetch_and(!MOVING, SeqCst);
        if jobs > 0 {
            self.wake_waiters();
        }
    }

    /// So many jobs have left by another way than the dispatch state.
    pub(crate) fn release(&self, jobs: usize) {
        let before = self.word.0.fetch_sub(jobs as u64, SeqCst);
        debug_assert!(before & COUNT >= jobs as u64, "more left than entered");
        self.wake_waiters();
    }

    /// There is more room than before: calls those who wait for it, if it is worth their while.
    fn wake_waiters(&self) {
        if self.blocked.load(SeqCst) == 0 {
            return;
        }
        let room = self.capacity.saturating_sub(self.count());
        if room >= self.capacity / 2 || self.hurried.load(SeqCst) > 0 {
            self.wake(room);
        }
    }

    /// Submitters that wait for room.
    pub(crate) fn blocked(&self) -> usize {
        self.blocked.load(SeqCst)
    }

    /// Jobs that were counted in, and whose submitters wait for room.
    pub(crate) fn undecided(&self) -> usize {
        self.blocked().saturating_sub(self.onlookers.load(SeqCst))
    }

    /// Would a job be let in now, or turned away for good?
    pub(crate) fn has_answer(&self) -> bool {
        let word = self.word.0.load(SeqCst);
        word & (DRAINING | DESERTED) != 0 || ((word & COUNT) as usize) < self.capacity
    }

    /// Stands in line without blocking, until the guard is dropped: `parker` is woken when there may
    /// be room. The caller asks [`has_answer`](Self::has_answer) after this call.
    pub(crate) fn add_waiter(&self, parker: &Arc<Parker>) -> WaiterGuard<'_> {
        let place = Arc::new(Waiter {
            parker: Arc::clone(parker),
            woken: AtomicBool::new(false),
        });
        self.onlookers.fetch_add(1, SeqCst);
        self.hurried.fetch_add(1, SeqCst);
        self.join_waiters(&place);
        WaiterGuard {
            admission: self,
            place,
        }
    }

    fn shut_with(&self, flags: u64) -> bool {
        let before = self.word.0.fetch_or(flags, SeqCst);
        if self.blocked.load(SeqCst) > 0 {
            self.wake(usize::MAX);
        }
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
        self.word.0.load(SeqCst) & DRAINING != 0
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.word.0.load(SeqCst) & CLOSING != 0
    }

    /// The last worker is gone: jobs are turned away until [`populate`](Self::populate).
    pub(crate) fn desert(&self) {
        self.shut_with(DESERTED);
    }

    /// There is a worker (again).
    pub(crate) fn populate(&self) {
        if self.is_deserted() {
            self.word.0.fetch_and(!DESERTED, SeqCst);
        }
    }

    pub(crate) fn is_deserted(&self) -> bool {
        self.word.0.load(SeqCst) & DESERTED != 0
    }

    /// Does somebody turn away what is released and not taken?
    #[inline]
    pub(crate) fn turns_away(&self) -> bool {
        self.word.0.load(SeqCst) & (CLOSING | DESERTED) != 0
    }

    pub(crate) fn pause(&self) {
        self.word.0.fetch_or(PAUSED, SeqCst);
    }

    pub(crate) fn resume(&self) {
        self.word.0.fetch_and(!PAUSED, SeqCst);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.word.0.load(SeqCst) & STOPPED != 0
    }

    /// Wakes so many at most of those who stand in line now: one that took its place and stands in
    /// line for the next has had its turn.
    fn wake(&self, most: usize) {
        let woken: Vec<_> = {
            let mut waiters = self.waiters.lock();
            let most = most.min(waiters.len());
            let woken = waiters.drain(..most);
            woken
                .inspect(|place| place.woken.store(true, SeqCst))
                .collect()
        };
        for place in woken {
            place.parker.wake();
        }
    }

    /// Blocks until `enter` lets the job in. `wait` blocks the thread until it is woken, or that moment
    /// has come, or it has its own reason to give up. Who is not `patient` is hurried from the start.
    pub(crate) fn wait_for_room_with(
        &self,
        parker: &Arc<Parker>,
        patient: bool,
        mut enter: impl FnMut() -> Result<Admitted, TryAcquireError>,
        mut wait: impl FnMut(Option<Instant>) -> Result<(), RejectReason>,
    ) -> Result<Admitted, RejectReason> {
        let place = Arc::new(Waiter {
            parker: Arc::clone(parker),
            woken: AtomicBool::new(false),
        });
        let mut patience = patient.then(|| Instant::now() + PATIENCE);
        if !patient {
            self.hurried.fetch_add(1, SeqCst);
        }
        let outcome = loop {
            self.join_waiters(&place);
            let outcome = match enter() {
                Ok(way) => Some(Ok(way)),
                Err(TryAcquireError::Full) => wait(patience).err().map(Err),
                Err(refusal) => Some(Err(refusal.into())),
            };
            let woken = self.leave_waiters(&place);
            if let Some(outcome) = outcome {
                if woken {
                    self.wake(1); // the call was for a job that did not need it
                }
                break outcome;
            }
            match enter() {
                Ok(way) => {
                    if woken && way == Admitted::HandedOff {
                        self.wake(1); // the place that it was called for is still free
                    }
                    break Ok(way);
                }
                Err(TryAcquireError::Full) => {} // another was faster, or patience is at its end
                Err(refusal) => break Err(refusal.into()),
            }
            if patience.take_if(|end| *end <= Instant::now()).is_some() {
                self.hurried.fetch_add(1, SeqCst);
            }
        };
        if patience.is_none() {
            self.hurried.fetch_sub(1, SeqCst);
        }
        outcome
    }

    /// At the end of the line; but who was called, and was not fast enough, at its head.
    fn join_waiters(&self, place: &Arc<Waiter>) {
        let mut waiters = self.waiters.lock();
        if place.woken.swap(false, SeqCst) {
            waiters.push_front(Arc::clone(place));
        } else {
            waiters.push_back(Arc::clone(place));
        }
        self.blocked.fetch_add(1, SeqCst);
    }

    /// Had it been called out of the line?
    fn leave_waiters(&self, place: &Arc<Waiter>) -> bool {
        let mut waiters = self.waiters.lock();
        self.blocked.fetch_sub(1, SeqCst);
        let woken = place.woken.load(SeqCst);
        if !woken {
            waiters.retain(|other| !Arc::ptr_eq(other, place));
        }
        woken
    }
}

/// A place in the line, of somebody who also waits for other things.
pub(crate) struct WaiterGuard<'a> {
    admission: &'a Admission,
    place: Arc<Waiter>,
}

impl WaiterGuard<'_> {
    /// There was room; it stands in line no more.
    pub(crate) fn is_woken(&self) -> bool {
        self.place.woken.load(SeqCst)
    }
}

impl Drop for WaiterGuard<'_> {
    fn drop(&mut self) {
        let woken = self.admission.leave_waiters(&self.place);
        self.admission.onlookers.fetch_sub(1, SeqCst);
        self.admission.hurried.fetch_sub(1, SeqCst);
        if woken {
            self.admission.wake(1); // who comes too early stands in line again
        }
    }
}

/// A submitter that waits for room.
struct Waiter {
    parker: Arc<Parker>,
    /// Popped out of the line by somebody who made room. Changes under the line's lock only.
    woken: AtomicBool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gate that is full, and a parker for one who waits.
    fn full(capacity: usize) -> (Admission, Arc<Parker>) {
        let admission = Admission::new(capacity);
        for _ in 0..capacity {
            assert_eq!(admission.try_acquire(), Ok(Admitted::Queued));
        }
        (admission, Arc::new(Parker::new()))
    }

    #[test]
    fn a_patient_submitter_is_woken_when_half_of_the_places_are_free() {
        let (admission, parker) = full(10);
        let way = admission.wait_for_room_with(
            &parker,
            true,
            || admission.try_acquire(),
            |patience| {
                assert!(patience.is_some());
                admission.release(4);
                assert!(!parker.is_woken(), "not worth its while");
                admission.release(1);
                assert!(parker.is_woken());
                Ok(())
            },
        );
        assert_eq!(way, Ok(Admitted::Queued));
    }

    #[test]
    fn a_hurried_submitter_is_woken_for_the_first_place() {
        let (admission, parker) = full(10);
        let mut waits = 0;
        let way = admission.wait_for_room_with(
            &parker,
            true,
            || admission.try_acquire(),
            |patience| {
                waits += 1;
                match patience {
                    Some(end) => parker.park(Some(end)),
                    None => {
                        admission.release(1);
                        assert!(parker.is_woken());
                    }
                }
                Ok(())
            },
        );
        assert_eq!((way, waits), (Ok(Admitted::Queued), 2));
        assert_eq!(admission.hurried.load(SeqCst), 0);
    }

    #[test]
    fn patience_ends_for_all_when_one_is_hurried_from_the_start() {
        let (admission, parker) = full(10);
        let onlooker = Arc::new(Parker::new());
        let guard = admission.add_waiter(&onlooker);
        assert!(!admission.has_answer());
        admission.release(1);
        assert!(guard.is_woken() && onlooker.is_woken());
        drop(guard);
        assert_eq!(admission.try_acquire(), Ok(Admitted::Queued));
        let way = admission.wait_for_room_with(
            &parker,
            false,
            || admission.try_acquire(),
            |patience| {
                assert_eq!(patience, None);
                admission.release(1);
                assert!(parker.is_woken());
                Ok(())
            },
        );
        assert_eq!(way, Ok(Admitted::Queued));
    }
}
