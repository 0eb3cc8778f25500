//! How a submitter waits: for room, and for the result.

use std::time::Instant;

use crate::error::{JobError, RejectReason, RejectedError, SubmitError, cause_of};
use crate::job::cancel::{CancelToken, earliest};
use crate::job::id::JobId;
use crate::policy::deadlock::Wait;
use crate::pool::Pool;
use crate::pool::queue::{Admitted, TryAcquireError};
use crate::pool::waits::Waiting;
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
        if self.must_not_block() {
            return Err(RejectReason::WouldDeadlock);
        }
        let waiting = Waiting::begin(Wait::Job(self.key()), deadline);
        let _watch = token.map(|token| token.watch(Arc::clone(&parker) as Arc<dyn Wake>));
        if self.signal.has_given_up() {
            self.signal.ask_sweep(); // the places of those jobs are wanted now
        }
        // A thread of a pool counts as deadlocked while nothing wakes it. So it is to be woken for the first
        // place.
        let patient = waiting.is_none();
        let waited = self
            .admission
            .wait_for_room_with(&parker, patient, try_enter, |patience| {
                if let Some(fired) = token.and_then(CancelToken::fired_by) {
                    return Err(fired.into());
                }
                let until = earliest(deadline, patience);
                if park(&parker, waiting.as_ref(), until) {
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
        if self.must_not_block() {
            return self.take_or_give_up(id, oneshot, until);
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
        // Who only looks for a while does not wait in vain.
        let waiting = match until {
            None => Waiting::begin(Wait::Job(self.key()), deadline),
            Some(_) => None,
        };
        oneshot.wake_when_settled(&parker);
        if waiting.is_some() {
            oneshot.wake_at_begin();
        }
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
            let mut runs_on = None;
            if let Some(waiting) = &waiting {
                runs_on = oneshot.running_on();
                match runs_on {
                    Some(worker) => waiting.runs_on(self.key(), worker),
                    None => waiting.not_begun(self.key()),
                }
            }
            // If it begins, or ends an attempt, at that moment, it is judged anew.
            if park(&parker, waiting.as_ref(), deadline) && oneshot.running_on() == runs_on {
                match oneshot.cancel(runs_on.is_none()) {
                    CancelOutcome::Running(_) if runs_on.is_none() => {}
                    given_up => {
                        return Some(self.cancelled(id, given_up, RejectReason::WouldDeadlock));
                    }
                }
            }
        }
    }

    /// A thread asks that must not block: it takes what is there.
    fn take_or_give_up(
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

/// Parks the calling thread, until `until` at the latest. Is it to withdraw, since it waits in vain?
fn park(parker: &Arc<Parker>, waiting: Option<&Waiting>, until: Option<Instant>) -> bool {
    match waiting {
        Some(waiting) => waiting.park(parker),
        None => {
            parker.park(until);
            false
        }
    }
}
