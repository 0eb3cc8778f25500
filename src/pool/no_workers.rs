//! The pool without workers: when its last one is gone for good, and what becomes of the jobs.
//!
//! # States
//!
//! | flag in the queue | set | cleared |
//! |---|---|---|
//! | `DESERTED` | by the dispatcher, after it joined the last worker and told the hooks, if the builder wants it | as a worker is added, or made by its factory |
//!
//! Both happen under the roster's lock, and under it the dispatcher collects the jobs to be turned
//! away, if the flag is still set. So no job is among them that was submitted after a worker was
//! added, and whoever has added a worker finds the queue open.
//!
//! # Why no job is left behind
//!
//! A submitter that found the queue open may put its job in after the flag is set. One that the queue
//! had counted is seen by that count, and wakes the dispatcher as it enters the job channel: it reads
//! the flag for that, which is set before the dispatcher sleeps. One on the handoff, or an urgent one, puts its job in and *then* reads the flag; the dispatcher sets
//! the flag and *then* looks at what is released (sequentially consistent, with a fence). So either
//! the dispatcher sees the job, or the submitter sees the flag and rings. If the flag is cleared by
//! then, there is a worker, and it looks at what is released before it sleeps.

use crate::job::id::WorkerId;
use crate::policy::NoWorkers;
use crate::pool::Pool;
use crate::pool::queue::run_queue::Popped;
use crate::task::Task;

/// What [`Pool::abandoned`] found.
pub(crate) struct Abandoned<P, O, E> {
    pub(crate) is_deserted: bool,
    pub(crate) waiting: Vec<Task<P, O, E>>,
    pub(crate) released: Vec<Popped<Task<P, O, E>>>,
}

impl<P, O, E> Default for Abandoned<P, O, E> {
    fn default() -> Self {
        Abandoned {
            is_deserted: false,
            waiting: Vec::new(),
            released: Vec::new(),
        }
    }
}

impl<P, O, E> Pool<P, O, E> {
    /// A factory has made this worker.
    pub(crate) fn worker_is_there(&self, id: WorkerId) {
        self.roster.arrive(id, || self.admission.populate());
        self.look_at_size();
    }

    /// A worker is gone for good. If it was the last, those who wait are to be answered, unless the
    /// builder said otherwise.
    pub(crate) fn worker_is_gone(&self) {
        if self.no_workers == NoWorkers::Reject {
            self.roster.if_deserted(|| self.admission.desert());
        }
    }

    /// If still no worker is there: the jobs that wait in the channels, and those that were released.
    pub(crate) fn abandoned(&self) -> Abandoned<P, O, E> {
        let mut abandoned = Abandoned::default();
        // Under the lock, so that no job is among them that was submitted after a worker was added.
        self.roster.if_deserted(|| {
            let (jobs, low) = (&self.jobs.1, &self.low_jobs.1);
            abandoned
                .waiting
                .extend(jobs.try_iter().chain(low.try_iter()));
            abandoned.released = std::iter::from_fn(|| self.run_queue.drain_one()).collect();
            abandoned.is_deserted = true;
        });
        abandoned
    }
}
