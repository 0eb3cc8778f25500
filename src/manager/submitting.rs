//! The verbs for a job: [`submit`](Manager::submit) and its relatives.

use std::time::Duration;

use crate::error::{DetachedError, RejectedError, SubmitError};
use crate::manager::Manager;
use crate::submit::JobBuilder;
use crate::submit::handle::JobHandle;
use crate::sync::channel::Sender;

impl<P, O, E> Manager<P, O, E>
where
    P: Send,
    O: Send,
    E: Send,
{
    /// A job to be submitted with a deadline or a cancel token; see [`JobBuilder`].
    pub fn job(&self, payload: P) -> JobBuilder<'_, P, O, E> {
        JobBuilder::new(&self.owner.pool, payload)
    }

    /// Submits a job and blocks until its result is there, first for room in the queue if it is full.
    ///
    /// # Errors
    /// [`RejectedError`](SubmitError::Rejected), with the payload, if the job did not begin: the pool
    /// closed first, or waiting would deadlock, because it is called from inside the pool's own
    /// workers and none is left to run it. [`Failed`](SubmitError::Failed) if it ran: the worker's
    /// own error, or its panic.
    pub fn submit(&self, payload: P) -> Result<O, SubmitError<P, E>> {
        self.job(payload).submit()
    }

    /// As [`submit`](Self::submit), for at most `timeout`. Also returns then if the worker is still
    /// at it; the job is told (see [`Job::is_cancelled`](crate::Job::is_cancelled)).
    ///
    /// # Errors
    /// As [`submit`](Self::submit), and deadline passed.
    pub fn submit_timeout(&self, payload: P, timeout: Duration) -> Result<O, SubmitError<P, E>> {
        self.job(payload).timeout(timeout).submit()
    }

    /// Submits a job without blocking; the handle leads to its result.
    ///
    /// # Errors
    /// The payload, if the queue is full or the pool closed.
    pub fn try_enqueue(&self, payload: P) -> Result<JobHandle<P, O, E>, RejectedError<P>> {
        self.job(payload).try_enqueue()
    }

    /// Submits a job, blocking only while the queue is full; the handle leads to its result.
    ///
    /// # Errors
    /// The payload, if the pool is closed, or waiting for room would deadlock.
    pub fn enqueue(&self, payload: P) -> Result<JobHandle<P, O, E>, RejectedError<P>> {
        self.job(payload).enqueue()
    }

    /// Submits a job whose success nobody asks about, blocking only while the queue is full. If it
    /// fails (worker's error, panic, cancelled, deadline passed, pool closed), `id` and the error
    /// are sent on `errors`, without ever blocking a worker: if that channel is full or has no
    /// receiver, the error is lost and counted ([`lost_errors`](Self::lost_errors)).
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
    /// The payload, if the job was not accepted; nothing is sent then.
    pub fn detach_submit(
        &self,
        payload: P,
        id: u64,
        errors: &Sender<DetachedError<E>>,
    ) -> Result<(), RejectedError<P>> {
        self.job(payload).detach(id, errors)
    }
}
