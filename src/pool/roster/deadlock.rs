//! Deadlock detection: which workers block for their own pool, for a job's result or for room in
//! the queue.
//!
//! If every worker blocks for the pool, no job that waits can begin until one of them gives up.
//! Then one of them is told to withdraw.
//!
//! # Why no deadlock is missed, and none is seen where there is none
//!
//! The graph is under the roster's lock. A worker notes there that it parks, *then* notifies the
//! dispatcher, and *then* parks. The dispatcher looks at the graph when it has nothing else to do.
//! So after the last worker has noted that it parks, the dispatcher looks once more.
//!
//! A worker that was woken is about to go on, and so is one whose deadline has passed. Its parker
//! keeps the wake-up until the worker forgets it, in the step in which it notes that it is awake.
//! So the dispatcher sees either that the worker was woken, or that it is awake.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Instant;

use crate::job::id::WorkerId;
use crate::sync::Arc;
use crate::sync::park::{Parker, Wake};
use crate::sync::time;

/// The workers that block for their own pool.
#[derive(Default)]
pub(super) struct WaitGraph {
    blocked: BTreeMap<WorkerId, Wait>,
    /// Numbers the waits.
    waits: u64,
}

/// A worker that blocks for its own pool.
pub(super) struct Wait {
    parker: Arc<Parker>,
    /// When it gives up by itself.
    deadline: Option<Instant>,
    number: u64,
    /// Parked, or about to park.
    parked: bool,
    /// It is to withdraw.
    deadlocked: bool,
    /// It cannot withdraw: its job runs.
    pub(super) bound: bool,
}

impl WaitGraph {
    /// This worker is about to block, until [`unblock`](Self::unblock).
    pub(super) fn block(&mut self, id: WorkerId, parker: &Arc<Parker>, deadline: Option<Instant>) {
        self.waits += 1;
        let wait = Wait {
            parker: Arc::clone(parker),
            deadline,
            number: self.waits,
            parked: false,
            deadlocked: false,
            bound: false,
        };
        self.blocked.insert(id, wait);
    }

    pub(super) fn unblock(&mut self, id: WorkerId) {
        self.blocked.remove(&id);
    }

    pub(super) fn wait_of(&mut self, id: WorkerId) -> &mut Wait {
        self.blocked.get_mut(&id).expect("it blocks")
    }

    /// If all of the pool's `workers` are stuck, tells one to withdraw: the one with the earliest
    /// deadline, whose job cannot begin before that, or else the one that blocked last.
    pub(super) fn find_deadlock(&mut self, workers: usize) {
        if self.blocked.is_empty() || self.blocked.len() < workers {
            return;
        }
        let now = time::now();
        let stuck = self.blocked.values().all(|wait| wait.is_stuck(now));
        let free = self.blocked.values_mut().filter(|wait| !wait.bound);
        let first = free.min_by_key(|wait| {
            let forever = wait.deadline.is_none();
            (forever, wait.deadline, Reverse(wait.number))
        });
        if stuck && let Some(wait) = first {
            wait.deadlocked = true;
            wait.parker.wake();
        }
    }
}

impl Wait {
    /// It parks, and is not about to go on.
    fn is_stuck(&self, now: Instant) -> bool {
        self.parked && !self.parker.is_woken() && self.deadline.is_none_or(|at| now < at)
    }

    pub(super) fn start_park(&mut self) -> Arc<Parker> {
        self.parked = true;
        Arc::clone(&self.parker)
    }

    /// Both in one step: the worker is awake, and forgets the wake-up. Is it to withdraw?
    pub(super) fn end_park(&mut self) -> bool {
        self.parked = false;
        self.parker.forget_wake();
        std::mem::take(&mut self.deadlocked)
    }
}
