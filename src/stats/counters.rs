//! The counters: what became of every job.

use std::time::{Duration, Instant};

use crate::error::RejectReason;
use crate::job::id::{JobId, WorkerId};
use crate::stats::clock::{Stamp, WaitClock};
use crate::stats::in_flight::{Epoch, InFlight};
use crate::stats::run_timer::Times;
use crate::stats::{RunningJob, Stats};
use crate::sync::log;
use crate::sync::time;
use crate::sync::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// Counts jobs in, and rare events. What each reading promises is at [`read`](Counters::read).
pub(crate) struct Counters {
    pub(crate) in_flight: InFlight,
    cancelled: AtomicU64,
    expired: AtomicU64,
    /// Answered "closed".
    closed: AtomicU64,
    no_workers: AtomicU64,
    lost_errors: AtomicU64,
    /// Jobs that were numbered, and then not accepted.
    not_accepted: AtomicU64,
    /// Jobs that wait until their next attempt is due.
    pub(crate) backing_off: AtomicU64,
    start: Instant,
    /// `None` unless the builder asked for them.
    pub(crate) wait_clock: Option<WaitClock>,
}

impl Counters {
    pub(crate) fn new(timed: bool) -> Self {
        let start = time::now();
        Counters {
            in_flight: InFlight::default(),
            cancelled: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            no_workers: AtomicU64::new(0),
            lost_errors: AtomicU64::new(0),
            not_accepted: AtomicU64::new(0),
            backing_off: AtomicU64::new(0),
            start,
            wait_clock: timed.then(|| WaitClock::new(start)),
        }
    }

    /// An accepted job was rejected before it began, or between two attempts.
    pub(crate) fn rejected(&self, reason: RejectReason) {
        let count = match reason {
            // A caller that would have waited forever withdrew its job.
            RejectReason::Cancelled | RejectReason::WouldDeadlock => &self.cancelled,
            RejectReason::DeadlinePassed => &self.expired,
            RejectReason::Full | RejectReason::Closed => &self.closed,
            RejectReason::NoWorkers => &self.no_workers,
        };
        // So that whoever reads it sees in `accepted` the job that ended.
        count.fetch_add(1, Release);
    }

    /// Accepted jobs that were answered "closed": the pool's end came before them.
    pub(crate) fn abandoned(&self) -> u64 {
        self.closed.load(Acquire)
    }

    /// Accepted jobs that ended without a worker.
    fn turned_away(&self) -> u64 {
        let counts = [
            &self.cancelled,
            &self.expired,
            &self.closed,
            &self.no_workers,
        ];
        counts.iter().map(|count| count.load(Acquire)).sum()
    }

    /// Accepted jobs that have not ended. `finished` is how many workers ended, read before;
    /// `undecided`, read here, how many submitters wait for room.
    ///
    /// Every job is accepted before it ends, and what was accepted is read last. So nothing that has
    /// not ended is missing.
    pub(crate) fn unfinished(&self, finished: u64, undecided: impl FnOnce() -> usize) -> u64 {
        let ended = finished + self.turned_away();
        self.accepted_now(undecided).saturating_sub(ended)
    }

    /// Jobs accepted so far. A submitter first waits for room and then may be turned away, so what
    /// became of it is read in the opposite order: none counts twice.
    fn accepted_now(&self, undecided: impl FnOnce() -> usize) -> u64 {
        let not_accepted = self.not_accepted.load(Acquire);
        let undecided = undecided() as u64;
        let counted = self.in_flight.counted();
        counted.saturating_sub(not_accepted + undecided)
    }

    /// These jobs were numbered, and are not accepted.
    pub(crate) fn not_accepted_now(&self, epoch: Epoch, jobs: u64) {
        self.not_accepted.fetch_add(jobs, Release);
        self.in_flight.ended_unworked(epoch, jobs);
    }

    /// A detached job's failure could not be delivered: its channel has no receiver.
    pub(crate) fn lost_error(&self, id: JobId) {
        let lost = self.lost_errors.fetch_add(1, Relaxed) + 1;
        // A caller that never receives its errors must not fill the log.
        if lost.is_power_of_two() {
            log::warn!("the error of detached job {id} found no listener; {lost} lost so far");
        }
    }

    /// Jobs accepted so far, including those whose submitters wait for room.
    pub(crate) fn accepted(&self) -> u64 {
        let not_accepted = self.not_accepted.load(Relaxed);
        self.in_flight.counted().saturating_sub(not_accepted)
    }

    pub(crate) fn lost_errors(&self) -> u64 {
        self.lost_errors.load(Relaxed)
    }

    /// The present numbers. `work` is what the workers did, read before. The others are read
    /// here: the jobs that take a place in the queue, and the submitters that wait for room.
    ///
    /// What ended is read first, then what waits, and what was accepted last. The places are
    /// counted in one word and the ends in others, and a job that was taken back keeps its place
    /// until it is swept away. So no more jobs count as waiting than have not ended.
    pub(crate) fn read(
        &self,
        work: Work,
        places: impl FnOnce() -> usize,
        undecided: impl FnOnce() -> usize,
    ) -> Stats {
        let [completed, failed, panicked] = work.runs.ended;
        let mut stats = Stats {
            accepted: 0,
            started: work.runs.started,
            completed,
            failed,
            panicked,
            retried: work.runs.retried,
            cancelled: self.cancelled.load(Acquire),
            expired: self.expired.load(Acquire),
            closed: self.closed.load(Acquire) + self.no_workers.load(Acquire),
            lost_errors: self.lost_errors(),
            waiting: 0,
            backing_off: self.backing_off.load(Relaxed),
            busy: work.busy,
            total: work.total,
            elapsed: time::since(self.start),
            oldest_waiting: self.wait_clock.as_ref().and_then(WaitClock::oldest),
            longest_running: self.longest_running(&work),
            #[cfg(feature = "histograms")]
            wait_times: None,
            #[cfg(feature = "histograms")]
            run_times: None,
        };
        #[cfg(feature = "histograms")]
        if let Some(times) = work.times {
            stats.wait_times = Some(times.waited);
            stats.run_times = Some(times.ran);
        }
        let places = places() as u64;
        // A submitter may count as undecided for another moment after its job was accepted.
        stats.accepted = self.accepted_now(undecided).max(stats.ended());
        stats.waiting = places.min(stats.accepted - stats.ended());
        stats
    }

    fn longest_running(&self, work: &Work) -> Option<RunningJob> {
        let (job, worker, since) = work.longest?;
        let now = self.wait_clock.as_ref()?.now();
        Some(RunningJob {
            job,
            worker,
            time: Duration::from_nanos(now.saturating_sub(since)),
        })
    }
}

/// What all workers did and are doing, including those that are gone.
pub(crate) struct Work {
    pub(crate) runs: Runs,
    /// Workers that run a job.
    pub(crate) busy: u64,
    /// Workers that have a thread.
    pub(crate) total: u64,
    /// The job that has been running for longest, its worker, and since when.
    pub(crate) longest: Option<(JobId, WorkerId, Stamp)>,
    /// In pools with timings.
    pub(crate) times: Option<Box<Times>>,
}

/// How many jobs were run, by one worker or several.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Runs {
    pub(crate) started: u64,
    /// Jobs run to their end, by [`Outcome`](crate::Outcome).
    pub(crate) ended: [u64; 3],
    /// Runs after which another attempt follows.
    pub(crate) retried: u64,
}

impl Runs {
    pub(crate) fn add(&mut self, more: Runs) {
        self.started += more.started;
        self.retried += more.retried;
        for (sum, ended) in self.ended.iter_mut().zip(more.ended) {
            *sum += ended;
        }
    }

    /// Jobs run to their end.
    pub(crate) fn finished(&self) -> u64 {
        self.ended.iter().sum()
    }

    /// Is a run under way?
    pub(crate) fn busy(&self) -> bool {
        self.started > self.finished() + self.retried
    }
}
