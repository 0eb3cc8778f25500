//! The one-shot reply: where a job's payload waits for a worker, and its result for the caller.
//!
//! `Queued → Running → Done`, by the worker, which may go back from `Running` to `Queued` for another
//! try; `Queued → Back` (or `Done`, if it was tried before), by whoever turns the job away;
//! `Queued → Gone` or `Running → Gone`, by a caller that gives up; `Done → Gone` and `Back → Gone`,
//! by the caller that takes the result. Each step is taken under the lock, so exactly one of
//! "ran" and "given up before it began" happens, and what the caller does not take is dropped once.
//!
//! A job with a handle gets a token when somebody asks for it, once. If it runs by then, that is the
//! one which its worker has lent it. Worker and handle ask under the lock, so there is one token per
//! job, whoever comes first.

use std::ops::Deref;
use std::sync::OnceLock;

use crate::error::cause_of;
use crate::error::{JobError, RejectReason, RejectedError, SubmitError};
use crate::job::cancel::CancelToken;
use crate::job::id::Attempt;
use crate::job::id::JobId;
use crate::stats::counters::Counters;
use crate::sync::park::{Parker, Wake};
use crate::sync::unwind as panics;
use crate::sync::{
    Arc, AtomicBool, AtomicU64, Mutex,
    Ordering::{Acquire, Relaxed, Release},
};
use crate::task::header::Header;

/// What a caller gets for a job.
pub(crate) type Reply<P, O, E> = Result<O, SubmitError<P, E>>;

/// What became of a job. Boxed errors: they are rare and wide.
pub(crate) type Ended<O, E> = Result<O, Box<JobError<E>>>;

pub(crate) struct Oneshot<P, O, E> {
    number: u64,
    header: AtomicU64,
    /// The stage is past `Running`: spinning callers look here, and the dispatcher, which skips
    /// jobs whose callers gave up.
    settled: AtomicBool,
    /// It may get a token later.
    has_handle: bool,
    /// Tells the job, and whoever waits for it, to give up. Set once, under the lock of `inner`.
    token: OnceLock<CancelToken>,
    inner: Mutex<Inner<P, O, E>>,
}

struct Inner<P, O, E> {
    stage: State<P, O, E>,
    /// Whoever waits for the result, once it sleeps.
    waiter: Option<Arc<Parker>>,
}

enum State<P, O, E> {
    /// With the try that ended last, if any.
    Queued(P, Option<Attempt>),
    /// Perhaps with a token that its worker has lent it.
    Running(Attempt, Option<CancelToken>),
    Done(Ended<O, E>),
    Back(RejectedError<P>),
    Gone,
}

/// The worker's side of a slot, and everybody's who holds the job's task: it owes an answer. Dropped
/// without one, it answers "closed".
pub(crate) struct Responder<P, O, E>(pub(crate) Arc<Oneshot<P, O, E>>);

impl<P, O, E> Responder<P, O, E> {
    /// Turns the job away, if nobody began it and its caller has not taken it back.
    pub(crate) fn reject(&self, job: JobId, reason: RejectReason, counters: Option<&Counters>) {
        // Counted before the caller can know.
        let count = || {
            counters
                .iter()
                .for_each(|counters| counters.rejected(reason))
        };
        let rest = self.0.reject(job, reason, count);
        panics::discard("payload", rest);
    }

    /// Has its caller let go of it?
    pub(crate) fn is_last(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl<P, O, E> Deref for Responder<P, O, E> {
    type Target = Oneshot<P, O, E>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<P, O, E> Drop for Responder<P, O, E> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_settled() {
            self.reject(self.id(), RejectReason::Closed, None);
        }
    }
}

/// What a caller that gives up finds.
pub(crate) enum CancelOutcome<P, O, E> {
    /// The job had not begun and never will.
    Unstarted(P),
    /// It had been tried before, and never will be again.
    BetweenTries(P, Attempt),
    /// The job goes on; its result will be dropped.
    Running(Attempt),
    /// Too late: it has ended.
    Settled(Reply<P, O, E>),
    /// Too late: the result was taken before.
    Taken,
}

/// What became of an attempt to turn a job away.
pub(crate) enum RejectOutcome<P> {
    /// Too late: a worker or the caller was faster.
    Not,
    /// Its payload went back to the caller.
    Away,
    /// It had been tried before: its payload is not wanted any more.
    AfterTries(P),
}

impl<P, O, E> Oneshot<P, O, E> {
    /// For the job of this number. Without a token, it may get one later if it has a handle.
    pub(crate) fn new(
        number: u64,
        header: Header,
        payload: P,
        token: Option<CancelToken>,
        has_handle: bool,
    ) -> Self {
        Oneshot {
            number,
            header: AtomicU64::new(header.to_bits()),
            settled: AtomicBool::new(false),
            has_handle,
            token: token.map_or_else(OnceLock::new, OnceLock::from),
            inner: Mutex::new(Inner {
                stage: State::Queued(payload, None),
                waiter: None,
            }),
        }
    }

    pub(crate) fn id(&self) -> JobId {
        JobId::new(self.number)
    }

    #[inline]
    pub(crate) fn header(&self) -> Header {
        Header::from_bits(self.header.load(Relaxed))
    }

    /// For whoever holds the job's task.
    pub(crate) fn set_header(&self, header: Header) {
        self.header.store(header.to_bits(), Relaxed);
    }

    #[inline]
    pub(crate) fn token(&self) -> Option<&CancelToken> {
        self.token.get()
    }

    /// The job's token: the one that it was given, that its worker has lent it, or a new one.
    pub(crate) fn own_token(&self) -> CancelToken {
        let inner = self.inner.lock();
        let token = self.token.get_or_init(|| match &inner.stage {
            State::Running(_, Some(lent)) => lent.clone(),
            _ => CancelToken::new(),
        });
        token.clone()
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Acquire)
    }

    pub(crate) fn has_handle(&self) -> bool {
        self.has_handle
    }

    /// A worker begins the job, which has no handle: the payload, unless the caller gave up before.
    #[inline]
    pub(crate) fn begin(&self, this: Attempt) -> Option<P> {
        self.inner.lock().begin(this, None)
    }

    /// The same for a job that has a handle. If it has no token yet, it is lent the worker's. Then it
    /// has none of its own in the answer.
    pub(crate) fn begin_with_handle(
        &self,
        this: Attempt,
        lent: &CancelToken,
    ) -> Option<(P, Option<CancelToken>)> {
        let mut inner = self.inner.lock();
        match self.token.get() {
            None => Some((inner.begin(this, Some(lent.clone()))?, None)),
            token => Some((inner.begin(this, None)?, token.cloned())),
        }
    }

    /// The worker's try failed, and another shall follow. The payload, if the caller gave up.
    pub(crate) fn queue_again(&self, payload: P) -> Result<(), P> {
        let mut inner = self.inner.lock();
        match inner.stage {
            State::Running(last, _) => {
                inner.stage = State::Queued(payload, Some(last));
                Ok(())
            }
            _ => Err(payload),
        }
    }

    /// The worker ended the job. Gives the result back if nobody wants it.
    #[inline]
    pub(crate) fn finish(&self, result: Ended<O, E>) -> Option<Ended<O, E>> {
        self.settle(|stage| match stage {
            State::Running(..) => {
                *stage = State::Done(result);
                Ok(None)
            }
            // Its caller gave up; but it has ended.
            _ => {
                self.settled.store(true, Release);
                Err(Some(result))
            }
        })
    }

    /// The job is turned away, if it is still queued; then `count` is called before its caller can
    /// know.
    pub(crate) fn reject(
        &self,
        job: JobId,
        reason: RejectReason,
        count: impl FnOnce(),
    ) -> RejectOutcome<P> {
        self.settle(|stage| match std::mem::replace(stage, State::Gone) {
            State::Queued(payload, None) => {
                count();
                *stage = State::Back(RejectedError { payload, reason });
                Ok(RejectOutcome::Away)
            }
            State::Queued(payload, last) => {
                count();
                let error = JobError::new(job, last, cause_of(reason));
                *stage = State::Done(Err(Box::new(error)));
                Ok(RejectOutcome::AfterTries(payload))
            }
            other => {
                *stage = other;
                Err(RejectOutcome::Not)
            }
        })
    }

    /// `Ok` if `change` ended the job: then its caller is told.
    fn settle<R>(&self, change: impl FnOnce(&mut State<P, O, E>) -> Result<R, R>) -> R {
        let (changed, waiter) = {
            let mut inner = self.inner.lock();
            match change(&mut inner.stage) {
                Err(unchanged) => return unchanged,
                Ok(changed) => {
                    self.settled.store(true, Release);
                    (changed, inner.waiter.take())
                }
            }
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
        changed
    }

    /// The result, once it is there. `None` before, and after it was taken.
    pub(crate) fn take(&self) -> Option<Reply<P, O, E>> {
        if !self.is_settled() {
            return None;
        }
        take_from(&mut self.inner.lock().stage)
    }

    /// From now on, `waiter` is woken when the result is there. The caller looks once more after
    /// this call.
    pub(crate) fn wake_when_settled(&self, waiter: &Arc<Parker>) {
        self.inner.lock().waiter = Some(Arc::clone(waiter));
    }

    /// The caller gives up. With `only_unstarted`, a running job is left as it is.
    pub(crate) fn cancel(&self, only_unstarted: bool) -> CancelOutcome<P, O, E> {
        let mut inner = self.inner.lock();
        match &inner.stage {
            State::Queued(..) => {
                self.settled.store(true, Release);
                match std::mem::replace(&mut inner.stage, State::Gone) {
                    State::Queued(payload, None) => CancelOutcome::Unstarted(payload),
                    State::Queued(payload, Some(last)) => {
                        CancelOutcome::BetweenTries(payload, last)
                    }
                    _ => unreachable!("the stage was just looked at"),
                }
            }
            State::Running(this, _) => {
                let this = *this;
                if !only_unstarted {
                    inner.stage = State::Gone;
                }
                CancelOutcome::Running(this)
            }
            _ => take_from(&mut inner.stage).map_or(CancelOutcome::Taken, CancelOutcome::Settled),
        }
    }
}

impl<P, O, E> Inner<P, O, E> {
    #[inline]
    fn begin(&mut self, this: Attempt, lent: Option<CancelToken>) -> Option<P> {
        if !matches!(self.stage, State::Queued(..)) {
            return None; // without moving the others out and in
        }
        match std::mem::replace(&mut self.stage, State::Running(this, lent)) {
            State::Queued(payload, _) => Some(payload),
            _ => None,
        }
    }
}

fn take_from<P, O, E>(stage: &mut State<P, O, E>) -> Option<Reply<P, O, E>> {
    match std::mem::replace(stage, State::Gone) {
        State::Done(result) => Some(result.map_err(|error| SubmitError::Failed(*error))),
        State::Back(rejected) => Some(Err(rejected.into())),
        other => {
            *stage = other;
            None
        }
    }
}
