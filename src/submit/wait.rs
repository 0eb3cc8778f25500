//! How a submitter waits: for room, and for the result.

use std::time::Instant;

use crate::error::{JobError, RejectReason, RejectedError, SubmitError, cause_of};
use crate::job::cancel::{CancelToken, earliest};
use crate::job::id::JobId;
use crate::pool::Pool;
use crate::pool::queue::{Admitted, TryAcquireError};
use crate::pool::roster::BlockedGuard;
use crate::pool::roster::current::ThreadRole;
use crate::sync::Arc;
use crate::sync::backoff::Backoff;
use crate::sync::park::{Parker, Wake};
use crate::sync::time;
use crate::sync::unwind as panics;
use crate::task::oneshot::{CancelOutcome, Oneshot, Reply};

impl<P, O, E> Pool<P, O, E> {
    /// Blocks until `try_enter` lets a job in, `token` fires, or the pool closes.
    ///
    /// # Errors
    /// Why the job was not let in.
    pub(crate) fn wait_for_room(
        &self,
        try_enter: impl FnMut() -> Result<Admitted, TryAcquireError>,
        token: Option<&CancelToken>,
    ) -> Result<(), RejectReason> {
        let parker = Parker::current();
        let deadline = token.and_then(CancelToken::deadline);
        let blocked = match self.thread_role() {
            None => None,
            Some(ThreadRole::Dispatcher) => return Err(RejectReason::WouldDeadlock),
            Some(ThreadRole::Worker(me)) => Some(self.roster.block(me, &parker, deadline)),
            Some(ThreadRole::Adder) => None,
        };
        let _watch = token.map(|token| token.watch(Arc::clone(&parker) as Arc<dyn Wake>));
        if self.signal.has_given_up() {
            self.signal.ask_sweep(); // the places of those jobs are wanted now
        }
        // A worker counts as deadlocked while nothing wakes it. So it is to be woken for the first
        // place.
        let patient = blocked.is_none();
        let waited = self
            .admission
            .wait_for_room_with(&parker, patient, try_enter, |patience| {
                if let Some(fired) = token.and_then(CancelToken::fired_by) {
                    return Err(fired.into());
                }
                if self.park(&parker, blocked.as_ref(), earliest(deadline, patience)) {
                    return Err(RejectReason::WouldDeadlock);
                }
                match token.and_then(CancelToken::fired_by) {
                    Some(fired) => Err(fired.into()),
                    None => Ok(()),
                }
            });
        waited.map(|_| ())
    }

    /// Blocks until a job's result is there, `token` fires, or `until` passes. Returns `None` in
    /// the last case.
    pub(crate) fn await_reply(
        &self,
        id: JobId,
        oneshot: &Oneshot<P, O, E>,
        token: Option<&CancelToken>,
        until: Option<Instant>,
    ) -> Option<Reply<P, O, E>> {
        if self.thread_role() == Some(ThreadRole::Dispatcher) {
            return self.await_on_dispatcher(id, oneshot, until);
        }
        let mut backoff = Backoff::of_caller();
        loop {
            if !backoff.is_early()
                && let Some(reply) = oneshot.take()
            {
                backoff.found();
                if reply.is_ok() {
                    self.run_queue.note_taken(id.get());
                }
                return Some(reply);
            }
            if !backoff.turn() {
                break;
            }
        }
        let parker = Parker::current();
        let deadline = earliest(until, token.and_then(CancelToken::deadline));
        let blocked = match self.thread_role() {
            // A worker that waits for a limited time goes on by itself, so it cannot be deadlocked.
            Some(ThreadRole::Worker(me)) if until.is_none() => {
                Some(self.roster.block(me, &parker, deadline))
            }
            _ => None,
        };
        oneshot.wake_when_settled(&parker);
        let _watch = token.map(|token| token.watch(Arc::clone(&parker) as Arc<dyn Wake>));
        loop {
            if let Some(reply) = oneshot.take() {
                return Some(reply);
            }
            if let Some(fired) = token.and_then(CancelToken::fired_by) {
                return Some(self.cancel_job(id, oneshot, fired.into()));
            }
            if until.is_some_and(|at| time::now() >= at) {
                return None;
            }
            if self.park(&parker, blocked.as_ref(), deadline) {
                match oneshot.cancel(true) {
                    CancelOutcome::Running(_) => {
                        blocked.iter().for_each(BlockedGuard::cannot_withdraw)
                    }
                    outcome => {
                        return Some(self.cancelled(id, outcome, RejectReason::WouldDeadlock));
                    }
                }
            }
        }
    }

    /// The dispatcher itself asks, in a hook or a destructor. It takes what is there, and never
    /// waits: without it, the pool stands still.
    fn await_on_dispatcher(
        &self,
        id: JobId,
        oneshot: &Oneshot<P, O, E>,
        until: Option<Instant>,
    ) -> Option<Reply<P, O, E>> {
        match oneshot.take() {
            None if until.is_some() => None,
            None => Some(self.cancel_job(id, oneshot, RejectReason::WouldDeadlock)),
            reply => reply,
        }
    }

    /// Parks the calling thread, which is `blocked` if it is a worker of this pool. Returns whether
    /// it is to withdraw, because all workers are deadlocked.
    pub(crate) fn park(
        &self,
        parker: &Parker,
        blocked: Option<&BlockedGuard<'_>>,
        until: Option<Instant>,
    ) -> bool {
        match blocked {
            Some(blocked) => blocked.park(until, || self.signal.notify()),
            None => {
                parker.park(until);
                false
            }
        }
    }

    /// The caller gives up on a job, whether it has begun or not. Returns what the caller gets.
    pub(crate) fn cancel_job(
        &self,
        id: JobId,
        oneshot: &Oneshot<P, O, E>,
        reason: RejectReason,
    ) -> Reply<P, O, E> {
        self.cancelled(id, oneshot.cancel(false), reason)
    }

    fn cancelled(
        &self,
        id: JobId,
        outcome: CancelOutcome<P, O, E>,
        reason: RejectReason,
    ) -> Reply<P, O, E> {
        match outcome {
            CancelOutcome::Unstarted(payload) => {
                self.counters.rejected(reason);
                self.release_withdrawn();
                Err(RejectedError { payload, reason }.into())
            }
            CancelOutcome::BetweenAttempts(payload, last) => {
                self.counters.rejected(reason);
                self.signal.ask_sweep();
                if reason == RejectReason::WouldDeadlock {
                    return Err(RejectedError { payload, reason }.into());
                }
                panics::discard("payload", payload);
                let error = JobError::new(id, Some(last), cause_of(reason));
                Err(SubmitError::Failed(error))
            }
            CancelOutcome::Running(attempt) => {
                let error = JobError::new(id, Some(attempt), cause_of(reason));
                Err(SubmitError::Failed(error))
            }
            CancelOutcome::Settled(reply) => reply,
            CancelOutcome::Taken => unreachable!("a reply is taken once"),
        }
    }

    /// A caller took back a job that may still wait: sees to it that its place is freed.
    pub(crate) fn release_withdrawn(&self) {
        let waiting = self.admission.count();
        let urgent = waiting >= self.admission.capacity() || self.admission.blocked() > 0;
        self.signal.job_given_up(waiting, urgent);
    }
}
