//! A worker at a chunk. Compiled for the worker's own type: a chunk costs one look at its ticket, and
//! each input no more than the loop below.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::error::{Cause, JobError, Reason, SubmitError};
use crate::job::cancel::CancelToken;
use crate::job::id::JobId;
use crate::job::id::Try;
use crate::job::tokens::Lent;
use crate::job::{Job, Outcome, Priority};
use crate::pool::Shared;
use crate::pool::roster::record::Seat;
use crate::stats::clock::Stamp;
use crate::sync::unwind as panics;
use crate::sync::{Arc, Ordering::SeqCst, fence};
use crate::task::Ticket;
use crate::task::chunk::{Chunk, Claim};
use crate::worker::Worker;
use crate::worker::current_job::Ran;
use crate::worker::find_work::Seeker;
use crate::worker::invoke::run_input;

/// A rest that is shorter is not worth to wake another worker for.
const WORTH_A_WAKE: u64 = 50_000;

/// Why a worker leaves a chunk before its end.
enum Stop {
    /// Others shall go on with it.
    Leave,
    /// Nobody shall.
    Refuse(Reason),
}

/// Runs a chunk's inputs, as far as other workers leave any. `false` when the worker panicked.
pub(crate) fn run<P, O, E, W>(
    seeker: &mut Seeker<'_, P, O, E>,
    worker: &mut W,
    closing: &CancelToken,
    chunk: &Arc<Chunk<P, O, E>>,
    stamp: Stamp,
) -> bool
where
    W: Worker<P, O, E>,
{
    let Seeker { shared, seat, .. } = *seeker;
    let begun = Instant::now();
    let mut at = At {
        shared,
        seat,
        chunk,
        closing,
        accepted: chunk.accepted(stamp),
        ran: 0,
        stop: None,
    };
    let mut listed = false;
    let mut well = true;
    at.look_up();
    while well
        && at.stop.is_none()
        && let Some(claim) = chunk.claim(seat.id())
    {
        if !listed && chunk.left() > 0 {
            listed = true;
            invite(shared, chunk);
        }
        well = if shared.hooks.is_empty() && shared.books.timings.is_none() {
            at.run_through(worker, claim)
        } else {
            at.run_each(worker, claim)
        };
    }
    if at.ran > 0 {
        chunk.board().ran(at.ran, begun.elapsed());
    }
    if let Some(Stop::Refuse(reason)) = at.stop {
        chunk.refuse(reason, Some(&shared.books));
    }
    if listed {
        shared.open.unlist(chunk);
    }
    if chunk.left() > 0 {
        // One ticket more than needed harms nobody: who takes it finds nothing left.
        let mut ticket = Ticket::chunk(Arc::clone(chunk));
        let order = ticket.order();
        ticket.begin_wait(&shared.books);
        shared.ready.put_back(order, ticket);
        fence(SeqCst);
        shared.crew.wake_one();
    }
    well
}

/// A worker's stay at a chunk.
struct At<'a, P, O, E> {
    shared: &'a Shared<P, O, E>,
    seat: &'a Seat,
    chunk: &'a Arc<Chunk<P, O, E>>,
    closing: &'a CancelToken,
    /// When the chunk was accepted, in pools with timings.
    accepted: Stamp,
    /// Inputs that it ran.
    ran: u64,
    stop: Option<Stop>,
}

impl<P, O, E> At<'_, P, O, E> {
    fn job(&self, id: JobId, payload: P) -> Job<P> {
        let own = self.chunk.label().token.clone();
        Job::new(id, 1, payload, Lent::new(own, self.closing))
    }

    /// Runs what was claimed, with the hooks between. `false` when the worker panicked.
    fn run_each<W>(&mut self, worker: &mut W, mut claim: Claim<'_, P, O, E>) -> bool
    where
        W: Worker<P, O, E>,
    {
        while self.stop.is_none() && !claim.is_empty() {
            let payload = claim.next();
            let id = claim.job();
            let ran = run_input(
                self.shared,
                self.seat,
                worker,
                self.job(id, payload),
                self.accepted,
            );
            let result = match ran {
                Ran::Returned(result) => result.map_err(Cause::Worker),
                Ran::Panicked(panic) => Err(Cause::Panicked(panics::message(panic))),
            };
            let well = !matches!(result, Err(Cause::Panicked(_)));
            self.settle(&mut claim, result);
            if !well {
                return false;
            }
            self.look_up();
        }
        true
    }

    /// The same where nobody listens: one frame for panics around them all, and what the worker does
    /// compiled into the loop.
    fn run_through<W>(&mut self, worker: &mut W, mut claim: Claim<'_, P, O, E>) -> bool
    where
        W: Worker<P, O, E>,
    {
        let ran = catch_unwind(AssertUnwindSafe(|| {
            while self.stop.is_none() && !claim.is_empty() {
                let payload = claim.next();
                self.seat.count_start();
                let result = worker.run(self.job(claim.job(), payload));
                self.seat.count_end(Some(match result {
                    Ok(_) => Outcome::Completed,
                    Err(_) => Outcome::Failed,
                }));
                self.settle(&mut claim, result.map_err(Cause::Worker));
                self.look_up();
            }
        }));
        if let Err(panic) = ran {
            let me = self.seat.id();
            log::error!("worker {me} panicked in job {} and ends", claim.job());
            self.seat.count_end(Some(Outcome::Panicked));
            self.seat.finish_now();
            self.settle(&mut claim, Err(Cause::Panicked(panics::message(panic))));
            return false;
        }
        true
    }

    /// The input in hand has its result.
    #[inline(always)]
    fn settle(&mut self, claim: &mut Claim<'_, P, O, E>, result: Result<O, Cause<E>>) {
        match result {
            Ok(output) => claim.put(Ok(output)),
            Err(cause) => self.put_error(claim, cause),
        }
        self.ran += 1;
        let label = self.chunk.label();
        self.seat.job_settled(label.mark.generation());
        self.chunk.board().call(label.place);
    }

    #[cold]
    fn put_error(&self, claim: &mut Claim<'_, P, O, E>, cause: Cause<E>) {
        let error = JobError::new(claim.job(), Some(Try::first(self.seat.id())), cause);
        claim.put(Err(Box::new(SubmitError::Failed(error))));
    }

    /// Between two inputs: is there a reason not to begin the next?
    #[inline]
    fn look_up(&mut self) {
        let token = self.chunk.label().token.as_ref();
        if self.chunk.is_halted()
            || self.seat.is_leaving()
            || !self.shared.ready.is_usual()
            || token.is_some()
        {
            self.stop = self.reason_to_stop();
        }
    }

    #[cold]
    fn reason_to_stop(&self) -> Option<Stop> {
        let ready = &self.shared.ready;
        let token = self.chunk.label().token.as_ref();
        if let Some(fired) = token.and_then(CancelToken::fired_by) {
            return Some(Stop::Refuse(fired.into()));
        }
        if self.chunk.is_halted() {
            return Some(Stop::Refuse(Reason::Cancelled));
        }
        if ready.is_shut() {
            return Some(Stop::Refuse(Reason::Closed));
        }
        // Whoever comes back to a chunk does one at least, or it would starve beside urgent jobs. If
        // it is urgent itself, it came before those that wait.
        let high = self.chunk.label().mark.priority() == Priority::High;
        let urgent = self.ran > 0 && !high && ready.is_urgent();
        (self.seat.is_leaving() || ready.is_held() || urgent).then_some(Stop::Leave)
    }
}

/// Lets idle workers join in.
#[cold]
fn invite<P, O, E>(shared: &Shared<P, O, E>, chunk: &Arc<Chunk<P, O, E>>) {
    shared.open.list(chunk);
    let worth = chunk
        .label()
        .pace
        .is_none_or(|nanos| nanos.saturating_mul(chunk.left() as u64) >= WORTH_A_WAKE);
    // Nobody looks after a crumb whose jobs are slower than they were, if its iterator sleeps.
    if worth || chunk.board().is_asleep() {
        fence(SeqCst);
        shared.crew.wake_one();
    }
}
