//! The dispatcher's thread: a thin shell that tells the [`Policy`](crate::policy::dispatch::Policy) what happens.
//! What that decides is done at the [desk](crate::dispatcher::feed).

pub(crate) mod autoscale;
pub(crate) mod feed;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::dispatcher::autoscale::Stretch;
use crate::error::Reason;
use crate::hook::PoolState;
use crate::job::cancel::earliest;
use crate::policy::dispatch::Event;
use crate::policy::dispatch::{Fate, Fated};
use crate::pool::dispatch_state::Desk;
use crate::pool::roster::current::{self as context, Place};
use crate::pool::{Command, Shared};
use crate::sync::channel::{Receiver, Sender};
use crate::sync::unwind as panics;
use crate::sync::{Arc, MutexGuard, Ordering::SeqCst, fence};

pub(crate) struct Dispatcher<P, O, E> {
    shared: Arc<Shared<P, O, E>>,
    commands: Receiver<Command>,
    /// They want to know how many jobs were turned away.
    closers: Vec<Sender<usize>>,
    stretch: Stretch,
}

/// Dropped by the dispatcher's thread as its very last act: those who wait for the pool's end see
/// their channel disconnected.
pub(crate) type End = Sender<std::convert::Infallible>;

/// The dispatcher's thread.
pub(crate) fn run<P, O, E>(shared: Arc<Shared<P, O, E>>, commands: Receiver<Command>, end: End) {
    context::enter_for_good(shared.key(), Place::Dispatcher);
    let work = AssertUnwindSafe(|| {
        let dispatcher = Dispatcher {
            shared: Arc::clone(&shared),
            commands,
            closers: Vec::new(),
            stretch: Stretch::new(&shared),
        };
        dispatcher.run();
    });
    if let Err(panic) = catch_unwind(work) {
        // A bug in the pool itself. Whoever waits shall not wait for ever.
        log::error!("the dispatcher panicked: {}", panics::message(panic));
        shared.roster.close();
        shared.ready.shut();
        shared.gate.stop();
        shared.closing.cancel();
        shared.roster.dismiss_all();
        for ticket in shared.jobs.1.try_iter().chain(shared.low_jobs.1.try_iter()) {
            ticket.refuse(Reason::Closed, &shared.books);
        }
        for (ticket, _) in shared.retries.1.try_iter() {
            ticket.end_back_off(Some(Reason::Closed), &shared.books);
        }
        shared.refuse_released();
        *shared.desk.lock() = Desk::new(); // a job that was in hand is answered as it is dropped
    }
    log::debug!("pool {:?} is closed", shared.name());
    shared
        .hooks
        .each("pool_state", |hook| hook.pool_state(PoolState::Closed));
    drop(shared);
    drop(end);
}

impl<P, O, E> Dispatcher<P, O, E> {
    fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            // Nobody else takes the desk for long.
            let mut desk = shared.desk.lock();
            shared.bell.wake_up();
            while !desk.is_over(&shared) && self.turn(&mut desk) {}
            if desk.is_over(&shared) {
                break;
            }
            self.sleep(desk);
        }
        // From here on, a submitter that slipped in looks after its job itself.
        shared.gate.stop();
        fence(SeqCst);
        shared.refuse_released();
    }

    /// Does what there is to do. Was there anything?
    fn turn(&mut self, desk: &mut Desk<P, O, E>) -> bool {
        let mut busy = self.obey(desk);
        self.stretch.turn(&self.shared, busy);
        if self.shared.bell.take_sweep() {
            self.sweep(desk);
            busy = true;
        }
        busy |= self.turn_away_abandoned(desk);
        busy |= self.take_retries(desk);
        busy |= desk.feed(&self.shared);
        busy || self.settle(desk)
    }

    /// Takes the commands that have come. Were there any?
    fn obey(&mut self, desk: &mut Desk<P, O, E>) -> bool {
        let mut any = false;
        while let Ok(command) = self.commands.try_recv() {
            any = true;
            let now = Instant::now();
            match command {
                Command::Added(id) => desk.step(Event::Added(id), now),
                Command::Gone(id) => desk.step(Event::Gone(id), now),
                Command::Look => {}
                Command::Drain => desk.step(Event::Drain, now),
                Command::Close(told) => {
                    desk.step(Event::Close, now);
                    desk.take_all(&self.shared, now);
                    desk.step(Event::Dealt, now);
                    self.closers.extend(told);
                }
            }
            desk.act_at_once(&self.shared);
        }
        for told in self.closers.drain(..) {
            let _ = told.send(desk.refused);
        }
        any
    }

    /// Takes the jobs that failed and are to be tried again, and lets those wait whose time has
    /// come. Were there any?
    fn take_retries(&self, desk: &mut Desk<P, O, E>) -> bool {
        if self.shared.retries.1.is_empty() && desk.policy.next_try().is_none() {
            return false;
        }
        let now = Instant::now();
        let failed = desk.take_failed(&self.shared, now);
        let due = desk.policy.next_try().is_some_and(|at| at <= now);
        if due {
            // All that came before them: they go to the end.
            desk.take_all(&self.shared, now);
            desk.step(Event::Tick, now);
        }
        desk.act_at_once(&self.shared);
        failed || due
    }

    /// Takes all waiting jobs in hand and drops the dead among them.
    fn sweep(&self, desk: &mut Desk<P, O, E>) {
        let now = Instant::now();
        desk.take_all(&self.shared, now);
        desk.step(Event::Sweep, now);
        desk.act_at_once(&self.shared);
        let urgent = self.sweep_urgent();
        if let Some(at) = earliest(desk.policy.earliest_deadline(), urgent) {
            self.shared.bell.set_alarm(at);
        }
    }

    /// The same for the urgent ones, which wait where the workers are. When is the next one late?
    fn sweep_urgent(&self) -> Option<Instant> {
        let shared = &self.shared;
        let mut next = None;
        let dead = shared.ready.sweep_urgent(|ticket| {
            let is_dead = ticket.fate() != Fate::Live;
            if !is_dead {
                next = earliest(next, ticket.deadline());
            }
            is_dead
        });
        for ticket in dead {
            // First, so that who hears of its end finds its place free.
            shared.gate.leave(1);
            match ticket.fate() {
                Fate::Dead(reason) => {
                    ticket.refuse(reason, &shared.books);
                }
                Fate::Gone | Fate::Live => ticket.forget(&shared.books),
            }
        }
        next
    }

    /// If the last worker is gone, and the pool shall not keep what nobody runs: answers what waits,
    /// also what comes late from submitters that found the gate open. Was there anything?
    fn turn_away_abandoned(&self, desk: &mut Desk<P, O, E>) -> bool {
        let shared = &self.shared;
        let waits = || shared.gate.count() > 0 || shared.ready.len() > 0;
        if !(shared.gate.is_deserted() && waits()) {
            return false;
        }
        let abandoned = shared.abandoned();
        if !abandoned.is_deserted {
            return false;
        }
        let any = abandoned.waiting.len() + abandoned.released.len() + desk.policy.in_hand() > 0;
        let now = Instant::now();
        for ticket in abandoned.waiting {
            desk.step(Event::Arrived(ticket), now);
        }
        desk.step(Event::Deserted, now);
        desk.act_at_once(&self.shared);
        for taken in abandoned.released {
            taken.job.refuse(Reason::NoWorkers, &shared.books);
            if taken.waited {
                shared.gate.leave(1);
            }
        }
        any
    }

    /// While draining: is everything at rest, so that the workers can be sent home?
    fn settle(&self, desk: &mut Desk<P, O, E>) -> bool {
        let shared = &self.shared;
        let settled = desk.policy.is_draining()
            && shared.gate.count() == 0
            && shared.ready.len() == 0
            && shared
                .roster
                .all_serving()
                .is_some_and(|all| shared.crew.sleeping_quietly() == Some(all))
            && shared.ready.len() == 0
            // A worker whose job is to be tried again says so before it lies down.
            && shared.retries.1.is_empty()
            && desk.policy.next_try().is_none();
        if settled {
            // Workers take nothing any more, so what slips in late is turned away, not lost.
            desk.step(Event::Settled, Instant::now());
            desk.act_at_once(&self.shared);
        }
        settled
    }

    /// Leaves the desk, and sleeps if there is nothing to do.
    fn sleep(&self, desk: MutexGuard<'_, Desk<P, O, E>>) {
        let shared = &self.shared;
        if !self.stretch.can_grow() {
            shared.roster.judge(); // else another worker may come
        }
        let at = earliest(desk.policy.next_try(), self.stretch.next_look());
        let nothing = desk.leave(shared);
        drop(desk);
        if nothing {
            shared.bell.sleep(at);
        }
    }
}
