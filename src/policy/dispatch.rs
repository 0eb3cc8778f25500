//! The dispatcher's decisions, as a pure state machine: `step(state, event, now) → actions`. No
//! thread, lock or clock is in here, so that any sequence of events can be tried.
//!
//! ```text
//!          Drain                 Settled, or no worker is left
//!  SharedChunks ──────────▶ Draining ─────────────────────────────────▶ Closing
//!    └───────────────────────── Close ────────────────────────────▶
//! ```
//!
//! Jobs of normal and low priority pass through here, first in, first out within each. Low ones are
//! released only where workers would else go without, so that at most one per worker can stand
//! before a normal one; and after [`AGE`] normal ones that went ahead of a waiting low one, the low
//! one goes. Jobs that failed and are to be tried again wait here for their time. (Those of high priority go straight to the workers, who keep to the same rule.)

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use crate::error::RejectReason;
use crate::job::Priority;
use crate::job::id::WorkerId;
use crate::policy::prefetch::MAX_LIMIT;
use crate::policy::prefetch::Prefetch;

/// So many jobs go ahead of one of lower priority, and then it goes.
pub(crate) const AGE: u32 = 32;

/// Whether a job that has not begun still should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Ready,
    /// To be turned away for this reason.
    Expired(RejectReason),
    /// Its caller gave up and has its payload back: nothing is left to be answered.
    Withdrawn,
}

/// What the pure dispatcher core needs to know of a job.
pub(crate) trait Schedulable {
    fn priority(&self) -> Priority;
    fn status(&self) -> Status;
    /// When it is late.
    fn deadline(&self) -> Option<Instant>;
}

/// What the dispatcher is told.
#[derive(Debug)]
pub(crate) enum Event<J> {
    /// A job came out of its job channel.
    Arrived(J),
    /// A look at the workers' side: so many jobs are released and not taken.
    Observed { ready: usize },
    /// The jobs that it wanted have arrived, if there are any: now it releases.
    Release,
    /// A job that was to be released found no place: it goes first the next time.
    NoPlace(J),
    /// All that was released is where the workers take from, and so many jobs still wait.
    Released { waiting: usize },
    /// A worker's try failed, and the job is to be tried again from that moment on.
    Failed(J, Instant),
    /// It may be time for some of those.
    Tick,
    /// Callers gave up on some of the jobs that wait.
    Sweep,
    /// A worker's thread was started.
    Added(WorkerId),
    /// A worker's thread is at its end.
    Gone(WorkerId),
    /// The last worker is gone for good: turn away all that is in hand.
    Deserted,
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
    Reject(J, RejectReason),
    /// The job's caller has taken it back: drop what is left.
    Discard(J),
    /// It is time for the job's next try: it waits again, at the end of its queue.
    WaitAgain(J),
    /// The job waited for its next try, and gets none: turn it away, or, without a reason, forget it.
    GiveUp(J, Option<RejectReason>),
    /// Join the worker's thread and tell the hooks.
    Reap(WorkerId),
    /// Ask all workers to leave.
    StopAll,
    /// Turn away the jobs that were released and not taken.
    RejectReleased,
    /// Tell the hooks that the pool is draining.
    AnnounceDraining,
}

impl<J> Action<J> {
    /// Is one job less waiting after it?
    pub(crate) fn moves_a_job(&self) -> bool {
        matches!(
            self,
            Action::Release(_) | Action::Reject(..) | Action::Discard(_)
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    SharedChunks,
    Draining,
    Closing,
}

#[derive(Debug)]
pub(crate) struct Dispatch<J> {
    phase: Phase,
    /// Jobs taken from the job channels and not yet released, in order.
    normal: VecDeque<J>,
    low: VecDeque<J>,
    /// Jobs that wait for the time of their next try, in its order, and then in that in which they
    /// failed.
    backing_off: BTreeMap<(Instant, u64), J>,
    /// Numbers those.
    failures: u64,
    /// Normal jobs released since the oldest low one waits.
    ahead_of_low: u32,
    workers: BTreeSet<WorkerId>,
    prefetch: Prefetch,
    /// How many are released and not taken, as far as is known.
    ready: usize,
}

impl<J: Schedulable> Dispatch<J> {
    pub(crate) fn new() -> Self {
        Dispatch {
            phase: Phase::SharedChunks,
            normal: VecDeque::new(),
            low: VecDeque::new(),
            backing_off: BTreeMap::new(),
            failures: 0,
            ahead_of_low: 0,
            workers: BTreeSet::new(),
            prefetch: Prefetch::new(),
            ready: 0,
        }
    }

    pub(crate) fn step(&mut self, event: Event<J>, now: Instant, actions: &mut Vec<Action<J>>) {
        match event {
            Event::Arrived(job) => self.arrived(job),
            Event::Observed { ready } => {
                self.prefetch.look(ready, now);
                self.ready = ready;
            }
            Event::NoPlace(job) => {
                self.ready -= 1;
                match job.priority() {
                    Priority::Low => self.low.push_front(job),
                    Priority::Normal | Priority::High => self.normal.push_front(job),
                }
            }
            Event::Release => self.move_on(actions),
            Event::Released { waiting } => self.prefetch.fed(self.ready, waiting),
            Event::Failed(job, at) => {
                self.failures += 1;
                self.backing_off.insert((at, self.failures), job);
                if self.phase == Phase::Closing {
                    self.give_up_retries(actions);
                }
            }
            Event::Tick => self.tick(now, actions),
            Event::Sweep => self.sweep(actions),
            Event::Added(worker) => {
                self.workers.insert(worker);
                self.prefetch.set_workers(self.workers.len());
            }
            Event::Gone(worker) => {
                if self.workers.remove(&worker) {
                    self.prefetch.set_workers(self.workers.len());
                    actions.push(Action::Reap(worker));
                }
                if self.phase == Phase::Closing {
                    // What it had taken and not begun came back; nobody else will take it.
                    actions.push(Action::RejectReleased);
                }
                self.close_if_nobody_is_left(actions);
            }
            Event::Deserted => self.turn_away(RejectReason::NoWorkers, actions),
            Event::Drain => {
                self.drain(actions);
                self.close_if_nobody_is_left(actions);
            }
            Event::Settled => {
                let rest = self.in_hand() == 0 && self.backing_off.is_empty();
                if self.phase == Phase::Draining && rest {
                    self.close(actions);
                }
            }
            Event::Close => self.close(actions),
        }
    }

    /// [`Event::Arrived`], for the many of them: without moving the job once more.
    #[inline]
    pub(crate) fn arrived(&mut self, job: J) {
        match job.priority() {
            Priority::Low => self.low.push_back(job),
            Priority::Normal | Priority::High => self.normal.push_back(job),
        }
    }

    /// How many more jobs of this priority it wants to have in hand: what it would release at
    /// once, and one low job, so that it knows whether any waits.
    pub(crate) fn wants(&self, priority: Priority) -> usize {
        let (hand, room) = match priority {
            _ if self.phase == Phase::Closing => return usize::MAX,
            Priority::Low => (&self.low, self.low_room().max(1)),
            Priority::Normal | Priority::High => (&self.normal, self.room()),
        };
        room.saturating_sub(hand.len())
    }

    /// How many more jobs the workers' side takes.
    fn room(&self) -> usize {
        self.prefetch.limit().saturating_sub(self.ready)
    }

    /// How many more low jobs it takes: one per worker.
    fn low_room(&self) -> usize {
        self.workers.len().min(MAX_LIMIT).saturating_sub(self.ready)
    }

    /// The depth that the ready channel shall have.
    pub(crate) fn limit(&self) -> usize {
        if self.normal.is_empty() && !self.low.is_empty() {
            self.workers.len().min(MAX_LIMIT)
        } else {
            self.prefetch.limit()
        }
    }

    /// Jobs in hand.
    pub(crate) fn in_hand(&self) -> usize {
        self.normal.len() + self.low.len()
    }

    /// When it is time for the next try of a job that failed.
    pub(crate) fn next_try(&self) -> Option<Instant> {
        let first = self.backing_off.first_key_value();
        first.map(|((at, _), _)| *at)
    }

    /// When the next of all that wait here is late.
    pub(crate) fn earliest_deadline(&self) -> Option<Instant> {
        let hand = self.normal.iter().chain(&self.low);
        let all = hand.chain(self.backing_off.values());
        all.filter_map(Schedulable::deadline).min()
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
        self.phase == Phase::Closing && self.workers.is_empty() && self.in_hand() == 0
    }

    /// Releases what there is room for; while closing, turns everything away.
    fn move_on(&mut self, actions: &mut Vec<Action<J>>) {
        if self.phase == Phase::Closing {
            return self.turn_away(RejectReason::Closed, actions);
        }
        while let Some(job) = self.pick() {
            actions.push(match job.status() {
                Status::Withdrawn => Action::Discard(job),
                Status::Expired(reason) => Action::Reject(job, reason),
                Status::Ready => {
                    self.ready += 1;
                    if job.priority() == Priority::Low {
                        self.ahead_of_low = 0;
                    }
                    Action::Release(job)
                }
            });
        }
    }

    /// Turns away all that is in hand.
    fn turn_away(&mut self, reason: RejectReason, actions: &mut Vec<Action<J>>) {
        for job in self.normal.drain(..).chain(self.low.drain(..)) {
            actions.push(match job.status() {
                Status::Withdrawn => Action::Discard(job),
                Status::Expired(its_own) => Action::Reject(job, its_own),
                Status::Ready => Action::Reject(job, reason),
            });
        }
        self.ahead_of_low = 0;
    }

    /// The next job to go, if there is room for it.
    fn pick(&mut self) -> Option<J> {
        let aged = self.ahead_of_low >= AGE && self.room() > 0;
        if !self.low.is_empty() && (aged || (self.normal.is_empty() && self.low_room() > 0)) {
            return self.low.pop_front();
        }
        if self.room() == 0 {
            return None;
        }
        let job = self.normal.pop_front()?;
        self.ahead_of_low = if self.low.is_empty() {
            0
        } else {
            self.ahead_of_low + 1
        };
        Some(job)
    }

    /// Those whose time has come wait again.
    fn tick(&mut self, now: Instant, actions: &mut Vec<Action<J>>) {
        while let Some(first) = self.backing_off.first_entry()
            && first.key().0 <= now
        {
            let job = first.remove();
            actions.push(match job.status() {
                Status::Ready => Action::WaitAgain(job),
                Status::Expired(reason) => Action::GiveUp(job, Some(reason)),
                Status::Withdrawn => Action::GiveUp(job, None),
            });
        }
    }

    /// There are no further tries.
    fn give_up_retries(&mut self, actions: &mut Vec<Action<J>>) {
        for job in std::mem::take(&mut self.backing_off).into_values() {
            let reason = match job.status() {
                Status::Ready => Some(RejectReason::Closed),
                Status::Expired(reason) => Some(reason),
                Status::Withdrawn => None,
            };
            actions.push(Action::GiveUp(job, reason));
        }
    }

    fn sweep(&mut self, actions: &mut Vec<Action<J>>) {
        for hand in [&mut self.normal, &mut self.low] {
            for job in std::mem::take(hand) {
                match job.status() {
                    Status::Ready => hand.push_back(job),
                    Status::Withdrawn => actions.push(Action::Discard(job)),
                    Status::Expired(reason) => actions.push(Action::Reject(job, reason)),
                }
            }
        }
        for (turn, job) in std::mem::take(&mut self.backing_off) {
            match job.status() {
                Status::Ready => drop(self.backing_off.insert(turn, job)),
                Status::Withdrawn => actions.push(Action::GiveUp(job, None)),
                Status::Expired(reason) => actions.push(Action::GiveUp(job, Some(reason))),
            }
        }
    }

    fn drain(&mut self, actions: &mut Vec<Action<J>>) {
        if self.phase == Phase::SharedChunks {
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
        self.give_up_retries(actions);
        actions.push(Action::RejectReleased);
        actions.push(Action::StopAll);
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
