//! Names: of a job, of a worker, and of one attempt of a job by a worker.

use std::fmt;
use std::num::NonZeroU32;

/// Names a job. [`submit`](crate::Manager::submit) and its relatives number jobs from 1 on, each
/// once in the pool's life; [`detach_submit`](crate::Manager::detach_submit) uses the caller's own.
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

/// Names a worker; unique for the pool's life.
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

/// One run of a job: by whom, and its number, from 1 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) worker: WorkerId,
    /// Never zero, which makes an `Option` of it no wider.
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
