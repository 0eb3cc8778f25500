//! How a job gets in: past the queue, or into it.

use crate::RejectedError;
use crate::error::RejectReason;
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
    /// Accepts a job, as [`admit`](Self::admit) does.
    ///
    /// # Errors
    /// The payload and why it was not accepted.
    pub(crate) fn accept(
        &self,
        task: Task<P, O, E>,
        patience: WaitForRoom<'_>,
    ) -> Result<(), RejectedError<P>> {
        self.admit(task, patience).map_err(|(task, reason)| {
            let payload = task.into_payload(&self.counters);
            let payload = payload.expect("nobody else has seen the job");
            RejectedError { payload, reason }
        })
    }

    /// Lets a job in: straight to the workers if nothing waits and there is room there, else into
    /// the job channel.
    ///
    /// # Errors
    /// The job and why it was not accepted.
    pub(crate) fn admit(
        &self,
        task: Task<P, O, E>,
        patience: WaitForRoom<'_>,
    ) -> Result<(), (Task<P, O, E>, RejectReason)> {
        let task = match self.try_handoff(task) {
            Ok(()) => return Ok(()),
            Err(task) => task,
        };
        match (self.admission.try_acquire(), patience) {
            (Ok(_), _) => {
                self.enqueue(task);
                Ok(())
            }
            (Err(TryAcquireError::Full), WaitForRoom::Until(token)) => {
                self.admit_later(task, token)
            }
            (Err(refusal), _) => Err((task, refusal.into())),
        }
    }

    /// The queue is full: as [`admit`](Self::admit), as soon as there is room.
    fn admit_later(
        &self,
        task: Task<P, O, E>,
        token: Option<&CancelToken>,
    ) -> Result<(), (Task<P, O, E>, RejectReason)> {
        let mut waiting = Some(task);
        // A submitter that was woken finds the handoff mostly open again.
        let enter = || match waiting.take().map(|task| self.try_handoff(task)) {
            Some(Err(task)) => {
                waiting = Some(task);
                self.admission.try_acquire()
            }
            _ => Ok(Admitted::HandedOff),
        };
        let rejected = self.wait_for_room(enter, token).err();
        match (waiting, rejected) {
            (None, _) => Ok(()),
            (Some(task), None) => {
                self.enqueue(task);
                Ok(())
            }
            (Some(task), Some(reason)) => Err((task, reason)),
        }
    }

    /// The queue has let the job in: it waits in the channel of its priority. No send blocks, since
    /// the queue lets no more in than there is room for.
    fn enqueue(&self, mut task: Task<P, O, E>) {
        task.begin_wait(&self.counters);
        let token = task.watch_token(&self.signal);
        match task.priority() {
            Priority::High => {
                self.run_queue.push_urgent(task);
                fence(SeqCst);
                self.sleep.wake_one();
                if self.admission.rejects_released() {
                    self.came_too_late();
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

    /// Nothing waits, and the released jobs are few: a normal job goes straight to
    /// the workers. Since it goes only when nothing waits, a submitter's jobs keep their order.
    #[inline]
    fn try_handoff(&self, mut task: Task<P, O, E>) -> Result<(), Task<P, O, E>> {
        // A low job has no need to hurry, an urgent one has a lane of its own.
        let normal = task.priority() == Priority::Normal;
        let counted = self.counters.in_flight.counted();
        if !(normal && self.admission.can_handoff() && self.run_queue.has_room(counted)) {
            return Err(task);
        }
        task.begin_wait(&self.counters);
        self.run_queue.push(task).inspect_err(|task| {
            task.end_wait(&self.counters);
        })?;
        fence(SeqCst);
        self.sleep
            .wake_for(|| self.run_queue.after_last(counted) / self.one_workers());
        if self.admission.rejects_released() {
            self.came_too_late();
        }
        self.notify_autoscaler();
        Ok(())
    }

    /// So many ready jobs are worth a worker's while: of short ones, those who are awake soon have some.
    fn one_workers(&self) -> usize {
        if self.run_queue.limit() < MANY {
            1
        } else {
            UNATTENDED
        }
    }

    /// The pool closed, or lost its last worker, after a submitter's look at the queue. Either the
    /// dispatcher clears away the released jobs after this one came, or the submitter sees the flag
    /// and comes here.
    #[cold]
    fn came_too_late(&self) {
        if self.admission.is_closing() {
            self.reject_released();
        }
        self.signal.notify();
    }
}
