//! A job on its way: what lies in the channels between submitter and worker.

pub(crate) mod chunk;
pub(crate) mod free_list;
pub(crate) mod header;
pub(crate) mod oneshot;
pub(crate) mod retry;

use crate::error::cause_of;
use crate::policy::dispatch::{Fate, Fated};
use std::time::Instant;

use crate::error::{DetachedError, JobError, Reason};
use crate::job::Priority;
use crate::job::cancel::{CancelToken, Fired, Watch};
use crate::job::id::JobId;
use crate::job::id::Try;
use crate::stats::clock::Stamp;
use crate::stats::counters::Books;
use crate::stats::in_flight::Generation;
use crate::sync::channel::Sender;
use crate::sync::park::Wake;
use crate::sync::unwind as panics;
use crate::sync::{Arc, Ordering::SeqCst};
use crate::task::chunk::Chunk;
use crate::task::header::Mark;
use crate::task::oneshot::{Asked, GivenUp, Slot};
use crate::task::retry::Again;

/// One accepted job. It is answered exactly once: by the worker that runs it or by whoever turns it
/// away; a ticket that is dropped unanswered answers "closed".
pub(crate) enum Ticket<P, O, E> {
    /// Somebody waits for the job, or may; all that is known of it is written on its slot.
    Awaited(Asked<P, O, E>),
    /// Only failures are heard of.
    Detached(Box<Form<P, E>>),
    /// Others, and those of both kinds of which there is more to know.
    Rich(Box<Rich<P, O, E>>),
}

/// What a detached job is written on; see [`Blanks`](crate::task::free_list::Blanks).
pub(crate) struct Form<P, E> {
    pub(crate) id: JobId,
    pub(crate) mark: Mark,
    /// `None` once the job is answered.
    load: Option<Load<P, E>>,
}

/// A detached job's payload, and where its failure goes.
pub(crate) struct Load<P, E> {
    pub(crate) payload: P,
    pub(crate) errors: Sender<DetachedError<E>>,
}

/// A job with a token, or with retries; or a chunk.
pub(crate) struct Rich<P, O, E> {
    heading: Heading<P>,
    /// While the job waits, tells the dispatcher that its token fired.
    watch: Option<Watch>,
    /// `None` once it is answered.
    body: Option<Body<P, O, E>>,
}

/// What is written on a rich ticket.
pub(crate) struct Heading<P> {
    pub(crate) id: JobId,
    pub(crate) mark: Mark,
    /// Of a detached job. Others have theirs in the body.
    pub(crate) token: Option<CancelToken>,
    pub(crate) again: Option<Box<Again<P>>>,
}

pub(crate) enum Body<P, O, E> {
    Awaited(Asked<P, O, E>),
    Detached(Load<P, E>),
    /// Several inputs of a batch. There may be several such tickets for one chunk.
    Chunk(Arc<Chunk<P, O, E>>),
}

/// The way back for the result of a job that runs.
pub(crate) enum ReplyTo<P, O, E> {
    Slot(Asked<P, O, E>),
    Errors(Sender<DetachedError<E>>),
}

/// What a ticket is for.
enum Kind<'a, P, O, E> {
    Awaited(&'a Slot<P, O, E>),
    Detached,
    Chunk(&'a Chunk<P, O, E>),
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
            Kind::Detached => false,
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

impl<P, O, E> Ticket<P, O, E> {
    #[inline]
    pub(crate) fn awaited(slot: Arc<Slot<P, O, E>>) -> Self {
        Ticket::Awaited(Asked(slot))
    }

    /// A detached job, written on this form.
    #[inline]
    pub(crate) fn detached(
        mut form: Box<Form<P, E>>,
        id: JobId,
        mark: Mark,
        payload: P,
        errors: Sender<DetachedError<E>>,
    ) -> Self {
        form.id = id;
        form.mark = mark;
        let before = form.load.replace(Load { payload, errors });
        debug_assert!(before.is_none(), "the form was blank");
        std::mem::forget(before); // which looks whether there is something to be dropped
        Ticket::Detached(form)
    }

    pub(crate) fn rich(heading: Heading<P>, body: Body<P, O, E>) -> Self {
        Ticket::Rich(Box::new(Rich {
            heading,
            watch: None,
            body: Some(body),
        }))
    }

    /// A chunk on its way to its first worker, or to another one.
    pub(crate) fn chunk(chunk: Arc<Chunk<P, O, E>>) -> Self {
        let heading = Heading {
            id: chunk.job(0),
            mark: chunk.label().mark,
            token: None,
            again: None,
        };
        Ticket::rich(heading, Body::Chunk(chunk))
    }

    /// The chunk, if it is one: to be run by the worker that took the ticket.
    #[inline]
    pub(crate) fn as_chunk(&mut self) -> Option<Arc<Chunk<P, O, E>>> {
        let Ticket::Rich(rich) = self else {
            return None;
        };
        match &rich.body {
            Some(Body::Chunk(chunk)) => {
                let chunk = Arc::clone(chunk);
                rich.body = None;
                Some(chunk)
            }
            _ => None,
        }
    }

    fn kind(&self) -> Kind<'_, P, O, E> {
        match self {
            Ticket::Awaited(asked) => Kind::Awaited(asked),
            Ticket::Detached(_) => Kind::Detached,
            Ticket::Rich(rich) => match &rich.body {
                Some(Body::Awaited(asked)) => Kind::Awaited(asked),
                Some(Body::Chunk(chunk)) => Kind::Chunk(chunk),
                _ => Kind::Detached,
            },
        }
    }

    /// The job has to wait: from now on the dispatcher is told if its token is cancelled. The token
    /// comes back, if it may fire by itself; see [`Shared::enqueue`](crate::pool::Shared).
    pub(crate) fn be_watched(&mut self, waker: &Arc<impl Wake + 'static>) -> Option<CancelToken> {
        let token = self.token()?.clone();
        let cancellable = self.mark().is_cancellable();
        if let (true, Ticket::Rich(rich)) = (cancellable, &mut *self) {
            rich.watch = Some(token.watch(Arc::clone(waker) as Arc<dyn Wake>));
        }
        let may_fire = cancellable || token.deadline().is_some();
        may_fire.then_some(token)
    }

    #[inline]
    pub(crate) fn mark(&self) -> Mark {
        match self {
            Ticket::Awaited(asked) => asked.mark(),
            Ticket::Detached(form) => form.mark,
            Ticket::Rich(rich) => rich.heading.mark,
        }
    }

    #[inline]
    pub(crate) fn token(&self) -> Option<&CancelToken> {
        match self {
            Ticket::Awaited(asked) => asked.token(),
            Ticket::Detached(_) => None,
            Ticket::Rich(rich) => rich.token(),
        }
    }

    /// For the order of jobs that come back.
    pub(crate) fn order(&self) -> u64 {
        self.mark().order()
    }

    pub(crate) fn generation(&self) -> Generation {
        self.mark().generation()
    }

    /// The job is accepted. In pools with timings, what they noted takes the place of its number.
    #[inline]
    pub(crate) fn begin_wait(&mut self, books: &Books) {
        if let Some(timings) = &books.timings {
            let mut mark = self.mark();
            mark.set_order(timings.begin_wait(mark.order()));
            match self {
                Ticket::Awaited(asked) => asked.set_mark(mark),
                Ticket::Detached(form) => form.mark = mark,
                Ticket::Rich(rich) => rich.heading.mark = mark,
            }
        }
    }

    /// It waits no more: when it was accepted, in pools with timings.
    #[inline]
    pub(crate) fn end_wait(&self, books: &Books) -> Stamp {
        self.end_wait_by(books, 0)
    }

    /// The same by the worker of this number, or by anybody for 0.
    #[inline]
    pub(crate) fn end_wait_by(&self, books: &Books, worker: u64) -> Stamp {
        let timings = books.timings.as_ref();
        timings.map_or(0, |timings| timings.end_wait(self.order(), worker))
    }

    /// The job was not accepted: its payload.
    pub(crate) fn into_payload(self, books: &Books) -> Option<P> {
        books.turned_away(self.generation(), 1);
        let unstarted = |slot: &Slot<P, O, E>| match slot.give_up(true) {
            GivenUp::Unstarted(payload) => Some(payload),
            _ => None,
        };
        match self {
            Ticket::Awaited(asked) => unstarted(&asked),
            Ticket::Detached(mut form) => Some(form.load.take()?.payload),
            Ticket::Rich(mut rich) => match rich.body.take()? {
                Body::Awaited(asked) => unstarted(&asked),
                Body::Detached(load) => Some(load.payload),
                Body::Chunk(_) => None,
            },
        }
    }

    /// Turns the job away, and says so to its caller. How many jobs was it?
    pub(crate) fn refuse(mut self, reason: Reason, books: &Books) -> usize {
        let (own, generation) = (self.own_jobs(), self.generation());
        let chunk = self.as_chunk().map(|chunk| {
            let refused = chunk.refuse(reason, Some(books));
            panics::discard("chunk", chunk);
            refused
        });
        self.end_wait(books);
        match self {
            Ticket::Awaited(asked) => {
                asked.refuse(asked.id(), reason, Some(books));
                panics::discard("job", asked);
            }
            Ticket::Detached(mut form) => form.answer_refused(reason, Some(books)),
            Ticket::Rich(mut rich) => rich.answer_refused(reason, Some(books)),
        }
        books.census.ended_unworked(generation, own);
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
            Ticket::Awaited(asked) => panics::discard("job", asked),
            Ticket::Detached(mut form) => panics::discard("job", form.load.take()),
            Ticket::Rich(mut rich) => panics::discard("job", rich.body.take()),
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

impl<P, E> Default for Form<P, E> {
    /// A blank one.
    fn default() -> Self {
        Form {
            id: JobId::new(0),
            mark: Mark::from_bits(0),
            load: None,
        }
    }
}

impl<P, E> Form<P, E> {
    /// What a worker that begins the job needs of it.
    #[inline]
    pub(crate) fn take_load(&mut self) -> Option<Load<P, E>> {
        self.load.take()
    }

    fn answer_refused(&mut self, reason: Reason, books: Option<&Books>) {
        if let Some(load) = self.load.take() {
            load.refuse(self.id, None, reason, books);
        }
    }
}

impl<P, E> Load<P, E> {
    fn refuse(self, id: JobId, last: Option<Try>, reason: Reason, books: Option<&Books>) {
        // Counted before the caller can know.
        books.iter().for_each(|books| books.refused(reason));
        let error = JobError::new(id, last, cause_of(reason));
        report(id, error, self.errors, books);
        panics::discard("payload", self.payload);
    }
}

impl<P, O, E> Rich<P, O, E> {
    /// Takes it apart: the heading, and what it is for, unless that was taken before.
    pub(crate) fn into_parts(mut self) -> (Heading<P>, Option<Body<P, O, E>>) {
        let Heading {
            id,
            mark,
            ref mut token,
            ref mut again,
        } = self.heading;
        let heading = Heading {
            id,
            mark,
            token: token.take(),
            again: again.take(),
        };
        (heading, self.body.take())
    }

    fn token(&self) -> Option<&CancelToken> {
        match &self.body {
            Some(Body::Awaited(asked)) => asked.token(),
            Some(Body::Chunk(chunk)) => chunk.label().token.as_ref(),
            _ => self.heading.token.as_ref(),
        }
    }

    fn answer_refused(&mut self, reason: Reason, books: Option<&Books>) {
        let id = self.heading.id;
        match self.body.take() {
            None => {}
            Some(Body::Awaited(asked)) => {
                asked.refuse(id, reason, books);
                panics::discard("job", asked);
            }
            Some(Body::Detached(load)) => load.refuse(id, self.heading.last_try(), reason, books),
            Some(Body::Chunk(chunk)) => {
                chunk.refuse(reason, books);
            }
        }
    }
}

impl<P> Heading<P> {
    /// The try that ended last.
    pub(crate) fn last_try(&self) -> Option<Try> {
        self.again.as_ref()?.last
    }
}

impl<P, E> Drop for Form<P, E> {
    #[inline]
    fn drop(&mut self) {
        if self.load.is_some() {
            self.answer_refused(Reason::Closed, None);
        }
    }
}

impl<P, O, E> Drop for Rich<P, O, E> {
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

    /// With what the allocator adds, a small job is less than a cache line.
    #[test]
    fn a_form_is_small() {
        assert!(size_of::<Form<[u64; 2], u64>>() <= 48);
        assert_eq!(size_of::<Ticket<u64, u64, u64>>(), 16);
    }
}
