//! A job on its way: what lies in the channels between submitter and worker.

use std::time::Instant;

use crate::again::{Again, Try};
use crate::batch::Chunk;
use crate::bell::Bell;
use crate::books::Books;
use crate::cancel::{CancelToken, Fired, Watch};
use crate::error::{Cause, DetachedError, JobError, Reason};
use crate::idle::Generation;
use crate::job::{JobId, Priority};
use crate::mark::Mark;
use crate::panics;
use crate::park::Wake;
use crate::slot::{Asked, GivenUp, Slot};
use crate::sync::channel::Sender;
use crate::sync::{Arc, Ordering::SeqCst};

/// One accepted job. It is answered exactly once: by the worker that runs it or by whoever turns it
/// away; a ticket that is dropped unanswered answers "closed".
pub(crate) enum Ticket<P, O, E> {
    /// A job with nothing but its slot, on which everything is written.
    Plain(Asked<P, O, E>),
    Written(Box<Form<P, O, E>>),
}

/// What all other tickets are written on; see [`Blanks`](crate::blanks::Blanks).
pub(crate) struct Form<P, O, E> {
    id: JobId,
    mark: Mark,
    /// What few jobs have.
    extras: Option<Box<Extras<P>>>,
    /// `None` once it is answered.
    body: Option<Body<P, O, E>>,
}

/// What a ticket is for.
enum Kind<'a, P, O, E> {
    Awaited(&'a Slot<P, O, E>),
    Chunk(&'a Chunk<P, O, E>),
    Other,
}

struct Extras<P> {
    /// Of a detached job; others have theirs in the body.
    token: Option<CancelToken>,
    /// While the job waits, tells the dispatcher that its token fired.
    watch: Option<Watch>,
    again: Option<Box<Again<P>>>,
}

impl<P> Extras<P> {
    fn none() -> Self {
        Extras {
            token: None,
            watch: None,
            again: None,
        }
    }
}

pub(crate) enum Body<P, O, E> {
    /// Somebody waits, or may; the payload lies in the slot, where the caller can take it back.
    Awaited(Asked<P, O, E>),
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
    /// Of a detached job.
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

impl<P, O, E> Fated for Ticket<P, O, E> {
    fn priority(&self) -> Priority {
        self.mark().priority()
    }

    fn deadline(&self) -> Option<Instant> {
        self.token().and_then(CancelToken::deadline)
    }

    fn fate(&self) -> Fate {
        let gone = match self.kind() {
            Kind::Awaited(slot) => slot.is_settled(),
            Kind::Chunk(chunk) => chunk.left() == 0,
            Kind::Other => false,
        };
        if gone {
            return Fate::Gone;
        }
        match self.token().and_then(CancelToken::fired_by) {
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
    /// A chunk on its way to its first worker, or to another one.
    pub(crate) fn chunk(chunk: Arc<Chunk<P, O, E>>) -> Self {
        let heading = Heading {
            id: chunk.job(0),
            mark: chunk.label().mark,
            token: None,
            again: None,
        };
        Ticket::new(None, heading, Body::Chunk(chunk))
    }

    /// The chunk, if it is one: to be run by the worker that took the ticket.
    #[inline]
    pub(crate) fn as_chunk(&mut self) -> Option<Arc<Chunk<P, O, E>>> {
        let Ticket::Written(form) = self else {
            return None;
        };
        if !matches!(form.body, Some(Body::Chunk(_))) {
            return None; // without moving the others out and in
        }
        match form.body.take() {
            Some(Body::Chunk(chunk)) => Some(chunk),
            _ => None,
        }
    }

    fn kind(&self) -> Kind<'_, P, O, E> {
        match self {
            Ticket::Plain(asked) => Kind::Awaited(asked),
            Ticket::Written(form) => match &form.body {
                Some(Body::Awaited(asked)) => Kind::Awaited(asked),
                Some(Body::Chunk(chunk)) => Kind::Chunk(chunk),
                _ => Kind::Other,
            },
        }
    }

    /// A job of which nothing is known but its slot.
    #[inline]
    pub(crate) fn plain(slot: Arc<Slot<P, O, E>>) -> Self {
        Ticket::Plain(Asked(slot))
    }

    /// Written on this form, if there is one.
    #[inline]
    pub(crate) fn new(
        blank: Option<Box<Form<P, O, E>>>,
        heading: Heading<P>,
        body: Body<P, O, E>,
    ) -> Self {
        let Heading {
            id,
            mark,
            token,
            again,
        } = heading;
        let plain = token.is_none() && again.is_none();
        let extras = (!plain).then(|| {
            Box::new(Extras {
                token,
                watch: None,
                again,
            })
        });
        let Some(mut form) = blank else {
            return Ticket::Written(Box::new(Form {
                id,
                mark,
                extras,
                body: Some(body),
            }));
        };
        form.id = id;
        form.mark = mark;
        form.extras = extras;
        form.body = Some(body);
        Ticket::Written(form)
    }

    /// The job has to wait: from now on the dispatcher is told if its token is cancelled. The token
    /// comes back, if it may fire by itself; see [`Shared::enqueue`](crate::shared::Shared).
    pub(crate) fn be_watched(&mut self, bell: &Arc<Bell>) -> Option<CancelToken> {
        let token = self.token()?.clone();
        let cancellable = self.mark().is_cancellable();
        if let (true, Ticket::Written(form)) = (cancellable, &mut *self) {
            let extras = form.extras.get_or_insert_with(|| Box::new(Extras::none()));
            extras.watch = Some(token.watch(Arc::clone(bell) as Arc<dyn Wake>));
        }
        let may_fire = cancellable || token.deadline().is_some();
        may_fire.then_some(token)
    }

    #[inline]
    pub(crate) fn mark(&self) -> Mark {
        match self {
            Ticket::Plain(asked) => asked.mark(),
            Ticket::Written(form) => form.mark,
        }
    }

    /// For the order of jobs that come back.
    pub(crate) fn order(&self) -> u64 {
        self.mark().order()
    }

    pub(crate) fn generation(&self) -> Generation {
        self.mark().generation()
    }

    /// The job is accepted. In pools with timings, its stamp takes the place of its number.
    #[inline]
    pub(crate) fn begin_wait(&mut self, books: &Books) {
        if let Some(timings) = &books.timings {
            let mut mark = self.mark();
            mark.set_order(timings.begin_wait());
            match self {
                Ticket::Plain(asked) => asked.set_mark(mark),
                Ticket::Written(form) => form.mark = mark,
            }
        }
    }

    /// It waits no more.
    #[inline]
    pub(crate) fn end_wait(&self, books: &Books) {
        if let Some(timings) = &books.timings {
            timings.end_wait(self.order());
        }
    }

    /// The job was not accepted: its payload.
    pub(crate) fn into_payload(self, books: &Books) -> Option<P> {
        books.turned_away(self.generation(), 1);
        let unstarted = |slot: &Slot<P, O, E>| match slot.give_up(true) {
            GivenUp::Unstarted(payload) => Some(payload),
            _ => None,
        };
        match self {
            Ticket::Plain(asked) => unstarted(&asked),
            Ticket::Written(mut form) => match form.body.take()? {
                Body::Awaited(asked) => unstarted(&asked),
                Body::Detached { payload, .. } => Some(payload),
                Body::Chunk(_) => None,
            },
        }
    }

    #[inline]
    pub(crate) fn token(&self) -> Option<&CancelToken> {
        match self.kind() {
            Kind::Awaited(slot) => slot.token(),
            Kind::Chunk(chunk) => chunk.label().token.as_ref(),
            Kind::Other => match self {
                Ticket::Written(form) => form.extras.as_ref()?.token.as_ref(),
                Ticket::Plain(_) => None,
            },
        }
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
        u64::from(!matches!(self.kind(), Kind::Chunk(_)))
    }

    /// The job's caller has taken it back; drops what is left.
    pub(crate) fn forget(self, books: &Books) {
        let own = self.own_jobs();
        let generation = self.generation();
        self.end_wait(books);
        match self {
            Ticket::Plain(asked) => panics::discard("job", asked),
            Ticket::Written(mut form) => panics::discard("job", form.body.take()),
        }
        books.census.ended_unworked(generation, own);
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
}

impl<P, O, E> Ticket<P, O, E> {
    fn answer_refused(&mut self, reason: Reason, books: Option<&Books>) {
        match self {
            Ticket::Plain(asked) => asked.refuse(asked.id(), reason, books),
            Ticket::Written(form) => form.answer_refused(reason, books),
        }
    }
}

impl<P, O, E> Form<P, O, E> {
    pub(crate) fn id(&self) -> JobId {
        self.id
    }

    pub(crate) fn mark(&self) -> Mark {
        self.mark
    }

    /// What a worker that begins the job needs of it: a part at a time, for to move it as a whole costs
    /// more than all the rest.
    #[inline]
    pub(crate) fn take_body(&mut self) -> Option<Body<P, O, E>> {
        self.body.take()
    }

    /// The token of a detached job, and what follows a try that failed.
    #[inline]
    pub(crate) fn take_extras(&mut self) -> (Option<CancelToken>, Option<Box<Again<P>>>) {
        match self.extras.take() {
            None => (None, None),
            Some(extras) => (extras.token, extras.again),
        }
    }

    /// The try that ended last.
    pub(crate) fn last_try(&self) -> Option<Try> {
        self.extras.as_ref()?.again.as_ref()?.last
    }

    fn answer_refused(&mut self, reason: Reason, books: Option<&Books>) {
        match self.body.take() {
            None => {}
            Some(Body::Awaited(asked)) => {
                asked.refuse(self.id, reason, books);
                panics::discard("job", asked);
            }
            Some(Body::Detached { payload, errors }) => {
                books.iter().for_each(|books| books.refused(reason));
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

impl<P, O, E> Drop for Form<P, O, E> {
    fn drop(&mut self) {
        if self.body.is_some() {
            self.answer_refused(Reason::Closed, None);
        }
    }
}

/// Sends a detached job's failure, if its caller still listens and has room for it.
pub(crate) fn report<E>(
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

    /// With what the allocator adds, a small job is one cache line.
    #[test]
    fn a_form_is_small() {
        assert!(size_of::<Form<[u64; 2], u64, u64>>() <= 56);
        assert_eq!(size_of::<Ticket<u64, u64, u64>>(), 16);
    }
}
