//! A worker at work: the loop reads like the lifecycle in the docs of [`Worker`].

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;

use crate::job::cancel::CancelToken;
use crate::job::id::JobId;
use crate::job::tokens::Lent;
use crate::job::{Job, Outcome};
use crate::policy::dispatch::AGE;
use crate::policy::prefetch::{MANY, UNATTENDED, is_low};
use crate::pool::Shared;
use crate::pool::queue::run_queue::Taken;
use crate::pool::roster::record::Seat;
use crate::stats::clock::{Stamp, Timings};
use crate::stats::in_flight::Generation;
use crate::sync::backoff::Spin;
use crate::sync::unwind as panics;
use crate::sync::{Arc, Ordering::SeqCst, fence};
use crate::task::free_list::Used;
use crate::task::{Form, Ticket};
use crate::worker::chunk as batch;
use crate::worker::current_job::{Hand, Ran};
use crate::worker::sender_cache::Spent;
use crate::worker::{Worker, WorkerHandle};

/// When the released jobs are many, a worker looks at the low-water mark once in so many jobs.
const LOOK_EVERY: u32 = 8;

/// One worker from its start to its drop, on the calling thread.
pub(crate) fn run<P, O, E, W>(shared: &Shared<P, O, E>, seat: &Arc<Seat>, mut worker: W)
where
    W: Worker<P, O, E>,
{
    let id = seat.id();
    log::debug!("worker {id} of pool {:?} starts", shared.name());
    let mut seeker = Seeker {
        shared,
        seat,
        searching: false,
        taken: 1, // the first is not the others' turn
        ended: None,
        spent: Spent::new(),
        used: Used::new(&shared.blanks),
    };
    let handle = WorkerHandle::new(Arc::clone(seat));
    if contained(id, "start", || worker.start(&handle)) {
        // A worker's own, so that counting its owners is no other worker's business.
        let closing = shared.closing.child();
        Lent::serve(&closing);
        let mut hand = Hand::of(id);
        let work = AssertUnwindSafe(|| serve(&mut seeker, &mut worker, &closing, &mut hand));
        if let Err(panic) = catch_unwind(work) {
            if hand.is_empty() {
                resume_unwind(panic); // a bug in the pool itself
            }
            end(&mut seeker, &mut hand, Ran::Panicked(panic));
        }
    }
    seat.finish_now();
    seeker.stop_search();
    fence(SeqCst);
    seeker.report_ended(None);
    seeker.spent.drop_all();
    contained(id, "close", || worker.close());
    panics::discard("worker", worker);
}

fn contained(id: crate::job::id::WorkerId, what: &str, call: impl FnOnce()) -> bool {
    let result = catch_unwind(AssertUnwindSafe(call));
    result
        .map_err(|panic| {
            let message = panics::message(panic);
            log::error!("worker {id} panicked in {what}: {message}");
        })
        .is_ok()
}

/// Runs one job after the other until the worker is to leave. Hook, run, hook, *then* the reply: who
/// holds its result sees settled counters. A panic of the worker comes out of here, with its job still
/// in hand.
fn serve<P, O, E, W>(
    seeker: &mut Seeker<'_, P, O, E>,
    worker: &mut W,
    closing: &CancelToken,
    hand: &mut Hand<P, O, E>,
) where
    W: Worker<P, O, E>,
{
    while let Some(mut ticket) = seeker.next() {
        if let Some(chunk) = ticket.as_chunk() {
            let accepted = ticket.end_wait(&seeker.shared.books);
            seeker.spent.make_way(None);
            let well = batch::run(seeker, worker, closing, &chunk, accepted);
            seeker.ended = Some(ticket.generation());
            if !well {
                return;
            }
            continue;
        }
        seeker.ended = Some(ticket.generation());
        // Without a payload it was cancelled, late, or taken back, and has its answer.
        if let Some(payload) = hand.take(ticket, &seeker.shared.books, &mut seeker.used) {
            seeker.spent.make_way(hand.errors());
            begins(seeker.shared, seeker.seat, hand.id, hand.accepted);
            let tokens = Lent::new(hand.take_token(), closing);
            let result = worker.run(Job::new(hand.id, hand.this.number.get(), payload, tokens));
            end(seeker, hand, Ran::Returned(result));
        }
    }
}

/// The job in hand was run: another try follows, or its answer.
#[inline]
fn end<P, O, E>(seeker: &mut Seeker<'_, P, O, E>, hand: &mut Hand<P, O, E>, ran: Ran<O, E>) {
    let Seeker { shared, seat, .. } = *seeker;
    let outcome = ran.outcome();
    // The gate's word is not read without need: submitters write it.
    let next_try = hand.next_try(outcome, || shared.gate.is_closing());
    let last = next_try.is_none().then_some(outcome);
    ends(shared, seat, hand.id, outcome, last);
    if let Some(next_try) = next_try {
        let (ticket, at) = *next_try;
        panics::discard("worker error", ran);
        return shared.try_again(ticket, at);
    }
    if hand.is_awaited() && outcome != Outcome::Panicked {
        seeker.search_early();
    }
    let errors = hand.answer(ran, &shared.books, || seeker.stop_search());
    errors
        .into_iter()
        .for_each(|errors| seeker.spent.keep(errors));
    seat.job_settled(hand.generation);
}

/// A job, or an input of a batch, is about to run.
#[inline]
fn begins<P, O, E>(shared: &Shared<P, O, E>, seat: &Seat, id: JobId, accepted: Stamp) {
    let timings = shared.books.timings.as_ref();
    seat.job_begins(id, timings.map(|timings| (accepted, timings.now())));
    let me = seat.id();
    shared
        .hooks
        .each("job_start", |hook| hook.job_start(id, me));
}

/// It was run. `last` is its outcome, unless there is another try. A worker that panicked is on its way
/// out afterwards.
#[inline]
fn ends<P, O, E>(
    shared: &Shared<P, O, E>,
    seat: &Seat,
    id: JobId,
    outcome: Outcome,
    last: Option<Outcome>,
) {
    let me = seat.id();
    seat.job_ended(last, shared.books.timings.as_ref().map(Timings::now));
    shared
        .hooks
        .each("job_finish", |hook| hook.job_finish(id, me, outcome));
    if outcome == Outcome::Panicked {
        log::error!("worker {me} panicked in job {id} and ends");
        // Before the reply: who hears of the panic finds the worker on its way out.
        seat.finish_now();
    }
}

/// Runs one input of a batch, between its hooks.
pub(crate) fn run_input<P, O, E, W>(
    shared: &Shared<P, O, E>,
    seat: &Seat,
    worker: &mut W,
    job: Job<P>,
    accepted: Stamp,
) -> Ran<O, E>
where
    W: Worker<P, O, E>,
{
    let id = job.id();
    begins(shared, seat, id, accepted);
    let ran = match catch_unwind(AssertUnwindSafe(|| worker.run(job))) {
        Ok(result) => Ran::Returned(result),
        Err(panic) => Ran::Panicked(panic),
    };
    let outcome = ran.outcome();
    ends(shared, seat, id, outcome, Some(outcome));
    ran
}

/// How a worker finds its next job; see [`Crew`](crate::pool::roster::sleep::Crew) for why none is left lying.
pub(crate) struct Seeker<'a, P, O, E> {
    pub(crate) shared: &'a Shared<P, O, E>,
    pub(crate) seat: &'a Arc<Seat>,
    searching: bool,
    taken: u32,
    /// The generation of the job that it ended last, if that is not yet told.
    ended: Option<Generation>,
    spent: Spent<E>,
    used: Used<'a, Form<P, E>>,
}

impl<P, O, E> Seeker<'_, P, O, E> {
    /// Waits for the next job. `None` when the worker is to leave.
    #[inline]
    fn next(&mut self) -> Option<Ticket<P, O, E>> {
        if self.seat.is_leaving() {
            return None;
        }
        let Ok(ticket) = self.shared.ready.take_usual() else {
            return self.look_further();
        };
        self.took(ticket.generation(), false);
        self.stay_or_give_back(ticket)
    }

    /// As [`next`](Self::next), where the next job is not just there.
    fn look_further(&mut self) -> Option<Ticket<P, O, E>> {
        let ready = &self.shared.ready;
        let mut spin = Spin::default();
        // That there is nothing to do is told once; searching may have begun before.
        let mut told = false;
        loop {
            if self.seat.is_leaving() {
                return None;
            }
            let others_first = self.taken.is_multiple_of(AGE);
            let taken = ready.take(others_first).or_else(|| self.join_in());
            if let Some(Taken { job, waited }) = taken {
                self.took(job.generation(), waited);
                return self.stay_or_give_back(job);
            }
            if !std::mem::replace(&mut told, true) {
                self.spent.drop_all();
                self.tell_low_water();
                self.report_ended(None);
            }
            if !self.searching {
                self.searching = self.shared.crew.try_search();
                spin = Spin::default();
            }
            if !(self.searching && spin.turn_of_searcher(self.shared.crew.outlook())) {
                self.sleep(spin.began());
                spin = Spin::default();
            }
        }
    }

    /// A job of this generation was taken, and was counted as waiting if it `waited`.
    #[inline]
    fn took(&mut self, generation: Generation, waited: bool) {
        self.stop_search();
        self.report_ended(Some(generation));
        self.taken = self.taken.wrapping_add(1);
        if waited {
            self.shared.gate.leave(1);
        }
        self.look_after_others();
    }

    /// `None` if the worker is to leave after all.
    #[inline]
    fn stay_or_give_back(&self, ticket: Ticket<P, O, E>) -> Option<Ticket<P, O, E>> {
        if self.seat.is_leaving() {
            self.give_back(ticket);
            return None;
        }
        Some(ticket)
    }

    /// Finished between the look and the take: the job goes back to the others.
    #[cold]
    fn give_back(&self, ticket: Ticket<P, O, E>) {
        self.shared.ready.put_back(ticket.order(), ticket);
        fence(SeqCst);
        self.shared.crew.wake_one();
    }

    /// Nothing is ready: joins another worker that is at a chunk.
    #[inline]
    fn join_in(&self) -> Option<Taken<Ticket<P, O, E>>> {
        let shared = self.shared;
        if shared.open.is_empty() || shared.ready.is_held() {
            return None;
        }
        let mut job = Ticket::chunk(shared.open.join()?);
        job.begin_wait(&shared.books);
        Some(Taken { job, waited: false })
    }

    /// A caller that gets its answer may submit the next job at once. It shall find this worker
    /// searching, and not wake another.
    fn search_early(&mut self) {
        if !self.searching && !self.shared.has_work() {
            self.searching = self.shared.crew.try_search();
        }
    }

    /// Sleeps after a search that began then, if it was long.
    #[cold]
    fn sleep(&mut self, began: Option<Instant>) {
        let shared = self.shared;
        // Called when the worker counts as asleep.
        let work = || {
            if shared.gate.is_shut() {
                shared.bell.ring(); // the dispatcher waits for all to be at rest
            }
            shared.has_work() || self.seat.is_leaving()
        };
        let now = Instant::now();
        let searching = self.searching.then_some(began.unwrap_or(now));
        shared.crew.sleep(self.seat, searching, work);
        self.searching = true;
    }

    /// No longer searches, if it did; another shall, if there are jobs.
    fn stop_search(&mut self) {
        if std::mem::take(&mut self.searching) {
            self.shared.crew.stop_search();
            if self.shared.has_work() {
                self.shared.crew.wake_one();
            }
        }
    }

    /// Tells those who wait for a generation that a run of its jobs has ended, unless the next one is
    /// of the same. A sequentially consistent step lies between the end and this call.
    fn report_ended(&mut self, next: Option<Generation>) {
        if let Some(ended) = self.ended.take()
            && next != Some(ended)
        {
            self.shared.books.census.call_if_wanted(ended);
        }
    }

    /// Do the dispatcher and the other workers do their part?
    fn look_after_others(&mut self) {
        if self.shared.ready.depth() < MANY || self.taken.is_multiple_of(LOOK_EVERY) {
            self.tell_low_water();
            if self.shared.ready.released() >= UNATTENDED {
                self.shared.crew.help_search();
            }
        }
    }

    fn tell_low_water(&self) {
        let Shared { ready, bell, .. } = self.shared;
        if bell.job_taken(|| is_low(ready.released(), ready.depth())) {
            self.shared.stand_in();
        }
    }
}
