//! What the pool and a worker's thread share about that one worker.

use crate::idle::{Generation, PerGeneration};
use crate::job::{JobId, Outcome};
use crate::park::{Parker, Wake};
use crate::stopwatch::Stopwatch;
use crate::sync::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};
use crate::timings::Stamp;
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
    /// Jobs begun; one more than those ended while one is in hand. Only the worker's thread writes.
    started: AtomicU64,
    /// Runs ended, by outcome, and those that are repeated. Only the worker's thread writes.
    ended: [AtomicU64; 3],
    retried: AtomicU64,
    /// Jobs ended and answered, by generation. Only the worker's thread writes.
    settled: PerGeneration,
    /// In pools with timings.
    stopwatch: Option<Box<Stopwatch>>,
}

/// What workers ran.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Runs {
    pub(crate) started: u64,
    /// Jobs run to their end, by outcome.
    pub(crate) ended: [u64; 3],
    /// Runs after which the job was to be tried again.
    pub(crate) retried: u64,
}

impl Runs {
    pub(crate) fn add(&mut self, more: Runs) {
        self.started += more.started;
        self.retried += more.retried;
        for (sum, more) in self.ended.iter_mut().zip(more.ended) {
            *sum += more;
        }
    }

    /// Jobs run to their end.
    pub(crate) fn finished(&self) -> u64 {
        self.ended.iter().sum()
    }

    /// Does one go on?
    pub(crate) fn busy(&self) -> bool {
        self.started > self.finished() + self.retried
    }
}

impl Seat {
    pub(crate) fn new(id: WorkerId, timed: bool) -> Self {
        Seat {
            id,
            parker: Parker::new(),
            dismissed: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            started: AtomicU64::new(0),
            ended: Default::default(),
            retried: AtomicU64::new(0),
            settled: Default::default(),
            stopwatch: timed.then(Box::default),
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

    pub(crate) fn dismissed(&self) -> bool {
        self.dismissed.load(Acquire)
    }

    /// `stamps` tell when it was accepted and what time it is now.
    pub(crate) fn job_begins(&self, job: JobId, stamps: Option<(Stamp, Stamp)>) {
        if let (Some(watch), Some((accepted, now))) = (&self.stopwatch, stamps) {
            watch.begin(job, accepted, now);
        }
        // One writer: no read-modify-write is needed.
        self.started.store(self.started.load(Relaxed) + 1, Release);
        log::trace!("job {job} starts on worker {}", self.id);
    }

    /// `None`: the job is to be tried again.
    pub(crate) fn job_ended(&self, outcome: Option<Outcome>, now: Option<Stamp>) {
        if let (Some(watch), Some(now)) = (&self.stopwatch, now) {
            watch.end(now);
        }
        let count = match outcome {
            Some(outcome) => &self.ended[outcome as usize],
            None => &self.retried,
        };
        count.store(count.load(Relaxed) + 1, Release);
    }

    pub(crate) fn job_settled(&self, generation: Generation) {
        let count = &self.settled[generation as usize];
        count.store(count.load(Relaxed) + 1, Release);
    }

    /// Jobs ended and answered, by generation.
    pub(crate) fn settled(&self) -> [u64; 2] {
        std::array::from_fn(|generation| self.settled[generation].load(Acquire))
    }

    /// What it ran so far.
    pub(crate) fn runs(&self) -> Runs {
        // In this order: none has ended that had not begun.
        let ended = std::array::from_fn(|outcome| self.ended[outcome].load(Acquire));
        let retried = self.retried.load(Acquire);
        let started = self.started.load(Acquire);
        Runs {
            started,
            ended,
            retried,
        }
    }

    pub(crate) fn stopwatch(&self) -> Option<&Stopwatch> {
        self.stopwatch.as_deref()
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.runs().busy()
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
