//! Submitting a single job: [`submit`](Manager::submit) and its variants.

use std::time::Duration;

use crate::error::{DetachedError, RejectedError, SubmitError};
use crate::manager::Manager;
use crate::submit::JobBuilder;
use crate::submit::handle::JobHandle;
use crate::sync::user_channel::Sender;

impl<P, O, E> Manager<P, O, E>
where
    P: Send,
    O: Send,
    E: Send,
{
    /// Starts a job with options, such as a deadline, a cancel token, a priority or retries; see
    /// [`JobBuilder`].
    pub fn job(&self, payload: P) -> JobBuilder<'_, P, O, E> {
        JobBuilder::new(&self.owner.pool, payload)
    }

    /// Submits a job and blocks until its result is there. If the queue is full, it first blocks until
    /// there is room.
    ///
    /// # Errors
    /// [`Rejected`](SubmitError::Rejected), with the payload, if the job did not begin: the pool
    /// closed first, its last worker is gone for good ([`NoWorkers`](crate::NoWorkers)), or waiting
    /// would deadlock, because the call comes from inside the pool's own workers and none is left to
    /// run the job. [`Failed`](SubmitError::Failed) if the job began: the worker's own error, or its
    /// panic.
    pub fn submit(&self, payload: P) -> Result<O, SubmitError<P, E>> {
        self.job(payload).submit()
    }

    /// As [`submit`](Self::submit), but blocks for at most `timeout`. It returns then even if the
    /// worker still runs the job, whose token fires (see
    /// [`Job::is_cancelled`](crate::Job::is_cancelled)).
    ///
    /// # Errors
    /// As [`submit`](Self::submit), or the deadline passed.
    pub fn submit_timeout(&self, payload: P, timeout: Duration) -> Result<O, SubmitError<P, E>> {
        self.job(payload).timeout(timeout).submit()
    }

    /// Submits a job without blocking, and returns a handle to its result.
    ///
    /// # Errors
    /// The payload, if the queue is full, the pool is draining or closed, or its last worker is gone
    /// for good ([`NoWorkers`](crate::NoWorkers)).
    pub fn try_enqueue(&self, payload: P) -> Result<JobHandle<P, O, E>, RejectedError<P>> {
        self.job(payload).try_enqueue()
    }

    /// Submits a job and returns a handle to its result. Blocks only while the queue is full.
    ///
    /// # Errors
    /// The payload, if the pool is draining or closed, its last worker is gone for good
    /// ([`NoWorkers`](crate::NoWorkers)), or waiting for room would deadlock.
    pub fn enqueue(&self, payload: P) -> Result<JobHandle<P, O, E>, RejectedError<P>> {
        self.job(payload).enqueue()
    }

    /// Submits a job of which only failures are reported. Blocks only while the queue is full.
    ///
    /// If the job fails (worker's error, panic, cancelled, deadline passed, pool closed, no workers),
    /// `id` and the error are sent on `errors`. This never blocks a worker: if that channel is full or
    /// has no receiver, the error is lost and counted ([`lost_errors`](Self::lost_errors)).
    ///
    /// ```
    /// use worker_pool::{Job, Manager};
    ///
    /// let pool = Manager::<u32, (), String>::new();
    /// pool.add(|job: Job<u32>| match job.into_payload() {
    ///     13 => Err("not that one".to_owned()),
    ///     _ => Ok(()),
    /// })?;
    /// let (errors, failures) = crossbeam_channel::unbounded();
    /// for number in 0..20 {
    ///     pool.detach_submit(number, u64::from(number), &errors)?;
    /// }
    /// drop(errors);
    /// pool.drain();
    /// let failed: Vec<u64> = failures.iter().map(|failure| failure.id).collect();
    /// assert_eq!(failed, [13]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The payload, if the job was not accepted. Nothing is sent then.
    pub fn detach_submit(
        &self,
        payload: P,
        id: u64,
        errors: &Sender<DetachedError<E>>,
    ) -> Result<(), RejectedError<P>> {
        self.job(payload).detach(id, errors)
    }
}
