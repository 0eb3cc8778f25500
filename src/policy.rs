//! The dispatcher's decisions, as a pure state machine: `step(state, event, now) → actions`. No
//! thread, lock or clock is in here, so that any sequence of events can be tried.
//!
//! ```text
//!          Drain                 Settled, or no worker is left
//!  Open ──────────▶ Draining ─────────────────────────────────▶ Closing
//!    └───────────────────────── Close ────────────────────────────▶
//! ```

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use crate::error::Reason;
use crate::pace::Pace;
use crate::ticket::{Fate, Fated};
use crate::worker::WorkerId;

/// What the dispatcher is told.
#[derive(Debug)]
pub(crate) enum Event<J> {
    /// A job came out of the job channel.
    Arrived(J),
    /// A look at the workers' side: so many jobs are released and not taken, so many were ever
    /// taken.
    Looked { ready: usize, taken: u64 },
    /// Callers gave up on some of the jobs that wait.
    Sweep,
    /// A worker's thread was started.
    Added(WorkerId),
    /// A worker's thread is at its end.
    Gone(WorkerId),
    /// No new jobs; run those accepted.
    Drain,
    /// Nothing waits, nothing is released, and every worker is asleep.
    Settled,
    /// No new jobs; answer those that have not begun.
    Close,
}

/// What the dispatcher shall do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action<J> {
    /// Put the job where the workers take from.
    Release(J),
    /// Turn the job away.
    Refuse(J, Reason),
    /// The job's caller has taken it back: drop what is left.
    Forget(J),
    /// Join the worker's thread and tell the hooks.
    Reap(WorkerId),
    /// Ask all workers to leave.
    DismissAll,
    /// Turn away the jobs that were released and not taken.
    RefuseReleased,
    /// Tell the hooks that the pool is draining.
    AnnounceDraining,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    Draining,
    Closing,
}

#[derive(Debug)]
pub(crate) struct Policy<J> {
    phase: Phase,
    /// Jobs taken from the job channel and not yet released, in order.
    hand: VecDeque<J>,
    workers: BTreeSet<WorkerId>,
    pace: Pace,
    /// How many more jobs the workers' side takes.
    room: usize,
}

impl<J: Fated> Policy<J> {
    pub(crate) fn new(now: Instant) -> Self {
        Policy {
            phase: Phase::Open,
            hand: VecDeque::new(),
            workers: BTreeSet::new(),
            pace: Pace::new(now),
            room: 0,
        }
    }

    pub(crate) fn step(&mut self, event: Event<J>, now: Instant, actions: &mut Vec<Action<J>>) {
        match event {
            Event::Arrived(job) => {
                self.hand.push_back(job);
                self.move_on(actions);
            }
            Event::Looked { ready, taken } => {
                self.pace.look(ready, taken, now);
                self.room = self.pace.depth().saturating_sub(ready);
                self.move_on(actions);
            }
            Event::Sweep => self.sweep(actions),
            Event::Added(worker) => {
                self.workers.insert(worker);
                self.pace.set_workers(self.workers.len());
                if self.phase == Phase::Closing {
                    actions.push(Action::DismissAll);
                }
            }
            Event::Gone(worker) => {
                if self.workers.remove(&worker) {
                    self.pace.set_workers(self.workers.len());
                    actions.push(Action::Reap(worker));
                }
                if self.phase == Phase::Closing {
                    // What it had taken and not begun came back; nobody else will take it.
                    actions.push(Action::RefuseReleased);
                }
                self.close_if_nobody_is_left(actions);
            }
            Event::Drain => {
                self.drain(actions);
                self.close_if_nobody_is_left(actions);
            }
            Event::Settled => {
                if self.phase == Phase::Draining && self.hand.is_empty() {
                    self.close(actions);
                }
            }
            Event::Close => self.close(actions),
        }
    }

    /// How many jobs it would release at once.
    pub(crate) fn appetite(&self) -> usize {
        match self.phase {
            Phase::Closing => usize::MAX,
            _ if self.hand.is_empty() => self.room,
            _ => 0,
        }
    }

    /// The depth that the ready channel shall have.
    pub(crate) fn depth(&self) -> usize {
        self.pace.depth()
    }

    /// Jobs in hand.
    pub(crate) fn in_hand(&self) -> usize {
        self.hand.len()
    }

    /// Does it wait for the workers to come to rest?
    pub(crate) fn is_draining(&self) -> bool {
        self.phase == Phase::Draining
    }

    /// Are jobs turned away that have not begun?
    pub(crate) fn is_closing(&self) -> bool {
        self.phase == Phase::Closing
    }

    /// Is nothing left to be done?
    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Closing && self.workers.is_empty() && self.hand.is_empty()
    }

    /// Releases from the hand what there is room for; while closing, turns everything away.
    fn move_on(&mut self, actions: &mut Vec<Action<J>>) {
        let closing = self.phase == Phase::Closing;
        while closing || self.room > 0 {
            let Some(job) = self.hand.pop_front() else {
                return;
            };
            actions.push(match job.fate() {
                Fate::Gone => Action::Forget(job),
                Fate::Dead(reason) => Action::Refuse(job, reason),
                Fate::Live if closing => Action::Refuse(job, Reason::Closed),
                Fate::Live => {
                    self.room -= 1;
                    Action::Release(job)
                }
            });
        }
    }

    fn sweep(&mut self, actions: &mut Vec<Action<J>>) {
        for job in std::mem::take(&mut self.hand) {
            match job.fate() {
                Fate::Live => self.hand.push_back(job),
                Fate::Gone => actions.push(Action::Forget(job)),
                Fate::Dead(reason) => actions.push(Action::Refuse(job, reason)),
            }
        }
    }

    fn drain(&mut self, actions: &mut Vec<Action<J>>) {
        if self.phase == Phase::Open {
            self.phase = Phase::Draining;
            actions.push(Action::AnnounceDraining);
        }
    }

    /// A draining pool takes no new workers: without any, its jobs would wait for ever.
    fn close_if_nobody_is_left(&mut self, actions: &mut Vec<Action<J>>) {
        if self.phase == Phase::Draining && self.workers.is_empty() {
            self.close(actions);
        }
    }

    fn close(&mut self, actions: &mut Vec<Action<J>>) {
        if self.phase == Phase::Closing {
            return;
        }
        self.drain(actions);
        self.phase = Phase::Closing;
        self.move_on(actions);
        actions.push(Action::RefuseReleased);
        actions.push(Action::DismissAll);
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
