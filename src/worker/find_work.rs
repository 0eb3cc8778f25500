//! How a worker finds its next job.

use crate::policy::dispatch::AGE;
use crate::policy::prefetch::{MANY, UNATTENDED, is_low};
use crate::pool::Pool;
use crate::pool::queue::run_queue::Popped;
use crate::pool::roster::record::WorkerRecord;
use crate::stats::in_flight::Epoch;
use crate::sync::backoff::Backoff;
use crate::sync::{Arc, Ordering::SeqCst, fence};
use crate::task::free_list::Returns;
use crate::task::{DetachedTask, Task};
use crate::worker::sender_cache::SenderCache;
use std::time::Instant;

/// When the released jobs are many, a worker looks at the low-water mark once in so many jobs.
const LOOK_EVERY: u32 = 8;

/// How a worker finds its next job; see [`Sleep`](crate::pool::roster::sleep::Sleep) for why none is left lying.
pub(crate) struct WorkFinder<'a, P, O, E> {
    pub(crate) pool: &'a Pool<P, O, E>,
    pub(crate) record: &'a Arc<WorkerRecord>,
    pub(super) searching: bool,
    pub(super) taken: u32,
    /// The epoch of the job that it ended last, if that is not yet told.
    pub(super) ended: Option<Epoch>,
    pub(super) senders: SenderCache<E>,
    pub(super) returns: Returns<'a, DetachedTask<P, E>>,
}

impl<P, O, E> WorkFinder<'_, P, O, E> {
    /// Waits for the next job. `None` when the worker is to leave.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Task<P, O, E>> {
        if self.record.is_leaving() {
            return None;
        }
        let Ok(task) = self.pool.run_queue.pop_usual() else {
            return self.find_work();
        };
        self.took(task.epoch(), false);
        self.stay_or_give_back(task)
    }

    /// As [`next`](Self::next), where the next job is not just there.
    pub(super) fn find_work(&mut self) -> Option<Task<P, O, E>> {
        let run_queue = &self.pool.run_queue;
        let mut backoff = Backoff::default();
        // That there is nothing to do is told once; searching may have begun before.
        let mut told = false;
        loop {
            if self.record.is_leaving() {
                return None;
            }
            let others_first = self.taken.is_multiple_of(AGE);
            let taken = run_queue.pop(others_first).or_else(|| self.help_chunk());
            if let Some(Popped { job, waited }) = taken {
                self.took(job.epoch(), waited);
                return self.stay_or_give_back(job);
            }
            if !std::mem::replace(&mut told, true) {
                self.senders.drop_all();
                self.tell_low_water();
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

    /// A job of this epoch was taken, and was counted as waiting if it `waited`.
    #[inline]
    pub(super) fn took(&mut self, epoch: Epoch, waited: bool) {
        self.stop_search();
        self.report_ended(Some(epoch));
        self.taken = self.taken.wrapping_add(1);
        if waited {
            self.pool.admission.release(1);
        }
        self.look_after_others();
    }

    /// `None` if the worker is to leave after all.
    #[inline]
    pub(super) fn stay_or_give_back(&self, task: Task<P, O, E>) -> Option<Task<P, O, E>> {
        if self.record.is_leaving() {
            self.give_back(task);
            return None;
        }
        Some(task)
    }

    /// Finished between the look and the take: the job goes back to the others.
    #[cold]
    pub(super) fn give_back(&self, task: Task<P, O, E>) {
        self.pool.run_queue.push_back_unrun(task.order(), task);
        fence(SeqCst);
        self.pool.sleep.wake_one();
    }

    /// Nothing is ready: joins another worker that is at a chunk.
    #[inline]
    pub(super) fn help_chunk(&self) -> Option<Popped<Task<P, O, E>>> {
        let pool = self.pool;
        if pool.shared_chunks.is_empty() || pool.run_queue.is_held() {
            return None;
        }
        let mut job = Task::chunk(pool.shared_chunks.join()?);
        job.begin_wait(&pool.counters);
        Some(Popped { job, waited: false })
    }

    /// A caller that gets its answer may submit the next job at once. It shall find this worker
    /// searching, and not wake another.
    pub(super) fn search_early(&mut self) {
        if !self.searching && !self.pool.has_work() {
            self.searching = self.pool.sleep.try_search();
        }
    }

    /// Sleeps after a search that began then, if it was long.
    #[cold]
    pub(super) fn sleep(&mut self, began: Option<Instant>) {
        let pool = self.pool;
        // Called when the worker counts as asleep.
        let work = || {
            if pool.admission.is_shut() {
                pool.signal.notify(); // the dispatcher waits for all to be at rest
            }
            pool.has_work() || self.record.is_leaving()
        };
        let now = Instant::now();
        let searching = self.searching.then_some(began.unwrap_or(now));
        pool.sleep.sleep(self.record, searching, work);
        self.searching = true;
    }

    /// No longer searches, if it did; another shall, if there are jobs.
    pub(super) fn stop_search(&mut self) {
        if std::mem::take(&mut self.searching) {
            self.pool.sleep.stop_search();
            if self.pool.has_work() {
                self.pool.sleep.wake_one();
            }
        }
    }

    /// Tells those who wait for a epoch that a run of its jobs has ended, unless the next one is
    /// of the same. A sequentially consistent step lies between the end and this call.
    pub(super) fn report_ended(&mut self, next: Option<Epoch>) {
        if let Some(ended) = self.ended.take()
            && next != Some(ended)
        {
            self.pool.counters.in_flight.call_if_wanted(ended);
        }
    }

    /// Do the dispatcher and the other workers do their part?
    pub(super) fn look_after_others(&mut self) {
        if self.pool.run_queue.limit() < MANY || self.taken.is_multiple_of(LOOK_EVERY) {
            self.tell_low_water();
            if self.pool.run_queue.released() >= UNATTENDED {
                self.pool.sleep.help_search();
            }
        }
    }

    pub(super) fn tell_low_water(&self) {
        let Pool {
            run_queue, signal, ..
        } = self.pool;
        if signal.job_taken(|| is_low(run_queue.released(), run_queue.limit())) {
            self.pool.help();
        }
    }
}
