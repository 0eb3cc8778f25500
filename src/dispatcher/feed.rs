//! Feeding the workers: jobs move from the job channels to the run queue, as the [`Dispatch`]
//! decides.
//!
//! The dispatcher's thread does this, and sleeps when there is nothing to do. To wake it for every
//! few jobs would take cores away from the workers: some 10 µs each time. So a worker *helps*: if
//! it takes a job and finds few left while others wait, it moves the next ones itself.
//!
//! | | the dispatcher | a worker that helps |
//! |---|---|---|
//! | moves jobs to the workers | yes | yes |
//! | answers rejected jobs | after it has released the state | the same |
//! | everything else | yes | no |
//!
//! # Why no job is left lying
//!
//! A thread that changed the [signal](crate::pool::signal)'s mode from `AWAITING_LOW_WATER` to
//! `RUNNING` has to see to it that the waiting jobs are handled. A worker that helps takes the
//! dispatch state if it is free, and leaves it as the dispatcher does: it sets the mode again, and
//! *then* looks once more. In all other cases (the state is taken, the pool closes, or that last
//! look found something) it notifies the dispatcher, which takes the state in its turn and looks at
//! everything.
//!
//! [`Dispatch`]: crate::policy::dispatch::Dispatch

use std::time::Instant;

use crate::error::RejectReason;
use crate::hook::PoolState;
use crate::job::Priority;
use crate::policy::dispatch::{Action, Event, Schedulable};
use crate::policy::prefetch::is_low;
use crate::pool::dispatch_state::{DispatchState, RejectedTask};
use crate::pool::signal::Until;
use crate::pool::{Cleanup, Pool};
use crate::sync::channel::Receiver;
use crate::sync::time;
use crate::sync::{Ordering::SeqCst, fence};
use crate::task::Task;

/// How many jobs are taken out of each job channel before they are put into the run queue.
const BATCH: usize = 256;

impl<P, O, E> Pool<P, O, E> {
    /// The calling worker found that few jobs are left while the dispatcher sleeps, and changed the
    /// signal's mode to `RUNNING`. Moves the next jobs, or notifies the dispatcher.
    #[cold]
    pub(crate) fn help(&self) {
        let Some(mut state) = self.state.try_lock() else {
            return self.signal.notify();
        };
        if state.dispatch.is_closing() {
            return self.signal.notify();
        }
        state.feed(self);
        let rejected = std::mem::take(&mut state.later);
        if !state.leave(self) {
            self.signal.notify();
        }
        drop(state);
        self.answer_rejected(rejected);
    }

    /// Answers jobs that the policy rejected, without the dispatch state's lock. Returns how many
    /// of them were rejected because the pool closes.
    pub(crate) fn answer_rejected(&self, rejected: Vec<RejectedTask<P, O, E>>) -> usize {
        let mut closed = 0;
        for (mut task, reason) in rejected {
            let jobs = match reason {
                Some(reason) => task.answer_rejected(reason, &self.counters),
                None => task.end_withdrawn(&self.counters),
            };
            if reason == Some(RejectReason::Closed) {
                closed += jobs;
            }
            self.clean_up(Cleanup::Drop(task));
        }
        closed
    }
}

impl<P, O, E> DispatchState<P, O, E> {
    pub(crate) fn step(&mut self, event: Event<Task<P, O, E>>, now: Instant) {
        self.dispatch.step(event, now, &mut self.actions);
    }

    /// Is nothing left to do, for ever?
    pub(crate) fn is_over(&self, pool: &Pool<P, O, E>) -> bool {
        self.dispatch.is_over() && pool.admission.count() == 0
    }

    /// The caller is about to release the dispatch state. From now on, the dispatcher is to be
    /// notified when a job comes or when few are left. Returns `false` if there is something to do
    /// after all.
    pub(crate) fn leave(&self, pool: &Pool<P, O, E>) -> bool {
        let empty = || pool.jobs.1.is_empty() && pool.low_jobs.1.is_empty();
        if self.dispatch.held() > 0 || !empty() {
            let is_low = || is_low(pool.run_queue.released(), pool.run_queue.limit());
            pool.signal.leave(Until::LowWater, is_low)
        } else {
            pool.signal.leave(Until::Job, || !empty())
        }
    }

    /// Moves jobs to the workers if few are left there, or if there is room for all that wait: then
    /// jobs can be handed off again. Did any move?
    pub(crate) fn feed(&mut self, pool: &Pool<P, O, E>) -> bool {
        let waiting = pool.admission.count();
        let ready = pool.run_queue.released();
        let limit = self.dispatch.limit();
        let wanted = self.dispatch.is_closing() || is_low(ready, limit) || ready + waiting <= limit;
        if waiting == 0 || !wanted {
            return false;
        }
        let now = time::now();
        self.step(Event::Observed { ready }, now);
        let mut moved = 0;
        // In batches, so that the first workers start early.
        loop {
            let more = self.take(pool, BATCH);
            self.step(Event::Release, now);
            moved += self.act(pool);
            if !more {
                break;
            }
        }
        pool.admission.stop_moving(moved);
        let waiting = pool.admission.count();
        self.step(Event::Released { waiting }, now);
        moved > 0
    }

    /// Takes the jobs that failed and get another attempt. Were there any?
    pub(crate) fn take_failed(&mut self, pool: &Pool<P, O, E>, now: Instant) -> bool {
        let mut any = false;
        for (task, at) in pool.retries.1.try_iter() {
            self.step(Event::Failed(task, at), now);
            any = true;
        }
        any
    }

    /// Takes as many jobs out of the job channels as the policy wants, at most `most` of each. Were
    /// there any?
    fn take(&mut self, pool: &Pool<P, O, E>, most: usize) -> bool {
        let normal = self.dispatch.wants(Priority::Normal).min(most);
        let low = self.dispatch.wants(Priority::Low).min(most);
        let any_normal = self.take_from(&pool.jobs.1, normal);
        let any_low = self.take_from(&pool.low_jobs.1, low);
        any_normal || any_low
    }

    /// Takes all jobs out of all channels.
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

    /// Does what the policy decided, outside of [`feed`](Self::feed).
    pub(crate) fn act_at_once(&mut self, pool: &Pool<P, O, E>) {
        let moved = self.act(pool);
        pool.admission.stop_moving(moved);
    }

    /// Does what the policy decided. Returns how many jobs do not wait any more. When the caller
    /// has moved the last one, it tells the admission so.
    fn act(&mut self, pool: &Pool<P, O, E>) -> usize {
        let mut actions = std::mem::take(&mut self.actions);
        let moved = actions.iter().filter(|action| action.moves_a_job()).count();
        if moved > 0 {
            // Before the jobs go: a job that has begun takes no place in the queue.
            pool.admission.start_moving(moved);
        }
        let mut released = 0;
        // Jobs that were handed off may have taken the last places.
        let mut without_place = Vec::new();
        let mut due = Vec::new();
        pool.run_queue.set_limit(self.dispatch.limit());
        for action in actions.drain(..) {
            match action {
                // Once a job finds no place, those after it must not overtake it.
                Action::Release(task) if !without_place.is_empty() => without_place.push(task),
                Action::Release(task) => {
                    if task.is_detached_with_token()
                        && let Some(at) = task.deadline()
                    {
                        pool.signal.set_timer(at);
                    }
                    match pool.run_queue.push(task) {
                        Ok(()) => released += 1,
                        Err(task) => without_place.push(task),
                    }
                }
                Action::Reject(task, reason) => self.later.push((task, Some(reason))),
                Action::Discard(task) => self.later.push((task, None)),
                Action::WaitAgain(task) => due.push(task),
                Action::GiveUp(mut task, reason) => {
                    // It has no place in the queue. What follows ends the wait.
                    pool.counters.backing_off.fetch_sub(1, SeqCst);
                    task.begin_wait(&pool.counters);
                    self.later.push((task, reason));
                }
                Action::RejectReleased => {
                    // First, so that a submitter that hands off a job after this rejects it itself.
                    pool.run_queue.shut();
                    pool.admission.close();
                    fence(SeqCst);
                    self.later.extend(pool.take_released(RejectReason::Closed));
                }
                Action::StopAll => pool.roster.stop_all(),
                Action::AnnounceDraining => {
                    pool.clean_up(Cleanup::Announce(PoolState::Draining));
                }
            }
        }
        self.actions = actions;
        if !without_place.is_empty() {
            pool.admission.requeue(without_place.len());
            let now = time::now();
            for task in without_place.into_iter().rev() {
                self.step(Event::NoPlace(task), now);
            }
        }
        for task in due {
            self.wait_again(pool, task);
        }
        if released > 0 {
            fence(SeqCst);
            pool.sleep.wake_one();
        }
        moved
    }

    /// A job waits for its next attempt's worker. It was accepted before, so the queue's capacity
    /// does not matter.
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
    fn a_worker_that_finds_the_state_taken_notifies_the_dispatcher() {
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
        // The worker takes the last released job, and finds that more should follow.
        go.send(()).expect("the worker listens");
        assert_eq!(begins.recv_timeout(LIMIT), Ok(1));
        drop((state, go));
        for number in 2..10 {
            assert_eq!(begins.recv_timeout(LIMIT), Ok(number));
        }
    }
}
