//! The dispatcher's thread: a thin shell that feeds the [`Policy`] with what happens and does what it
//! decides.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::bell::Until;
use crate::cancel::earliest;
use crate::context::{self, Place};
use crate::error::Reason;
use crate::hook::PoolState;
use crate::job::Priority;
use crate::panics;
use crate::policy::{Action, Event, Policy};
use crate::shared::{Command, Shared};
use crate::stretch::Stretch;
use crate::sync::channel::{Receiver, Sender};
use crate::sync::{Arc, Ordering::SeqCst, fence};
use crate::ticket::{Fate, Fated, Ticket};
use crate::worker::WorkerId;

/// Jobs taken out of the job channel before they are put where the workers take from.
const BATCH: usize = 256;

pub(crate) struct Dispatcher<P, O, E> {
    shared: Arc<Shared<P, O, E>>,
    commands: Receiver<Command>,
    policy: Policy<Ticket<P, O, E>>,
    /// Kept between rounds for its memory.
    actions: Vec<Action<Ticket<P, O, E>>>,
    /// Jobs turned away since the pool began to close, and who wants to know.
    refused: usize,
    closers: Vec<Sender<usize>>,
    stretch: Stretch,
}

/// From this depth on the released jobs are many.
pub(crate) const MANY: usize = 64;

/// Dropped by the dispatcher's thread as its very last act: those who wait for the pool's end see
/// their channel disconnected.
pub(crate) type End = Sender<std::convert::Infallible>;

/// The dispatcher's thread.
pub(crate) fn run<P, O, E>(shared: Arc<Shared<P, O, E>>, commands: Receiver<Command>, end: End) {
    context::enter_for_good(shared.key(), Place::Dispatcher);
    let work = AssertUnwindSafe(|| {
        let dispatcher = Dispatcher {
            policy: Policy::new(),
            shared: Arc::clone(&shared),
            commands,
            actions: Vec::new(),
            refused: 0,
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
        while !self.is_over() {
            let mut busy = self.obey();
            self.stretch.turn(&self.shared, busy);
            if self.shared.bell.take_sweep() {
                self.sweep();
                busy = true;
            }
            busy |= self.turn_away_abandoned();
            busy |= self.take_retries();
            busy |= self.feed();
            if !busy && !self.settle() {
                self.sleep();
            }
        }
        // From here on, a submitter that slipped in looks after its job itself.
        self.shared.gate.stop();
        fence(SeqCst);
        self.shared.refuse_released();
    }

    fn is_over(&self) -> bool {
        self.policy.is_over() && self.shared.gate.count() == 0
    }

    fn step(&mut self, event: Event<Ticket<P, O, E>>, now: Instant) {
        self.policy.step(event, now, &mut self.actions);
    }

    /// Takes the commands that have come. Were there any?
    fn obey(&mut self) -> bool {
        let mut any = false;
        while let Ok(command) = self.commands.try_recv() {
            any = true;
            let now = Instant::now();
            match command {
                Command::Added(id) => self.step(Event::Added(id), now),
                Command::Gone(id) => self.step(Event::Gone(id), now),
                Command::Look => {}
                Command::Drain => self.step(Event::Drain, now),
                Command::Close(told) => {
                    self.step(Event::Close, now);
                    self.take_all(now);
                    self.step(Event::Dealt, now);
                    self.closers.extend(told);
                }
            }
            self.act_at_once();
        }
        for told in self.closers.drain(..) {
            let _ = told.send(self.refused);
        }
        any
    }

    /// Takes the jobs that failed and are to be tried again, and lets those wait whose time has
    /// come. Were there any?
    fn take_retries(&mut self) -> bool {
        if self.shared.retries.1.is_empty() && self.policy.next_try().is_none() {
            return false;
        }
        let now = Instant::now();
        let failed = self.take_failed(now);
        let due = self.policy.next_try().is_some_and(|at| at <= now);
        if due {
            // All that came before them: they go to the end.
            self.take_all(now);
            self.step(Event::Tick, now);
        }
        self.act_at_once();
        failed || due
    }

    fn take_failed(&mut self, now: Instant) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut any = false;
        for (ticket, at) in shared.retries.1.try_iter() {
            self.step(Event::Failed(ticket, at), now);
            any = true;
        }
        any
    }

    /// Takes all waiting jobs in hand and drops the dead among them.
    fn sweep(&mut self) {
        let now = Instant::now();
        self.take_all(now);
        self.step(Event::Sweep, now);
        self.act_at_once();
        let urgent = self.sweep_urgent();
        if let Some(at) = earliest(self.policy.earliest_deadline(), urgent) {
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

    /// Moves jobs on to the workers: when few are left there, or when all that wait have room, so
    /// that the way past the dispatcher opens again. Did any move?
    fn feed(&mut self) -> bool {
        let waiting = self.shared.gate.count();
        let ready = self.shared.ready.released();
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
            let more = self.take(BATCH, now);
            self.step(Event::Dealt, now);
            left += self.act();
            if !more {
                break;
            }
        }
        self.shared.gate.stop_moving(left);
        let waiting = self.shared.gate.count();
        self.step(Event::Fed { waiting }, now);
        left > 0
    }

    /// Takes jobs out of the job channels as the policy wants them, up to `most` of each. Were
    /// there any?
    fn take(&mut self, most: usize, now: Instant) -> bool {
        let normal = self.policy.wants(Priority::Normal).min(most);
        let low = self.policy.wants(Priority::Low).min(most);
        let shared = Arc::clone(&self.shared);
        // Not `|`: both are to be taken from.
        let any = self.take_from(&shared.jobs.1, normal, now);
        self.take_from(&shared.low_jobs.1, low, now) || any
    }

    fn take_all(&mut self, now: Instant) {
        let shared = Arc::clone(&self.shared);
        self.take_from(&shared.jobs.1, usize::MAX, now);
        self.take_from(&shared.low_jobs.1, usize::MAX, now);
        self.take_failed(now);
    }

    fn take_from(&mut self, jobs: &Receiver<Ticket<P, O, E>>, most: usize, now: Instant) -> bool {
        let arrived = jobs.try_iter().take(most);
        let before = self.policy.in_hand();
        for ticket in arrived {
            self.policy
                .step(Event::Arrived(ticket), now, &mut self.actions);
        }
        self.policy.in_hand() > before
    }

    /// Does what the policy decided outside of [`feed`](Self::feed).
    fn act_at_once(&mut self) {
        let left = self.act();
        self.shared.gate.stop_moving(left);
    }

    /// Does what the policy decided. How many of the waiting jobs went their way? The caller tells
    /// the gate when it has moved the last.
    fn act(&mut self) -> usize {
        let mut actions = std::mem::take(&mut self.actions);
        let left = actions.iter().filter(|action| action.moves_a_job()).count();
        if left > 0 {
            // Before the jobs go: one that is begun takes no place in the queue.
            self.shared.gate.start_moving(left);
        }
        let mut released = 0;
        // Submitters on the short way may have filled the last places.
        let mut back = Vec::new();
        let mut again = Vec::new();
        self.shared.ready.set_depth(self.policy.depth());
        for action in actions.drain(..) {
            match action {
                // Once one finds no place, those after it must not overtake it.
                Action::Release(ticket) if !back.is_empty() => back.push(ticket),
                Action::Release(ticket) => match self.shared.ready.put(ticket) {
                    Ok(()) => released += 1,
                    Err(ticket) => back.push(ticket),
                },
                Action::Refuse(ticket, reason) => {
                    let refused = ticket.refuse(reason, &self.shared.books);
                    if reason == Reason::Closed {
                        self.refused += refused;
                    }
                }
                Action::Forget(ticket) => {
                    ticket.forget(&self.shared.books);
                }
                Action::WaitAgain(ticket) => again.push(ticket),
                Action::GiveUp(ticket, reason) => self.give_up(ticket, reason),
                Action::RefuseReleased => {
                    // First, so that a submitter on the short way looks after its job itself.
                    self.shared.ready.shut();
                    self.shared.gate.close();
                    fence(SeqCst);
                    self.refused += self.shared.refuse_released();
                }
                Action::DismissAll => self.shared.roster.dismiss_all(),
                Action::Reap(id) => self.reap(id),
                Action::AnnounceDraining => {
                    let hooks = &self.shared.hooks;
                    hooks.each("pool_state", |hook| hook.pool_state(PoolState::Draining));
                }
            }
        }
        self.actions = actions;
        if !back.is_empty() {
            self.shared.gate.come_back(back.len());
            let now = Instant::now();
            for ticket in back.into_iter().rev() {
                self.step(Event::NoPlace(ticket), now);
            }
        }
        for ticket in again {
            self.wait_again(ticket);
        }
        if released > 0 {
            fence(SeqCst);
            self.shared.crew.wake_one();
        }
        left
    }

    /// A job that was accepted before waits for a worker once more, whatever the queue's capacity.
    fn wait_again(&mut self, mut ticket: Ticket<P, O, E>) {
        let shared = Arc::clone(&self.shared);
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
    fn give_up(&mut self, ticket: Ticket<P, O, E>, reason: Option<Reason>) {
        self.refused += usize::from(reason == Some(Reason::Closed));
        ticket.end_back_off(reason, &self.shared.books);
    }

    fn reap(&mut self, id: WorkerId) {
        let Some(leaver) = self.shared.roster.remove(id) else {
            return; // it was never made, and who wanted to add it has joined it
        };
        if let Err(panic) = leaver.thread.join() {
            log::error!("worker {id}: thread panicked: {}", panics::message(panic));
        }
        if leaver.is_counted {
            let hooks = &self.shared.hooks;
            hooks.each("worker_remove", |hook| hook.worker_remove(id));
        }
        // Not before: a hook may add a worker in its place.
        self.shared.worker_is_gone();
        log::debug!("worker {id} has left pool {:?}", self.shared.name());
    }

    /// If the last worker is gone, and the pool shall not keep what nobody runs: answers what waits,
    /// also what comes late from submitters that found the gate open. Was there anything?
    fn turn_away_abandoned(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let waits = || shared.gate.count() > 0 || shared.ready.len() > 0;
        if !(shared.gate.is_deserted() && waits()) {
            return false;
        }
        let abandoned = shared.abandoned();
        if !abandoned.is_deserted {
            return false;
        }
        let any = abandoned.waiting.len() + abandoned.released.len() + self.policy.in_hand() > 0;
        let now = Instant::now();
        for ticket in abandoned.waiting {
            self.step(Event::Arrived(ticket), now);
        }
        self.step(Event::Deserted, now);
        self.act_at_once();
        for taken in abandoned.released {
            taken.job.refuse(Reason::NoWorkers, &shared.books);
            if taken.waited {
                shared.gate.leave(1);
            }
        }
        any
    }

    /// While draining: is everything at rest, so that the workers can be sent home?
    fn settle(&mut self) -> bool {
        let shared = &self.shared;
        let settled = self.policy.is_draining()
            && shared.gate.count() == 0
            && shared.ready.len() == 0
            && shared
                .roster
                .all_serving()
                .is_some_and(|all| shared.crew.sleeping_quietly() == Some(all))
            && shared.ready.len() == 0
            // A worker whose job is to be tried again says so before it lies down.
            && shared.retries.1.is_empty()
            && self.policy.next_try().is_none();
        if settled {
            // Workers take nothing any more, so what slips in late is turned away, not lost.
            self.step(Event::Settled, Instant::now());
            self.act_at_once();
        }
        settled
    }

    fn sleep(&self) {
        let shared = &self.shared;
        let next_look = self.stretch.next_look();
        if !self.stretch.can_grow() {
            shared.roster.judge(); // else another worker may come
        }
        let empty = || shared.jobs.1.is_empty() && shared.low_jobs.1.is_empty();
        let at = earliest(self.policy.next_try(), next_look);
        if self.policy.in_hand() > 0 || !empty() {
            shared.bell.sleep(Until::LowWater, at, || {
                is_low(shared.ready.released(), shared.ready.depth())
            });
        } else {
            shared.bell.sleep(Until::Job, at, || !empty());
        }
    }
}

/// Are so few released jobs left that more should follow? Half of a few; of many an eighth, so that
/// the dispatcher is woken seldom and, between, the way past it is open.
pub(crate) fn is_low(ready: usize, depth: usize) -> bool {
    let mark = if depth < MANY { depth / 2 } else { depth / 8 };
    ready < depth && ready <= mark
}
