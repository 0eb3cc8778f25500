//! The one-shot reply: a job's payload waits here for a worker, and then its result for the caller.
//!
//! # States
//!
//! | from | to | by |
//! |---|---|---|
//! | `Queued` | `Running` | the worker that begins the job |
//! | `Running` | `Queued` | the worker, if another attempt follows |
//! | `Running` | `Done` | the worker that ends the job |
//! | `Queued` | `Rejected`, or `Done` if it was attempted before | whoever rejects the job |
//! | `Queued`, `Running` | `Gone` | a caller that gives up |
//! | `Done`, `Rejected` | `Gone` | the caller that takes the result |
//!
//! Each step is taken under the lock. So exactly one of "ran" and "given up before it began" happens,
//! and what the caller does not take is dropped once.
//!
//! A job with a handle gets a token when somebody first asks for it. If the job runs by then, its token
//! is the one that the worker lent it. Worker and handle both ask under the lock, so there is one token
//! per job, whoever comes first.

use crate::sync::OnceLock;
use std::ops::Deref;

use crate::error::{JobError, RejectReason, RejectedError, SubmitError, cause_of};
use crate::job::cancel::CancelToken;
use crate::job::id::{Attempt, JobId, WorkerId};
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

/// How a job ended. Errors are boxed: they are rare and wide.
pub(crate) type Ended<O, E> = Result<O, Box<JobError<E>>>;

pub(crate) struct Oneshot<P, O, E> {
    number: u64,
    header: AtomicU64,
    /// The job has ended, or was rejected or given up while it was queued. Spinning callers look here,
    /// and so does the dispatcher, which skips jobs whose callers gave up.
    settled: AtomicBool,
    /// The job may get a token later.
    has_handle: bool,
    /// The dispatcher is told when the token fires.
    watched: AtomicBool,
    /// Tells the job, and the caller that waits for it, to give up. Set once: at the start, or under
    /// the lock of `inner`.
    token: OnceLock<CancelToken>,
    inner: Mutex<Inner<P, O, E>>,
}

struct Inner<P, O, E> {
    state: State<P, O, E>,
    /// The caller that waits for the result, once it sleeps.
    waiter: Option<Arc<Parker>>,
    /// It is woken as soon as the job begins, too.
    wake_at_begin: bool,
}

enum State<P, O, E> {
    /// With the attempt that ended last, if any. With a reason, the job was rejected: the payload stays
    /// where it is until the caller takes it.
    Queued(P, Option<Attempt>, Option<RejectReason>),
    /// With the token that the worker lent the job, if it did.
    Running(Attempt, Option<CancelToken>),
    Done(Ended<O, E>),
    /// Given up, or taken.
    Gone,
}

impl<P, O, E> Drop for Oneshot<P, O, E> {
    /// The last owner, often a handle whose result nobody took, drops what is left.
    #[inline]
    fn drop(&mut self) {
        let state = &mut self.inner.get_mut().state;
        if !matches!(state, State::Gone) {
            panics::discard("result", std::mem::replace(state, State::Gone));
        }
    }
}

/// The answering side of a oneshot: it travels in the job's task, then the worker holds it. It owes an
/// answer; dropped without one, it answers "closed".
pub(crate) struct Responder<P, O, E>(pub(crate) Arc<Oneshot<P, O, E>>);

impl<P, O, E> Responder<P, O, E> {
    /// Rejects the job, if no worker began it and its caller has not taken it back.
    pub(crate) fn reject(&self, reason: RejectReason, counters: Option<&Counters>) {
        // Counted before the caller can know.
        let count = || {
            counters
                .iter()
                .for_each(|counters| counters.rejected(reason))
        };
        self.0.reject(reason, count);
    }

    /// Has the caller let go of the oneshot?
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
            self.reject(RejectReason::Closed, None);
        }
    }
}

/// What a caller that gives up finds.
pub(crate) enum CancelOutcome<P, O, E> {
    /// The job had not begun and never will.
    Unstarted(P),
    /// The job had been attempted before, and never will be again.
    BetweenAttempts(P, Attempt),
    /// The job goes on. Its result will be dropped, unless only unstarted jobs were to be cancelled.
    Running(Attempt),
    /// Too late: the job has ended.
    Settled(Reply<P, O, E>),
    /// Too late: the result was taken before.
    Taken,
}

/// What came of rejecting a job.
#[derive(Clone, Copy)]
pub(crate) enum RejectOutcome {
    /// Too late: a worker or the caller was faster.
    TooLate,
    /// The caller gets its payload back.
    Rejected,
    /// The job had been attempted before, so it failed: its payload is not wanted any more.
    AfterAttempts,
}

impl<P, O, E> Oneshot<P, O, E> {
    /// For the job of this number. A job without a token may get one later if it has a handle.
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
            watched: AtomicBool::new(header.is_cancellable()),
            token: token.map_or_else(OnceLock::new, OnceLock::from),
            inner: Mutex::new(Inner {
                state: State::Queued(payload, None, None),
                waiter: None,
                wake_at_begin: false,
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

    /// For the owner of the job's task.
    pub(crate) fn set_header(&self, header: Header) {
        self.header.store(header.to_bits(), Relaxed);
    }

    #[inline]
    pub(crate) fn token(&self) -> Option<&CancelToken> {
        self.token.get()
    }

    /// The job's token: the one that it was given, the one that its worker lent it, or a new one.
    pub(crate) fn token_or_new(&self) -> CancelToken {
        let inner = self.inner.lock();
        let token = self.token.get_or_init(|| match &inner.state {
            State::Running(_, Some(worker_token)) => worker_token.clone(),
            _ => CancelToken::new(),
        });
        token.clone()
    }

    /// Is the dispatcher to be told when the token fires, and was not before? Then the caller does it.
    pub(crate) fn watch_once(&self) -> bool {
        !self.watched.swap(true, Relaxed)
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Acquire)
    }

    pub(crate) fn has_handle(&self) -> bool {
        self.has_handle
    }

    /// A worker begins the job, which has no handle. Returns the payload, unless the job was given up
    /// or rejected before.
    #[inline]
    pub(crate) fn begin(&self, attempt: Attempt) -> Option<P> {
        self.inner.lock().begin(attempt, None)
    }

    /// The same for a job that has a handle. If the job has no token yet, the worker lends it its own,
    /// and the returned token is `None`.
    pub(crate) fn begin_with_handle(
        &self,
        attempt: Attempt,
        worker_token: &CancelToken,
    ) -> Option<(P, Option<CancelToken>)> {
        let mut inner = self.inner.lock();
        match self.token.get() {
            None => Some((inner.begin(attempt, Some(worker_token.clone()))?, None)),
            token => Some((inner.begin(attempt, None)?, token.cloned())),
        }
    }

    /// The worker's attempt failed, and another is to follow. Gives the payload back if the caller
    /// gave up.
    pub(crate) fn queue_again(&self, payload: P) -> Result<(), P> {
        let mut inner = self.inner.lock();
        match inner.state {
            State::Running(last, _) => {
                inner.state = State::Queued(payload, Some(last), None);
                Ok(())
            }
            _ => Err(payload),
        }
    }

    /// The worker ended the job. Gives the result back if nobody wants it.
    #[inline]
    pub(crate) fn finish(&self, result: Ended<O, E>) -> Option<Ended<O, E>> {
        self.settle(|state| match state {
            State::Running(..) => {
                *state = State::Done(result);
                Ok(None)
            }
            // Its caller gave up, but the job has ended.
            _ => {
                self.settled.store(true, Release);
                Err(Some(result))
            }
        })
    }

    /// Rejects the job if it is still queued. Then `count` is called before the caller can know.
    /// The payload is not moved: the caller of this may have a small stack, and must not drop it.
    pub(crate) fn reject(&self, reason: RejectReason, count: impl FnOnce()) -> RejectOutcome {
        self.settle(|state| match state {
            State::Queued(_, last, rejected @ None) => {
                count();
                *rejected = Some(reason);
                Ok(match last {
                    None => RejectOutcome::Rejected,
                    Some(_) => RejectOutcome::AfterAttempts,
                })
            }
            _ => Err(RejectOutcome::TooLate),
        })
    }

    /// Changes the state. If `change` returns `Ok`, the job has ended, and the waiting caller is woken.
    fn settle<R>(&self, change: impl FnOnce(&mut State<P, O, E>) -> Result<R, R>) -> R {
        let (changed, waiter) = {
            let mut inner = self.inner.lock();
            match change(&mut inner.state) {
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
        let state = self.inner.lock().state.take_ended()?;
        self.reply_of(state)
    }

    /// Without the lock: a payload that nobody wants is dropped.
    fn reply_of(&self, state: State<P, O, E>) -> Option<Reply<P, O, E>> {
        match state {
            State::Done(result) => Some(result.map_err(|error| SubmitError::Failed(*error))),
            State::Queued(payload, None, Some(reason)) => {
                Some(Err(RejectedError { payload, reason }.into()))
            }
            State::Queued(payload, last, Some(reason)) => {
                panics::discard("payload", payload);
                let error = JobError::new(self.id(), last, cause_of(reason));
                Some(Err(SubmitError::Failed(error)))
            }
            _ => None,
        }
    }

    /// From now on, `waiter` is woken when the result is there. The caller has to look once more after
    /// this call.
    pub(crate) fn wake_when_settled(&self, waiter: &Arc<Parker>) {
        self.inner.lock().waiter = Some(Arc::clone(waiter));
    }

    /// The worker that runs the job.
    pub(crate) fn running_on(&self) -> Option<WorkerId> {
        match &self.inner.lock().state {
            State::Running(attempt, _) => Some(attempt.worker),
            _ => None,
        }
    }

    /// From now on, the waiter is also woken when the job begins: then it waits for one worker, and no
    /// longer for any.
    pub(crate) fn wake_at_begin(&self) {
        self.inner.lock().wake_at_begin = true;
    }

    /// The caller gives up. With `only_unstarted`, a running job is left as it is.
    pub(crate) fn cancel(&self, only_unstarted: bool) -> CancelOutcome<P, O, E> {
        let mut inner = self.inner.lock();
        match &inner.state {
            State::Queued(_, _, None) => {
                self.settled.store(true, Release);
                match std::mem::replace(&mut inner.state, State::Gone) {
                    State::Queued(payload, None, _) => CancelOutcome::Unstarted(payload),
                    State::Queued(payload, Some(last), _) => {
                        CancelOutcome::BetweenAttempts(payload, last)
                    }
                    _ => unreachable!("the state was just looked at"),
                }
            }
            State::Running(attempt, _) => {
                let attempt = *attempt;
                if !only_unstarted {
                    inner.state = State::Gone;
                }
                CancelOutcome::Running(attempt)
            }
            _ => {
                let ended = inner.state.take_ended();
                drop(inner);
                let reply = ended.and_then(|state| self.reply_of(state));
                reply.map_or(CancelOutcome::Taken, CancelOutcome::Settled)
            }
        }
    }
}

impl<P, O, E> Inner<P, O, E> {
    #[inline]
    fn begin(&mut self, attempt: Attempt, lent_token: Option<CancelToken>) -> Option<P> {
        if !matches!(self.state, State::Queued(_, _, None)) {
            return None; // without moving another state out and in again
        }
        if self.wake_at_begin {
            self.waiter.iter().for_each(|waiter| waiter.wake());
        }
        match std::mem::replace(&mut self.state, State::Running(attempt, lent_token)) {
            State::Queued(payload, ..) => Some(payload),
            _ => None,
        }
    }
}

impl<P, O, E> State<P, O, E> {
    /// Takes what the job came to, if it has ended.
    fn take_ended(&mut self) -> Option<Self> {
        let ended = matches!(self, State::Done(_) | State::Queued(_, _, Some(_)));
        ended.then(|| std::mem::replace(self, State::Gone))
    }
}

#[cfg(all(test, worker_pool_shuttle))]
mod model;
