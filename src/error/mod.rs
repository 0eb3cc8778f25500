//! The errors of the pool: what happened, to which job and worker, and what is returned.

use std::fmt;

use crate::job::id::{Attempt, JobId, WorkerId};

mod factory;

pub use factory::{FactoryError, ResizeError};

/// Why a job was rejected before it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectReason {
    /// The queue is full. Only calls that do not wait for room return this.
    Full,
    /// The pool is draining or closed.
    Closed,
    /// The pool's last worker is gone for good; see [`NoWorkers`](crate::NoWorkers).
    NoWorkers,
    /// Its token was cancelled.
    Cancelled,
    /// Its deadline passed.
    DeadlinePassed,
    /// A thread of a pool blocks for this job (in a worker, a hook, or whatever else runs there), and no
    /// worker is left that could ever run it: directly or not, each waits for that thread. Add workers, or do not wait inside [`Worker::run`](crate::Worker::run).
    WouldDeadlock,
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RejectReason::Full => "the queue is full",
            RejectReason::Closed => "the pool is closed",
            RejectReason::NoWorkers => "the pool has no workers any more",
            RejectReason::Cancelled => "it was cancelled",
            RejectReason::DeadlinePassed => "its deadline passed",
            RejectReason::WouldDeadlock => {
                "waiting for it would deadlock: every worker of the pool waits in vain itself"
            }
        })
    }
}

/// The job did not begin and never will. This returns its payload.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RejectedError<P> {
    /// The payload that was to be submitted.
    pub payload: P,
    /// Why the job was rejected.
    pub reason: RejectReason,
}

impl<P> fmt::Debug for RejectedError<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RejectedError")
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl<P> fmt::Display for RejectedError<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the job was not run: {}", self.reason)
    }
}

impl<P> std::error::Error for RejectedError<P> {}

/// Why an accepted job has no output.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure<E> {
    /// The worker returned this error.
    Worker(E),
    /// The worker panicked, with this message. It is gone, or restarted by its factory. The pool and
    /// its other workers continue.
    Panicked(String),
    /// Its token was cancelled.
    Cancelled,
    /// Its deadline passed.
    DeadlinePassed,
    /// The pool closed before the job began, or between two attempts.
    Closed,
    /// The pool's last worker was gone for good before the job began; see
    /// [`NoWorkers`](crate::NoWorkers).
    NoWorkers,
    /// It began, and its caller gave up on it, since to wait for it would deadlock.
    WouldDeadlock,
}

/// The failure of an accepted job that was rejected for this reason.
pub(crate) fn cause_of<E>(reason: RejectReason) -> Failure<E> {
    match reason {
        RejectReason::Cancelled => Failure::Cancelled,
        RejectReason::DeadlinePassed => Failure::DeadlinePassed,
        RejectReason::NoWorkers => Failure::NoWorkers,
        RejectReason::WouldDeadlock => Failure::WouldDeadlock,
        RejectReason::Full | RejectReason::Closed => Failure::Closed,
    }
}

/// An accepted job ended without an output.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobError<E> {
    /// The job.
    pub job: JobId,
    /// The worker that ran it last. `None` if it never began.
    pub worker: Option<WorkerId>,
    /// What happened.
    pub cause: Failure<E>,
    /// How many times a worker began it. It is more than 1 only with [`Retry`](crate::Retry).
    pub attempts: u32,
}

impl<E> JobError<E> {
    /// `last` is the job's last attempt, if it had one.
    pub(crate) fn new(job: JobId, last: Option<Attempt>, cause: Failure<E>) -> Self {
        JobError {
            job,
            worker: last.map(|last| last.worker),
            cause,
            attempts: last.map_or(0, |last| last.number.get()),
        }
    }

    /// The worker's own error, if that is what happened.
    pub fn into_worker_error(self) -> Option<E> {
        match self.cause {
            Failure::Worker(error) => Some(error),
            _ => None,
        }
    }
}

impl<E: fmt::Display> fmt::Display for JobError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {}", self.job)?;
        if let Some(worker) = self.worker {
            write!(f, " on worker {worker}")?;
        }
        if self.attempts > 1 {
            write!(f, " in try {}", self.attempts)?;
        }
        match &self.cause {
            Failure::Worker(error) => write!(f, " failed: {error}"),
            Failure::Panicked(message) => write!(f, " panicked: {message}"),
            Failure::Cancelled => f.write_str(" was cancelled"),
            Failure::DeadlinePassed => f.write_str(" missed its deadline"),
            Failure::Closed if self.attempts > 0 => {
                f.write_str(" is not tried again: the pool is closed")
            }
            Failure::Closed => f.write_str(" was not run: the pool is closed"),
            Failure::NoWorkers => f.write_str(" was not run: the pool has no workers any more"),
            Failure::WouldDeadlock => f.write_str(" is not waited for: that would deadlock"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for JobError<E> {}

/// Why a blocking submit, or a [`JobHandle`](crate::JobHandle), has no output.
#[derive(Clone, PartialEq, Eq)]
pub enum SubmitError<P, E> {
    /// The job did not begin and never will. The payload is returned.
    Rejected(RejectedError<P>),
    /// The job began and ended without an output, or it still runs and the caller gave up on it.
    Failed(JobError<E>),
}

impl<P, E> SubmitError<P, E> {
    /// The payload, if the job did not begin.
    pub fn into_payload(self) -> Option<P> {
        match self {
            SubmitError::Rejected(rejected) => Some(rejected.payload),
            SubmitError::Failed(_) => None,
        }
    }

    /// The worker's own error, if that is what happened.
    pub fn into_worker_error(self) -> Option<E> {
        match self {
            SubmitError::Rejected(_) => None,
            SubmitError::Failed(error) => error.into_worker_error(),
        }
    }

    /// The panic's message, if the worker panicked.
    pub fn panic_message(&self) -> Option<&str> {
        match self {
            SubmitError::Failed(JobError {
                cause: Failure::Panicked(message),
                ..
            }) => Some(message),
            _ => None,
        }
    }

    /// Was the pool closed before the job began?
    pub fn is_closed(&self) -> bool {
        self.is(RejectReason::Closed, |cause| {
            matches!(cause, Failure::Closed)
        })
    }

    /// Was the pool's last worker gone for good before the job began?
    pub fn is_no_workers(&self) -> bool {
        self.is(RejectReason::NoWorkers, |cause| {
            matches!(cause, Failure::NoWorkers)
        })
    }

    /// Was the job cancelled, before it began or while it ran?
    pub fn is_cancelled(&self) -> bool {
        self.is(RejectReason::Cancelled, |cause| {
            matches!(cause, Failure::Cancelled)
        })
    }

    /// Did the job's deadline pass, before it began or while it ran?
    pub fn is_deadline_passed(&self) -> bool {
        self.is(RejectReason::DeadlinePassed, |cause| {
            matches!(cause, Failure::DeadlinePassed)
        })
    }

    /// Would waiting have blocked forever? See [`RejectReason::WouldDeadlock`].
    pub fn is_would_deadlock(&self) -> bool {
        self.is(RejectReason::WouldDeadlock, |cause| {
            matches!(cause, Failure::WouldDeadlock)
        })
    }

    fn is(&self, reason: RejectReason, cause: impl Fn(&Failure<E>) -> bool) -> bool {
        match self {
            SubmitError::Rejected(rejected) => rejected.reason == reason,
            SubmitError::Failed(error) => cause(&error.cause),
        }
    }
}

impl<P, E> From<RejectedError<P>> for SubmitError<P, E> {
    fn from(rejected: RejectedError<P>) -> Self {
        SubmitError::Rejected(rejected)
    }
}

// Not derived: a payload need not be `Debug`.
impl<P, E: fmt::Debug> fmt::Debug for SubmitError<P, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubmitError::Rejected(rejected) => rejected.fmt(f),
            SubmitError::Failed(error) => error.fmt(f),
        }
    }
}

impl<P, E: fmt::Display> fmt::Display for SubmitError<P, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubmitError::Rejected(rejected) => rejected.fmt(f),
            SubmitError::Failed(error) => error.fmt(f),
        }
    }
}

impl<P, E: fmt::Debug + fmt::Display> std::error::Error for SubmitError<P, E> {}

/// A detached job's failure, as it arrives on the channel that was given to
/// [`detach_submit`](crate::Manager::detach_submit).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DetachedError<E> {
    /// The id that the caller gave the job.
    pub id: u64,
    /// What happened to it.
    pub error: JobError<E>,
}

impl<E: fmt::Display> fmt::Display for DetachedError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "detached {}", self.error)
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for DetachedError<E> {}

/// A pool could not be built. No thread is left behind.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// The queue capacity must be at least 1.
    ZeroCapacity,
    /// The queue cannot count this many waiting jobs.
    CapacityTooLarge(usize),
    /// A pool for closures needs at least one thread.
    ZeroThreads,
    /// A thread's name cannot contain a NUL byte.
    NulInName(String),
    /// The dispatcher's thread could not be started.
    Spawn(std::io::Error),
    /// Workers were to be started, but there is no factory to make them.
    NoFactory,
    /// An elastic pool cannot have these bounds. Either the most is zero, or less than the least or
    /// than the initial number. Or the least is zero, and a pool without workers rejects its jobs
    /// ([`NoWorkers::Reject`](crate::NoWorkers::Reject)), so it would never grow again.
    Elastic {
        /// The least number of workers.
        least: usize,
        /// The most workers.
        most: usize,
    },
    /// One of the initial workers could not be made. The factory's own error is given as text. The
    /// workers made before it were closed.
    Worker(FactoryError<String>),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::ZeroCapacity => f.write_str("the queue capacity must be at least 1"),
            BuildError::CapacityTooLarge(capacity) => {
                write!(f, "a queue capacity of {capacity} jobs is too large")
            }
            BuildError::ZeroThreads => f.write_str("a pool needs at least one thread"),
            BuildError::NulInName(name) => write!(f, "the name {name:?} has a NUL byte in it"),
            BuildError::Spawn(error) => {
                write!(f, "the dispatcher's thread could not be started: {error}")
            }
            BuildError::NoFactory => f.write_str("there is no factory for the workers"),
            BuildError::Elastic { least, most } => {
                write!(f, "a pool cannot have {least} to {most} workers")
            }
            BuildError::Worker(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BuildError::Spawn(error) => Some(error),
            BuildError::Worker(error) => Some(error),
            _ => None,
        }
    }
}

/// A worker was not added. This returns it. The pool and its counters are as before.
pub struct AddError<W> {
    /// The worker.
    pub worker: W,
    /// Why its thread was not started. `None` if the pool is draining or closed.
    pub spawn: Option<std::io::Error>,
}

impl<W> fmt::Debug for AddError<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddError")
            .field("spawn", &self.spawn)
            .finish_non_exhaustive()
    }
}

impl<W> fmt::Display for AddError<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.spawn {
            None => f.write_str("the worker was not added: the pool is closed"),
            Some(error) => write!(f, "the worker's thread could not be started: {error}"),
        }
    }
}

impl<W> std::error::Error for AddError<W> {}

/// No worker of the pool has this id, at least not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownWorkerError(pub WorkerId);

impl fmt::Display for UnknownWorkerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the pool has no worker {}", self.0)
    }
}

impl std::error::Error for UnknownWorkerError {}

/// The pool is closing, but was not closed in the given time. It closes by itself once its workers
/// return; a thread cannot be killed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseTimeoutError {
    /// The workers whose threads still run.
    pub running: Vec<WorkerId>,
}

impl fmt::Display for CloseTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the pool is not closed yet: {} workers",
            self.running.len()
        )?;
        f.write_str(" still run:")?;
        self.running.iter().try_for_each(|id| write!(f, " {id}"))
    }
}

impl std::error::Error for CloseTimeoutError {}

/// The pool was not drained: it was closed before every accepted job had run, as a rule because the
/// given time was over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainTimeoutError {
    /// How many accepted jobs had not begun, or waited for another attempt, and were answered
    /// "closed".
    pub abandoned: usize,
    /// The workers whose threads still run, as in [`CloseTimeoutError`]: with a job, whose token has
    /// fired, or on their way out.
    pub running: Vec<WorkerId>,
}

impl fmt::Display for DrainTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the pool was closed before it was drained: {} jobs were abandoned, {} workers still run",
            self.abandoned,
            self.running.len()
        )
    }
}

impl std::error::Error for DrainTimeoutError {}
