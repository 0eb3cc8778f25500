//! Submitters that wait for room in the queue.
//!
//! # Why no submitter waits for room that is there
//!
//! A submitter that finds no room first joins the list and counts itself in `blocked`, and *then*
//! tries once more. A thread that makes room changes the admission's word, and *then* reads
//! `blocked`. All of these steps are sequentially consistent. So either the submitter sees the
//! room, or the other thread sees the submitter and wakes it. A submitter that was woken and does
//! not take the place wakes the next one. If another was faster, it goes back to the head of the
//! list.
//!
//! # When a submitter is woken
//!
//! To wake a submitter for every place takes cores away from the workers: some 10 µs each time. So
//! a submitter is *patient* at first: it is woken when half of the places are free. After
//! [`PATIENCE`] it counts itself in `hurried`, and *then* tries once more. While any submitter is
//! hurried, those on the list are woken for the first free place.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::error::RejectReason;
use crate::sync::park::{Parker, Wake};
use crate::sync::time;
use crate::sync::{Arc, AtomicBool, AtomicUsize, Mutex, Ordering::SeqCst};

/// How long a submitter is patient: much longer than it takes to wake one, and not long for a
/// submitter that a full queue blocks.
const PATIENCE: Duration = Duration::from_millis(2);

/// Why a job may not enter now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TryAcquireError {
    Full,
    Closed,
    NoWorkers,
}

impl From<TryAcquireError> for RejectReason {
    fn from(error: TryAcquireError) -> Self {
        match error {
            TryAcquireError::Full => RejectReason::Full,
            TryAcquireError::Closed => RejectReason::Closed,
            TryAcquireError::NoWorkers => RejectReason::NoWorkers,
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

/// The submitters that wait for room, and how many they are.
#[derive(Default)]
pub(super) struct Waiters {
    /// How many wait.
    blocked: AtomicUsize,
    /// How many of those have not counted a job as accepted.
    onlookers: AtomicUsize,
    /// How many want to be woken for the first free place.
    hurried: AtomicUsize,
    /// Those that wait and were not yet woken, the next to be woken first.
    list: Mutex<VecDeque<Arc<Waiter>>>,
}

/// A submitter that waits for room.
struct Waiter {
    parker: Arc<Parker>,
    /// Taken off the list by a thread that made room. Changes only under the list's lock.
    woken: AtomicBool,
}

impl Waiter {
    fn new(parker: &Arc<Parker>) -> Arc<Self> {
        Arc::new(Waiter {
            parker: Arc::clone(parker),
            woken: AtomicBool::new(false),
        })
    }
}

impl Waiters {
    /// Submitters that wait for room.
    pub(super) fn blocked(&self) -> usize {
        self.blocked.load(SeqCst)
    }

    /// Jobs that were counted as accepted, and whose submitters wait for room.
    pub(super) fn undecided(&self) -> usize {
        self.blocked().saturating_sub(self.onlookers.load(SeqCst))
    }

    /// There is more room than before, in a queue of this capacity in which `count` jobs wait.
    /// Wakes those that wait, if it is worth it.
    pub(super) fn wake_for_room(&self, capacity: usize, count: impl FnOnce() -> usize) {
        if self.blocked() == 0 {
            return;
        }
        let room = capacity.saturating_sub(count());
        if room >= capacity / 2 || self.hurried.load(SeqCst) > 0 {
            self.wake(room);
        }
    }

    /// The queue is closed to all: none of those that wait will find room.
    pub(super) fn wake_all(&self) {
        if self.blocked() > 0 {
            self.wake(usize::MAX);
        }
    }

    /// Wakes at most `max` of those that are on the list now. A submitter that takes its place and
    /// joins the list for its next job has had its turn.
    fn wake(&self, max: usize) {
        let woken: Vec<_> = {
            let mut list = self.list.lock();
            let max = max.min(list.len());
            let woken = list.drain(..max);
            woken
                .inspect(|waiter| waiter.woken.store(true, SeqCst))
                .collect()
        };
        for waiter in woken {
            waiter.parker.wake();
        }
    }

    /// Joins the list without blocking, until the guard is dropped.
    pub(super) fn add(&self, parker: &Arc<Parker>) -> WaiterGuard<'_> {
        let waiter = Waiter::new(parker);
        self.onlookers.fetch_add(1, SeqCst);
        self.hurried.fetch_add(1, SeqCst);
        self.join(&waiter);
        WaiterGuard {
            waiters: self,
            waiter,
        }
    }

    /// Blocks until `enter` lets the job in; see
    /// [`Admission::wait_for_room_with`](super::Admission::wait_for_room_with).
    pub(super) fn wait(
        &self,
        parker: &Arc<Parker>,
        patient: bool,
        mut enter: impl FnMut() -> Result<Admitted, TryAcquireError>,
        mut wait: impl FnMut(Option<Instant>) -> Result<(), RejectReason>,
    ) -> Result<Admitted, RejectReason> {
        let waiter = Waiter::new(parker);
        let mut patience = patient.then(|| time::now() + PATIENCE);
        if !patient {
            self.hurried.fetch_add(1, SeqCst);
        }
        let outcome = loop {
            self.join(&waiter);
            let outcome = match enter() {
                Ok(admitted) => Some(Ok(admitted)),
                Err(TryAcquireError::Full) => wait(patience).err().map(Err),
                Err(error) => Some(Err(error.into())),
            };
            let woken = self.leave(&waiter);
            if let Some(outcome) = outcome {
                if woken {
                    self.wake(1); // this job did not need the wake-up
                }
                break outcome;
            }
            match enter() {
                Ok(admitted) => {
                    if woken && admitted == Admitted::HandedOff {
                        self.wake(1); // the place that it was woken for is still free
                    }
                    break Ok(admitted);
                }
                Err(TryAcquireError::Full) => {} // another was faster, or its patience is over
                Err(error) => break Err(error.into()),
            }
            if patience.take_if(|end| *end <= time::now()).is_some() {
                self.hurried.fetch_add(1, SeqCst);
            }
        };
        if patience.is_none() {
            self.hurried.fetch_sub(1, SeqCst);
        }
        outcome
    }

    /// Puts the waiter at the end of the list, or at its head if it was woken and another was
    /// faster.
    fn join(&self, waiter: &Arc<Waiter>) {
        let mut list = self.list.lock();
        if waiter.woken.swap(false, SeqCst) {
            list.push_front(Arc::clone(waiter));
        } else {
            list.push_back(Arc::clone(waiter));
        }
        self.blocked.fetch_add(1, SeqCst);
    }

    /// The waiter waits no more. Was it woken, and so off the list already?
    fn leave(&self, waiter: &Arc<Waiter>) -> bool {
        let mut list = self.list.lock();
        self.blocked.fetch_sub(1, SeqCst);
        let woken = waiter.woken.load(SeqCst);
        if !woken {
            list.retain(|other| !Arc::ptr_eq(other, waiter));
        }
        woken
    }
}

/// A place on the list, of a thread that also waits for other things.
pub(crate) struct WaiterGuard<'a> {
    waiters: &'a Waiters,
    waiter: Arc<Waiter>,
}

impl WaiterGuard<'_> {
    /// There was room, and the waiter is off the list.
    pub(crate) fn is_woken(&self) -> bool {
        self.waiter.woken.load(SeqCst)
    }

    /// It was woken, and waits for the next room all the same: at the head of the list. It wakes no
    /// other in its place, since afterwards it looks for room itself. Otherwise two of them could wake
    /// each other for ever.
    pub(crate) fn rejoin(&mut self) {
        self.waiters.leave(&self.waiter);
        self.waiters.join(&self.waiter);
    }
}

impl Drop for WaiterGuard<'_> {
    fn drop(&mut self) {
        let woken = self.waiters.leave(&self.waiter);
        self.waiters.onlookers.fetch_sub(1, SeqCst);
        self.waiters.hurried.fetch_sub(1, SeqCst);
        if woken {
            self.waiters.wake(1); // a submitter that comes too early joins the list again
        }
    }
}

#[cfg(all(test, worker_pool_shuttle))]
mod model;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::queue::Admission;

    /// A full queue, and a parker for a submitter that waits.
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
        let admitted = admission.wait_for_room_with(
            &parker,
            true,
            || admission.try_acquire(),
            |patience| {
                assert!(patience.is_some());
                admission.release(4);
                assert!(!parker.is_woken(), "not worth a wake-up");
                admission.release(1);
                assert!(parker.is_woken());
                Ok(())
            },
        );
        assert_eq!(admitted, Ok(Admitted::Queued));
    }

    #[test]
    fn a_hurried_submitter_is_woken_for_the_first_place() {
        let (admission, parker) = full(10);
        let mut waits = 0;
        let admitted = admission.wait_for_room_with(
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
        assert_eq!((admitted, waits), (Ok(Admitted::Queued), 2));
        assert_eq!(admission.waiters.hurried.load(SeqCst), 0);
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
        let admitted = admission.wait_for_room_with(
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
        assert_eq!(admitted, Ok(Admitted::Queued));
    }
}
