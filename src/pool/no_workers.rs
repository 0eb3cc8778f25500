//! The pool without workers: its last one is gone for good. What becomes of the jobs?
//!
//! # States
//!
//! | flag in the queue | set | cleared |
//! |---|---|---|
//! | `NO_WORKERS` | by the dispatcher, after it joined the last worker and told the hooks, if the builder asked for it | when a worker is added, or made by its factory |
//!
//! Both happen under the roster's lock. Under that lock the dispatcher also collects the jobs to be
//! rejected, if the flag is still set. So none of them was submitted after a worker was added, and
//! a thread that has added a worker finds the queue open.
//!
//! # Why no job is left behind
//!
//! A submitter that found the queue open may put its job in after the flag is set.
//!
//! - The queue counts a job that goes to a job channel. Its submitter reads the flag, which is set
//!   before the dispatcher sleeps, and so wakes the dispatcher, which sees the count.
//! - A job that is handed off, or an urgent one, is put in, and *then* its submitter reads the
//!   flag. The dispatcher sets the flag, and *then* looks at what is released. Both are
//!   sequentially consistent, with a fence. So either the dispatcher sees the job, or the submitter
//!   sees the flag and notifies the dispatcher. If the flag is cleared by then, there is a worker,
//!   and it looks at what is released before it sleeps.

use crate::job::id::WorkerId;
use crate::policy::NoWorkers;
use crate::pool::Pool;
use crate::pool::queue::run_queue::Popped;
use crate::task::Task;

/// What [`Pool::abandoned`] found.
pub(crate) struct Abandoned<P, O, E> {
    pub(crate) no_workers: bool,
    /// From the job channels.
    pub(crate) waiting: Vec<Task<P, O, E>>,
    pub(crate) released: Vec<Popped<Task<P, O, E>>>,
}

impl<P, O, E> Default for Abandoned<P, O, E> {
    fn default() -> Self {
        Abandoned {
            no_workers: false,
            waiting: Vec::new(),
            released: Vec::new(),
        }
    }
}

impl<P, O, E> Pool<P, O, E> {
    /// A factory has made this worker.
    pub(crate) fn worker_made(&self, id: WorkerId) {
        self.roster
            .mark_made(id, || self.admission.clear_no_workers());
        self.check_size();
    }

    /// A worker is gone for good. If it was the last, and the builder asked for it, the jobs that
    /// wait are to be rejected.
    pub(crate) fn worker_is_gone(&self) {
        if self.no_workers == NoWorkers::Reject {
            self.roster
                .if_no_workers(|| self.admission.set_no_workers());
        }
    }

    /// If there is still no worker: the jobs that wait in the channels, and those that were
    /// released.
    pub(crate) fn abandoned(&self) -> Abandoned<P, O, E> {
        let mut abandoned = Abandoned::default();
        // Under the roster's lock, so that none of them was submitted after a worker was added.
        self.roster.if_no_workers(|| {
            let (jobs, low) = (&self.jobs.1, &self.low_jobs.1);
            abandoned
                .waiting
                .extend(jobs.try_iter().chain(low.try_iter()));
            abandoned.released = std::iter::from_fn(|| self.run_queue.drain_one()).collect();
            abandoned.no_workers = true;
        });
        abandoned
    }
}
