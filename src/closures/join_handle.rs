//! A closure's result, to be waited for.

use std::fmt;
use std::time::Duration;

use crate::closures::{Closure, ClosurePanic};
use crate::error::{Failure, JobError, RejectReason, RejectedError, SubmitError};
use crate::manager::Manager;
use crate::submit::handle::JobHandle;
use crate::sync::{Arc, Mutex};

/// The result of a closure, to be waited for, polled or cancelled, from any thread; made by
/// [`ThreadPool::spawn`](crate::closures::ThreadPool::spawn).
///
/// Dropping it does not stop the closure: it runs, and its result is dropped.
///
/// ```
/// use worker_pool::closures::{JoinError, ThreadPool};
///
/// let pool = ThreadPool::new(2);
/// let tasks = (1..=3_u32).map(|n| pool.spawn(move || 6 / (n - 1)));
/// let results: Vec<_> = tasks.map(|task| task.and_then(|task| task.wait())).collect();
/// assert!(matches!(&results[0], Err(JoinError::Panicked(why)) if why.contains("divide by zero")));
/// assert_eq!(results[1..], [Ok(6), Ok(3)]);
/// ```
#[must_use = "dropping the task drops the closure's result; see `execute`"]
pub struct JoinHandle<T> {
    handle: JobHandle<Closure, (), ClosurePanic>,
    result: Arc<Mutex<Option<T>>>,
}

impl<T: Send + 'static> JoinHandle<T> {
    pub(super) fn spawn(
        manager: &Manager<Closure, (), ClosurePanic>,
        closure: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Self, JoinError> {
        let result = Arc::new(Mutex::new(None));
        let place = Arc::clone(&result);
        let handle = manager.enqueue(Box::new(move || {
            let result = closure();
            *place.lock() = Some(result);
        }))?;
        Ok(JoinHandle { handle, result })
    }
}

impl<T> JoinHandle<T> {
    /// Has the closure ended, one way or the other, or was it cancelled? Then [`wait`](Self::wait)
    /// does not block.
    pub fn is_done(&self) -> bool {
        self.handle.is_done()
    }

    /// Blocks until the closure has ended, or was cancelled.
    ///
    /// # Errors
    /// Why there is no result; see [`JoinError`].
    ///
    /// # Panics
    /// If [`wait_timeout`](Self::wait_timeout) or [`try_wait`](Self::try_wait) gave out the result before.
    pub fn wait(self) -> Result<T, JoinError> {
        settle(self.handle.wait(), &self.result)
    }

    /// As [`wait`](Self::wait), for at most `timeout`: `None` if the closure had not ended by then,
    /// or if its result was taken before. It is not cancelled by that.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Result<T, JoinError>> {
        let ended = self.handle.wait_timeout(timeout)?;
        Some(settle(ended, &self.result))
    }

    /// The result if it is there, once. Never blocks.
    pub fn try_wait(&mut self) -> Option<Result<T, JoinError>> {
        let ended = self.handle.try_wait()?;
        Some(settle(ended, &self.result))
    }

    /// Cancels the closure, unless it has ended: one that has not begun never will; of one that
    /// runs, the result is dropped. Waiting ends at once. `false` if it was too late.
    pub fn cancel(&self) -> bool {
        self.handle.cancel()
    }
}

/// What the closure left, once its job has ended.
fn settle<T>(
    ended: Result<(), SubmitError<Closure, ClosurePanic>>,
    result: &Mutex<Option<T>>,
) -> Result<T, JoinError> {
    ended?;
    let result = result.lock().take();
    Ok(result.expect("a closure that returned has left its result, which is taken once"))
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("id", &self.handle.id())
            .field("done", &self.is_done())
            .finish_non_exhaustive()
    }
}

/// Why a closure has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinError {
    /// It panicked, with this message. The thread that ran it serves on.
    Panicked(String),
    /// It did not begin and never will.
    NotRun(RejectReason),
    /// It was cancelled while it ran; its result is dropped.
    Cancelled,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Panicked(message) => write!(f, "the closure panicked: {message}"),
            JoinError::NotRun(reason) => write!(f, "the closure was not run: {reason}"),
            JoinError::Cancelled => f.write_str("the closure was cancelled while it ran"),
        }
    }
}

impl std::error::Error for JoinError {}

impl From<RejectedError<Closure>> for JoinError {
    fn from(rejected: RejectedError<Closure>) -> Self {
        JoinError::NotRun(rejected.reason)
    }
}

impl From<SubmitError<Closure, ClosurePanic>> for JoinError {
    fn from(error: SubmitError<Closure, ClosurePanic>) -> Self {
        match error {
            SubmitError::Rejected(rejected) => rejected.into(),
            SubmitError::Failed(JobError { cause, .. }) => match cause {
                Failure::Worker(panic) => JoinError::Panicked(panic.message),
                Failure::Panicked(message) => JoinError::Panicked(message),
                Failure::Closed => JoinError::NotRun(RejectReason::Closed),
                Failure::NoWorkers => JoinError::NotRun(RejectReason::NoWorkers),
                Failure::Cancelled | Failure::DeadlinePassed => JoinError::Cancelled,
            },
        }
    }
}
