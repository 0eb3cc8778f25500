//! A handle to a job whose result is wanted later.

use std::fmt;
use std::time::{Duration, Instant};

use crate::error::{RejectReason, SubmitError};
use crate::job::cancel::{CancelToken, Fired};
use crate::job::id::JobId;
use crate::pool::Pool;
use crate::sync::Arc;
use crate::sync::park::Wake;
use crate::sync::time;
use crate::task::oneshot::{Oneshot, RejectOutcome};

/// A handle to a job, to wait for its result, to ask for it, or to cancel the job, from any thread.
///
/// Dropping the handle does not stop the job. The job runs, and its result is dropped.
///
/// ```
/// use std::time::Duration;
/// use worker_pool::{Job, Manager};
///
/// let pool = Manager::<u64, u64>::new();
/// pool.add(|job: Job<u64>| Ok(job.into_payload() * 2))?;
/// let mut handle = pool.enqueue(21)?;
/// // … do something else, then:
/// let answer = handle.wait_timeout(Duration::from_secs(60)).expect("a minute is plenty")?;
/// assert_eq!(answer, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping the handle drops the job's result; see `detach_submit`"]
pub struct JobHandle<P, O, E> {
    pub(crate) oneshot: Arc<Oneshot<P, O, E>>,
    pub(crate) pool: Arc<Pool<P, O, E>>,
    pub(crate) taken: bool,
}

impl<P, O, E> JobHandle<P, O, E> {
    /// The job's id.
    pub fn id(&self) -> JobId {
        self.oneshot.id()
    }

    /// Has the job ended in any way, or is it cancelled or late? Then [`wait`](Self::wait) does not
    /// block.
    pub fn is_done(&self) -> bool {
        self.oneshot.is_settled() || self.fired_by().is_some()
    }

    /// Blocks until the job ends, its token fires or its deadline passes.
    ///
    /// # Errors
    /// As [`Manager::submit`](crate::Manager::submit).
    ///
    /// # Panics
    /// If [`wait_timeout`](Self::wait_timeout) or [`try_wait`](Self::try_wait) returned the result
    /// before.
    pub fn wait(mut self) -> Result<O, SubmitError<P, E>> {
        self.wait_until(None)
            .expect("the result of this job was taken before")
    }

    /// As [`wait`](Self::wait), but blocks for at most `timeout`. Returns `None` if the job has not
    /// ended by then, or if its result was taken before. The job is not cancelled.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Result<O, SubmitError<P, E>>> {
        // A timeout that overflows is no limit.
        self.wait_until(time::now().checked_add(timeout))
    }

    /// Returns the result if it is there. Returns it only once. Never blocks.
    pub fn try_wait(&mut self) -> Option<Result<O, SubmitError<P, E>>> {
        if self.taken {
            return None;
        }
        let reply = match (self.oneshot.take(), self.fired_by()) {
            (Some(reply), _) => reply,
            (None, None) => return None,
            (None, Some(fired)) => self.pool.cancel_job(self.id(), &self.oneshot, fired.into()),
        };
        self.taken = true;
        Some(reply)
    }

    /// Cancels the job, unless it has ended. Returns `false` if it was too late.
    ///
    /// - A job that has not begun never will, and waiting returns its payload.
    /// - A job that waits for another [attempt](crate::Retry) gets none.
    /// - If the job runs, [`Job::is_cancelled`](crate::Job::is_cancelled) becomes true, and waiting
    ///   ends at once.
    pub fn cancel(&self) -> bool {
        // First the job, then the token: otherwise a worker that sees the token could be faster.
        let count = || self.pool.counters.rejected(RejectReason::Cancelled);
        let withdrawn = match self.oneshot.reject(RejectReason::Cancelled, count) {
            RejectOutcome::TooLate => false,
            RejectOutcome::Rejected => {
                self.pool.release_withdrawn();
                true
            }
            // A sweep removes what is left of it, once its token fires.
            RejectOutcome::AfterAttempts => true,
        };
        let running = !self.oneshot.is_settled();
        self.oneshot.token_or_new().cancel();
        withdrawn || running
    }

    /// The job's own token, so that other threads can cancel the job. If the job was given a token,
    /// this is a child of it.
    pub fn cancel_token(&self) -> CancelToken {
        let token = self.oneshot.token_or_new();
        if self.oneshot.watch_once() {
            // While the job waits, its place is free as soon as the token fires.
            token.watch_for_good(Arc::clone(&self.pool.signal) as Arc<dyn Wake>);
        }
        token
    }

    fn fired_by(&self) -> Option<Fired> {
        self.oneshot.token().and_then(CancelToken::fired_by)
    }

    fn wait_until(&mut self, until: Option<Instant>) -> Option<Result<O, SubmitError<P, E>>> {
        if self.taken {
            return None;
        }
        let reply = self
            .pool
            .await_reply(self.id(), &self.oneshot, self.oneshot.token(), until)?;
        self.taken = true;
        Some(reply)
    }
}

impl<P, O, E> fmt::Debug for JobHandle<P, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobHandle")
            .field("id", &self.id())
            .field("done", &self.is_done())
            .finish_non_exhaustive()
    }
}
