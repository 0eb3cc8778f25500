//! A worker at work: the loop reads like the lifecycle in the docs of [`Worker`].

use crate::worker::find_work::Seeker;
use crate::worker::invoke::{begins, ends};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::job::cancel::CancelToken;
use crate::job::tokens::Lent;
use crate::job::{Job, Outcome};
use crate::pool::Shared;
use crate::pool::roster::record::Seat;
use crate::sync::unwind as panics;
use crate::sync::{Arc, Ordering::SeqCst, fence};
use crate::task::free_list::Used;
use crate::worker::chunk as batch;
use crate::worker::current_job::{Hand, Ran};
use crate::worker::sender_cache::Spent;
use crate::worker::{Worker, WorkerHandle};

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
