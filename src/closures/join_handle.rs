//! The [`JoinHandle`]: a closure's result, to wait for.

use std::fmt;
use std::time::Duration;

use crate::closures::{Closure, ClosurePanic};
use crate::error::{Failure, JobError, RejectReason, RejectedError, SubmitError};
use crate::manager::Manager;
use crate::submit::handle::JobHandle;
use crate::sync::unwind::{self, Contained};
use crate::sync::{Arc, Mutex};

/// A handle to a closure's result; made by [`ThreadPool::spawn`](crate::closures::ThreadPool::spawn).
/// It waits for the result, polls it, or cancels the closure, from any thread.
///
/// Dropping it does not stop the closure: the closure runs, and its result is dropped.
///
/// ```
/// use worker_pool::closures::{JoinError, ThreadPool};
///
/// let pool = ThreadPool::new(2);
/// let handles = (1..=3_u32).map(|n| pool.spawn(move || 6 / (n - 1)));
/// let results: Vec<_> = handles.map(|handle| handle.and_then(|handle| handle.wait())).collect();
/// assert!(matches!(&results[0], Err(JoinError::Panicked(text)) if text.contains("divide by zero")));
/// assert_eq!(results[1..], [Ok(6), Ok(3)]);
/// ```
#[must_use = "dropping the handle drops the closure's result; see `execute`"]
pub struct JoinHandle<T> {
    handle: JobHandle<Closure, (), ClosurePanic>,
    result: Arc<Mutex<Contained<Option<T>>>>,
}

impl<T: Send + 'static> JoinHandle<T> {
    pub(super) fn spawn(
        manager: &Manager<Closure, (), ClosurePanic>,
        closure: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Self, JoinError> {
        let result = Arc::new(Mutex::new(Contained::new("result", None)));
        let output = Arc::clone(&result);
        let handle = manager.enqueue(Box::new(move || {
            // Without the lock, since the closure may run for long.
            let value = closure();
            **output.lock() = Some(value);
        }))?;
        Ok(JoinHandle { handle, result })
    }
}

impl<T> JoinHandle<T> {
    /// Has the closure ended, with or without a result, or was it cancelled? Then
    /// [`wait`](Self::wait) does not block.
    pub fn is_done(&self) -> bool {
        self.handle.is_done()
    }

    /// Blocks until the closure has ended, or was cancelled.
    ///
    /// # Errors
    /// Why there is no result; see [`JoinError`].
    ///
    /// # Panics
    /// If [`wait_timeout`](Self::wait_timeout) or [`try_wait`](Self::try_wait) has already returned the
    /// result.
    pub fn wait(self) -> Result<T, JoinError> {
        take_result(self.handle.wait(), &self.result)
    }

    /// As [`wait`](Self::wait), but blocks for at most `timeout`. Returns `None` if the closure has not
    /// ended by then, which does not cancel it, or if its result was taken before.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Result<T, JoinError>> {
        let ended = self.handle.wait_timeout(timeout)?;
        Some(take_result(ended, &self.result))
    }

    /// Returns the result if it is there and was not taken before. Never blocks.
    pub fn try_wait(&mut self) -> Option<Result<T, JoinError>> {
        let ended = self.handle.try_wait()?;
        Some(take_result(ended, &self.result))
    }

    /// Cancels the closure, unless it has ended. If it has not begun, it never will; if it runs, its
    /// result is dropped. Waiting ends at once. Returns `false` if the closure had already ended.
    pub fn cancel(&self) -> bool {
        self.handle.cancel()
    }
}

/// The closure's result, once its job has ended.
fn take_result<T>(
    ended: Result<(), SubmitError<Closure, ClosurePanic>>,
    result: &Mutex<Contained<Option<T>>>,
) -> Result<T, JoinError> {
    ended?;
    let result = result.lock().take();
    Ok(result.expect("a closure that returned has stored its result, which is taken once"))
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
    /// It panicked, with this message. The thread that ran it continues.
    Panicked(String),
    /// It did not begin and never will.
    NotRun(RejectReason),
    /// It was cancelled while it ran. Its result is dropped.
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
        unwind::discard("closure", rejected.payload);
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
                Failure::WouldDeadlock => JoinError::NotRun(RejectReason::WouldDeadlock),
                Failure::Cancelled | Failure::DeadlinePassed => JoinError::Cancelled,
            },
        }
    }
}
