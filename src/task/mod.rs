//! A task: an accepted job on its way through the channels from its submitter to its worker.
//!
//! # Forms
//!
//! | form | used for | holds |
//! |---|---|---|
//! | [`Task::Awaited`] | a job whose result may be awaited (a blocking call, a handle), without the caller's cancel token and without retries | the [`Responder`] alone: id, header, payload, the token with a deadline and the reply all are in its oneshot |
//! | [`Task::Detached`] | a detached job without token, deadline and retries | a recycled box: id, header, payload, error sender |
//! | [`Task::Full`] with [`Body::Awaited`] | an awaited job with the caller's cancel token or retries | a box: options (with the retry state), the watch on the token, the [`Responder`] |
//! | [`Task::Full`] with [`Body::Detached`] | a detached job with token, deadline or retries | a box: options (with token and retry state), the watch on the token, payload and error sender |
//! | [`Task::Full`] with [`Body::Chunk`] | a [chunk] of a batch, on its way to a worker: one task when it is sent off, one more for each worker that joins or that leaves some of it to others | a box: options, the watch on the token, the shared [`Chunk`] |
//!
//! There is more than one form since most jobs are plain, and pay for what they hold:
//!
//! - A blocking call needs only its oneshot, which caller and worker share anyway. A task that points
//!   to it is two words, and nothing else is allocated.
//! - A detached job has no oneshot. Its box is [recycled](free_list): with that, an empty detached job
//!   takes 100 ns of one core instead of 162.
//! - Options, watches and retries are rare, and a chunk stands for many jobs: all of these can pay for
//!   a box of their own.

pub(crate) mod chunk;
mod detached;
pub(crate) mod free_list;
pub(crate) mod header;
pub(crate) mod oneshot;
pub(crate) mod retry;

pub(crate) use detached::{Detached, DetachedTask, report};

use std::time::Instant;

use crate::error::{DetachedError, RejectReason};
use crate::job::Priority;
use crate::job::cancel::{CancelToken, Fired, Watch};
use crate::job::id::{Attempt, JobId};
use crate::policy::dispatch::{Schedulable, Status};
use crate::stats::clock::Stamp;
use crate::stats::counters::Counters;
use crate::stats::in_flight::Epoch;
use crate::sync::park::Wake;
use crate::sync::unwind as panics;
use crate::sync::user_channel::Sender;
use crate::sync::{Arc, Ordering::SeqCst};
use crate::task::chunk::Chunk;
use crate::task::header::Header;
use crate::task::oneshot::{CancelOutcome, Oneshot, Responder};
use crate::task::retry::RetryState;

/// One accepted job, or a chunk of them. Each job is answered exactly once: by the worker that runs it,
/// or by whoever rejects it. A task that is dropped unanswered answers "closed".
pub(crate) enum Task<P, O, E> {
    /// Somebody waits for the job, or may. All that is known of it is in its oneshot.
    Awaited(Responder<P, O, E>),
    /// Only failures are reported.
    Detached(Box<DetachedTask<P, E>>),
    /// Jobs of both kinds that have options, and chunks.
    Full(Box<FullTask<P, O, E>>),
}

/// A job with a token or with retries, or a chunk.
pub(crate) struct FullTask<P, O, E> {
    options: TaskOptions<P>,
    /// While the job waits, tells the dispatcher that its token was cancelled.
    watch: Option<Watch>,
    /// `None` once the job is answered, or its body was taken.
    body: Option<Body<P, O, E>>,
}

/// What a [`FullTask`] holds besides its body.
pub(crate) struct TaskOptions<P> {
    pub(crate) id: JobId,
    pub(crate) header: Header,
    /// A detached job's token. Other jobs have theirs in the body.
    pub(crate) token: Option<CancelToken>,
    pub(crate) retry_state: Option<Box<RetryState<P>>>,
}

pub(crate) enum Body<P, O, E> {
    Awaited(Responder<P, O, E>),
    Detached(Detached<P, E>),
    /// Several inputs of a batch. One chunk may have several such tasks.
    Chunk(Arc<Chunk<P, O, E>>),
}

/// Where the result of a running job goes.
pub(crate) enum ReplyTo<P, O, E> {
    Oneshot(Responder<P, O, E>),
    Errors(Sender<DetachedError<E>>),
}

/// What a task is for, whatever its form.
enum Kind<'a, P, O, E> {
    Awaited(&'a Oneshot<P, O, E>),
    Detached,
    Chunk(&'a Chunk<P, O, E>),
}

impl<P, O, E> Schedulable for Task<P, O, E> {
    fn priority(&self) -> Priority {
        self.header().priority()
    }

    fn deadline(&self) -> Option<Instant> {
        self.token().and_then(CancelToken::deadline)
    }

    fn status(&self) -> Status {
        let withdrawn = match self.kind() {
            Kind::Awaited(oneshot) => oneshot.is_settled(),
            Kind::Chunk(chunk) => chunk.left() == 0,
            Kind::Detached => false,
        };
        if withdrawn {
            return Status::Withdrawn;
        }
        match self.token().and_then(CancelToken::fired_by) {
            None => Status::Ready,
            Some(fired) => Status::Expired(fired.into()),
        }
    }
}

impl From<Fired> for RejectReason {
    fn from(fired: Fired) -> Self {
        match fired {
            Fired::Cancel => RejectReason::Cancelled,
            Fired::Deadline => RejectReason::DeadlinePassed,
        }
    }
}

impl<P, O, E> Task<P, O, E> {
    #[inline]
    pub(crate) fn awaited(oneshot: Arc<Oneshot<P, O, E>>) -> Self {
        Task::Awaited(Responder(oneshot))
    }

    /// A detached job, in this empty box.
    #[inline]
    pub(crate) fn detached(
        mut task: Box<DetachedTask<P, E>>,
        id: JobId,
        header: Header,
        payload: P,
        errors: Sender<DetachedError<E>>,
    ) -> Self {
        task.fill(id, header, Detached { payload, errors });
        Task::Detached(task)
    }

    pub(crate) fn full(options: TaskOptions<P>, body: Body<P, O, E>) -> Self {
        Task::Full(Box::new(FullTask {
            options,
            watch: None,
            body: Some(body),
        }))
    }

    /// A chunk on its way to its first worker, or to another one.
    pub(crate) fn chunk(chunk: Arc<Chunk<P, O, E>>) -> Self {
        let options = TaskOptions {
            id: chunk.job(0),
            header: chunk.header().header,
            token: None,
            retry_state: None,
        };
        Task::full(options, Body::Chunk(chunk))
    }

    /// Takes the chunk out of the task, if it is one. The caller runs or rejects it.
    #[inline]
    pub(crate) fn take_chunk(&mut self) -> Option<Arc<Chunk<P, O, E>>> {
        let Task::Full(full) = self else {
            return None;
        };
        match &full.body {
            Some(Body::Chunk(chunk)) => {
                let chunk = Arc::clone(chunk);
                full.body = None;
                Some(chunk)
            }
            _ => None,
        }
    }

    fn kind(&self) -> Kind<'_, P, O, E> {
        match self {
            Task::Awaited(responder) => Kind::Awaited(responder),
            Task::Detached(_) => Kind::Detached,
            Task::Full(full) => match &full.body {
                Some(Body::Awaited(responder)) => Kind::Awaited(responder),
                Some(Body::Chunk(chunk)) => Kind::Chunk(chunk),
                _ => Kind::Detached,
            },
        }
    }

    /// The job has to wait: from now on `waker` is woken when the job's token is cancelled. Returns the
    /// token if it may fire while the job waits: the dispatcher is to be told once the job is queued.
    pub(crate) fn watch_token(&mut self, waker: &Arc<impl Wake + 'static>) -> Option<CancelToken> {
        let token = self.token()?.clone();
        let cancellable = self.header().is_cancellable();
        if let (true, Task::Full(full)) = (cancellable, &mut *self) {
            full.watch = Some(token.watch(Arc::clone(waker) as Arc<dyn Wake>));
        }
        let may_fire = cancellable || token.deadline().is_some();
        may_fire.then_some(token)
    }

    #[inline]
    pub(crate) fn header(&self) -> Header {
        match self {
            Task::Awaited(responder) => responder.header(),
            Task::Detached(task) => task.header,
            Task::Full(full) => full.options.header,
        }
    }

    #[inline]
    pub(crate) fn token(&self) -> Option<&CancelToken> {
        match self {
            Task::Awaited(responder) => responder.token(),
            Task::Detached(_) => None,
            Task::Full(full) => full.token(),
        }
    }

    /// A caller that waits for its job heeds the token itself. Nobody else does it for these.
    #[inline]
    pub(crate) fn is_detached_with_token(&self) -> bool {
        match self {
            Task::Full(full) => {
                full.options.token.is_some() && matches!(full.body, Some(Body::Detached(_)))
            }
            _ => false,
        }
    }

    /// The job's number or, in pools with timings, what the clock noted.
    pub(crate) fn order(&self) -> u64 {
        self.header().order()
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.header().epoch()
    }

    /// The job is accepted and waits. In pools with timings, what the clock noted replaces its number.
    #[inline]
    pub(crate) fn begin_wait(&mut self, counters: &Counters) {
        if let Some(wait_clock) = &counters.wait_clock {
            let mut header = self.header();
            header.set_order(wait_clock.begin_wait(header.order()));
            match self {
                Task::Awaited(responder) => responder.set_header(header),
                Task::Detached(task) => task.header = header,
                Task::Full(full) => full.options.header = header,
            }
        }
    }

    /// The job waits no more. Returns when it was accepted, in pools with timings.
    #[inline]
    pub(crate) fn end_wait(&self, counters: &Counters) -> Stamp {
        self.end_wait_by(counters, 0)
    }

    /// The same, called by the worker of this number; 0 is for all other threads.
    #[inline]
    pub(crate) fn end_wait_by(&self, counters: &Counters, worker: u64) -> Stamp {
        let wait_clock = counters.wait_clock.as_ref();
        wait_clock.map_or(0, |wait_clock| wait_clock.end_wait(self.order(), worker))
    }

    /// The job was not accepted. Returns its payload.
    pub(crate) fn into_payload(self, counters: &Counters) -> Option<P> {
        counters.not_accepted_now(self.epoch(), 1);
        let unstarted = |oneshot: &Oneshot<P, O, E>| match oneshot.cancel(true) {
            CancelOutcome::Unstarted(payload) => Some(payload),
            _ => None,
        };
        match self {
            Task::Awaited(responder) => unstarted(&responder),
            Task::Detached(mut task) => Some(task.take()?.payload),
            Task::Full(mut full) => match full.body.take()? {
                Body::Awaited(responder) => unstarted(&responder),
                Body::Detached(detached) => Some(detached.payload),
                Body::Chunk(_) => None,
            },
        }
    }

    /// Rejects the job, and drops what is left of it. Returns how many jobs these were.
    pub(crate) fn reject(mut self, reason: RejectReason, counters: &Counters) -> usize {
        let jobs = self.answer_rejected(reason, counters);
        panics::discard("job", self);
        jobs
    }

    /// Rejects the job, and tells its caller. Never blocks and runs no user code: what is left in the
    /// task is for the caller to drop. Returns how many jobs these were.
    pub(crate) fn answer_rejected(&mut self, reason: RejectReason, counters: &Counters) -> usize {
        let (own, epoch) = (self.own_jobs(), self.epoch());
        self.end_wait(counters);
        let mut jobs = 1;
        match self {
            Task::Awaited(responder) => responder.reject(reason, Some(counters)),
            Task::Detached(task) => task.reject(reason, Some(counters)),
            Task::Full(full) => jobs = full.reject(reason, Some(counters)),
        }
        counters.in_flight.ended_unworked(epoch, own);
        jobs
    }

    /// How many jobs to count as ended with this task. A chunk counts its jobs itself.
    fn own_jobs(&self) -> u64 {
        u64::from(!matches!(self.kind(), Kind::Chunk(_)))
    }

    /// The job's caller has taken it back. Drops what is left.
    pub(crate) fn discard(mut self, counters: &Counters) {
        self.end_withdrawn(counters);
        panics::discard("job", self);
    }

    /// The job's caller has taken it back. What is left in the task is for the caller to drop. Returns
    /// how many jobs these were.
    pub(crate) fn end_withdrawn(&mut self, counters: &Counters) -> usize {
        let (own, epoch) = (self.own_jobs(), self.epoch());
        self.end_wait(counters);
        match self {
            Task::Awaited(_) => {}
            Task::Detached(task) => task.withdraw(),
            Task::Full(full) => full.options.header = Header::ANSWERED,
        }
        counters.in_flight.ended_unworked(epoch, own);
        1
    }

    /// The job waited for its next attempt, and gets none. It is rejected, or discarded if there is no
    /// reason.
    pub(crate) fn end_backoff(mut self, reason: Option<RejectReason>, counters: &Counters) {
        counters.backing_off.fetch_sub(1, SeqCst);
        self.begin_wait(counters); // what follows ends the wait
        match reason {
            Some(reason) => {
                self.reject(reason, counters);
            }
            None => self.discard(counters),
        }
    }
}

impl<P, O, E> FullTask<P, O, E> {
    /// Takes the task apart. The body is `None` if it was taken before.
    pub(crate) fn into_parts(mut self) -> (TaskOptions<P>, Option<Body<P, O, E>>) {
        let TaskOptions {
            id,
            header,
            ref mut token,
            ref mut retry_state,
        } = self.options;
        let options = TaskOptions {
            id,
            header,
            token: token.take(),
            retry_state: retry_state.take(),
        };
        (options, self.body.take())
    }

    fn token(&self) -> Option<&CancelToken> {
        match &self.body {
            Some(Body::Awaited(responder)) => responder.token(),
            Some(Body::Chunk(chunk)) => chunk.header().token.as_ref(),
            _ => self.options.token.as_ref(),
        }
    }

    /// Leaves what is to be dropped in its place. Returns how many jobs these were.
    fn reject(&mut self, reason: RejectReason, counters: Option<&Counters>) -> usize {
        let (id, last) = (self.options.id, self.options.last_attempt());
        self.options.header = Header::ANSWERED;
        match &self.body {
            None => {}
            Some(Body::Awaited(responder)) => responder.reject(reason, counters),
            Some(Body::Detached(detached)) => detached.reject(id, last, reason, counters),
            Some(Body::Chunk(chunk)) => return chunk.reject(reason, counters),
        }
        1
    }
}

impl<P> TaskOptions<P> {
    /// The attempt that ended last.
    pub(crate) fn last_attempt(&self) -> Option<Attempt> {
        self.retry_state.as_ref()?.last
    }
}

impl<P, O, E> Drop for FullTask<P, O, E> {
    fn drop(&mut self) {
        if self.body.is_some() {
            if self.options.header != Header::ANSWERED {
                self.reject(RejectReason::Closed, None);
            }
            panics::discard("job", self.body.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With what the allocator adds, a small job is less than a cache line.
    #[test]
    fn tasks_are_small() {
        assert!(size_of::<DetachedTask<[u64; 2], u64>>() <= 48);
        assert_eq!(size_of::<Task<u64, u64, u64>>(), 16);
    }
}
