//! The errors of the pool: what happened, to which job and worker, and what comes back.

use std::fmt;

use crate::job::id::JobId;
use crate::job::id::Try;
use crate::job::id::WorkerId;

mod factory;

pub use factory::{FactoryError, ResizeError};

/// Why a job was turned away before it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The queue is full; only from calls that do not wait for room.
    Full,
    /// The pool is draining or closed.
    Closed,
    /// The pool's last worker is gone for good; see [`NoWorkers`](crate::NoWorkers).
    NoWorkers,
    /// Its token was cancelled.
    Cancelled,
    /// Its deadline passed.
    DeadlinePassed,
    /// A worker (or a hook) of this pool blocks for this job, and no worker is left that could ever
    /// run it. Add workers, or do not wait inside [`Worker::run`](crate::Worker::run).
    WouldDeadlock,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Full => "the queue is full",
            Reason::Closed => "the pool is closed",
            Reason::NoWorkers => "the pool has no workers any more",
            Reason::Cancelled => "it was cancelled",
            Reason::DeadlinePassed => "its deadline passed",
            Reason::WouldDeadlock => {
                "waiting for it would deadlock: every worker of the pool is itself waiting for the pool"
            }
        })
    }
}

/// The job did not begin and never will; here is its payload back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rejected<P> {
    /// What was to be submitted.
    pub payload: P,
    /// Why it was turned away.
    pub reason: Reason,
}

impl<P> fmt::Debug for Rejected<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected")
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl<P> fmt::Display for Rejected<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the job was not run: {}", self.reason)
    }
}

impl<P> std::error::Error for Rejected<P> {}

/// Why an accepted job has no output.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause<E> {
    /// The worker returned this error.
    Worker(E),
    /// The worker panicked, with this message. It is gone, or made anew by its factory; the pool and
    /// its other workers serve on.
    Panicked(String),
    /// Its token was cancelled.
    Cancelled,
    /// Its deadline passed.
    DeadlinePassed,
    /// The pool closed before the job began, or between two tries.
    Closed,
    /// The pool's last worker was gone for good before the job began; see
    /// [`NoWorkers`](crate::NoWorkers).
    NoWorkers,
}

/// The same in the words of a job that was accepted.
pub(crate) fn cause_of<E>(reason: Reason) -> Cause<E> {
    match reason {
        Reason::Cancelled => Cause::Cancelled,
        Reason::DeadlinePassed => Cause::DeadlinePassed,
        Reason::NoWorkers => Cause::NoWorkers,
        Reason::Full | Reason::Closed | Reason::WouldDeadlock => Cause::Closed,
    }
}

/// An accepted job ended without an output.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobError<E> {
    /// The job.
    pub job: JobId,
    /// The worker that ran it, last; `None` when it never began.
    pub worker: Option<WorkerId>,
    /// What happened.
    pub cause: Cause<E>,
    /// How many times a worker began it: more than 1 only with [`Retry`](crate::Retry).
    pub tries: u32,
}

impl<E> JobError<E> {
    /// `last` is its last try, if any.
    pub(crate) fn new(job: JobId, last: Option<Try>, cause: Cause<E>) -> Self {
        JobError {
            job,
            worker: last.map(|last| last.worker),
            cause,
            tries: last.map_or(0, |last| last.number.get()),
        }
    }

    /// The worker's own error, if that is what happened.
    pub fn into_worker_error(self) -> Option<E> {
        match self.cause {
            Cause::Worker(error) => Some(error),
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
        if self.tries > 1 {
            write!(f, " in try {}", self.tries)?;
        }
        match &self.cause {
            Cause::Worker(error) => write!(f, " failed: {error}"),
            Cause::Panicked(message) => write!(f, " panicked: {message}"),
            Cause::Cancelled => f.write_str(" was cancelled"),
            Cause::DeadlinePassed => f.write_str(" missed its deadline"),
            Cause::Closed if self.tries > 0 => {
                f.write_str(" is not tried again: the pool is closed")
            }
            Cause::Closed => f.write_str(" was not run: the pool is closed"),
            Cause::NoWorkers => f.write_str(" was not run: the pool has no workers any more"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for JobError<E> {}

/// Why a blocking submit, or a [`JobHandle`](crate::JobHandle), has no output.
#[derive(Clone, PartialEq, Eq)]
pub enum SubmitError<P, E> {
    /// The job did not begin and never will; the payload comes back.
    Rejected(Rejected<P>),
    /// The job began, and ended without an output; or it still runs and the caller gave up on it.
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
                cause: Cause::Panicked(message),
                ..
            }) => Some(message),
            _ => None,
        }
    }

    /// Was the pool closed before the job began?
    pub fn is_closed(&self) -> bool {
        self.is(Reason::Closed, |cause| matches!(cause, Cause::Closed))
    }

    /// Was the pool's last worker gone for good before the job began?
    pub fn is_no_workers(&self) -> bool {
        self.is(Reason::NoWorkers, |cause| matches!(cause, Cause::NoWorkers))
    }

    /// Was the job cancelled, before it began or while it ran?
    pub fn is_cancelled(&self) -> bool {
        self.is(Reason::Cancelled, |cause| matches!(cause, Cause::Cancelled))
    }

    /// Did the job's deadline pass, before it began or while it ran?
    pub fn is_deadline_passed(&self) -> bool {
        self.is(Reason::DeadlinePassed, |cause| {
            matches!(cause, Cause::DeadlinePassed)
        })
    }

    /// Would waiting have blocked for ever? See [`Reason::WouldDeadlock`].
    pub fn is_would_deadlock(&self) -> bool {
        self.is(Reason::WouldDeadlock, |_| false)
    }

    fn is(&self, reason: Reason, cause: impl Fn(&Cause<E>) -> bool) -> bool {
        match self {
            SubmitError::Rejected(rejected) => rejected.reason == reason,
            SubmitError::Failed(error) => cause(&error.cause),
        }
    }
}

impl<P, E> From<Rejected<P>> for SubmitError<P, E> {
    fn from(rejected: Rejected<P>) -> Self {
        SubmitError::Rejected(rejected)
    }
}

// By hand: a payload need not be `Debug`.
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
    /// More jobs were to wait than the queue can count.
    CapacityTooLarge(usize),
    /// A pool for closures needs at least one thread.
    ZeroThreads,
    /// A thread's name cannot hold a NUL byte.
    NulInName(String),
    /// The dispatcher's thread could not be started.
    Spawn(std::io::Error),
    /// Workers were to be started, and there is no factory to make them.
    NoFactory,
    /// The size of an elastic pool: the most is zero, or below the least or the number to begin with;
    /// or the least is zero, and a pool without workers turns its jobs away
    /// ([`NoWorkers::Reject`](crate::NoWorkers::Reject)), so that it would never grow again.
    Elastic {
        /// The least number of workers.
        least: usize,
        /// The most.
        most: usize,
    },
    /// One of the first workers could not be made; the factory's own error as text. Those before it
    /// were closed.
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

/// A worker was not added; here it is back. The pool and its counters are as before.
pub struct AddError<W> {
    /// The worker.
    pub worker: W,
    /// Why its thread was not started; `None` when the pool is draining or closed.
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

/// No worker of the pool has this id (any more).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownWorker(pub WorkerId);

impl fmt::Display for UnknownWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the pool has no worker {}", self.0)
    }
}

impl std::error::Error for UnknownWorker {}

/// The pool is closing, but was not closed in the given time. It goes on closing by itself as its
/// workers return; a thread cannot be killed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseTimeout {
    /// The workers whose threads still run.
    pub running: Vec<WorkerId>,
}

impl fmt::Display for CloseTimeout {
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

impl std::error::Error for CloseTimeout {}

/// The pool was not drained in the given time, and was closed instead.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainTimeout {
    /// How many accepted jobs never began, or waited for another try, and were answered "closed".
    pub abandoned: usize,
    /// The workers that still run a job; its token has fired.
    pub running: Vec<WorkerId>,
}

impl fmt::Display for DrainTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the pool was not drained in time: {} jobs were abandoned, {} workers still run",
            self.abandoned,
            self.running.len()
        )
    }
}

impl std::error::Error for DrainTimeout {}
