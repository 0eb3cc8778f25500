//! How a submitter waits: for room, and for the result.

use crate::error::Reason;
use crate::error::cause_of;
use crate::job::cancel::{CancelToken, earliest};
use crate::job::id::JobId;
use crate::pool::Shared;
use crate::pool::queue::{Refusal, Way};
use crate::pool::roster::Blocked;
use crate::pool::roster::current::Place;
use crate::sync::Arc;
use crate::sync::backoff::Spin;
use crate::sync::park::{Parker, Wake};
use crate::sync::unwind as panics;
use crate::task::oneshot::{GivenUp, Reply, Slot};
use crate::{JobError, Rejected, SubmitError};
use std::time::Instant;

impl<P, O, E> Shared<P, O, E> {
    pub(crate) fn wait_for_room(
        &self,
        enter: impl FnMut() -> Result<Way, Refusal>,
        token: Option<&CancelToken>,
    ) -> Result<(), Reason> {
        let parker = Parker::current();
        let deadline = token.and_then(CancelToken::deadline);
        let blocked = match self.place() {
            None => None,
            Some(Place::Dispatcher) => return Err(Reason::WouldDeadlock),
            Some(Place::Worker(me)) => Some(self.roster.block(me, &parker, deadline)),
            Some(Place::Adder) => None,
        };
        let _watch = token.map(|token| token.watch(Arc::clone(&parker) as Arc<dyn Wake>));
        if self.bell.has_given_up() {
            self.bell.ask_sweep(); // their places are wanted now
        }
        // Whether a worker waits in vain is judged by its being called for the first place.
        let patient = blocked.is_none();
        let waited = self.gate.wait_in_line(&parker, patient, enter, |patience| {
            if let Some(fired) = token.and_then(CancelToken::fired_by) {
                return Err(fired.into());
            }
            if self.park(&parker, blocked.as_ref(), earliest(deadline, patience)) {
                return Err(Reason::WouldDeadlock);
            }
            match token.and_then(CancelToken::fired_by) {
                Some(fired) => Err(fired.into()),
                None => Ok(()),
            }
        });
        waited.map(|_| ())
    }

    /// Blocks for a job's result: until it is there, `token` fires, or `until` passes (then `None`).
    pub(crate) fn await_reply(
        &self,
        id: JobId,
        slot: &Slot<P, O, E>,
        token: Option<&CancelToken>,
        until: Option<Instant>,
    ) -> Option<Reply<P, O, E>> {
        if self.place() == Some(Place::Dispatcher) {
            return self.await_on_dispatcher(id, slot, until);
        }
        let mut spin = Spin::of_caller();
        loop {
            if !spin.is_early()
                && let Some(reply) = slot.take()
            {
                spin.found();
                if reply.is_ok() {
                    self.ready.know_out(id.get());
                }
                return Some(reply);
            }
            if !spin.turn() {
                break;
            }
        }
        let parker = Parker::current();
        let deadline = earliest(until, token.and_then(CancelToken::deadline));
        let blocked = match self.place() {
            // Who only looks for a while does not wait in vain.
            Some(Place::Worker(me)) if until.is_none() => {
                Some(self.roster.block(me, &parker, deadline))
            }
            _ => None,
        };
        slot.wake_when_settled(&parker);
        let _watch = token.map(|token| token.watch(Arc::clone(&parker) as Arc<dyn Wake>));
        loop {
            if let Some(reply) = slot.take() {
                return Some(reply);
            }
            if let Some(fired) = token.and_then(CancelToken::fired_by) {
                return Some(self.give_up(id, slot, fired.into()));
            }
            if until.is_some_and(|at| Instant::now() >= at) {
                return None;
            }
            if self.park(&parker, blocked.as_ref(), deadline) {
                match slot.give_up(true) {
                    GivenUp::Running(_) => blocked.iter().for_each(Blocked::cannot_withdraw),
                    given_up => return Some(self.given_up(id, given_up, Reason::WouldDeadlock)),
                }
            }
        }
    }

    /// The dispatcher itself asks, in a hook or a destructor: it takes what is there, and never
    /// waits, since without it the pool stands still.
    fn await_on_dispatcher(
        &self,
        id: JobId,
        slot: &Slot<P, O, E>,
        until: Option<Instant>,
    ) -> Option<Reply<P, O, E>> {
        match slot.take() {
            None if until.is_some() => None,
            None => Some(self.give_up(id, slot, Reason::WouldDeadlock)),
            reply => reply,
        }
    }

    /// Parks the calling thread. If it is a worker of this pool, and all wait in vain, it is told to
    /// withdraw.
    pub(crate) fn park(
        &self,
        parker: &Parker,
        blocked: Option<&Blocked<'_>>,
        until: Option<Instant>,
    ) -> bool {
        match blocked {
            Some(me) => me.park(until, || self.bell.ring()),
            None => {
                parker.park(until);
                false
            }
        }
    }

    /// The caller gives up on a job, begun or not.
    pub(crate) fn give_up(
        &self,
        id: JobId,
        slot: &Slot<P, O, E>,
        reason: Reason,
    ) -> Reply<P, O, E> {
        self.given_up(id, slot.give_up(false), reason)
    }

    fn given_up(&self, id: JobId, given_up: GivenUp<P, O, E>, reason: Reason) -> Reply<P, O, E> {
        match given_up {
            GivenUp::Unstarted(payload) => {
                self.books.refused(reason);
                self.place_to_free();
                Err(Rejected { payload, reason }.into())
            }
            GivenUp::BetweenTries(payload, last) => {
                self.books.refused(reason);
                self.bell.ask_sweep();
                if reason == Reason::WouldDeadlock {
                    return Err(Rejected { payload, reason }.into());
                }
                panics::discard("payload", payload);
                let error = JobError::new(id, Some(last), cause_of(reason));
                Err(SubmitError::Failed(error))
            }
            GivenUp::Running(this) => {
                let error = JobError::new(id, Some(this), cause_of(reason));
                Err(SubmitError::Failed(error))
            }
            GivenUp::Settled(reply) => reply,
            GivenUp::Taken => unreachable!("a reply is taken once"),
        }
    }

    /// A caller took back a job that may still wait: its place is to be freed.
    pub(crate) fn place_to_free(&self) {
        let waiting = self.gate.count();
        let wanted = waiting >= self.gate.capacity() || self.gate.blocked() > 0;
        self.bell.job_given_up(waiting, wanted);
    }
}
