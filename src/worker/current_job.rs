//! The job that a worker has in hand, and its answer.
//!
//! It lies outside of the frame that catches the worker's panics, so that there is one such frame for
//! many jobs.

use crate::job::id::Attempt;
use crate::task::ReplyTo;
use std::any::Any;
use std::num::NonZeroU32;
use std::time::Instant;

use crate::error::{DetachedError, Failure, JobError};
use crate::job::Outcome;
use crate::job::cancel::CancelToken;
use crate::job::id::JobId;
use crate::job::id::WorkerId;
use crate::stats::clock::Stamp;
use crate::stats::counters::Counters;
use crate::stats::in_flight::Epoch;
use crate::sync::channel::Sender;
use crate::sync::unwind as panics;
use crate::task::free_list::Returns;
use crate::task::oneshot::{Ended, Responder};
use crate::task::retry::RetryState;
use crate::task::{Body, Detached, DetachedTask, FullTask, Task, TaskOptions, report};

pub(crate) struct CurrentJob<P, O, E> {
    pub(crate) id: JobId,
    pub(crate) epoch: Epoch,
    pub(crate) this: Attempt,
    /// When it was accepted, in pools with timings.
    pub(crate) accepted: Stamp,
    /// `None`: there is no job in hand.
    reply: Option<ReplyTo<P, O, E>>,
    retry_state: Option<Box<RetryState<P>>>,
    /// The job's token, until it is handed on.
    token: Option<CancelToken>,
    /// For jobs that have no token, and may get one while they run. Most never need it, and the next
    /// job can have it.
    lent: CancelToken,
    is_lent: bool,
}

/// How a run ended, before it is answered.
pub(crate) enum RunResult<O, E> {
    Returned(Result<O, E>),
    Panicked(Box<dyn Any + Send>),
}

impl<O, E> RunResult<O, E> {
    #[inline]
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            RunResult::Returned(Ok(_)) => Outcome::Completed,
            RunResult::Returned(Err(_)) => Outcome::Failed,
            RunResult::Panicked(_) => Outcome::Panicked,
        }
    }
}

impl<P, O, E> CurrentJob<P, O, E> {
    /// The hand of this worker, empty.
    pub(crate) fn of(worker: WorkerId) -> Self {
        CurrentJob {
            id: JobId::new(0),
            epoch: Epoch::Even,
            this: Attempt::first(worker),
            accepted: 0,
            reply: None,
            retry_state: None,
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
        matches!(self.reply, Some(ReplyTo::Oneshot(_)))
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
        task: Task<P, O, E>,
        counters: &Counters,
        returns: &mut Returns<'_, DetachedTask<P, E>>,
    ) -> Option<P> {
        if let Some(fired) = task.token().and_then(CancelToken::fired_by) {
            task.reject(fired.into(), counters);
            return None;
        }
        self.accepted = task.end_wait_by(counters, self.this.worker.get());
        self.epoch = task.epoch();
        match task {
            Task::Detached(mut blank) => {
                self.id = blank.id;
                self.this.number = NonZeroU32::MIN;
                let detached = blank.take()?;
                returns.keep(blank);
                Some(self.take_detached(detached))
            }
            Task::Awaited(responder) => {
                self.id = responder.id();
                self.this.number = NonZeroU32::MIN;
                self.take_awaited(responder, counters)
            }
            Task::Full(full) => self.take_full(*full, counters),
        }
    }

    #[cold]
    fn take_full(&mut self, full: FullTask<P, O, E>, counters: &Counters) -> Option<P> {
        let (options, body) = full.into_parts();
        self.id = options.id;
        let last = options.last_attempt();
        self.this.number = last.map_or(NonZeroU32::MIN, |last| last.number.saturating_add(1));
        let payload = match body? {
            Body::Detached(detached) => {
                self.token = options.token;
                self.take_detached(detached)
            }
            Body::Awaited(responder) => self.take_awaited(responder, counters)?,
            Body::Chunk(_) => unreachable!("a chunk is run as such"),
        };
        self.retry_state = options.retry_state;
        if let Some(retry_state) = &mut self.retry_state {
            retry_state.begin(self.this, &payload, options.header, self.token.as_ref());
        }
        Some(payload)
    }

    #[inline]
    fn take_detached(&mut self, detached: Detached<P, E>) -> P {
        self.owe(ReplyTo::Errors(detached.errors));
        detached.payload
    }

    #[inline]
    fn take_awaited(&mut self, responder: Responder<P, O, E>, counters: &Counters) -> Option<P> {
        let payload = if responder.has_handle() {
            self.begin_with_handle(&responder)
        } else {
            self.token = responder.token().cloned();
            responder.begin(self.this)
        };
        if payload.is_some() {
            self.owe(ReplyTo::Oneshot(responder));
        } else {
            self.token = None;
            panics::discard("job", responder);
            counters.in_flight.ended_unworked(self.epoch, 1);
        }
        payload
    }

    #[inline]
    fn begin_with_handle(&mut self, responder: &Responder<P, O, E>) -> Option<P> {
        let (payload, token) = responder.begin_with_handle(self.this, &self.lent)?;
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
    pub(crate) fn next_attempt(
        &mut self,
        outcome: Outcome,
        closing: impl FnOnce() -> bool,
    ) -> Option<NextAttempt<P, O, E>> {
        let retry_state = self.retry_state.take()?;
        after(self.id, retry_state, &mut self.reply, outcome, closing())
    }

    /// Answers the job in hand. Never blocks, and contains the panics of what it drops; `busy` is called
    /// before it drops what nobody wants, which may take long. The sender of a detached job that
    /// succeeded is for the caller to give up.
    #[inline]
    pub(crate) fn answer(
        &mut self,
        ran: RunResult<O, E>,
        counters: &Counters,
        busy: impl FnOnce(),
    ) -> Option<Sender<DetachedError<E>>> {
        let result: Ended<O, E> = match ran {
            RunResult::Returned(Ok(output)) => Ok(output),
            RunResult::Returned(Err(error)) => Err(self.error(Failure::Worker(error))),
            RunResult::Panicked(panic) => {
                Err(self.error(Failure::Panicked(panics::message(panic))))
            }
        };
        match (self.reply.take()?, result) {
            (ReplyTo::Errors(errors), Ok(output)) => {
                panics::discard("output", output);
                Some(errors)
            }
            (ReplyTo::Errors(errors), Err(error)) => {
                report(self.id, *error, errors, Some(counters));
                None
            }
            (ReplyTo::Oneshot(responder), result) => {
                let unwanted = responder.finish(result);
                self.take_back_lent();
                // Its caller may be gone and leave it the last owner.
                if unwanted.is_some() || responder.is_last() {
                    busy();
                }
                panics::discard("result", unwanted);
                panics::discard("result", responder);
                None
            }
        }
    }

    #[cold]
    fn error(&self, cause: Failure<E>) -> Box<JobError<E>> {
        Box::new(JobError::new(self.id, Some(self.this), cause))
    }
}

/// A further try, from that moment on.
pub(crate) type NextAttempt<P, O, E> = Box<(Task<P, O, E>, Instant)>;

/// What follows this run of a job: a further try, unless it was the last; then `reply` is left to be
/// answered. From here on, a caller that gives up on a job to be tried again finds it between two
/// tries.
#[cold]
fn after<P, O, E>(
    id: JobId,
    mut retry_state: Box<RetryState<P>>,
    reply: &mut Option<ReplyTo<P, O, E>>,
    outcome: Outcome,
    closing: bool,
) -> Option<NextAttempt<P, O, E>> {
    let kept = retry_state.wanted(outcome, closing)?;
    let body = match reply.take()? {
        ReplyTo::Oneshot(oneshot) => match oneshot.queue_again(kept.payload) {
            Ok(()) => Body::Awaited(oneshot),
            Err(payload) => {
                panics::discard("payload", payload);
                *reply = Some(ReplyTo::Oneshot(oneshot)); // nobody waits any more
                return None;
            }
        },
        ReplyTo::Errors(errors) => Body::Detached(Detached {
            payload: kept.payload,
            errors,
        }),
    };
    let now = Instant::now();
    let delay = retry_state.retry.delay(retry_state.attempts());
    // A wait too long to be told lasts a year: the job ends by its token, deadline, or the pool's end.
    let at = now.checked_add(delay).unwrap_or(now + YEAR);
    let options = TaskOptions {
        id,
        header: kept.header,
        token: kept.token.filter(|_| matches!(body, Body::Detached(_))),
        retry_state: Some(retry_state),
    };
    Some(Box::new((Task::full(options, body), at)))
}

const YEAR: std::time::Duration = std::time::Duration::from_secs(365 * 24 * 3600);
