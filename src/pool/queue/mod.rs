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

use crate::error::Reason;
use crate::sync::park::{Parker, Wake};
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering::SeqCst};

/// No new jobs; those accepted still run.
const DRAINING: u64 = 1 << 40;
/// No new jobs; those that have not begun are answered.
const CLOSING: u64 = 1 << 41;
/// Every job has its outcome and every worker is gone; what [`Gate::is_stopped`] tells the outside.
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
pub(crate) enum Refusal {
    Full,
    Shut,
    Deserted,
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full => Reason::Full,
            Refusal::Shut => Reason::Closed,
            Refusal::Deserted => Reason::NoWorkers,
        }
    }
}

/// How a job got in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It waits, and takes one of the places.
    Queue,
    /// Straight to the workers, past the queue.
    Short,
}

pub(crate) struct Gate {
    word: Word,
    capacity: usize,
    blocked: AtomicUsize,
    /// Those of them that have counted in no job.
    onlookers: AtomicUsize,
    /// Those of all that want to be called for the first place.
    hurried: AtomicUsize,
    line: Mutex<VecDeque<Arc<Place>>>,
}

/// Flags, and how many jobs have entered and are not yet released.
#[repr(align(128))]
struct Word(AtomicU64);

impl Gate {
    pub(crate) fn new(capacity: usize) -> Self {
        Gate {
            word: Word(AtomicU64::new(0)),
            capacity,
            blocked: AtomicUsize::new(0),
            onlookers: AtomicUsize::new(0),
            hurried: AtomicUsize::new(0),
            line: Mutex::default(),
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
    pub(crate) fn wide_open(&self) -> bool {
        self.word.0.load(SeqCst) == 0
    }

    /// One job enters. Room and flags are judged in the step that takes the place.
    pub(crate) fn enter(&self) -> Result<Way, Refusal> {
        let mut word = self.word.0.load(SeqCst);
        loop {
            if word & DRAINING != 0 {
                return Err(Refusal::Shut);
            }
            if word & DESERTED != 0 {
                return Err(Refusal::Deserted);
            }
            if (word & COUNT) as usize >= self.capacity {
                return Err(Refusal::Full);
            }
            match self
                .word
                .0
                .compare_exchange_weak(word, word + 1, SeqCst, SeqCst)
            {
                Ok(_) => return Ok(Way::Queue),
                Err(now) => word = now,
            }
        }
    }

    /// So many jobs leave; until [`stop_moving`](Self::stop_moving) none goes past them. Only for
    /// who is at the desk.
    pub(crate) fn start_moving(&self, jobs: usize) {
        let before = self.word.0.load(SeqCst) & MOVING;
        // Only who is at the desk changes this flag.
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
            self.call();
        }
    }

    /// So many jobs have left by another way than the desk.
    pub(crate) fn leave(&self, jobs: usize) {
        let before = self.word.0.fetch_sub(jobs as u64, SeqCst);
        debug_assert!(before & COUNT >= jobs as u64, "more left than entered");
        self.call();
    }

    /// There is more room than before: calls those who wait for it, if it is worth their while.
    fn call(&self) {
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
    pub(crate) fn line_up(&self, parker: &Arc<Parker>) -> InLine<'_> {
        let place = Arc::new(Place {
            parker: Arc::clone(parker),
            called: AtomicBool::new(false),
        });
        self.onlookers.fetch_add(1, SeqCst);
        self.hurried.fetch_add(1, SeqCst);
        self.stand_in_line(&place);
        InLine { gate: self, place }
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
        let called: Vec<_> = {
            let mut line = self.line.lock();
            let most = most.min(line.len());
            let called = line.drain(..most);
            called
                .inspect(|place| place.called.store(true, SeqCst))
                .collect()
        };
        for place in called {
            place.parker.wake();
        }
    }

    /// Blocks until `enter` lets the job in. `wait` blocks the thread until it is woken, or that moment
    /// has come, or it has its own reason to give up. Who is not `patient` is hurried from the start.
    pub(crate) fn wait_in_line(
        &self,
        parker: &Arc<Parker>,
        patient: bool,
        mut enter: impl FnMut() -> Result<Way, Refusal>,
        mut wait: impl FnMut(Option<Instant>) -> Result<(), Reason>,
    ) -> Result<Way, Reason> {
        let place = Arc::new(Place {
            parker: Arc::clone(parker),
            called: AtomicBool::new(false),
        });
        let mut patience = patient.then(|| Instant::now() + PATIENCE);
        if !patient {
            self.hurried.fetch_add(1, SeqCst);
        }
        let outcome = loop {
            self.stand_in_line(&place);
            let outcome = match enter() {
                Ok(way) => Some(Ok(way)),
                Err(Refusal::Full) => wait(patience).err().map(Err),
                Err(refusal) => Some(Err(refusal.into())),
            };
            let called = self.leave_line(&place);
            if let Some(outcome) = outcome {
                if called {
                    self.wake(1); // the call was for a job that did not need it
                }
                break outcome;
            }
            match enter() {
                Ok(way) => {
                    if called && way == Way::Short {
                        self.wake(1); // the place that it was called for is still free
                    }
                    break Ok(way);
                }
                Err(Refusal::Full) => {} // another was faster, or patience is at its end
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
    fn stand_in_line(&self, place: &Arc<Place>) {
        let mut line = self.line.lock();
        if place.called.swap(false, SeqCst) {
            line.push_front(Arc::clone(place));
        } else {
            line.push_back(Arc::clone(place));
        }
        self.blocked.fetch_add(1, SeqCst);
    }

    /// Had it been called out of the line?
    fn leave_line(&self, place: &Arc<Place>) -> bool {
        let mut line = self.line.lock();
        self.blocked.fetch_sub(1, SeqCst);
        let called = place.called.load(SeqCst);
        if !called {
            line.retain(|other| !Arc::ptr_eq(other, place));
        }
        called
    }
}

/// A place in the line, of somebody who also waits for other things.
pub(crate) struct InLine<'a> {
    gate: &'a Gate,
    place: Arc<Place>,
}

impl InLine<'_> {
    /// There was room; it stands in line no more.
    pub(crate) fn is_called(&self) -> bool {
        self.place.called.load(SeqCst)
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let called = self.gate.leave_line(&self.place);
        self.gate.onlookers.fetch_sub(1, SeqCst);
        self.gate.hurried.fetch_sub(1, SeqCst);
        if called {
            self.gate.wake(1); // who comes too early stands in line again
        }
    }
}

/// A submitter that waits for room.
struct Place {
    parker: Arc<Parker>,
    /// Taken out of the line by somebody who made room. Changes under the line's lock only.
    called: AtomicBool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gate that is full, and a parker for one who waits.
    fn full(capacity: usize) -> (Gate, Arc<Parker>) {
        let gate = Gate::new(capacity);
        for _ in 0..capacity {
            assert_eq!(gate.enter(), Ok(Way::Queue));
        }
        (gate, Arc::new(Parker::new()))
    }

    #[test]
    fn a_patient_submitter_is_woken_when_half_of_the_places_are_free() {
        let (gate, parker) = full(10);
        let way = gate.wait_in_line(
            &parker,
            true,
            || gate.enter(),
            |patience| {
                assert!(patience.is_some());
                gate.leave(4);
                assert!(!parker.is_woken(), "not worth its while");
                gate.leave(1);
                assert!(parker.is_woken());
                Ok(())
            },
        );
        assert_eq!(way, Ok(Way::Queue));
    }

    #[test]
    fn a_hurried_submitter_is_woken_for_the_first_place() {
        let (gate, parker) = full(10);
        let mut waits = 0;
        let way = gate.wait_in_line(
            &parker,
            true,
            || gate.enter(),
            |patience| {
                waits += 1;
                match patience {
                    Some(end) => parker.park(Some(end)),
                    None => {
                        gate.leave(1);
                        assert!(parker.is_woken());
                    }
                }
                Ok(())
            },
        );
        assert_eq!((way, waits), (Ok(Way::Queue), 2));
        assert_eq!(gate.hurried.load(SeqCst), 0);
    }

    #[test]
    fn patience_ends_for_all_when_one_is_hurried_from_the_start() {
        let (gate, parker) = full(10);
        let onlooker = Arc::new(Parker::new());
        let in_line = gate.line_up(&onlooker);
        assert!(!gate.has_answer());
        gate.leave(1);
        assert!(in_line.is_called() && onlooker.is_woken());
        drop(in_line);
        assert_eq!(gate.enter(), Ok(Way::Queue));
        let way = gate.wait_in_line(
            &parker,
            false,
            || gate.enter(),
            |patience| {
                assert_eq!(patience, None);
                gate.leave(1);
                assert!(parker.is_woken());
                Ok(())
            },
        );
        assert_eq!(way, Ok(Way::Queue));
    }
}
