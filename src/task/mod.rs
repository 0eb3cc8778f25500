//! A job on its way: what lies in the channels between submitter and worker.

pub(crate) mod chunk;
pub(crate) mod free_list;
pub(crate) mod header;
pub(crate) mod oneshot;
pub(crate) mod retry;

use crate::error::cause_of;
use crate::policy::dispatch::{Schedulable, Status};
use std::time::Instant;

use crate::error::{DetachedError, JobError, RejectReason};
use crate::job::Priority;
use crate::job::cancel::{CancelToken, Fired, Watch};
use crate::job::id::Attempt;
use crate::job::id::JobId;
use crate::stats::clock::Stamp;
use crate::stats::counters::Counters;
use crate::stats::in_flight::Epoch;
use crate::sync::channel::Sender;
use crate::sync::park::Wake;
use crate::sync::unwind as panics;
use crate::sync::{Arc, Ordering::SeqCst};
use crate::task::chunk::Chunk;
use crate::task::header::Header;
use crate::task::oneshot::{CancelOutcome, Oneshot, Responder};
use crate::task::retry::RetryState;

/// One accepted job. It is answered exactly once: by the worker that runs it or by whoever turns it
/// away; a task that is dropped unanswered answers "closed".
pub(crate) enum Task<P, O, E> {
    /// Somebody waits for the job, or may; all that is known of it is written on its slot.
    Awaited(Responder<P, O, E>),
    /// Only failures are heard of.
    Detached(Box<DetachedTask<P, E>>),
    /// Others, and those of both kinds of which there is more to know.
    Full(Box<FullTask<P, O, E>>),
}

/// What a detached job is written on; see [`FreeList`](crate::task::free_list::FreeList).
pub(crate) struct DetachedTask<P, E> {
    pub(crate) id: JobId,
    pub(crate) header: Header,
    /// `None` once the job is answered.
    detached: Option<Detached<P, E>>,
}

/// A detached job's payload, and where its failure goes.
pub(crate) struct Detached<P, E> {
    pub(crate) payload: P,
    pub(crate) errors: Sender<DetachedError<E>>,
}

/// A job with a token, or with retries; or a chunk.
pub(crate) struct FullTask<P, O, E> {
    options: TaskOptions<P>,
    /// While the job waits, tells the dispatcher that its token fired.
    watch: Option<Watch>,
    /// `None` once it is answered.
    body: Option<Body<P, O, E>>,
}

/// What is written on a rich task.
pub(crate) struct TaskOptions<P> {
    pub(crate) id: JobId,
    pub(crate) header: Header,
    /// Of a detached job. Others have theirs in the body.
    pub(crate) token: Option<CancelToken>,
    pub(crate) retry_state: Option<Box<RetryState<P>>>,
}

pub(crate) enum Body<P, O, E> {
    Awaited(Responder<P, O, E>),
    Detached(Detached<P, E>),
    /// Several inputs of a batch. There may be several such tasks for one chunk.
    Chunk(Arc<Chunk<P, O, E>>),
}

/// The way back for the result of a job that runs.
pub(crate) enum ReplyTo<P, O, E> {
    Oneshot(Responder<P, O, E>),
    Errors(Sender<DetachedError<E>>),
}

/// What a task is for.
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
        let gone = match self.kind() {
            Kind::Awaited(oneshot) => oneshot.is_settled(),
            Kind::Chunk(chunk) => chunk.left() == 0,
            Kind::Detached => false,
        };
        if gone {
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

    /// A detached job, written on this form.
    #[inline]
    pub(crate) fn detached(
        mut blank: Box<DetachedTask<P, E>>,
        id: JobId,
        header: Header,
        payload: P,
        errors: Sender<DetachedError<E>>,
    ) -> Self {
        blank.id = id;
        blank.header = header;
        let before = blank.detached.replace(Detached { payload, errors });
        debug_assert!(before.is_none(), "the form was blank");
        std::mem::forget(before); // which looks whether there is something to be dropped
        Task::Detached(blank)
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

    /// The chunk, if it is one: to be run by the worker that took the task.
    #[inline]
    pub(crate) fn as_chunk(&mut self) -> Option<Arc<Chunk<P, O, E>>> {
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

    /// The job has to wait: from now on the dispatcher is told if its token is cancelled. The token
    /// comes back, if it may fire by itself; see [`Pool::enqueue`](crate::pool::Pool).
    pub(crate) fn be_watched(&mut self, waker: &Arc<impl Wake + 'static>) -> Option<CancelToken> {
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
            Task::Detached(blank) => blank.header,
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

    /// For the order of jobs that come back.
    pub(crate) fn order(&self) -> u64 {
        self.header().order()
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.header().epoch()
    }

    /// The job is accepted. In pools with timings, what they noted takes the place of its number.
    #[inline]
    pub(crate) fn begin_wait(&mut self, counters: &Counters) {
        if let Some(wait_clock) = &counters.wait_clock {
            let mut header = self.header();
            header.set_order(wait_clock.begin_wait(header.order()));
            match self {
                Task::Awaited(responder) => responder.set_header(header),
                Task::Detached(blank) => blank.header = header,
                Task::Full(full) => full.options.header = header,
            }
        }
    }

    /// It waits no more: when it was accepted, in pools with timings.
    #[inline]
    pub(crate) fn end_wait(&self, counters: &Counters) -> Stamp {
        self.end_wait_by(counters, 0)
    }

    /// The same by the worker of this number, or by anybody for 0.
    #[inline]
    pub(crate) fn end_wait_by(&self, counters: &Counters, worker: u64) -> Stamp {
        let wait_clock = counters.wait_clock.as_ref();
        wait_clock.map_or(0, |wait_clock| wait_clock.end_wait(self.order(), worker))
    }

    /// The job was not accepted: its payload.
    pub(crate) fn into_payload(self, counters: &Counters) -> Option<P> {
        counters.not_accepted_now(self.epoch(), 1);
        let unstarted = |oneshot: &Oneshot<P, O, E>| match oneshot.cancel(true) {
            CancelOutcome::Unstarted(payload) => Some(payload),
            _ => None,
        };
        match self {
            Task::Awaited(responder) => unstarted(&responder),
            Task::Detached(mut blank) => Some(blank.detached.take()?.payload),
            Task::Full(mut full) => match full.body.take()? {
                Body::Awaited(responder) => unstarted(&responder),
                Body::Detached(detached) => Some(detached.payload),
                Body::Chunk(_) => None,
            },
        }
    }

    /// Turns the job away, and says so to its caller. How many jobs was it?
    pub(crate) fn reject(mut self, reason: RejectReason, counters: &Counters) -> usize {
        let (own, epoch) = (self.own_jobs(), self.epoch());
        let chunk = self.as_chunk().map(|chunk| {
            let rejected = chunk.reject(reason, Some(counters));
            panics::discard("chunk", chunk);
            rejected
        });
        self.end_wait(counters);
        match self {
            Task::Awaited(responder) => {
                responder.reject(responder.id(), reason, Some(counters));
                panics::discard("job", responder);
            }
            Task::Detached(mut blank) => blank.answer_rejected(reason, Some(counters)),
            Task::Full(mut full) => full.answer_rejected(reason, Some(counters)),
        }
        counters.in_flight.ended_unworked(epoch, own);
        chunk.unwrap_or(1)
    }

    /// How many jobs it stands for. A chunk keeps count of its own.
    fn own_jobs(&self) -> u64 {
        u64::from(!matches!(self.kind(), Kind::Chunk(_)))
    }

    /// The job's caller has taken it back; drops what is left.
    pub(crate) fn discard(self, counters: &Counters) {
        let own = self.own_jobs();
        let epoch = self.epoch();
        self.end_wait(counters);
        match self {
            Task::Awaited(responder) => panics::discard("job", responder),
            Task::Detached(mut blank) => panics::discard("job", blank.detached.take()),
            Task::Full(mut full) => panics::discard("job", full.body.take()),
        }
        counters.in_flight.ended_unworked(epoch, own);
    }

    /// The job waited for the time of its next try, and gets none: it is turned away, or, without a
    /// reason, forgotten.
    pub(crate) fn end_back_off(mut self, reason: Option<RejectReason>, counters: &Counters) {
        counters.backing_off.fetch_sub(1, SeqCst);
        self.begin_wait(counters); // what follows ends it
        match reason {
            Some(reason) => {
                self.reject(reason, counters);
            }
            None => self.discard(counters),
        }
    }
}

impl<P, E> Default for DetachedTask<P, E> {
    /// A blank one.
    fn default() -> Self {
        DetachedTask {
            id: JobId::new(0),
            header: Header::from_bits(0),
            detached: None,
        }
    }
}

impl<P, E> DetachedTask<P, E> {
    /// What a worker that begins the job needs of it.
    #[inline]
    pub(crate) fn take_detached_parts(&mut self) -> Option<Detached<P, E>> {
        self.detached.take()
    }

    fn answer_rejected(&mut self, reason: RejectReason, counters: Option<&Counters>) {
        if let Some(detached) = self.detached.take() {
            detached.reject(self.id, None, reason, counters);
        }
    }
}

impl<P, E> Detached<P, E> {
    fn reject(
        self,
        id: JobId,
        last: Option<Attempt>,
        reason: RejectReason,
        counters: Option<&Counters>,
    ) {
        // Counted before the caller can know.
        counters
            .iter()
            .for_each(|counters| counters.rejected(reason));
        let error = JobError::new(id, last, cause_of(reason));
        report(id, error, self.errors, counters);
        panics::discard("payload", self.payload);
    }
}

impl<P, O, E> FullTask<P, O, E> {
    /// Takes it apart: the heading, and what it is for, unless that was taken before.
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

    fn answer_rejected(&mut self, reason: RejectReason, counters: Option<&Counters>) {
        let id = self.options.id;
        match self.body.take() {
            None => {}
            Some(Body::Awaited(responder)) => {
                responder.reject(id, reason, counters);
                panics::discard("job", responder);
            }
            Some(Body::Detached(detached)) => {
                detached.reject(id, self.options.last_attempt(), reason, counters)
            }
            Some(Body::Chunk(chunk)) => {
                chunk.reject(reason, counters);
            }
        }
    }
}

impl<P> TaskOptions<P> {
    /// The try that ended last.
    pub(crate) fn last_attempt(&self) -> Option<Attempt> {
        self.retry_state.as_ref()?.last
    }
}

impl<P, E> Drop for DetachedTask<P, E> {
    #[inline]
    fn drop(&mut self) {
        if self.detached.is_some() {
            self.answer_rejected(RejectReason::Closed, None);
        }
    }
}

impl<P, O, E> Drop for FullTask<P, O, E> {
    fn drop(&mut self) {
        if self.body.is_some() {
            self.answer_rejected(RejectReason::Closed, None);
        }
    }
}

/// Sends a detached job's failure, if its caller still listens and has room for it.
pub(crate) fn report<E>(
    id: JobId,
    error: JobError<E>,
    errors: Sender<DetachedError<E>>,
    counters: Option<&Counters>,
) {
    let lost = errors.try_send(DetachedError {
        id: id.get(),
        error,
    });
    if let Err(lost) = lost {
        panics::discard("worker error", lost);
        if let Some(counters) = counters {
            counters.lost_error(id);
        }
    }
    // The last sender drops what is left in the channel.
    panics::discard("sender", errors);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With what the allocator adds, a small job is less than a cache line.
    #[test]
    fn a_form_is_small() {
        assert!(size_of::<DetachedTask<[u64; 2], u64>>() <= 48);
        assert_eq!(size_of::<Task<u64, u64, u64>>(), 16);
    }
}
