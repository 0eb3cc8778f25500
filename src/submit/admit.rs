//! How a job gets in: handed off to the workers, or into the queue.

use crate::error::{RejectReason, RejectedError};
use crate::job::Priority;
use crate::job::cancel::CancelToken;
use crate::policy::dispatch::Schedulable;
use crate::policy::prefetch::{MANY, UNATTENDED, is_low};
use crate::pool::Pool;
use crate::pool::queue::{Admitted, TryAcquireError};
use crate::sync::{Ordering::SeqCst, fence};
use crate::task::Task;

/// How long a submitter waits for room.
pub(crate) enum WaitForRoom<'a> {
    /// Not at all.
    None,
    /// Until there is room, the token fires, or the pool closes.
    Until(Option<&'a CancelToken>),
}

impl<P, O, E> Pool<P, O, E> {
    /// As [`admit`](Self::admit), for a job that is no chunk.
    ///
    /// # Errors
    /// The payload, and why the job was not accepted.
    pub(crate) fn accept(
        &self,
        task: Task<P, O, E>,
        wait_for_room: WaitForRoom<'_>,
    ) -> Result<(), RejectedError<P>> {
        self.admit(task, wait_for_room).map_err(|(task, reason)| {
            let payload = task.into_payload(&self.counters);
            let payload = payload.expect("no other thread has seen the job");
            RejectedError { payload, reason }
        })
    }

    /// Accepts a job. If nothing waits and there is room, hands it off to the workers. Otherwise
    /// puts it into its job channel.
    ///
    /// # Errors
    /// The job, and why it was not accepted.
    pub(crate) fn admit(
        &self,
        task: Task<P, O, E>,
        wait_for_room: WaitForRoom<'_>,
    ) -> Result<(), (Task<P, O, E>, RejectReason)> {
        let task = match self.try_handoff(task) {
            Ok(()) => return Ok(()),
            Err(task) => task,
        };
        match (self.admission.try_acquire(), wait_for_room) {
            (Ok(_), _) => {
                self.enqueue(task);
                Ok(())
            }
            (Err(TryAcquireError::Full), WaitForRoom::Until(token)) => {
                self.admit_later(task, token)
            }
            (Err(error), _) => Err((task, error.into())),
        }
    }

    /// The queue is full: waits until there is room, and admits the job then.
    fn admit_later(
        &self,
        task: Task<P, O, E>,
        token: Option<&CancelToken>,
    ) -> Result<(), (Task<P, O, E>, RejectReason)> {
        let mut waiting = Some(task);
        // When a submitter is woken, jobs can mostly be handed off again.
        let try_enter = || match waiting.take().map(|task| self.try_handoff(task)) {
            Some(Err(task)) => {
                waiting = Some(task);
                self.admission.try_acquire()
            }
            _ => Ok(Admitted::HandedOff),
        };
        let rejected = self.wait_for_room(try_enter, token).err();
        match (waiting, rejected) {
            (None, _) => Ok(()),
            (Some(task), None) => {
                self.enqueue(task);
                Ok(())
            }
            (Some(task), Some(reason)) => Err((task, reason)),
        }
    }

    /// The job was admitted, and waits in the channel of its priority. No send blocks, since no
    /// more jobs are admitted than there is room for.
    fn enqueue(&self, mut task: Task<P, O, E>) {
        task.begin_wait(&self.counters);
        let token = task.watch_token(&self.signal);
        match task.priority() {
            Priority::High => {
                self.run_queue.push_urgent(task);
                fence(SeqCst);
                self.sleep.wake_one();
                if self.admission.rejects_released() {
                    self.admitted_too_late();
                }
            }
            priority => {
                let channel = match priority {
                    Priority::Low => &self.low_jobs.0,
                    _ => &self.jobs.0,
                };
                let sent = channel.send(task);
                debug_assert!(sent.is_ok(), "the pool holds both ends");
                self.signal.job_arrived(|| {
                    let few = || is_low(self.run_queue.released(), self.run_queue.limit());
                    priority == Priority::Low || self.admission.rejects_released() || few()
                });
            }
        }
        self.notify_autoscaler();
        self.watch_expiry(token);
    }

    /// If nothing waits and few jobs are released, a normal job goes straight to the workers. Since
    /// it does so only if nothing waits, a submitter's jobs keep their order.
    #[inline]
    fn try_handoff(&self, mut task: Task<P, O, E>) -> Result<(), Task<P, O, E>> {
        // A low job has no need to hurry, and an urgent one has a channel of its own.
        let normal = task.priority() == Priority::Normal;
        let counted = self.counters.in_flight.counted();
        if !(normal && self.admission.can_handoff() && self.run_queue.has_room(counted)) {
            return Err(task);
        }
        task.begin_wait(&self.counters);
        let token = match task.is_detached_with_token() {
            true => task.watch_token(&self.signal),
            false => None,
        };
        self.run_queue.push(task).inspect_err(|task| {
            task.end_wait(&self.counters);
        })?;
        fence(SeqCst);
        self.sleep
            .wake_for(|| self.run_queue.after_last(counted) / self.jobs_per_worker());
        if self.admission.rejects_released() {
            self.admitted_too_late();
        }
        self.notify_autoscaler();
        self.watch_expiry(token);
        Ok(())
    }

    /// For this many ready jobs it is worth waking one worker. If jobs are short, the workers that
    /// are awake soon take some of them.
    fn jobs_per_worker(&self) -> usize {
        if self.run_queue.limit() < MANY {
            1
        } else {
            UNATTENDED
        }
    }

    /// The pool closed, or lost its last worker, after a submitter had found the queue open. Either
    /// the dispatcher rejects the released jobs after this one came, or the submitter sees the flag
    /// and comes here.
    #[cold]
    fn admitted_too_late(&self) {
        if self.admission.is_closing() {
            for (task, reason) in self.take_released(RejectReason::Closed) {
                task.reject(reason.unwrap_or(RejectReason::Closed), &self.counters);
            }
        }
        self.signal.notify();
    }
}
