//! The dispatcher's desk: the [`Dispatch`], and the moving of jobs from their channels to the workers.
//!
//! The dispatcher's thread works at it, and sleeps when there is nothing to do. To wake it for every
//! few jobs would take cores away from the workers: some 10 µs each time. So a worker that takes a job
//! and finds few left, while others wait, *stands in*: it moves the next ones itself.
//!
//! | | the dispatcher | a stand-in |
//! |---|---|---|
//! | moves jobs to the workers | yes | yes |
//! | answers those that were given up | at the dispatch state | after it has left: what it drops may call back |
//! | everything else | yes | no |
//!
//! # Why no job is left lying
//!
//! Whoever changed the [bell](crate::pool::signal)'s mode from `AWAITING_LOW_WATER` to `RUNNING` has to see to it that the
//! jobs that wait are looked after. A stand-in takes the dispatch state if it is free, and leaves it as the
//! dispatcher does: it sets the mode anew and *then* looks once more. In all other cases (the dispatch state is
//! taken, the pool closes, that last look found something) it rings the dispatcher, which takes the
//! desk in its turn and looks at everything.

use std::time::Instant;

use crate::error::RejectReason;
use crate::hook::PoolState;
use crate::job::Priority;
use crate::job::id::WorkerId;
use crate::policy::dispatch::Schedulable;
use crate::policy::dispatch::{Action, Event};
use crate::policy::prefetch::is_low;
use crate::pool::Pool;
use crate::pool::dispatch_state::DispatchState;
use crate::pool::signal::Until;
use crate::stats::counters::Counters;
use crate::sync::channel::Receiver;
use crate::sync::time;
use crate::sync::unwind as panics;
use crate::sync::{Ordering::SeqCst, fence};
use crate::task::Task;

/// Jobs taken out of the job channel before they are put where the workers take from.
const BATCH: usize = 256;

impl<P, O, E> Pool<P, O, E> {
    /// The calling worker found that few jobs are left and that the dispatcher sleeps, and changed the
    /// bell's mode.
    #[cold]
    pub(crate) fn help(&self) {
        let Some(mut state) = self.state.try_lock() else {
            return self.signal.notify();
        };
        if state.dispatch.is_closing() {
            return self.signal.notify();
        }
        state.later = Some(Vec::new());
        state.feed(self);
        let later = state.later.take();
        if !state.leave(self) {
            self.signal.notify();
        }
        drop(state);
        for (task, reason) in later.into_iter().flatten() {
            answer(task, reason, &self.counters);
        }
    }
}

/// How many jobs was it?
fn answer<P, O, E>(
    task: Task<P, O, E>,
    reason: Option<RejectReason>,
    counters: &Counters,
) -> usize {
    match reason {
        Some(reason) => task.reject(reason, counters),
        None => {
            task.discard(counters);
            1
        }
    }
}

impl<P, O, E> DispatchState<P, O, E> {
    pub(crate) fn step(&mut self, event: Event<Task<P, O, E>>, now: Instant) {
        self.dispatch.step(event, now, &mut self.actions);
    }

    /// Has everything ended?
    pub(crate) fn is_over(&self, pool: &Pool<P, O, E>) -> bool {
        self.dispatch.is_over() && pool.admission.count() == 0
    }

    /// From now on somebody has to be called, when a job comes or when few are left. `false`: there
    /// is something to do after all.
    pub(crate) fn leave(&self, pool: &Pool<P, O, E>) -> bool {
        let empty = || pool.jobs.1.is_empty() && pool.low_jobs.1.is_empty();
        if self.dispatch.held() > 0 || !empty() {
            let is_low = || is_low(pool.run_queue.released(), pool.run_queue.limit());
            pool.signal.leave(Until::LowWater, is_low)
        } else {
            pool.signal.leave(Until::Job, || !empty())
        }
    }

    /// Moves jobs on to the workers: when few are left there, or when all that wait have room, so
    /// that the way past the dispatcher opens again. Did any move?
    pub(crate) fn feed(&mut self, pool: &Pool<P, O, E>) -> bool {
        let waiting = pool.admission.count();
        let run_queue = pool.run_queue.released();
        let limit = self.dispatch.limit();
        let wanted =
            self.dispatch.is_closing() || is_low(run_queue, limit) || run_queue + waiting <= limit;
        if waiting == 0 || !wanted {
            return false;
        }
        let now = time::now();
        self.step(Event::Observed { ready: run_queue }, now);
        let mut left = 0;
        // In parts, so that the first workers start early.
        loop {
            let more = self.take(pool, BATCH);
            self.step(Event::Release, now);
            left += self.act(pool);
            if !more {
                break;
            }
        }
        pool.admission.stop_moving(left);
        let waiting = pool.admission.count();
        self.step(Event::Released { waiting }, now);
        left > 0
    }

    pub(crate) fn take_failed(&mut self, pool: &Pool<P, O, E>, now: Instant) -> bool {
        let mut any = false;
        for (task, at) in pool.retries.1.try_iter() {
            self.step(Event::Failed(task, at), now);
            any = true;
        }
        any
    }

    /// Takes jobs out of the job channels as the policy wants them, up to `most` of each. Were
    /// there any?
    fn take(&mut self, pool: &Pool<P, O, E>, most: usize) -> bool {
        let normal = self.dispatch.wants(Priority::Normal).min(most);
        let low = self.dispatch.wants(Priority::Low).min(most);
        // Not `|`: both are to be taken from.
        let any = self.take_from(&pool.jobs.1, normal);
        self.take_from(&pool.low_jobs.1, low) || any
    }

    pub(crate) fn take_all(&mut self, pool: &Pool<P, O, E>, now: Instant) {
        self.take_from(&pool.jobs.1, usize::MAX);
        self.take_from(&pool.low_jobs.1, usize::MAX);
        self.take_failed(pool, now);
    }

    fn take_from(&mut self, jobs: &Receiver<Task<P, O, E>>, most: usize) -> bool {
        let before = self.dispatch.held();
        for task in jobs.try_iter().take(most) {
            self.dispatch.arrived(task);
        }
        self.dispatch.held() > before
    }

    fn turn_away(
        &mut self,
        pool: &Pool<P, O, E>,
        task: Task<P, O, E>,
        reason: Option<RejectReason>,
    ) {
        if let Some(later) = &mut self.later {
            return later.push((task, reason));
        }
        let rejected = answer(task, reason, &pool.counters);
        if reason == Some(RejectReason::Closed) {
            self.rejected += rejected;
        }
    }

    /// Does what the policy decided outside of [`feed`](Self::feed).
    pub(crate) fn act_at_once(&mut self, pool: &Pool<P, O, E>) {
        let left = self.act(pool);
        pool.admission.stop_moving(left);
    }

    /// Does what the policy decided. How many of the waiting jobs went their way? The caller tells
    /// the queue when it has moved the last.
    fn act(&mut self, pool: &Pool<P, O, E>) -> usize {
        let mut actions = std::mem::take(&mut self.actions);
        let left = actions.iter().filter(|action| action.moves_a_job()).count();
        if left > 0 {
            // Before the jobs go: one that is begun takes no place in the queue.
            pool.admission.start_moving(left);
        }
        let mut released = 0;
        // Submitters on the handoff may have filled the last places.
        let mut back = Vec::new();
        let mut again = Vec::new();
        pool.run_queue.set_limit(self.dispatch.limit());
        for action in actions.drain(..) {
            match action {
                // Once one finds no place, those after it must not overtake it.
                Action::Release(task) if !back.is_empty() => back.push(task),
                Action::Release(task) => match pool.run_queue.push(task) {
                    Ok(()) => released += 1,
                    Err(task) => back.push(task),
                },
                Action::Reject(task, reason) => self.turn_away(pool, task, Some(reason)),
                Action::Discard(task) => self.turn_away(pool, task, None),
                Action::WaitAgain(task) => again.push(task),
                Action::GiveUp(task, reason) => self.give_up(pool, task, reason),
                Action::RejectReleased => {
                    // First, so that a submitter on the handoff looks after its job itself.
                    pool.run_queue.shut();
                    pool.admission.close();
                    fence(SeqCst);
                    self.rejected += pool.reject_released();
                }
                Action::StopAll => pool.roster.stop_all(),
                Action::Reap(id) => reap(pool, id),
                Action::AnnounceDraining => {
                    let hooks = &pool.hooks;
                    hooks.each("pool_state", |hook| hook.pool_state(PoolState::Draining));
                }
            }
        }
        self.actions = actions;
        if !back.is_empty() {
            pool.admission.requeue(back.len());
            let now = time::now();
            for task in back.into_iter().rev() {
                self.step(Event::NoPlace(task), now);
            }
        }
        for task in again {
            self.wait_again(pool, task);
        }
        if released > 0 {
            fence(SeqCst);
            pool.sleep.wake_one();
        }
        left
    }

    /// A job that was accepted before waits for a worker once more, whatever the queue's capacity.
    fn wait_again(&mut self, pool: &Pool<P, O, E>, mut task: Task<P, O, E>) {
        pool.admission.requeue(1);
        pool.counters.backing_off.fetch_sub(1, SeqCst);
        task.begin_wait(&pool.counters);
        if task.priority() == Priority::High {
            pool.run_queue.push_urgent(task);
            fence(SeqCst);
            pool.sleep.wake_one();
        } else {
            self.step(Event::Arrived(task), time::now());
        }
    }

    /// A job gets no further try. It has no place in the queue.
    fn give_up(&mut self, pool: &Pool<P, O, E>, task: Task<P, O, E>, reason: Option<RejectReason>) {
        self.rejected += usize::from(reason == Some(RejectReason::Closed));
        task.end_backoff(reason, &pool.counters);
    }
}

fn reap<P, O, E>(pool: &Pool<P, O, E>, id: WorkerId) {
    let Some(leaver) = pool.roster.remove(id) else {
        return; // it was never made, and who wanted to add it has joined it
    };
    if let Err(panic) = leaver.thread.join() {
        log::error!("worker {id}: thread panicked: {}", panics::message(panic));
    }
    if leaver.is_counted {
        let hooks = &pool.hooks;
        hooks.each("worker_remove", |hook| hook.worker_remove(id));
    }
    // Not before: a hook may add a worker in its place.
    pool.worker_is_gone();
    log::debug!("worker {id} has left pool {:?}", pool.name());
}

#[cfg(test)]
mod tests {
    use crate::sync::channel::bounded;
    use crate::sync::user_channel::unbounded;
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
        let state = pool.pool().state.lock();
        // It takes the last that is released, and finds that more should follow.
        go.send(()).expect("the worker listens");
        assert_eq!(begins.recv_timeout(LIMIT), Ok(1));
        drop((state, go));
        for number in 2..10 {
            assert_eq!(begins.recv_timeout(LIMIT), Ok(number));
        }
    }
}
