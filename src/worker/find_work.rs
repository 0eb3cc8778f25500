//! How a worker finds its next job: take one, spin, sleep, or help with another worker's chunk.
//!
//! See [`Sleep`](crate::pool::roster::sleep::Sleep) for why no job is left lying while a worker
//! sleeps.

use std::time::Instant;

use crate::policy::dispatch::AGE;
use crate::policy::prefetch::{MANY, UNATTENDED, is_low};
use crate::pool::Pool;
use crate::pool::queue::run_queue::Popped;
use crate::pool::roster::record::WorkerRecord;
use crate::stats::in_flight::Epoch;
use crate::sync::Arc;
use crate::sync::backoff::Backoff;
use crate::sync::time;
use crate::task::free_list::Returns;
use crate::task::{DetachedTask, Task};
use crate::worker::sender_cache::SenderCache;

/// If the released jobs are many, a worker compares them with the low-water mark once in this many
/// jobs.
const CHECK_EVERY: u32 = 8;

pub(crate) struct WorkFinder<'a, P, O, E> {
    pub(crate) pool: &'a Pool<P, O, E>,
    pub(crate) record: &'a Arc<WorkerRecord>,
    /// The worker is counted as searching.
    searching: bool,
    /// The number of the worker's next job. Every [`AGE`]th job is the turn of those that are not
    /// urgent.
    turn: u32,
    /// The epoch of the job that the worker ended last, until that is reported.
    pub(super) ended: Option<Epoch>,
    pub(super) senders: SenderCache<E>,
    pub(super) returns: Returns<'a, DetachedTask<P, E>>,
}

impl<'a, P, O, E> WorkFinder<'a, P, O, E> {
    pub(super) fn new(pool: &'a Pool<P, O, E>, record: &'a Arc<WorkerRecord>) -> Self {
        WorkFinder {
            pool,
            record,
            searching: false,
            turn: 1, // from 0 on, the first job would be such a turn
            ended: None,
            senders: SenderCache::new(),
            returns: Returns::new(&pool.free_list),
        }
    }

    /// Blocks until there is a job, and takes it. Returns `None` once the worker is to leave. A job that
    /// it takes at the moment in which it is told to leave still runs here: given back, it would begin
    /// after jobs that came later.
    #[inline]
    pub(super) fn next_task(&mut self) -> Option<Task<P, O, E>> {
        if self.record.is_leaving() {
            return None;
        }
        let Ok(task) = self.pool.run_queue.pop_usual() else {
            return self.find_work();
        };
        self.took(task.epoch(), false);
        Some(task)
    }

    /// As [`next_task`](Self::next_task), if no job is there at once.
    fn find_work(&mut self) -> Option<Task<P, O, E>> {
        let run_queue = &self.pool.run_queue;
        let mut backoff = Backoff::default();
        // The worker may search already. Still, that it is idle is reported once.
        let mut idle_reported = false;
        loop {
            if self.record.is_leaving() {
                return None;
            }
            let others_first = self.turn.is_multiple_of(AGE);
            let popped = run_queue.pop(others_first).or_else(|| self.help_chunk());
            if let Some(Popped { job, waited }) = popped {
                self.took(job.epoch(), waited);
                return Some(job);
            }
            if !std::mem::replace(&mut idle_reported, true) {
                self.senders.drop_all();
                self.check_low_water();
                self.report_ended(None);
            }
            if !self.searching {
                self.searching = self.pool.sleep.try_search();
                backoff = Backoff::default();
            }
            if !(self.searching && backoff.turn_of_searcher(self.pool.sleep.adaptive_spin())) {
                self.sleep(backoff.began());
                backoff = Backoff::default();
            }
        }
    }

    /// No job is ready: joins another worker that runs a chunk, if there is one.
    #[inline]
    fn help_chunk(&self) -> Option<Popped<Task<P, O, E>>> {
        let pool = self.pool;
        if pool.shared_chunks.is_empty() || pool.run_queue.is_held() {
            return None;
        }
        let mut job = Task::chunk(pool.shared_chunks.join()?);
        job.begin_wait(&pool.counters);
        Some(Popped { job, waited: false })
    }

    /// Sleeps. `began` is when the search before it began, if it was a long one. Afterwards the
    /// worker searches.
    #[cold]
    fn sleep(&mut self, began: Option<Instant>) {
        let pool = self.pool;
        // Called once the worker counts as asleep.
        let work = || {
            if pool.admission.is_shut() {
                pool.signal.notify(); // the dispatcher waits until every serving worker sleeps
            }
            pool.has_work() || self.record.is_leaving()
        };
        let now = time::now();
        let searching = self.searching.then_some(began.unwrap_or(now));
        pool.sleep.sleep(self.record, searching, work);
        self.searching = true;
    }

    /// The worker took a job of this epoch. If the job `waited`, the queue still counts it.
    #[inline]
    fn took(&mut self, epoch: Epoch, waited: bool) {
        self.stop_search();
        self.report_ended(Some(epoch));
        self.turn = self.turn.wrapping_add(1);
        if waited {
            self.pool.admission.release(1);
        }
        self.check_on_others();
    }

    /// Begins to search before the current job is answered, if no other job is ready. The caller
    /// may submit its next job as soon as it has the answer. Then it finds this worker searching,
    /// and wakes no other.
    pub(super) fn search_early(&mut self) {
        if !self.searching && !self.pool.has_work() {
            self.searching = self.pool.sleep.try_search();
        }
    }

    /// Stops the search, if there is one. If there are jobs, wakes another worker to search.
    pub(super) fn stop_search(&mut self) {
        if std::mem::take(&mut self.searching) {
            self.pool.sleep.stop_search();
            if self.pool.has_work() {
                self.pool.sleep.wake_one();
            }
        }
    }

    /// Reports that a run of jobs of one epoch has ended, unless the `next` job is of the same
    /// epoch. A sequentially consistent step lies between the end of the last one and this call.
    pub(super) fn report_ended(&mut self, next: Option<Epoch>) {
        if let Some(ended) = self.ended.take()
            && next != Some(ended)
        {
            self.pool.counters.in_flight.call_if_wanted(ended);
        }
    }

    /// Sees to it that more jobs are released, and that enough workers search.
    fn check_on_others(&mut self) {
        if self.pool.run_queue.limit() < MANY || self.turn.is_multiple_of(CHECK_EVERY) {
            self.check_low_water();
            if self.pool.run_queue.released() >= UNATTENDED {
                self.pool.sleep.help_search();
            }
        }
    }

    /// If few released jobs are left while others wait, releases more, or has the dispatcher do so.
    fn check_low_water(&self) {
        let Pool {
            run_queue, signal, ..
        } = self.pool;
        if signal.job_taken(|| is_low(run_queue.released(), run_queue.limit())) {
            self.pool.help();
        }
    }
}
