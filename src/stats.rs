//! The books: what became of every job.

use std::fmt;

use crate::error::Reason;
use crate::idle::{Census, Generation};
use crate::job::JobId;
use crate::sync::{AtomicU64, Ordering::Relaxed};

/// Counters of rare events; plain counters, read at rest.
#[derive(Default)]
pub(crate) struct Books {
    pub(crate) census: Census,
    cancelled: AtomicU64,
    expired: AtomicU64,
    closed: AtomicU64,
    lost_errors: AtomicU64,
    /// Numbered, and then turned away at the gate.
    not_accepted: AtomicU64,
}

impl Books {
    /// An accepted job was turned away before it began.
    pub(crate) fn refused(&self, reason: Reason) {
        let count = match reason {
            // A caller that would have waited for ever withdrew its job.
            Reason::Cancelled | Reason::WouldDeadlock => &self.cancelled,
            Reason::DeadlinePassed => &self.expired,
            Reason::Full | Reason::Closed => &self.closed,
        };
        count.fetch_add(1, Relaxed);
    }

    /// Jobs were not accepted.
    pub(crate) fn turned_away(&self, generation: Generation, jobs: u64) {
        self.not_accepted.fetch_add(jobs, Relaxed);
        self.census.ended_unworked(generation, jobs);
    }

    /// A detached job's failure found no listener.
    pub(crate) fn lost_error(&self, id: JobId) {
        let lost = self.lost_errors.fetch_add(1, Relaxed) + 1;
        // A caller that listens to nothing must not fill the log.
        if lost.is_power_of_two() {
            log::warn!("the error of detached job {id} found no listener; {lost} lost so far");
        }
    }

    pub(crate) fn lost_errors(&self) -> u64 {
        self.lost_errors.load(Relaxed)
    }

    /// The books as they stand; `ended` is what the workers ran, by outcome, and `undecided` how
    /// many submitters wait for room.
    pub(crate) fn read(&self, ended: [u64; 3], undecided: u64) -> Stats {
        let [completed, failed, panicked] = ended;
        let mut stats = Stats {
            accepted: 0,
            completed,
            failed,
            panicked,
            cancelled: self.cancelled.load(Relaxed),
            expired: self.expired.load(Relaxed),
            closed: self.closed.load(Relaxed),
            lost_errors: self.lost_errors(),
        };
        // Last: what has ended is never more than what was accepted.
        let not_accepted = self.not_accepted.load(Relaxed) + undecided;
        stats.accepted = self.census.counted().saturating_sub(not_accepted);
        stats
    }
}

/// What became of a pool's jobs since it was built; see [`Manager::stats`](crate::Manager::stats).
///
/// While jobs are under way the counters are read one after the other. At rest the books balance:
/// `accepted` is the sum of the six outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Jobs that the pool took on.
    pub accepted: u64,
    /// Jobs that a worker ran to an output.
    pub completed: u64,
    /// Jobs for which a worker returned its error.
    pub failed: u64,
    /// Jobs in which a worker panicked.
    pub panicked: u64,
    /// Jobs taken back before they began, by a cancel token or handle.
    pub cancelled: u64,
    /// Jobs whose deadline passed before they began.
    pub expired: u64,
    /// Jobs that the pool's end came before.
    pub closed: u64,
    /// Failures of detached jobs that found no listener (each also counted above).
    pub lost_errors: u64,
}

impl Stats {
    /// Jobs that have their outcome.
    pub fn ended(&self) -> u64 {
        self.completed + self.failed + self.panicked + self.cancelled + self.expired + self.closed
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} jobs accepted: {} completed, {} failed, {} panicked, {} cancelled, {} expired, {} closed; {} errors lost",
            self.accepted,
            self.completed,
            self.failed,
            self.panicked,
            self.cancelled,
            self.expired,
            self.closed,
            self.lost_errors
        )
    }
}
