//! The dispatcher's decisions, as a pure state machine: `step(event, now) → actions`. It has no
//! thread, lock or clock, so that any sequence of events can be tested.
//!
//! ```text
//!         Drain                  Settled, or no worker is left
//!  Open ──────────▶ Draining ─────────────────────────────────▶ Closing
//!    └──────────────────────────── Close ─────────────────────────▶
//! ```
//!
//! Jobs of normal and low priority pass through here, first in, first out within each. Low jobs are
//! released only to workers that would otherwise have none, so that at most one per worker can be
//! ahead of a normal job. After [`AGE`] normal jobs have gone ahead of a waiting low one, the low
//! one goes. Failed jobs wait here until it is time for their next attempt. (Jobs of high priority
//! go straight to the workers, which follow the same rule.)

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use crate::error::RejectReason;
use crate::job::Priority;
use crate::policy::prefetch::{MAX_LIMIT, Prefetch};

/// How many jobs go ahead of one of lower priority before it goes.
pub(crate) const AGE: u32 = 32;

/// Whether a job that has not begun may still begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Ready,
    /// To be rejected for this reason.
    Expired(RejectReason),
    /// Its caller gave up and has its payload back: no answer is left to give.
    Withdrawn,
}

/// What the state machine needs to know of a job.
pub(crate) trait Schedulable {
    fn priority(&self) -> Priority;
    fn status(&self) -> Status;
    fn deadline(&self) -> Option<Instant>;
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Event<J> {
    /// A job was taken out of its job channel.
    Arrived(J),
    /// This many jobs are released and not taken.
    Observed { ready: usize },
    /// The jobs that it wanted have arrived, if there are any. It releases jobs now.
    Release,
    /// A job that was to be released found no place. It goes first the next time.
    NoPlace(J),
    /// All that was released is where the workers take from, and `waiting` jobs still wait.
    Released { waiting: usize },
    /// An attempt failed, and the job gets another one at that time.
    Failed(J, Instant),
    /// It may be time for some of those attempts.
    Tick,
    /// Some of the waiting jobs may be dead: callers gave up on them, or they are late.
    Sweep,
    /// Workers came or went: this many are there now.
    Workers(usize),
    /// The last worker is gone for good: the jobs held here are to be rejected.
    NoWorkers,
    /// No new jobs; run those accepted.
    Drain,
    /// No job waits, none is released, and every worker sleeps.
    Settled,
    /// No new jobs; reject those that have not begun.
    Close,
}

/// What the dispatcher is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action<J> {
    /// Put the job where the workers take from.
    Release(J),
    /// Reject the job.
    Reject(J, RejectReason),
    /// The job's caller has taken it back: drop what is left.
    Discard(J),
    /// It is time for the job's next attempt: it waits again, at the end of its queue.
    WaitAgain(J),
    /// The job waited for its next attempt, and gets none: reject it or, without a reason, discard
    /// it.
    GiveUp(J, Option<RejectReason>),
    /// Ask all workers to leave.
    StopAll,
    /// Reject the jobs that were released and not taken.
    RejectReleased,
    /// Tell the hooks that the pool is draining.
    AnnounceDraining,
}

impl<J> Action<J> {
    /// Does one job less wait after it?
    pub(crate) fn moves_a_job(&self) -> bool {
        matches!(
            self,
            Action::Release(_) | Action::Reject(..) | Action::Discard(_)
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    Draining,
    Closing,
}

#[derive(Debug)]
pub(crate) struct Dispatch<J> {
    phase: Phase,
    /// Jobs taken from the job channels and not yet released, in order.
    normal: VecDeque<J>,
    low: VecDeque<J>,
    /// Jobs that wait for their next attempt, ordered by its time, and then by when they failed.
    backing_off: BTreeMap<(Instant, u64), J>,
    /// Numbers the failures.
    failures: u64,
    /// How many normal jobs went ahead of the oldest waiting low one.
    ahead_of_low: u32,
    workers: usize,
    prefetch: Prefetch,
    /// How many jobs are released and not taken, as far as is known.
    ready: usize,
}

impl<J: Schedulable> Dispatch<J> {
    pub(crate) fn new() -> Self {
        Dispatch {
            phase: Phase::Open,
            normal: VecDeque::new(),
            low: VecDeque::new(),
            backing_off: BTreeMap::new(),
            failures: 0,
            ahead_of_low: 0,
            workers: 0,
            prefetch: Prefetch::new(),
            ready: 0,
        }
    }

    pub(crate) fn step(&mut self, event: Event<J>, now: Instant, actions: &mut Vec<Action<J>>) {
        match event {
            Event::Arrived(job) => self.arrived(job),
            Event::Observed { ready } => {
                self.prefetch.observed(ready, now);
                self.ready = ready;
            }
            Event::NoPlace(job) => {
                self.ready -= 1;
                match job.priority() {
                    Priority::Low => self.low.push_front(job),
                    Priority::Normal | Priority::High => self.normal.push_front(job),
                }
            }
            Event::Release => self.release(actions),
            Event::Released { waiting } => self.prefetch.released(self.ready, waiting),
            Event::Failed(job, at) => {
                self.failures += 1;
                self.backing_off.insert((at, self.failures), job);
                if self.phase == Phase::Closing {
                    self.give_up_retries(actions);
                }
            }
            Event::Tick => self.tick(now, actions),
            Event::Sweep => self.sweep(actions),
            Event::Workers(workers) => {
                self.workers = workers;
                self.prefetch.set_workers(workers);
                if self.phase == Phase::Closing {
                    // One that left gave back what was left of its chunk, and no other takes that.
                    actions.push(Action::RejectReleased);
                }
                self.close_if_no_worker_is_left(actions);
            }
            Event::NoWorkers => self.reject_all(RejectReason::NoWorkers, actions),
            Event::Drain => {
                self.drain(actions);
                self.close_if_no_worker_is_left(actions);
            }
            Event::Settled => {
                let at_rest = self.held() == 0 && self.backing_off.is_empty();
                if self.phase == Phase::Draining && at_rest {
                    self.close(actions);
                }
            }
            Event::Close => self.close(actions),
        }
    }

    /// The same as [`Event::Arrived`], which is frequent, without moving the job once more.
    #[inline]
    pub(crate) fn arrived(&mut self, job: J) {
        match job.priority() {
            Priority::Low => self.low.push_back(job),
            Priority::Normal | Priority::High => self.normal.push_back(job),
        }
    }

    /// How many more jobs of this priority it wants to hold: those that it would release at once,
    /// and at least one low job, so that it knows whether any waits.
    pub(crate) fn wants(&self, priority: Priority) -> usize {
        let (queue, room) = match priority {
            _ if self.phase == Phase::Closing => return usize::MAX,
            Priority::Low => (&self.low, self.low_room().max(1)),
            Priority::Normal | Priority::High => (&self.normal, self.room()),
        };
        room.saturating_sub(queue.len())
    }

    /// For how many more released jobs there is room.
    fn room(&self) -> usize {
        self.prefetch.limit().saturating_sub(self.ready)
    }

    /// The same for low jobs: one job per worker.
    fn low_room(&self) -> usize {
        self.workers.min(MAX_LIMIT).saturating_sub(self.ready)
    }

    /// How many jobs to have released at a time.
    pub(crate) fn limit(&self) -> usize {
        if self.normal.is_empty() && !self.low.is_empty() {
            self.workers.min(MAX_LIMIT)
        } else {
            self.prefetch.limit()
        }
    }

    /// How many jobs are held here and may be released.
    pub(crate) fn held(&self) -> usize {
        self.normal.len() + self.low.len()
    }

    /// When it is time for the next attempt of a job that failed.
    pub(crate) fn next_attempt(&self) -> Option<Instant> {
        let first = self.backing_off.first_key_value();
        first.map(|((at, _), _)| *at)
    }

    /// The earliest deadline of all jobs that wait here.
    pub(crate) fn earliest_deadline(&self) -> Option<Instant> {
        let held = self.normal.iter().chain(&self.low);
        let all = held.chain(self.backing_off.values());
        all.filter_map(Schedulable::deadline).min()
    }

    /// Does it wait for the accepted jobs to end?
    pub(crate) fn is_draining(&self) -> bool {
        self.phase == Phase::Draining
    }

    /// Are jobs that have not begun rejected?
    pub(crate) fn is_closing(&self) -> bool {
        self.phase == Phase::Closing
    }

    /// Is nothing left to do?
    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Closing && self.workers == 0 && self.held() == 0
    }

    /// Releases the jobs for which there is room. While closing, rejects all instead.
    fn release(&mut self, actions: &mut Vec<Action<J>>) {
        if self.phase == Phase::Closing {
            return self.reject_all(RejectReason::Closed, actions);
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

    /// Rejects all jobs held here, except those that wait for their next attempt.
    fn reject_all(&mut self, reason: RejectReason, actions: &mut Vec<Action<J>>) {
        for job in self.normal.drain(..).chain(self.low.drain(..)) {
            actions.push(match job.status() {
                Status::Withdrawn => Action::Discard(job),
                Status::Expired(own_reason) => Action::Reject(job, own_reason),
                Status::Ready => Action::Reject(job, reason),
            });
        }
        self.ahead_of_low = 0;
    }

    /// The next job to be released, if there is room for it.
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

    /// Jobs for whose next attempt it is time wait again.
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

    /// No job gets another attempt.
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

    /// Takes out the dead jobs.
    fn sweep(&mut self, actions: &mut Vec<Action<J>>) {
        for queue in [&mut self.normal, &mut self.low] {
            for job in std::mem::take(queue) {
                match job.status() {
                    Status::Ready => queue.push_back(job),
                    Status::Withdrawn => actions.push(Action::Discard(job)),
                    Status::Expired(reason) => actions.push(Action::Reject(job, reason)),
                }
            }
        }
        for (key, job) in std::mem::take(&mut self.backing_off) {
            match job.status() {
                Status::Ready => drop(self.backing_off.insert(key, job)),
                Status::Withdrawn => actions.push(Action::GiveUp(job, None)),
                Status::Expired(reason) => actions.push(Action::GiveUp(job, Some(reason))),
            }
        }
    }

    fn drain(&mut self, actions: &mut Vec<Action<J>>) {
        if self.phase == Phase::Open {
            self.phase = Phase::Draining;
            actions.push(Action::AnnounceDraining);
        }
    }

    /// A draining pool takes no new workers. Without any worker, its jobs would wait for ever.
    fn close_if_no_worker_is_left(&mut self, actions: &mut Vec<Action<J>>) {
        if self.phase == Phase::Draining && self.workers == 0 {
            self.close(actions);
        }
    }

    fn close(&mut self, actions: &mut Vec<Action<J>>) {
        if self.phase == Phase::Closing {
            return;
        }
        self.drain(actions);
        self.phase = Phase::Closing;
        self.release(actions);
        self.give_up_retries(actions);
        actions.push(Action::RejectReleased);
        actions.push(Action::StopAll);
    }
}

#[cfg(test)]
#[path = "dispatch_model.rs"]
mod model;

#[cfg(test)]
#[path = "dispatch_tests.rs"]
mod tests;
