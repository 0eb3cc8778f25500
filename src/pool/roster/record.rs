//! What the pool and a worker's thread share about that one worker.
//!
//! # States
//!
//! One word tells how the worker stands. A worker with a factory may be made several times on the
//! same record; each time is an *incarnation*.
//!
//! | bit | meaning | set by | cleared by |
//! |---|---|---|---|
//! | `STOP` | leaves for good, is not made again | anybody, once | nobody |
//! | `FINISHED` | this incarnation takes no further job | its handles, the worker's thread | the thread, as the next is made |
//! | `RESTARTING` | there is no worker: it is being made, or will be | the thread, after the old one is dropped | the thread, when the next is made |
//! | the rest | counts the incarnations | | the thread, as one is made |
//!
//! A handle knows its incarnation and sets `FINISHED` only while that is the present one, in one
//! compare-exchange; so it never ends a later one. Whoever sets a bit that ends something *then*
//! wakes the parker, and the thread looks at the word between its notes that it sleeps and the
//! sleep; a wake that comes before the sleep is kept by the parker. So no dismissal is slept over,
//! neither among the sleepers's sleepers nor in a back-off.

use crate::stats::counters::Runs;
use std::time::Instant;

use crate::job::Outcome;
use crate::job::id::JobId;
use crate::job::id::WorkerId;
use crate::stats::clock::Stamp;
use crate::stats::in_flight::{Epoch, PerEpoch};
use crate::stats::run_timer::RunTimer;
use crate::sync::park::{Parker, Wake};
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
    /// It was removed or is finished, and leaves after the job in hand.
    Leaving,
    /// Its factory makes it, for the first time or anew, or is waited for in a back-off. Meanwhile
    /// it does not count among the pool's workers in hooks and meters.
    Starting,
}

/// One line of [`Manager::workers`](crate::Manager::workers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// The worker's id.
    pub id: WorkerId,
    /// What it was doing when asked.
    pub state: WorkerState,
}

const STOP: u64 = 1;
const FINISHED: u64 = 1 << 1;
const RESTARTING: u64 = 1 << 2;
const INCARNATION: u64 = 1 << 3;

/// Which of the workers that were made on one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Incarnation(u64);

/// One worker's record. Aligned so that two workers never write to one cache line.
#[repr(align(128))]
pub(crate) struct WorkerRecord {
    id: WorkerId,
    /// Where the worker's thread sleeps; see [`Sleep`](crate::pool::roster::sleep::Sleep).
    pub(crate) parker: Parker,
    /// See above.
    word: AtomicU64,
    /// It has a factory, and may be made anew.
    renewable: bool,
    /// On the sleepers's stack of sleepers. Changes under the sleepers's lock only.
    pub(crate) asleep: AtomicBool,
    /// Jobs begun; one more than those ended while one is in hand. Only the worker's thread writes.
    started: AtomicU64,
    /// Runs ended, by outcome, and those that are repeated. Only the worker's thread writes.
    ended: [AtomicU64; 3],
    retried: AtomicU64,
    /// Jobs ended and answered, by epoch. Only the worker's thread writes.
    settled: PerEpoch,
    /// In pools with timings.
    run_timer: Option<Box<RunTimer>>,
}

impl WorkerRecord {
    /// The record of a worker that is there or, if `renewable`, is about to be made.
    pub(crate) fn new(id: WorkerId, renewable: bool, timed: bool) -> Self {
        WorkerRecord {
            id,
            parker: Parker::new(),
            word: AtomicU64::new(if renewable { RESTARTING } else { 0 }),
            renewable,
            asleep: AtomicBool::new(false),
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

    /// Asks the worker to leave for good after the job in hand, and wakes it.
    pub(crate) fn stop(&self) {
        if self.word.fetch_or(STOP, SeqCst) & STOP == 0 {
            self.parker.wake();
        }
    }

    /// Asks this incarnation to end after the job in hand, and wakes it. Does nothing if it has
    /// ended before.
    pub(crate) fn finish(&self, incarnation: Incarnation) {
        let finished = self.word.fetch_update(SeqCst, SeqCst, |word| {
            let fresh = Incarnation::of(word) == incarnation && word & FINISHED == 0;
            fresh.then_some(word | FINISHED)
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

    /// The same of one incarnation, which may be gone long ago.
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

    /// The worker is there to stay, or will be made anew.
    pub(crate) fn stays(&self) -> bool {
        let word = self.word.load(SeqCst);
        word & STOP == 0 && (word & FINISHED == 0 || self.renewable)
    }

    /// The calling thread has made its worker.
    pub(crate) fn started(&self) {
        let next = |word: u64| Some((word & !(FINISHED | RESTARTING)) + INCARNATION);
        let _ = self.word.fetch_update(SeqCst, SeqCst, next);
    }

    /// The calling thread's worker is gone. Had it one?
    pub(crate) fn restarting(&self) -> bool {
        self.word.fetch_or(RESTARTING, SeqCst) & RESTARTING == 0
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        Incarnation::of(self.word.load(SeqCst))
    }

    /// Blocks until that moment (if it can be told), or until the worker is dismissed. Was it?
    pub(crate) fn await_stop(&self, until: Option<Instant>) -> bool {
        while !self.is_stopped() && until.is_none_or(|at| Instant::now() < at) {
            self.parker.park(until);
        }
        self.is_stopped()
    }

    /// `stamps` tell when it was accepted and what time it is now.
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
        // One writer: no read-modify-write is needed.
        self.started.store(self.started.load(Relaxed) + 1, Release);
    }

    /// `None`: the job is to be tried again.
    pub(crate) fn job_ended(&self, outcome: Option<Outcome>, now: Option<Stamp>) {
        if let (Some(timer), Some(now)) = (&self.run_timer, now) {
            timer.end(now);
        }
        self.count_end(outcome);
    }

    /// A job was run to its end; `None`: it is to be tried again.
    #[inline]
    pub(crate) fn count_end(&self, outcome: Option<Outcome>) {
        let count = match outcome {
            Some(outcome) => &self.ended[outcome as usize],
            None => &self.retried,
        };
        count.store(count.load(Relaxed) + 1, Release);
    }

    #[inline]
    pub(crate) fn job_settled(&self, epoch: Epoch) {
        let count = &self.settled[epoch as usize];
        count.store(count.load(Relaxed) + 1, Release);
    }

    /// Jobs ended and answered, by epoch.
    pub(crate) fn settled(&self) -> [u64; 2] {
        std::array::from_fn(|epoch| self.settled[epoch].load(Acquire))
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

    pub(crate) fn run_timer(&self) -> Option<&RunTimer> {
        self.run_timer.as_deref()
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.runs().busy()
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
            "it is another's seat now"
        );
        record.stop();
        record.started();
        assert!(record.is_stopped() && record.is_leaving() && !record.stays());
        assert_eq!(record.state(), WorkerState::Leaving);
    }
}
