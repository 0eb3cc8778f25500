//! What the pool and a worker's thread share about that worker.
//!
//! # States
//!
//! One word holds the worker's state. A worker with a factory may be made several times on the same
//! record. Each time is an *incarnation*.
//!
//! | bit | meaning | set by | cleared by |
//! |---|---|---|---|
//! | `STOP` | leaves for good, is not made again | any thread, once | nobody |
//! | `FINISHED` | this incarnation takes no further job | its handles, the worker's thread | the thread, when the next is made |
//! | `RESTARTING` | there is no worker: it is being made, or will be | the thread, after the old one is dropped | the thread, when the next is made |
//! | the rest | counts the incarnations | | the thread, when one is made |
//!
//! A handle knows its incarnation. It sets `FINISHED` only while that is the present one, in one
//! compare-exchange. So it never ends a later one.
//!
//! # Why no stop is slept over
//!
//! A thread that sets `STOP` or `FINISHED` for a worker *then* wakes the worker's parker. Each time
//! before it parks, the worker's thread reads the word. The parker keeps a wake-up that comes
//! between. So the worker sees the bit or is woken, whether it sleeps between jobs (see
//! [`Sleep`](crate::pool::roster::sleep::Sleep)) or in a back-off.

use std::time::Instant;

use crate::job::Outcome;
use crate::job::id::{JobId, WorkerId};
use crate::stats::clock::Stamp;
use crate::stats::counters::Runs;
use crate::stats::in_flight::{Epoch, PerEpoch};
use crate::stats::run_timer::RunTimer;
use crate::sync::log;
use crate::sync::park::{Parker, Wake};
use crate::sync::time;
use crate::sync::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WorkerState {
    /// It waits for a job.
    Idle,
    /// It runs a job.
    Busy,
    /// It was removed or is finished, and leaves after its current job.
    Leaving,
    /// Its factory makes it, for the first time or again, or it waits in a back-off to be made
    /// again. Meanwhile, hooks and meters do not count it among the pool's workers.
    Starting,
}

/// One entry of [`Manager::workers`](crate::Manager::workers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// The worker's id.
    pub id: WorkerId,
    /// What the worker was doing at the time of the call.
    pub state: WorkerState,
}

const STOP: u64 = 1;
const FINISHED: u64 = 1 << 1;
const RESTARTING: u64 = 1 << 2;
const INCARNATION: u64 = 1 << 3;

/// Which of the workers that were made on one record it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Incarnation(u64);

/// One worker's record. Aligned so that two workers never write to one cache line.
#[repr(align(128))]
pub(crate) struct WorkerRecord {
    id: WorkerId,
    /// Where the worker's thread sleeps; see [`Sleep`](crate::pool::roster::sleep::Sleep).
    pub(crate) parker: Parker,
    /// See the module's documentation.
    word: AtomicU64,
    /// The worker has a factory, and may be made again.
    renewable: bool,
    /// On the stack of sleepers. Changes only under its lock.
    pub(crate) asleep: AtomicBool,
    /// The worker's thread takes jobs: it is between its start and its close.
    pub(crate) takes_jobs: AtomicBool,
    /// Jobs begun: one more than those ended, while one runs. Only the worker's thread writes this.
    started: AtomicU64,
    /// Jobs run to their end, by outcome. Only the worker's thread writes this.
    ended: [AtomicU64; 3],
    /// Runs after which another attempt follows. Only the worker's thread writes this.
    retried: AtomicU64,
    /// Jobs ended and answered, by epoch. Only the worker's thread writes this.
    settled: PerEpoch,
    /// In pools with timings.
    run_timer: Option<Box<RunTimer>>,
}

impl WorkerRecord {
    /// The record of a worker that was made before, or that, if `renewable`, is about to be made.
    pub(crate) fn new(id: WorkerId, renewable: bool, timed: bool) -> Self {
        WorkerRecord {
            id,
            parker: Parker::new(),
            word: AtomicU64::new(if renewable { RESTARTING } else { 0 }),
            renewable,
            asleep: AtomicBool::new(false),
            takes_jobs: AtomicBool::new(false),
            started: AtomicU64::new(0),
            ended: Default::default(),
            retried: AtomicU64::new(0),
            settled: Default::default(),
            run_timer: timed.then(Box::default),
        }
    }

    pub(crate) fn id(&self) -> WorkerId {
        self.id
    }

    /// Asks the worker to leave for good after its current job, and wakes it.
    pub(crate) fn stop(&self) {
        if self.word.fetch_or(STOP, SeqCst) & STOP == 0 {
            self.parker.wake();
        }
    }

    /// Asks this incarnation to end after its current job, and wakes it. Does nothing if it has
    /// ended before.
    pub(crate) fn finish(&self, incarnation: Incarnation) {
        let finished = self.word.fetch_update(SeqCst, SeqCst, |word| {
            let serves = Incarnation::of(word) == incarnation && word & FINISHED == 0;
            serves.then_some(word | FINISHED)
        });
        if finished.is_ok() {
            self.parker.wake();
        }
    }

    /// The calling worker ends its incarnation itself.
    pub(crate) fn finish_now(&self) {
        self.word.fetch_or(FINISHED, SeqCst);
    }

    /// The worker takes no further job.
    #[inline]
    pub(crate) fn is_leaving(&self) -> bool {
        self.word.load(Acquire) & (STOP | FINISHED) != 0
    }

    /// The same for one incarnation, which may be long gone.
    pub(crate) fn has_ended(&self, incarnation: Incarnation) -> bool {
        let word = self.word.load(Acquire);
        word & (STOP | FINISHED) != 0 || Incarnation::of(word) != incarnation
    }

    /// The worker leaves for good.
    pub(crate) fn is_stopped(&self) -> bool {
        self.word.load(SeqCst) & STOP != 0
    }

    /// There is no worker now.
    pub(crate) fn is_restarting(&self) -> bool {
        self.word.load(SeqCst) & RESTARTING != 0
    }

    /// The worker is there to stay, or will be made again.
    pub(crate) fn stays(&self) -> bool {
        let word = self.word.load(SeqCst);
        word & STOP == 0 && (word & FINISHED == 0 || self.renewable)
    }

    /// The calling thread has made its worker.
    pub(crate) fn started(&self) {
        let next = |word: u64| Some((word & !(FINISHED | RESTARTING)) + INCARNATION);
        let _ = self.word.fetch_update(SeqCst, SeqCst, next);
    }

    /// The calling thread's worker is gone. Did the thread have one?
    pub(crate) fn restarting(&self) -> bool {
        self.word.fetch_or(RESTARTING, SeqCst) & RESTARTING == 0
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        Incarnation::of(self.word.load(SeqCst))
    }

    /// Blocks until `until` (if `None`, for ever), or until the worker is stopped. Was it stopped?
    pub(crate) fn await_stop(&self, until: Option<Instant>) -> bool {
        while !self.is_stopped() && until.is_none_or(|at| time::now() < at) {
            self.parker.park(until);
        }
        self.is_stopped()
    }

    /// A job begins. `stamps` are when it was accepted, and now.
    pub(crate) fn job_begins(&self, job: JobId, stamps: Option<(Stamp, Stamp)>) {
        if let (Some(timer), Some((accepted, now))) = (&self.run_timer, stamps) {
            timer.begin(job, accepted, now);
        }
        self.count_start();
        log::trace!("job {job} starts on worker {}", self.id);
    }

    /// A job was begun.
    #[inline]
    pub(crate) fn count_start(&self) {
        // There is one writer, so no read-modify-write is needed.
        self.started.store(self.started.load(Relaxed) + 1, Release);
    }

    /// A run ended. Without an outcome, another attempt of the job follows.
    pub(crate) fn job_ended(&self, outcome: Option<Outcome>, now: Option<Stamp>) {
        if let (Some(timer), Some(now)) = (&self.run_timer, now) {
            timer.end(now);
        }
        self.count_end(outcome);
    }

    /// A run ended. Without an outcome, another attempt of the job follows.
    #[inline]
    pub(crate) fn count_end(&self, outcome: Option<Outcome>) {
        let count = match outcome {
            Some(outcome) => &self.ended[outcome as usize],
            None => &self.retried,
        };
        count.store(count.load(Relaxed) + 1, Release);
    }

    /// A job ended and was answered.
    #[inline]
    pub(crate) fn job_settled(&self, epoch: Epoch) {
        let count = &self.settled[epoch as usize];
        count.store(count.load(Relaxed) + 1, Release);
    }

    /// Jobs ended and answered, by epoch.
    pub(crate) fn settled(&self) -> [u64; 2] {
        std::array::from_fn(|epoch| self.settled[epoch].load(Acquire))
    }

    /// What the worker ran so far.
    pub(crate) fn runs(&self) -> Runs {
        // In this order, so that no job has ended that had not begun.
        let ended = std::array::from_fn(|outcome| self.ended[outcome].load(Acquire));
        let retried = self.retried.load(Acquire);
        let started = self.started.load(Acquire);
        Runs {
            started,
            ended,
            retried,
        }
    }

    pub(crate) fn run_timer(&self) -> Option<&RunTimer> {
        self.run_timer.as_deref()
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.runs().busy()
    }

    /// Is it certain that the worker is not about to take a job by a look from before this call?
    pub(crate) fn is_quiet(&self) -> bool {
        !self.takes_jobs.load(SeqCst) || self.asleep.load(SeqCst) || self.is_busy()
    }

    pub(crate) fn state(&self) -> WorkerState {
        let word = self.word.load(SeqCst);
        if word & STOP != 0 {
            WorkerState::Leaving
        } else if word & RESTARTING != 0 {
            WorkerState::Starting
        } else if word & FINISHED != 0 {
            WorkerState::Leaving
        } else if self.is_busy() {
            WorkerState::Busy
        } else {
            WorkerState::Idle
        }
    }
}

impl Incarnation {
    fn of(word: u64) -> Self {
        Incarnation(word / INCARNATION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_ends_its_own_incarnation_and_no_other() {
        let record = WorkerRecord::new(WorkerId::new(1), true, false);
        assert!(record.is_restarting());
        assert_eq!(record.state(), WorkerState::Starting);
        record.started();
        let first = record.incarnation();
        assert!(!record.is_leaving() && !record.has_ended(first));
        record.finish(first);
        assert!(record.is_leaving() && record.has_ended(first) && record.stays());
        assert!(record.restarting(), "it had one");
        assert!(!record.restarting(), "it has none any more");
        record.started();
        record.finish(first);
        assert!(
            !record.is_leaving() && record.has_ended(first),
            "the record is another's now"
        );
        record.stop();
        record.started();
        assert!(record.is_stopped() && record.is_leaving() && !record.stays());
        assert_eq!(record.state(), WorkerState::Leaving);
    }
}
