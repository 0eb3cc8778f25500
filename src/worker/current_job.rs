//! The job that a worker runs now, and its answer.
//!
//! It lies outside of the frame that catches the worker's panics, so that one such frame serves for
//! many jobs.

use std::any::Any;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::error::{DetachedError, Failure, JobError};
use crate::job::Outcome;
use crate::job::cancel::CancelToken;
use crate::job::id::{Attempt, JobId, WorkerId};
use crate::stats::clock::Stamp;
use crate::stats::counters::Counters;
use crate::stats::in_flight::Epoch;
use crate::sync::time;
use crate::sync::unwind as panics;
use crate::sync::user_channel::Sender;
use crate::task::free_list::Returns;
use crate::task::oneshot::{Ended, Responder};
use crate::task::retry::RetryState;
use crate::task::{Body, Detached, DetachedTask, FullTask, ReplyTo, Task, TaskOptions, report};

/// Stands for a delay before an attempt that is too long for the clock.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Another attempt, and when it is due.
pub(crate) type NextAttempt<P, O, E> = Box<(Task<P, O, E>, Instant)>;

pub(crate) struct CurrentJob<P, O, E> {
    pub(crate) id: JobId,
    pub(crate) epoch: Epoch,
    pub(crate) attempt: Attempt,
    /// When it was accepted, in pools with timings.
    pub(crate) accepted: Stamp,
    /// `None` while there is no current job.
    reply: Option<ReplyTo<P, O, E>>,
    retry_state: Option<Box<RetryState<P>>>,
    /// The job's token, until [`take_token`](Self::take_token).
    token: Option<CancelToken>,
    /// Lent to jobs that have no token and may get one while they run. Most jobs leave it unused,
    /// and then the next one gets it.
    worker_token: CancelToken,
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
    /// For this worker. There is no job yet.
    pub(crate) fn new(worker: WorkerId) -> Self {
        CurrentJob {
            id: JobId::new(0),
            epoch: Epoch::Even,
            attempt: Attempt::first(worker),
            accepted: 0,
            reply: None,
            retry_state: None,
            token: None,
            worker_token: CancelToken::new(),
            is_lent: false,
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.reply.is_none()
    }

    /// May a caller wait for the job's result?
    #[inline]
    pub(crate) fn is_awaited(&self) -> bool {
        matches!(self.reply, Some(ReplyTo::Oneshot(_)))
    }

    /// Where the job's failure would go, if the job is detached.
    #[inline]
    pub(crate) fn errors(&self) -> Option<&Sender<DetachedError<E>>> {
        match &self.reply {
            Some(ReplyTo::Errors(errors)) => Some(errors),
            _ => None,
        }
    }

    /// Makes this job the current one, and returns its payload. Returns `None` if the job is
    /// cancelled, late, or taken back; then it has its answer.
    #[inline]
    pub(crate) fn begin(
        &mut self,
        task: Task<P, O, E>,
        counters: &Counters,
        returns: &mut Returns<'_, DetachedTask<P, E>>,
    ) -> Option<P> {
        if let Some(fired) = task.token().and_then(CancelToken::fired_by) {
            task.reject(fired.into(), counters);
            return None;
        }
        self.accepted = task.end_wait_by(counters, self.attempt.worker.get());
        self.epoch = task.epoch();
        match task {
            Task::Detached(mut detached_task) => {
                self.id = detached_task.id;
                self.attempt.number = NonZeroU32::MIN;
                let detached = detached_task.take()?;
                returns.keep(detached_task);
                Some(self.begin_detached(detached))
            }
            Task::Awaited(responder) => {
                self.id = responder.id();
                self.attempt.number = NonZeroU32::MIN;
                self.begin_awaited(responder, counters)
            }
            Task::Full(full) => self.begin_full(*full, counters),
        }
    }

    #[cold]
    fn begin_full(&mut self, full: FullTask<P, O, E>, counters: &Counters) -> Option<P> {
        let (options, body) = full.into_parts();
        self.id = options.id;
        let last = options.last_attempt();
        self.attempt.number = last.map_or(NonZeroU32::MIN, |last| last.number.saturating_add(1));
        let payload = match body? {
            Body::Detached(detached) => {
                self.token = options.token;
                self.begin_detached(detached)
            }
            Body::Awaited(responder) => self.begin_awaited(responder, counters)?,
            Body::Chunk(_) => unreachable!("a chunk is not run as one job"),
        };
        self.retry_state = options.retry_state;
        if let Some(retry_state) = &mut self.retry_state {
            retry_state.begin(self.attempt, &payload, options.header, self.token.as_ref());
        }
        Some(payload)
    }

    #[inline]
    fn begin_detached(&mut self, detached: Detached<P, E>) -> P {
        self.set_reply(ReplyTo::Errors(detached.errors));
        detached.payload
    }

    #[inline]
    fn begin_awaited(&mut self, responder: Responder<P, O, E>, counters: &Counters) -> Option<P> {
        let payload = if responder.has_handle() {
            self.begin_with_handle(&responder)
        } else {
            self.token = responder.token().cloned();
            responder.begin(self.attempt)
        };
        if payload.is_some() {
            self.set_reply(ReplyTo::Oneshot(responder));
        } else {
            self.token = None;
            panics::discard("job", responder);
            counters.in_flight.ended_unworked(self.epoch, 1);
        }
        payload
    }

    #[inline]
    fn begin_with_handle(&mut self, responder: &Responder<P, O, E>) -> Option<P> {
        let (payload, token) = responder.begin_with_handle(self.attempt, &self.worker_token)?;
        self.is_lent = token.is_none();
        self.token = token.or_else(|| Some(self.worker_token.clone()));
        Some(payload)
    }

    #[inline]
    fn set_reply(&mut self, reply: ReplyTo<P, O, E>) {
        let before = self.reply.replace(reply);
        debug_assert!(before.is_none(), "the job before was answered");
        std::mem::forget(before); // a drop would look whether there is something to drop
    }

    /// The job's token, if it has one. Returns it once.
    #[inline]
    pub(crate) fn take_token(&mut self) -> Option<CancelToken> {
        self.token.take()
    }

    /// Takes back the token that the job was lent, if it was. If a clone is left, or the token was
    /// used, the next job gets a new one.
    #[inline]
    fn take_back_token(&mut self) {
        if std::mem::take(&mut self.is_lent) && !self.worker_token.is_unused() {
            self.worker_token = CancelToken::new();
        }
    }

    /// Another attempt, if one follows this outcome. Then there is nothing to answer.
    #[inline]
    pub(crate) fn next_attempt(
        &mut self,
        outcome: Outcome,
        closing: impl FnOnce() -> bool,
    ) -> Option<NextAttempt<P, O, E>> {
        let retry_state = self.retry_state.take()?;
        next_attempt(self.id, retry_state, &mut self.reply, outcome, closing())
    }

    /// Answers the current job. Never blocks, and contains the panics of what it drops. Before it
    /// drops what nobody wants, which may take long, it calls `before_drop`. If a detached job
    /// succeeded, it returns the job's error sender, for the caller to drop.
    #[inline]
    pub(crate) fn answer(
        &mut self,
        result: RunResult<O, E>,
        counters: &Counters,
        before_drop: impl FnOnce(),
    ) -> Option<Sender<DetachedError<E>>> {
        let ended: Ended<O, E> = match result {
            RunResult::Returned(Ok(output)) => Ok(output),
            RunResult::Returned(Err(error)) => Err(self.error(Failure::Worker(error))),
            RunResult::Panicked(panic) => {
                Err(self.error(Failure::Panicked(panics::message(panic))))
            }
        };
        match (self.reply.take()?, ended) {
            (ReplyTo::Errors(errors), Ok(output)) => {
                panics::discard("output", output);
                Some(errors)
            }
            (ReplyTo::Errors(errors), Err(error)) => {
                report(self.id, *error, &errors, Some(counters));
                // The last sender drops what is left in the channel.
                panics::discard("sender", errors);
                None
            }
            (ReplyTo::Oneshot(responder), ended) => {
                let unwanted = responder.finish(ended);
                self.take_back_token();
                // If the caller is gone, the worker is the last owner, and drops the result.
                if unwanted.is_some() || responder.is_last() {
                    before_drop();
                }
                panics::discard("result", unwanted);
                panics::discard("result", responder);
                None
            }
        }
    }

    #[cold]
    fn error(&self, cause: Failure<E>) -> Box<JobError<E>> {
        Box::new(JobError::new(self.id, Some(self.attempt), cause))
    }
}

/// What follows this run of a job with retries: another attempt, unless this was the last; then
/// `reply` is left to be answered. If another follows, a caller that gives up on the job from here
/// on finds it between two attempts.
#[cold]
fn next_attempt<P, O, E>(
    id: JobId,
    mut retry_state: Box<RetryState<P>>,
    reply: &mut Option<ReplyTo<P, O, E>>,
    outcome: Outcome,
    closing: bool,
) -> Option<NextAttempt<P, O, E>> {
    let saved = retry_state.wanted(outcome, closing)?;
    let body = match reply.take()? {
        ReplyTo::Oneshot(responder) => match responder.queue_again(saved.payload) {
            Ok(()) => Body::Awaited(responder),
            Err(payload) => {
                panics::discard("payload", payload);
                *reply = Some(ReplyTo::Oneshot(responder)); // no caller waits any more
                return None;
            }
        },
        ReplyTo::Errors(errors) => Body::Detached(Detached {
            payload: saved.payload,
            errors,
        }),
    };
    let now = time::now();
    let delay = retry_state.retry.delay(retry_state.attempts());
    // A delay that overflows lasts a year: the job ends by its token, its deadline, or the pool's
    // end.
    let at = now.checked_add(delay).unwrap_or(now + YEAR);
    let options = TaskOptions {
        id,
        header: saved.header,
        token: saved.token.filter(|_| matches!(body, Body::Detached(_))),
        retry_state: Some(retry_state),
    };
    Some(Box::new((Task::full(options, body), at)))
}
