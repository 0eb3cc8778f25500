//! The dispatcher's thread: a thin shell that tells the [`Dispatch`](crate::policy::dispatch::Dispatch) what happens.
//! What that decides is done at the [desk](crate::dispatcher::feed).

pub(crate) mod autoscale;
pub(crate) mod feed;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::dispatcher::autoscale::Autoscaler;
use crate::error::RejectReason;
use crate::hook::PoolState;
use crate::job::cancel::earliest;
use crate::policy::deadlock::Role;
use crate::policy::dispatch::Event;
use crate::policy::dispatch::{Schedulable, Status};
use crate::pool::dispatch_state::DispatchState;
use crate::pool::roster::current;
use crate::pool::waits::Question;
use crate::pool::{Command, Pool};
use crate::sync::channel::{Receiver, Sender};
use crate::sync::unwind as panics;
use crate::sync::{Arc, MutexGuard, Ordering::SeqCst, fence};

pub(crate) struct Dispatcher<P, O, E> {
    pool: Arc<Pool<P, O, E>>,
    commands: Receiver<Command>,
    /// They want to know how many jobs were turned away.
    closers: Vec<Sender<usize>>,
    autoscaler: Autoscaler,
}

/// Dropped by the dispatcher's thread as its very last act: those who wait for the pool's end see
/// their channel disconnected.
pub(crate) type End = Sender<std::convert::Infallible>;

/// The dispatcher's thread.
pub(crate) fn run<P, O, E>(pool: Arc<Pool<P, O, E>>, commands: Receiver<Command>, end: End) {
    current::enter_for_good(pool.key(), Role::Dispatcher);
    let work = AssertUnwindSafe(|| {
        let dispatcher = Dispatcher {
            pool: Arc::clone(&pool),
            commands,
            closers: Vec::new(),
            autoscaler: Autoscaler::new(&pool),
        };
        dispatcher.run();
    });
    if let Err(panic) = catch_unwind(work) {
        // A bug in the pool itself. Whoever waits shall not wait for ever.
        log::error!("the dispatcher panicked: {}", panics::message(panic));
        pool.roster.close();
        pool.run_queue.shut();
        pool.admission.stop();
        pool.closing.cancel();
        pool.roster.stop_all();
        for task in pool.jobs.1.try_iter().chain(pool.low_jobs.1.try_iter()) {
            task.reject(RejectReason::Closed, &pool.counters);
        }
        for (task, _) in pool.retries.1.try_iter() {
            task.end_backoff(Some(RejectReason::Closed), &pool.counters);
        }
        pool.reject_released();
        *pool.state.lock() = DispatchState::new(); // a job that was in hand is answered as it is dropped
    }
    log::debug!("pool {:?} is closed", pool.name());
    pool.hooks
        .each("pool_state", |hook| hook.pool_state(PoolState::Closed));
    drop(pool);
    drop(end);
}

impl<P, O, E> Dispatcher<P, O, E> {
    fn run(mut self) {
        let pool = Arc::clone(&self.pool);
        loop {
            // Nobody else takes the dispatch state for long.
            let mut state = pool.state.lock();
            pool.signal.wake_up();
            let question = pool.roster.waits.take_question();
            while !state.is_over(&pool) && self.turn(&mut state) {}
            if state.is_over(&pool) {
                break;
            }
            self.sleep(state, question);
        }
        // From here on, a submitter that slipped in looks after its job itself.
        pool.admission.stop();
        fence(SeqCst);
        pool.reject_released();
    }

    /// Does what there is to do. Was there anything?
    fn turn(&mut self, state: &mut DispatchState<P, O, E>) -> bool {
        let mut busy = self.obey(state);
        self.autoscaler.turn(&self.pool, busy);
        if self.pool.signal.take_sweep() {
            self.sweep(state);
            busy = true;
        }
        busy |= self.turn_away_abandoned(state);
        busy |= self.take_retries(state);
        busy |= state.feed(&self.pool);
        busy || self.settle(state)
    }

    /// Takes the commands that have come. Were there any?
    fn obey(&mut self, state: &mut DispatchState<P, O, E>) -> bool {
        let mut any = false;
        while let Ok(command) = self.commands.try_recv() {
            any = true;
            let now = Instant::now();
            match command {
                Command::Added(id) => state.step(Event::Added(id), now),
                Command::Gone(id) => state.step(Event::Gone(id), now),
                Command::CheckSize => {}
                Command::Drain => state.step(Event::Drain, now),
                Command::Close(told) => {
                    state.step(Event::Close, now);
                    state.take_all(&self.pool, now);
                    state.step(Event::Release, now);
                    self.closers.extend(told);
                }
            }
            state.act_at_once(&self.pool);
        }
        for told in self.closers.drain(..) {
            let _ = told.send(state.rejected);
        }
        any
    }

    /// Takes the jobs that failed and are to be tried again, and lets those wait whose time has
    /// come. Were there any?
    fn take_retries(&self, state: &mut DispatchState<P, O, E>) -> bool {
        if self.pool.retries.1.is_empty() && state.dispatch.next_attempt().is_none() {
            return false;
        }
        let now = Instant::now();
        let failed = state.take_failed(&self.pool, now);
        let due = state.dispatch.next_attempt().is_some_and(|at| at <= now);
        if due {
            // All that came before them: they go to the end.
            state.take_all(&self.pool, now);
            state.step(Event::Tick, now);
        }
        state.act_at_once(&self.pool);
        failed || due
    }

    /// Takes all waiting jobs in hand and drops the dead among them.
    fn sweep(&self, state: &mut DispatchState<P, O, E>) {
        let now = Instant::now();
        state.take_all(&self.pool, now);
        state.step(Event::Sweep, now);
        state.act_at_once(&self.pool);
        let urgent = self.sweep_urgent();
        if let Some(at) = earliest(state.dispatch.earliest_deadline(), urgent) {
            self.pool.signal.set_timer(at);
        }
    }

    /// The same for the urgent ones, which wait where the workers are. When is the next one late?
    fn sweep_urgent(&self) -> Option<Instant> {
        let pool = &self.pool;
        let mut next = None;
        let dead = pool.run_queue.sweep_urgent(|task| {
            let is_dead = task.status() != Status::Ready;
            if !is_dead {
                next = earliest(next, task.deadline());
            }
            is_dead
        });
        for task in dead {
            // First, so that who hears of its end finds its place free.
            pool.admission.release(1);
            match task.status() {
                Status::Expired(reason) => {
                    task.reject(reason, &pool.counters);
                }
                Status::Withdrawn | Status::Ready => task.discard(&pool.counters),
            }
        }
        next
    }

    /// If the last worker is gone, and the pool shall not keep what nobody runs: answers what waits,
    /// also what comes late from submitters that found the queue open. Was there anything?
    fn turn_away_abandoned(&self, state: &mut DispatchState<P, O, E>) -> bool {
        let pool = &self.pool;
        let waits = || pool.admission.count() > 0 || pool.run_queue.len() > 0;
        if !(pool.admission.has_no_workers() && waits()) {
            return false;
        }
        let abandoned = pool.abandoned();
        if !abandoned.no_workers {
            return false;
        }
        let any = abandoned.waiting.len() + abandoned.released.len() + state.dispatch.held() > 0;
        let now = Instant::now();
        for task in abandoned.waiting {
            state.step(Event::Arrived(task), now);
        }
        state.step(Event::NoWorkers, now);
        state.act_at_once(&self.pool);
        for taken in abandoned.released {
            taken.job.reject(RejectReason::NoWorkers, &pool.counters);
            if taken.waited {
                pool.admission.release(1);
            }
        }
        any
    }

    /// While draining: is everything at rest, so that the workers can be sent home?
    fn settle(&self, state: &mut DispatchState<P, O, E>) -> bool {
        let pool = &self.pool;
        let settled = state.dispatch.is_draining()
            && pool.admission.count() == 0
            && pool.run_queue.len() == 0
            && pool
                .roster
                .all_serving()
                .is_some_and(|all| pool.sleep.sleeping_quietly() == Some(all))
            && pool.run_queue.len() == 0
            // A worker whose job is to be tried again says so before it lies down.
            && pool.retries.1.is_empty()
            && state.dispatch.next_attempt().is_none();
        if settled {
            // Workers take nothing any more, so what slips in late is turned away, not lost.
            state.step(Event::Settled, Instant::now());
            state.act_at_once(&self.pool);
        }
        settled
    }

    /// Leaves the dispatch state, and sleeps if there is nothing to do. Before it looked for that, the
    /// dispatcher was asked this question.
    fn sleep(&self, state: MutexGuard<'_, DispatchState<P, O, E>>, question: Option<Question>) {
        let pool = &self.pool;
        if let Some(question) = question {
            pool.roster.waits.answer(question);
        }
        let at = earliest(state.dispatch.next_attempt(), self.autoscaler.next_look());
        let nothing = state.leave(pool);
        drop(state);
        if nothing {
            pool.signal.sleep(at);
        }
    }
}
