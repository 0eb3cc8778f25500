//! Identifies a job, a worker, and one attempt of a job by a worker.

use std::fmt;
use std::num::NonZeroU32;

/// Identifies a job. [`submit`](crate::Manager::submit) and its relatives number jobs from 1 on, and
/// use each number once in the pool's life. [`detach_submit`](crate::Manager::detach_submit) uses the
/// caller's own number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(u64);

impl JobId {
    /// An id with this number.
    pub const fn new(number: u64) -> Self {
        JobId(number)
    }
    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identifies a worker. Unique for the pool's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(u64);

impl WorkerId {
    /// An id with this number.
    pub const fn new(number: u64) -> Self {
        WorkerId(number)
    }
    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One run of a job: which worker runs it, and the attempt's number, from 1 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) worker: WorkerId,
    /// Never zero, so an `Option` of it is no larger.
    pub(crate) number: NonZeroU32,
}

impl Attempt {
    /// The first and, without retries, the only one.
    pub(crate) fn first(worker: WorkerId) -> Self {
        Attempt {
            worker,
            number: NonZeroU32::MIN,
        }
    }
}
