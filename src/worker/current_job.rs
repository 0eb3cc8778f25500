//! The job that a worker has in hand, and its answer.
//!
//! It lies outside of the frame that catches the worker's panics, so that there is one such frame for
//! many jobs.

use crate::job::id::Try;
use crate::task::ReplyTo;
use std::any::Any;
use std::num::NonZeroU32;
use std::time::Instant;

use crate::error::{Cause, DetachedError, JobError};
use crate::job::Outcome;
use crate::job::cancel::CancelToken;
use crate::job::id::JobId;
use crate::job::id::WorkerId;
use crate::stats::clock::Stamp;
use crate::stats::counters::Books;
use crate::stats::in_flight::Generation;
use crate::sync::channel::Sender;
use crate::sync::unwind as panics;
use crate::task::free_list::Used;
use crate::task::oneshot::{Asked, Ended};
use crate::task::retry::Again;
use crate::task::{Body, Form, Heading, Load, Rich, Ticket, report};

pub(crate) struct Hand<P, O, E> {
    pub(crate) id: JobId,
    pub(crate) generation: Generation,
    pub(crate) this: Try,
    /// When it was accepted, in pools with timings.
    pub(crate) accepted: Stamp,
    /// `None`: there is no job in hand.
    reply: Option<ReplyTo<P, O, E>>,
    again: Option<Box<Again<P>>>,
    /// The job's token, until it is handed on.
    token: Option<CancelToken>,
    /// For jobs that have no token, and may get one while they run. Most never need it, and the next
    /// job can have it.
    lent: CancelToken,
    is_lent: bool,
}

/// How a run ended, before it is answered.
pub(crate) enum Ran<O, E> {
    Returned(Result<O, E>),
    Panicked(Box<dyn Any + Send>),
}

impl<O, E> Ran<O, E> {
    #[inline]
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Ran::Returned(Ok(_)) => Outcome::Completed,
            Ran::Returned(Err(_)) => Outcome::Failed,
            Ran::Panicked(_) => Outcome::Panicked,
        }
    }
}

impl<P, O, E> Hand<P, O, E> {
    /// The hand of this worker, empty.
    pub(crate) fn of(worker: WorkerId) -> Self {
        Hand {
            id: JobId::new(0),
            generation: Generation::Even,
            this: Try::first(worker),
            accepted: 0,
            reply: None,
            again: None,
            token: None,
            lent: CancelToken::new(),
            is_lent: false,
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.reply.is_none()
    }

    /// May somebody wait for the job's result?
    #[inline]
    pub(crate) fn is_awaited(&self) -> bool {
        matches!(self.reply, Some(ReplyTo::Slot(_)))
    }

    /// Where a detached job's failure would go.
    #[inline]
    pub(crate) fn errors(&self) -> Option<&Sender<DetachedError<E>>> {
        match &self.reply {
            Some(ReplyTo::Errors(errors)) => Some(errors),
            _ => None,
        }
    }

    /// Takes a job in hand, unless it is too late: then it is answered. Its payload.
    #[inline]
    pub(crate) fn take(
        &mut self,
        ticket: Ticket<P, O, E>,
        books: &Books,
        used: &mut Used<'_, Form<P, E>>,
    ) -> Option<P> {
        if let Some(fired) = ticket.token().and_then(CancelToken::fired_by) {
            ticket.refuse(fired.into(), books);
            return None;
        }
        self.accepted = ticket.end_wait_by(books, self.this.worker.get());
        self.generation = ticket.generation();
        match ticket {
            Ticket::Detached(mut form) => {
                self.id = form.id;
                self.this.number = NonZeroU32::MIN;
                let load = form.take_load()?;
                used.keep(form);
                Some(self.take_detached(load))
            }
            Ticket::Awaited(asked) => {
                self.id = asked.id();
                self.this.number = NonZeroU32::MIN;
                self.take_awaited(asked, books)
            }
            Ticket::Rich(rich) => self.take_rich(*rich, books),
        }
    }

    #[cold]
    fn take_rich(&mut self, rich: Rich<P, O, E>, books: &Books) -> Option<P> {
        let (heading, body) = rich.into_parts();
        self.id = heading.id;
        let last = heading.last_try();
        self.this.number = last.map_or(NonZeroU32::MIN, |last| last.number.saturating_add(1));
        let payload = match body? {
            Body::Detached(load) => {
                self.token = heading.token;
                self.take_detached(load)
            }
            Body::Awaited(asked) => self.take_awaited(asked, books)?,
            Body::Chunk(_) => unreachable!("a chunk is run as such"),
        };
        self.again = heading.again;
        if let Some(again) = &mut self.again {
            again.begin(self.this, &payload, heading.mark, self.token.as_ref());
        }
        Some(payload)
    }

    #[inline]
    fn take_detached(&mut self, load: Load<P, E>) -> P {
        self.owe(ReplyTo::Errors(load.errors));
        load.payload
    }

    #[inline]
    fn take_awaited(&mut self, asked: Asked<P, O, E>, books: &Books) -> Option<P> {
        let payload = if asked.has_handle() {
            self.begin_with_handle(&asked)
        } else {
            self.token = asked.token().cloned();
            asked.begin(self.this)
        };
        if payload.is_some() {
            self.owe(ReplyTo::Slot(asked));
        } else {
            self.token = None;
            panics::discard("job", asked);
            books.census.ended_unworked(self.generation, 1);
        }
        payload
    }

    #[inline]
    fn begin_with_handle(&mut self, asked: &Asked<P, O, E>) -> Option<P> {
        let (payload, token) = asked.begin_with_handle(self.this, &self.lent)?;
        self.is_lent = token.is_none();
        self.token = token.or_else(|| Some(self.lent.clone()));
        Some(payload)
    }

    #[inline]
    fn owe(&mut self, reply: ReplyTo<P, O, E>) {
        let before = self.reply.replace(reply);
        debug_assert!(before.is_none(), "the one before was answered");
        std::mem::forget(before); // which looks whether there is something to be dropped
    }

    /// The token of the job in hand, once.
    #[inline]
    pub(crate) fn take_token(&mut self) -> Option<CancelToken> {
        self.token.take()
    }

    /// The job has let go of a token that it was lent, or somebody keeps it.
    #[inline]
    fn take_back_lent(&mut self) {
        if std::mem::take(&mut self.is_lent) && !self.lent.is_unused() {
            self.lent = CancelToken::new();
        }
    }

    /// A further try, if one follows this outcome: then there is nothing to be answered.
    #[inline]
    pub(crate) fn next_try(
        &mut self,
        outcome: Outcome,
        closing: impl FnOnce() -> bool,
    ) -> Option<NextTry<P, O, E>> {
        let again = self.again.take()?;
        after(self.id, again, &mut self.reply, outcome, closing())
    }

    /// Answers the job in hand. Never blocks, and contains the panics of what it drops; `busy` is called
    /// before it drops what nobody wants, which may take long. The sender of a detached job that
    /// succeeded is for the caller to give up.
    #[inline]
    pub(crate) fn answer(
        &mut self,
        ran: Ran<O, E>,
        books: &Books,
        busy: impl FnOnce(),
    ) -> Option<Sender<DetachedError<E>>> {
        let result: Ended<O, E> = match ran {
            Ran::Returned(Ok(output)) => Ok(output),
            Ran::Returned(Err(error)) => Err(self.error(Cause::Worker(error))),
            Ran::Panicked(panic) => Err(self.error(Cause::Panicked(panics::message(panic)))),
        };
        match (self.reply.take()?, result) {
            (ReplyTo::Errors(errors), Ok(output)) => {
                panics::discard("output", output);
                Some(errors)
            }
            (ReplyTo::Errors(errors), Err(error)) => {
                report(self.id, *error, errors, Some(books));
                None
            }
            (ReplyTo::Slot(asked), result) => {
                let unwanted = asked.finish(result);
                self.take_back_lent();
                // Its caller may be gone and leave it the last owner.
                if unwanted.is_some() || asked.is_last() {
                    busy();
                }
                panics::discard("result", unwanted);
                panics::discard("result", asked);
                None
            }
        }
    }

    #[cold]
    fn error(&self, cause: Cause<E>) -> Box<JobError<E>> {
        Box::new(JobError::new(self.id, Some(self.this), cause))
    }
}

/// A further try, from that moment on.
pub(crate) type NextTry<P, O, E> = Box<(Ticket<P, O, E>, Instant)>;

/// What follows this run of a job: a further try, unless it was the last; then `reply` is left to be
/// answered. From here on, a caller that gives up on a job to be tried again finds it between two
/// tries.
#[cold]
fn after<P, O, E>(
    id: JobId,
    mut again: Box<Again<P>>,
    reply: &mut Option<ReplyTo<P, O, E>>,
    outcome: Outcome,
    closing: bool,
) -> Option<NextTry<P, O, E>> {
    let kept = again.wanted(outcome, closing)?;
    let body = match reply.take()? {
        ReplyTo::Slot(slot) => match slot.queue_again(kept.payload) {
            Ok(()) => Body::Awaited(slot),
            Err(payload) => {
                panics::discard("payload", payload);
                *reply = Some(ReplyTo::Slot(slot)); // nobody waits any more
                return None;
            }
        },
        ReplyTo::Errors(errors) => Body::Detached(Load {
            payload: kept.payload,
            errors,
        }),
    };
    let now = Instant::now();
    let delay = again.retry.delay(again.tries());
    // A wait too long to be told lasts a year: the job ends by its token, deadline, or the pool's end.
    let at = now.checked_add(delay).unwrap_or(now + YEAR);
    let heading = Heading {
        id,
        mark: kept.mark,
        token: kept.token.filter(|_| matches!(body, Body::Detached(_))),
        again: Some(again),
    };
    Some(Box::new((Ticket::rich(heading, body), at)))
}

const YEAR: std::time::Duration = std::time::Duration::from_secs(365 * 24 * 3600);
