//! The dispatcher's thread: tells the [`Dispatch`](crate::policy::dispatch::Dispatch) what happens.
//! What that decides is done in [`feed`], and in [`autoscale`] for an elastic pool.

pub(crate) mod autoscale;
pub(crate) mod feed;
pub(crate) mod reaper;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::dispatcher::autoscale::Autoscaler;
use crate::error::RejectReason;
use crate::job::cancel::earliest;
use crate::policy::deadlock::Role;
use crate::policy::dispatch::{Event, Schedulable, Status};
use crate::pool::dispatch_state::DispatchState;
use crate::pool::roster::current;
use crate::pool::waits::Question;
use crate::pool::{Cleanup, Command, Pool};
use crate::sync::channel::{Receiver, Sender};
use crate::sync::log;
use crate::sync::time;
use crate::sync::unwind as panics;
use crate::sync::{Arc, MutexGuard, Ordering::SeqCst, fence};
use crate::task::Task;

pub(crate) struct Dispatcher<P, O, E> {
    pool: Arc<Pool<P, O, E>>,
    commands: Receiver<Command>,
    /// Callers that close the pool, and want to know how many jobs were rejected.
    closers: Vec<Sender<usize>>,
    /// Jobs rejected since the pool began to close.
    rejected: usize,
    /// The roster's changes that the policy knows of.
    roster_seen: u64,
    /// The run queue is held, to be swept.
    hold: Option<Hold>,
    autoscaler: Autoscaler,
}

/// A hold of the [run queue](crate::pool::queue::run_queue).
struct Hold {
    next_look: Instant,
    looks: u32,
}

/// How long the dispatcher waits before it looks whether the workers are quiet.
const LOOK_AFTER: Duration = Duration::from_millis(1);
/// After this many looks, workers are seen to take jobs all the time: they find the dead ones.
const MAX_LOOKS: u32 = 16;
/// Then the next hold is this much later.
const HOLD_AGAIN: Duration = Duration::from_millis(10);

/// The dispatcher's thread.
pub(crate) fn run<P, O, E>(pool: Arc<Pool<P, O, E>>, commands: Receiver<Command>) {
    current::enter_for_good(pool.key(), Role::Dispatcher);
    let work = AssertUnwindSafe(|| {
        let dispatcher = Dispatcher {
            pool: Arc::clone(&pool),
            commands,
            closers: Vec::new(),
            rejected: 0,
            roster_seen: 0,
            hold: None,
            autoscaler: Autoscaler::new(&pool),
        };
        dispatcher.run();
    });
    if let Err(panic) = catch_unwind(work) {
        // A bug in the pool itself. No caller is to wait for ever.
        let message = panics::message(panic);
        log::error!("the dispatcher panicked: {message}");
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
        for (task, _) in pool.take_released(RejectReason::Closed) {
            task.reject(RejectReason::Closed, &pool.counters);
        }
        *pool.state.lock() = DispatchState::new(); // jobs held there are answered as they are dropped
    }
    let cleanups = pool.cleanups.clone();
    drop(pool);
    let _ = cleanups.send(Cleanup::End);
}

impl<P, O, E> Dispatcher<P, O, E> {
    fn run(mut self) {
        let pool = Arc::clone(&self.pool);
        let mut asked = None;
        loop {
            // Workers that help hold the lock only for a short time.
            let mut state = pool.state.lock();
            pool.signal.wake_up();
            asked = pool.roster.waits.take_question().or(asked);
            while state.later.is_empty() && !state.is_over(&pool) && self.turn(&mut state) {}
            let rejected = std::mem::take(&mut state.later);
            if !rejected.is_empty() {
                drop(state);
                self.rejected += pool.answer_rejected(rejected);
                continue;
            }
            let rejected = self.rejected;
            for reply in self.closers.drain(..) {
                let _ = reply.send(rejected);
            }
            if state.is_over(&pool) {
                break;
            }
            self.sleep(state, asked.take());
        }
        // From here on, a submitter that was admitted late rejects its job itself.
        pool.admission.stop();
        fence(SeqCst);
        pool.answer_rejected(pool.take_released(RejectReason::Closed));
    }

    /// Does what there is to do now. Was there anything?
    fn turn(&mut self, state: &mut DispatchState<P, O, E>) -> bool {
        let mut busy = self.count_workers(state);
        busy |= self.take_commands(state);
        self.autoscaler.turn(&self.pool, busy);
        if self.pool.signal.take_sweep() {
            self.sweep(state);
            busy = true;
        }
        if let Some(hold) = &self.hold
            && hold.next_look <= time::now()
        {
            self.sweep_released(state);
            busy = true;
        }
        busy |= self.reject_abandoned(state);
        busy |= self.take_retries(state);
        busy |= state.feed(&self.pool);
        busy || self.close_if_drained(state)
    }

    /// Tells the policy how many workers there are, if that has changed. Has it?
    fn count_workers(&mut self, state: &mut DispatchState<P, O, E>) -> bool {
        let Some(workers) = self.pool.roster.count_if_changed(&mut self.roster_seen) else {
            return false;
        };
        state.step(Event::Workers(workers), time::now());
        state.act_at_once(&self.pool);
        true
    }

    /// Takes the commands that have come. Were there any?
    fn take_commands(&mut self, state: &mut DispatchState<P, O, E>) -> bool {
        let mut any = false;
        while let Ok(command) = self.commands.try_recv() {
            any = true;
            // A worker that was added before the command is known before it.
            self.count_workers(state);
            let now = time::now();
            match command {
                Command::CheckSize => {}
                Command::Drain => state.step(Event::Drain, now),
                Command::Close(reply) => {
                    state.step(Event::Close, now);
                    state.take_all(&self.pool, now);
                    state.step(Event::Release, now);
                    self.closers.extend(reply);
                }
            }
            state.act_at_once(&self.pool);
        }
        any
    }

    /// Takes the jobs that failed and get another attempt, and lets those wait again whose attempt
    /// is due. Were there any?
    fn take_retries(&self, state: &mut DispatchState<P, O, E>) -> bool {
        if self.pool.retries.1.is_empty() && state.dispatch.next_attempt().is_none() {
            return false;
        }
        let now = time::now();
        let failed = state.take_failed(&self.pool, now);
        let due = state.dispatch.next_attempt().is_some_and(|at| at <= now);
        if due {
            // First all jobs that came before them, since they go to the end of the queue.
            state.take_all(&self.pool, now);
            state.step(Event::Tick, now);
        }
        state.act_at_once(&self.pool);
        failed || due
    }

    /// Takes all waiting jobs out of their channels, and drops the dead ones.
    fn sweep(&mut self, state: &mut DispatchState<P, O, E>) {
        let now = time::now();
        state.take_all(&self.pool, now);
        state.step(Event::Sweep, now);
        state.act_at_once(&self.pool);
        let urgent = self.sweep_urgent(state);
        if let Some(at) = earliest(state.dispatch.earliest_deadline(), urgent) {
            self.pool.signal.set_timer(at);
        }
        if self.hold.is_none() && self.pool.run_queue.has_expiring() {
            self.pool.run_queue.hold();
            self.hold = Some(Hold {
                next_look: time::now() + LOOK_AFTER,
                looks: 0,
            });
        }
    }

    /// The same for the released jobs, once no worker can take one without the run queue's lock.
    fn sweep_released(&mut self, state: &mut DispatchState<P, O, E>) {
        let pool = &self.pool;
        let Some(hold) = &mut self.hold else { return };
        if !pool.roster.is_quiet() {
            hold.looks += 1;
            hold.next_look = time::now() + LOOK_AFTER;
            if hold.looks == MAX_LOOKS {
                pool.run_queue.release();
                self.hold = None;
                pool.signal.set_timer(time::now() + HOLD_AGAIN);
            }
            return;
        }
        let mut next = None;
        let dead = pool.run_queue.sweep_released(|task| {
            let is_dead = task.status() != Status::Ready;
            if !is_dead && task.is_detached_with_token() {
                next = earliest(next, task.deadline());
            }
            is_dead
        });
        self.hold = None;
        for task in dead {
            let reason = reason_of(&task);
            state.later.push((task, reason));
        }
        if let Some(at) = next {
            pool.signal.set_timer(at);
        }
        fence(SeqCst);
        pool.sleep.wake_one();
    }

    /// The same for the urgent jobs, which wait in the run queue. Returns the next deadline among
    /// those that are left.
    fn sweep_urgent(&self, state: &mut DispatchState<P, O, E>) -> Option<Instant> {
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
            // First, so that a caller that has the answer finds the place free.
            pool.admission.release(1);
            let reason = reason_of(&task);
            state.later.push((task, reason));
        }
        next
    }

    /// If the last worker is gone, and the pool is to reject what nobody runs: rejects the jobs
    /// that wait, also those that come late from submitters that found the queue open. Were there
    /// any?
    fn reject_abandoned(&self, state: &mut DispatchState<P, O, E>) -> bool {
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
        let now = time::now();
        for task in abandoned.waiting {
            state.step(Event::Arrived(task), now);
        }
        state.step(Event::NoWorkers, now);
        state.act_at_once(&self.pool);
        for popped in abandoned.released {
            if popped.waited {
                pool.admission.release(1);
            }
            state
                .later
                .push((popped.job, Some(RejectReason::NoWorkers)));
        }
        any
    }

    /// If the pool drains, no job is left, and every worker sleeps: has the workers leave, and the
    /// pool close. Did it?
    fn close_if_drained(&self, state: &mut DispatchState<P, O, E>) -> bool {
        let pool = &self.pool;
        let drained = state.dispatch.is_draining()
            && pool.admission.count() == 0
            && pool.run_queue.len() == 0
            && pool
                .roster
                .all_serving()
                .is_some_and(|all| pool.sleep.sleeping_quietly() == Some(all))
            && pool.run_queue.len() == 0
            // A worker whose job gets another attempt sends it here before it sleeps.
            && pool.retries.1.is_empty()
            && state.dispatch.next_attempt().is_none();
        if drained {
            // Workers take nothing from now on, so a job that was admitted late is rejected, not
            // lost.
            state.step(Event::Settled, time::now());
            state.act_at_once(&self.pool);
        }
        drained
    }

    /// Releases the dispatch state, and sleeps if there is nothing to do. The question was asked before
    /// the dispatcher looked for that.
    fn sleep(&self, state: MutexGuard<'_, DispatchState<P, O, E>>, question: Option<Question>) {
        let pool = &self.pool;
        if let Some(question) = question {
            pool.roster.waits.answer(question);
        }
        let at = earliest(state.dispatch.next_attempt(), self.autoscaler.next_look());
        let at = earliest(at, self.hold.as_ref().map(|hold| hold.next_look));
        let idle = state.leave(pool);
        drop(state);
        if idle {
            pool.signal.sleep(at);
        }
    }
}

/// Why a dead job is to be rejected; `None` if its caller has taken it back.
fn reason_of<P, O, E>(task: &Task<P, O, E>) -> Option<RejectReason> {
    match task.status() {
        Status::Expired(reason) => Some(reason),
        Status::Withdrawn | Status::Ready => None,
    }
}
