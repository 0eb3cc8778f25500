//! What the pool and a worker's thread share about that one worker.

use crate::idle::{Generation, PerGeneration};
use crate::job::{JobId, Outcome};
use crate::park::{Parker, Wake};
use crate::sync::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};
use crate::worker::{WorkerId, WorkerState};

/// One worker's seat. Aligned so that two workers never write to one cache line.
#[repr(align(128))]
pub(crate) struct Seat {
    id: WorkerId,
    /// Where the worker's thread sleeps; see [`Crew`](crate::crew::Crew).
    pub(crate) parker: Parker,
    /// Set once: the worker takes no further job.
    dismissed: AtomicBool,
    /// On the crew's stack of sleepers. Changes under the crew's lock only.
    pub(crate) asleep: AtomicBool,
    /// A job is in hand.
    busy: AtomicBool,
    /// Jobs run to their end, by outcome. Only the worker's thread writes.
    ended: [AtomicU64; 3],
    /// Jobs ended and answered, by generation. Only the worker's thread writes.
    settled: PerGeneration,
}

impl Seat {
    pub(crate) fn new(id: WorkerId) -> Self {
        Seat {
            id,
            parker: Parker::new(),
            dismissed: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            ended: Default::default(),
            settled: Default::default(),
        }
    }

    pub(crate) fn id(&self) -> WorkerId {
        self.id
    }

    /// Asks the worker to leave after the job in hand, and wakes it.
    pub(crate) fn dismiss(&self) {
        if !self.dismissed.swap(true, SeqCst) {
            self.parker.wake();
        }
    }

    #[inline]
    pub(crate) fn dismissed(&self) -> bool {
        self.dismissed.load(Acquire)
    }

    #[inline]
    pub(crate) fn job_begins(&self, job: JobId) {
        self.busy.store(true, Release);
        log::trace!("job {job} starts on worker {}", self.id);
    }

    #[inline]
    pub(crate) fn job_ended(&self, outcome: Outcome) {
        self.count(outcome);
        self.set_busy(false);
    }

    #[inline]
    pub(crate) fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Release);
    }

    /// A job was run to its end.
    #[inline]
    pub(crate) fn count(&self, outcome: Outcome) {
        let count = &self.ended[outcome as usize];
        // One writer: no read-modify-write is needed.
        count.store(count.load(Relaxed) + 1, Relaxed);
    }

    #[inline]
    pub(crate) fn job_settled(&self, generation: Generation) {
        let count = &self.settled[generation as usize];
        count.store(count.load(Relaxed) + 1, Release);
    }

    /// Jobs ended and answered, by generation.
    pub(crate) fn settled(&self) -> [u64; 2] {
        std::array::from_fn(|generation| self.settled[generation].load(Acquire))
    }

    /// Jobs run to their end, by outcome.
    pub(crate) fn ended(&self) -> [u64; 3] {
        std::array::from_fn(|outcome| self.ended[outcome].load(Relaxed))
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Acquire)
    }

    pub(crate) fn state(&self) -> WorkerState {
        if self.dismissed() {
            WorkerState::Leaving
        } else if self.is_busy() {
            WorkerState::Busy
        } else {
            WorkerState::Idle
        }
    }
}
