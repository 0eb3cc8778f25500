//! A job on its way: what lies in the channels between submitter and worker.

use std::any::Any;

use std::time::Instant;

use crate::again::{Again, Try};
use crate::batch::Chunk;
use crate::bell::Bell;
use crate::books::Books;
use crate::cancel::{CancelToken, Fired, Watch};
use crate::error::{Cause, DetachedError, JobError, Reason};
use crate::idle::Generation;
use crate::job::{JobId, Outcome, Priority};
use crate::mark::Mark;
use crate::panics;
use crate::park::Wake;
use crate::slot::Slot;
use crate::sync::channel::Sender;
use crate::sync::{Arc, Ordering::SeqCst};
use crate::timings::Stamp;
use crate::worker::WorkerId;

/// One accepted job. It is answered exactly once: by the worker that runs it or by whoever turns it
/// away; a ticket that is dropped unanswered answers "closed".
pub(crate) struct Ticket<P, O, E> {
    id: JobId,
    token: Option<CancelToken>,
    mark: Mark,
    /// What few jobs have.
    extras: Option<Box<Extras<P>>>,
    /// `None` once it is answered.
    body: Option<Body<P, O, E>>,
}

struct Extras<P> {
    /// While the job waits, tells the dispatcher that its token fired.
    watch: Option<Watch>,
    again: Option<Box<Again<P>>>,
}

pub(crate) enum Body<P, O, E> {
    /// Somebody waits, or may; the payload lies in the slot, where the caller can take it back.
    Awaited(Arc<Slot<P, O, E>>),
    /// Only failures are heard of.
    Detached {
        payload: P,
        errors: Sender<DetachedError<E>>,
    },
    /// Several inputs of a batch. There may be several such tickets for one chunk.
    Chunk(Arc<Chunk<P, O, E>>),
}

/// What is written on a ticket.
pub(crate) struct Heading<P> {
    pub(crate) id: JobId,
    pub(crate) mark: Mark,
    pub(crate) token: Option<CancelToken>,
    pub(crate) again: Option<Box<Again<P>>>,
}

/// Whether a job that has not begun still should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Live,
    /// To be turned away for this reason.
    Dead(Reason),
    /// Its caller gave up and has its payload back: nothing is left to be answered.
    Gone,
}

/// What the pure dispatcher core needs to know of a job.
pub(crate) trait Fated {
    fn priority(&self) -> Priority;
    fn fate(&self) -> Fate;
    /// When it is late.
    fn deadline(&self) -> Option<Instant>;
}

/// The way back for the result of a job that runs.
pub(crate) enum ReplyTo<P, O, E> {
    Slot(Arc<Slot<P, O, E>>),
    Errors(Sender<DetachedError<E>>),
}

/// A job that a worker begins.
pub(crate) struct Begun<P, O, E> {
    pub(crate) id: JobId,
    pub(crate) generation: Generation,
    /// When it was accepted, in pools with timings.
    pub(crate) accepted: Stamp,
    pub(crate) payload: P,
    pub(crate) token: Option<CancelToken>,
    pub(crate) reply: ReplyTo<P, O, E>,
    /// Its number, from 1 on.
    pub(crate) this: Try,
    pub(crate) again: Option<Box<Again<P>>>,
}

impl<P, O, E> Fated for Ticket<P, O, E> {
    fn priority(&self) -> Priority {
        self.mark.priority()
    }

    fn deadline(&self) -> Option<Instant> {
        self.token.as_ref().and_then(CancelToken::deadline)
    }

    fn fate(&self) -> Fate {
        let gone = match &self.body {
            Some(Body::Awaited(slot)) => slot.is_settled(),
            Some(Body::Chunk(chunk)) => chunk.left() == 0,
            _ => false,
        };
        if gone {
            return Fate::Gone;
        }
        match self.token.as_ref().and_then(CancelToken::fired_by) {
            None => Fate::Live,
            Some(fired) => Fate::Dead(fired.into()),
        }
    }
}

impl From<Fired> for Reason {
    fn from(fired: Fired) -> Self {
        match fired {
            Fired::Cancel => Reason::Cancelled,
            Fired::Deadline => Reason::DeadlinePassed,
        }
    }
}

/// The same in the words of a job that was accepted.
pub(crate) fn cause_of<E>(reason: Reason) -> Cause<E> {
    match reason {
        Reason::Cancelled => Cause::Cancelled,
        Reason::DeadlinePassed => Cause::DeadlinePassed,
        Reason::NoWorkers => Cause::NoWorkers,
        Reason::Full | Reason::Closed | Reason::WouldDeadlock => Cause::Closed,
    }
}

impl<P, O, E> Ticket<P, O, E> {
    pub(crate) fn awaited(heading: Heading<P>, slot: Arc<Slot<P, O, E>>) -> Self {
        Ticket::new(heading, Body::Awaited(slot))
    }

    pub(crate) fn detached(
        heading: Heading<P>,
        payload: P,
        errors: Sender<DetachedError<E>>,
    ) -> Self {
        Ticket::new(heading, Body::Detached { payload, errors })
    }

    /// A chunk on its way to its first worker, or to another one.
    pub(crate) fn chunk(chunk: Arc<Chunk<P, O, E>>) -> Self {
        let label = chunk.label();
        let heading = Heading {
            id: chunk.job(0),
            mark: label.mark,
            token: label.token.clone(),
            again: None,
        };
        Ticket::new(heading, Body::Chunk(chunk))
    }

    /// The chunk, if it is one: to be run by the worker that took the ticket.
    #[inline]
    pub(crate) fn as_chunk(&mut self) -> Option<Arc<Chunk<P, O, E>>> {
        if !matches!(self.body, Some(Body::Chunk(_))) {
            return None; // without moving the others out and in
        }
        match self.body.take() {
            Some(Body::Chunk(chunk)) => Some(chunk),
            _ => None,
        }
    }

    pub(crate) fn new(heading: Heading<P>, body: Body<P, O, E>) -> Self {
        let extras = heading.again.map(|again| {
            Box::new(Extras {
                watch: None,
                again: Some(again),
            })
        });
        Ticket {
            id: heading.id,
            token: heading.token,
            mark: heading.mark,
            extras,
            body: Some(body),
        }
    }

    /// The job has to wait: from now on the dispatcher is told if its token is cancelled. The token
    /// comes back, if it may fire by itself; see [`Shared::enqueue`](crate::shared::Shared).
    pub(crate) fn be_watched(&mut self, bell: &Arc<Bell>) -> Option<CancelToken> {
        let token = self.token.as_ref()?;
        let cancellable = self.mark.is_cancellable();
        if cancellable {
            let watch = token.watch(Arc::clone(bell) as Arc<dyn Wake>);
            match &mut self.extras {
                Some(extras) => extras.watch = Some(watch),
                None => {
                    self.extras = Some(Box::new(Extras {
                        watch: Some(watch),
                        again: None,
                    }));
                }
            }
        }
        let may_fire = cancellable || token.deadline().is_some();
        may_fire.then(|| token.clone())
    }

    /// For the order of jobs that come back.
    pub(crate) fn order(&self) -> u64 {
        self.mark.order()
    }

    pub(crate) fn generation(&self) -> Generation {
        self.mark.generation()
    }

    /// The job is accepted. In pools with timings, what they noted takes the place of its number.
    #[inline]
    pub(crate) fn begin_wait(&mut self, books: &Books) {
        if let Some(timings) = &books.timings {
            self.mark.set_order(timings.begin_wait(self.order()));
        }
    }

    /// It waits no more: when it was accepted, in pools with timings.
    #[inline]
    pub(crate) fn end_wait(&self, books: &Books) -> Stamp {
        self.end_wait_by(books, 0)
    }

    /// The same by the worker of this number, or by anybody for 0.
    #[inline]
    fn end_wait_by(&self, books: &Books, worker: u64) -> Stamp {
        let timings = books.timings.as_ref();
        timings.map_or(0, |timings| timings.end_wait(self.order(), worker))
    }

    /// The job was not accepted: its payload.
    pub(crate) fn into_payload(mut self, books: &Books) -> Option<P> {
        books.turned_away(self.generation(), 1);
        match self.body.take()? {
            Body::Awaited(slot) => match slot.give_up(true) {
                crate::slot::GivenUp::Unstarted(payload) => Some(payload),
                _ => None,
            },
            Body::Detached { payload, .. } => Some(payload),
            Body::Chunk(_) => None,
        }
    }

    /// A worker begins the job, unless it is too late; then it is answered.
    #[inline]
    pub(crate) fn begin(mut self, worker: WorkerId, books: &Books) -> Option<Begun<P, O, E>> {
        if let Some(fired) = self.token.as_ref().and_then(CancelToken::fired_by) {
            self.refuse(fired.into(), books);
            return None;
        }
        let accepted = self.end_wait_by(books, worker.get());
        let this = Try {
            worker,
            number: self.last_try().map_or(1, |last| last.number + 1),
        };
        let (payload, reply) = match self.body.take()? {
            Body::Awaited(slot) => match slot.begin(this) {
                Some(payload) => (payload, ReplyTo::Slot(slot)),
                None => {
                    panics::discard("job", slot);
                    books.census.ended_unworked(self.generation(), 1);
                    return None;
                }
            },
            Body::Detached { payload, errors } => (payload, ReplyTo::Errors(errors)),
            Body::Chunk(_) => unreachable!("a chunk is run as such"),
        };
        let mut again = self.extras.take().and_then(|extras| extras.again);
        if let Some(again) = &mut again {
            again.begin(this, &payload, self.mark, self.token.as_ref());
        }
        Some(Begun {
            id: self.id,
            generation: self.generation(),
            accepted,
            payload,
            token: self.token.take(),
            reply,
            this,
            again,
        })
    }

    /// The try that ended last.
    fn last_try(&self) -> Option<Try> {
        self.extras.as_ref()?.again.as_ref()?.last
    }

    /// Turns the job away, and says so to its caller. How many jobs was it?
    pub(crate) fn refuse(mut self, reason: Reason, books: &Books) -> usize {
        let own = self.own_jobs();
        let chunk = self.as_chunk().map(|chunk| {
            let refused = chunk.refuse(reason, Some(books));
            panics::discard("chunk", chunk);
            refused
        });
        self.end_wait(books);
        self.answer_refused(reason, Some(books));
        books.census.ended_unworked(self.generation(), own);
        chunk.unwrap_or(1)
    }

    /// How many jobs it stands for. A chunk keeps count of its own.
    fn own_jobs(&self) -> u64 {
        u64::from(!matches!(self.body, Some(Body::Chunk(_))))
    }

    /// The job's caller has taken it back; drops what is left.
    pub(crate) fn forget(mut self, books: &Books) {
        let own = self.own_jobs();
        self.end_wait(books);
        panics::discard("job", self.body.take());
        books.census.ended_unworked(self.generation(), own);
    }

    /// The job waited for the time of its next try, and gets none: it is turned away, or, without a
    /// reason, forgotten.
    pub(crate) fn end_back_off(mut self, reason: Option<Reason>, books: &Books) {
        books.backing_off.fetch_sub(1, SeqCst);
        self.begin_wait(books); // what follows ends it
        match reason {
            Some(reason) => {
                self.refuse(reason, books);
            }
            None => self.forget(books),
        }
    }

    fn answer_refused(&mut self, reason: Reason, books: Option<&Books>) {
        // Counted before the caller can know.
        let count = || books.iter().for_each(|books| books.refused(reason));
        match self.body.take() {
            None => {}
            Some(Body::Awaited(slot)) => {
                let rest = slot.reject(self.id, reason, count);
                panics::discard("payload", rest);
                panics::discard("job", slot);
            }
            Some(Body::Detached { payload, errors }) => {
                count();
                let error = JobError::new(self.id, self.last_try(), cause_of(reason));
                report(self.id, error, errors, books);
                panics::discard("payload", payload);
            }
            Some(Body::Chunk(chunk)) => {
                chunk.refuse(reason, books);
            }
        }
    }
}

impl<P, O, E> Drop for Ticket<P, O, E> {
    fn drop(&mut self) {
        if self.body.is_some() {
            self.answer_refused(Reason::Closed, None);
        }
    }
}

/// How a run ended, before it is answered.
pub(crate) enum Ran<O, E> {
    Returned(Result<O, E>),
    Panicked(Box<dyn Any + Send>),
}

impl<O, E> Ran<O, E> {
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Ran::Returned(Ok(_)) => Outcome::Completed,
            Ran::Returned(Err(_)) => Outcome::Failed,
            Ran::Panicked(_) => Outcome::Panicked,
        }
    }
}

impl<P, O, E> ReplyTo<P, O, E> {
    /// May somebody wait for it?
    pub(crate) fn is_awaited(&self) -> bool {
        matches!(self, ReplyTo::Slot(_))
    }

    /// Where a detached job's failure would go.
    pub(crate) fn errors(&self) -> Option<&Sender<DetachedError<E>>> {
        match self {
            ReplyTo::Slot(_) => None,
            ReplyTo::Errors(errors) => Some(errors),
        }
    }

    /// Answers the job. Never blocks, and contains the panics of what it drops; `busy` is called
    /// before it drops what nobody wants, which may take long. The sender of a detached job that
    /// succeeded is for the caller to give up.
    pub(crate) fn answer(
        self,
        id: JobId,
        this: Try,
        ran: Ran<O, E>,
        books: &Books,
        busy: impl FnOnce(),
    ) -> Option<Sender<DetachedError<E>>> {
        let result = match ran {
            Ran::Returned(Ok(output)) => Ok(output),
            Ran::Returned(Err(error)) => Err(Cause::Worker(error)),
            Ran::Panicked(panic) => Err(Cause::Panicked(panics::message(panic))),
        };
        let result = result.map_err(|cause| JobError::new(id, Some(this), cause));
        match self {
            ReplyTo::Slot(slot) => {
                let unwanted = slot.finish(result);
                // Its caller may be gone and leave it the last owner.
                if unwanted.is_some() || Arc::strong_count(&slot) == 1 {
                    busy();
                }
                panics::discard("result", unwanted);
                panics::discard("result", slot);
                None
            }
            ReplyTo::Errors(errors) => match result {
                Ok(output) => {
                    panics::discard("output", output);
                    Some(errors)
                }
                Err(error) => {
                    report(id, error, errors, Some(books));
                    None
                }
            },
        }
    }
}

/// Sends a detached job's failure, if its caller still listens and has room for it.
fn report<E>(
    id: JobId,
    error: JobError<E>,
    errors: Sender<DetachedError<E>>,
    books: Option<&Books>,
) {
    let lost = errors.try_send(DetachedError {
        id: id.get(),
        error,
    });
    if let Err(lost) = lost {
        panics::discard("worker error", lost);
        if let Some(books) = books {
            books.lost_error(id);
        }
    }
    // The last sender drops what is left in the channel.
    panics::discard("sender", errors);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With what a channel adds, a small job is one cache line.
    #[test]
    fn a_ticket_is_small() {
        assert!(size_of::<Ticket<u64, u64, u64>>() <= 56);
    }
}
