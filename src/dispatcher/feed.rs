//! The dispatcher's desk: the [`Policy`], and the moving of jobs from their channels to the workers.
//!
//! The dispatcher's thread works at it, and sleeps when there is nothing to do. To wake it for every
//! few jobs would take cores away from the workers: some 10 µs each time. So a worker that takes a job
//! and finds few left, while others wait, *stands in*: it moves the next ones itself.
//!
//! | | the dispatcher | a stand-in |
//! |---|---|---|
//! | moves jobs to the workers | yes | yes |
//! | answers those that were given up | at the desk | after it has left: what it drops may call back |
//! | everything else | yes | no |
//!
//! # Why no job is left lying
//!
//! Whoever changed the [bell](crate::pool::signal)'s mode from `SATED` to `AWAKE` has to see to it that the
//! jobs that wait are looked after. A stand-in takes the desk if it is free, and leaves it as the
//! dispatcher does: it sets the mode anew and *then* looks once more. In all other cases (the desk is
//! taken, the pool closes, that last look found something) it rings the dispatcher, which takes the
//! desk in its turn and looks at everything.

use std::time::Instant;

use crate::error::Reason;
use crate::hook::PoolState;
use crate::job::Priority;
use crate::job::id::WorkerId;
use crate::policy::dispatch::Fated;
use crate::policy::dispatch::{Action, Event};
use crate::policy::prefetch::is_low;
use crate::pool::Shared;
use crate::pool::dispatch_state::Desk;
use crate::pool::signal::Until;
use crate::stats::counters::Books;
use crate::sync::channel::Receiver;
use crate::sync::unwind as panics;
use crate::sync::{Ordering::SeqCst, fence};
use crate::task::Ticket;

/// Jobs taken out of the job channel before they are put where the workers take from.
const BATCH: usize = 256;

impl<P, O, E> Shared<P, O, E> {
    /// The calling worker found that few jobs are left and that the dispatcher sleeps, and changed the
    /// bell's mode.
    #[cold]
    pub(crate) fn stand_in(&self) {
        let Some(mut desk) = self.desk.try_lock() else {
            return self.bell.ring();
        };
        if desk.policy.is_closing() {
            return self.bell.ring();
        }
        desk.later = Some(Vec::new());
        desk.feed(self);
        let later = desk.later.take();
        if !desk.leave(self) {
            self.bell.ring();
        }
        drop(desk);
        for (ticket, reason) in later.into_iter().flatten() {
            answer(ticket, reason, &self.books);
        }
    }
}

/// How many jobs was it?
fn answer<P, O, E>(ticket: Ticket<P, O, E>, reason: Option<Reason>, books: &Books) -> usize {
    match reason {
        Some(reason) => ticket.refuse(reason, books),
        None => {
            ticket.forget(books);
            1
        }
    }
}

impl<P, O, E> Desk<P, O, E> {
    pub(crate) fn step(&mut self, event: Event<Ticket<P, O, E>>, now: Instant) {
        self.policy.step(event, now, &mut self.actions);
    }

    /// Has everything ended?
    pub(crate) fn is_over(&self, shared: &Shared<P, O, E>) -> bool {
        self.policy.is_over() && shared.gate.count() == 0
    }

    /// From now on somebody has to be called, when a job comes or when few are left. `false`: there
    /// is something to do after all.
    pub(crate) fn leave(&self, shared: &Shared<P, O, E>) -> bool {
        let empty = || shared.jobs.1.is_empty() && shared.low_jobs.1.is_empty();
        if self.policy.in_hand() > 0 || !empty() {
            let is_low = || is_low(shared.ready.released(), shared.ready.depth());
            shared.bell.leave(Until::LowWater, is_low)
        } else {
            shared.bell.leave(Until::Job, || !empty())
        }
    }

    /// Moves jobs on to the workers: when few are left there, or when all that wait have room, so
    /// that the way past the dispatcher opens again. Did any move?
    pub(crate) fn feed(&mut self, shared: &Shared<P, O, E>) -> bool {
        let waiting = shared.gate.count();
        let ready = shared.ready.released();
        let depth = self.policy.depth();
        let wanted = self.policy.is_closing() || is_low(ready, depth) || ready + waiting <= depth;
        if waiting == 0 || !wanted {
            return false;
        }
        let now = Instant::now();
        self.step(Event::Looked { ready }, now);
        let mut left = 0;
        // In parts, so that the first workers start early.
        loop {
            let more = self.take(shared, BATCH);
            self.step(Event::Dealt, now);
            left += self.act(shared);
            if !more {
                break;
            }
        }
        shared.gate.stop_moving(left);
        let waiting = shared.gate.count();
        self.step(Event::Fed { waiting }, now);
        left > 0
    }

    pub(crate) fn take_failed(&mut self, shared: &Shared<P, O, E>, now: Instant) -> bool {
        let mut any = false;
        for (ticket, at) in shared.retries.1.try_iter() {
            self.step(Event::Failed(ticket, at), now);
            any = true;
        }
        any
    }

    /// Takes jobs out of the job channels as the policy wants them, up to `most` of each. Were
    /// there any?
    fn take(&mut self, shared: &Shared<P, O, E>, most: usize) -> bool {
        let normal = self.policy.wants(Priority::Normal).min(most);
        let low = self.policy.wants(Priority::Low).min(most);
        // Not `|`: both are to be taken from.
        let any = self.take_from(&shared.jobs.1, normal);
        self.take_from(&shared.low_jobs.1, low) || any
    }

    pub(crate) fn take_all(&mut self, shared: &Shared<P, O, E>, now: Instant) {
        self.take_from(&shared.jobs.1, usize::MAX);
        self.take_from(&shared.low_jobs.1, usize::MAX);
        self.take_failed(shared, now);
    }

    fn take_from(&mut self, jobs: &Receiver<Ticket<P, O, E>>, most: usize) -> bool {
        let before = self.policy.in_hand();
        for ticket in jobs.try_iter().take(most) {
            self.policy.arrived(ticket);
        }
        self.policy.in_hand() > before
    }

    fn turn_away(
        &mut self,
        shared: &Shared<P, O, E>,
        ticket: Ticket<P, O, E>,
        reason: Option<Reason>,
    ) {
        if let Some(later) = &mut self.later {
            return later.push((ticket, reason));
        }
        let refused = answer(ticket, reason, &shared.books);
        if reason == Some(Reason::Closed) {
            self.refused += refused;
        }
    }

    /// Does what the policy decided outside of [`feed`](Self::feed).
    pub(crate) fn act_at_once(&mut self, shared: &Shared<P, O, E>) {
        let left = self.act(shared);
        shared.gate.stop_moving(left);
    }

    /// Does what the policy decided. How many of the waiting jobs went their way? The caller tells
    /// the gate when it has moved the last.
    fn act(&mut self, shared: &Shared<P, O, E>) -> usize {
        let mut actions = std::mem::take(&mut self.actions);
        let left = actions.iter().filter(|action| action.moves_a_job()).count();
        if left > 0 {
            // Before the jobs go: one that is begun takes no place in the queue.
            shared.gate.start_moving(left);
        }
        let mut released = 0;
        // Submitters on the short way may have filled the last places.
        let mut back = Vec::new();
        let mut again = Vec::new();
        shared.ready.set_depth(self.policy.depth());
        for action in actions.drain(..) {
            match action {
                // Once one finds no place, those after it must not overtake it.
                Action::Release(ticket) if !back.is_empty() => back.push(ticket),
                Action::Release(ticket) => match shared.ready.put(ticket) {
                    Ok(()) => released += 1,
                    Err(ticket) => back.push(ticket),
                },
                Action::Refuse(ticket, reason) => self.turn_away(shared, ticket, Some(reason)),
                Action::Forget(ticket) => self.turn_away(shared, ticket, None),
                Action::WaitAgain(ticket) => again.push(ticket),
                Action::GiveUp(ticket, reason) => self.give_up(shared, ticket, reason),
                Action::RefuseReleased => {
                    // First, so that a submitter on the short way looks after its job itself.
                    shared.ready.shut();
                    shared.gate.close();
                    fence(SeqCst);
                    self.refused += shared.refuse_released();
                }
                Action::DismissAll => shared.roster.dismiss_all(),
                Action::Reap(id) => reap(shared, id),
                Action::AnnounceDraining => {
                    let hooks = &shared.hooks;
                    hooks.each("pool_state", |hook| hook.pool_state(PoolState::Draining));
                }
            }
        }
        self.actions = actions;
        if !back.is_empty() {
            shared.gate.come_back(back.len());
            let now = Instant::now();
            for ticket in back.into_iter().rev() {
                self.step(Event::NoPlace(ticket), now);
            }
        }
        for ticket in again {
            self.wait_again(shared, ticket);
        }
        if released > 0 {
            fence(SeqCst);
            shared.crew.wake_one();
        }
        left
    }

    /// A job that was accepted before waits for a worker once more, whatever the queue's capacity.
    fn wait_again(&mut self, shared: &Shared<P, O, E>, mut ticket: Ticket<P, O, E>) {
        shared.gate.come_back(1);
        shared.books.backing_off.fetch_sub(1, SeqCst);
        ticket.begin_wait(&shared.books);
        if ticket.priority() == Priority::High {
            shared.ready.put_urgent(ticket);
            fence(SeqCst);
            shared.crew.wake_one();
        } else {
            self.step(Event::Arrived(ticket), Instant::now());
        }
    }

    /// A job gets no further try. It has no place in the queue.
    fn give_up(
        &mut self,
        shared: &Shared<P, O, E>,
        ticket: Ticket<P, O, E>,
        reason: Option<Reason>,
    ) {
        self.refused += usize::from(reason == Some(Reason::Closed));
        ticket.end_back_off(reason, &shared.books);
    }
}

fn reap<P, O, E>(shared: &Shared<P, O, E>, id: WorkerId) {
    let Some(leaver) = shared.roster.remove(id) else {
        return; // it was never made, and who wanted to add it has joined it
    };
    if let Err(panic) = leaver.thread.join() {
        log::error!("worker {id}: thread panicked: {}", panics::message(panic));
    }
    if leaver.is_counted {
        let hooks = &shared.hooks;
        hooks.each("worker_remove", |hook| hook.worker_remove(id));
    }
    // Not before: a hook may add a worker in its place.
    shared.worker_is_gone();
    log::debug!("worker {id} has left pool {:?}", shared.name());
}

#[cfg(test)]
mod tests {
    use crate::sync::channel::{bounded, unbounded};
    use crate::{Job, Manager};
    use std::time::Duration;

    /// Much more than a job needs to begin.
    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn a_worker_that_finds_the_desk_taken_calls_the_dispatcher() {
        let (go, gone) = bounded::<()>(0);
        let (begun, begins) = unbounded();
        let pool = Manager::<usize>::new();
        let worker = move |job: Job<usize>| {
            begun.send(job.into_payload()).expect("the test listens");
            let _ = gone.recv();
            Ok(())
        };
        pool.add(worker).expect("a worker");
        let (errors, _) = unbounded();
        for number in 0..10 {
            pool.detach_submit(number, 0, &errors).expect("room");
        }
        assert_eq!(begins.recv_timeout(LIMIT), Ok(0));
        let desk = pool.shared().desk.lock();
        // It takes the last that is released, and finds that more should follow.
        go.send(()).expect("the worker listens");
        assert_eq!(begins.recv_timeout(LIMIT), Ok(1));
        drop((desk, go));
        for number in 2..10 {
            assert_eq!(begins.recv_timeout(LIMIT), Ok(number));
        }
    }
}
