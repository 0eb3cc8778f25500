//! A worker at a chunk. Compiled for the worker's own type: a chunk costs one look at its ticket, and
//! each input no more than the loop below.

use std::time::Instant;

use crate::batch::chunk::{Chunk, Outcome};
use crate::cancel::CancelToken;
use crate::error::{Cause, JobError, Reason, SubmitError};
use crate::job::{Job, JobId, Priority};
use crate::lent::Lent;
use crate::panics;
use crate::runner::{Seeker, execute};
use crate::seat::Seat;
use crate::shared::Shared;
use crate::sync::{Arc, Ordering::SeqCst, fence};
use crate::ticket::{Ran, Ticket};
use crate::worker::{Worker, WorkerId};

/// A rest that is shorter is not worth to wake another worker for.
const WORTH_A_WAKE: u64 = 50_000;

/// Why a worker leaves a chunk before its end.
#[derive(PartialEq, Eq)]
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
) -> bool
where
    W: Worker<P, O, E>,
{
    let Seeker { shared, seat, .. } = *seeker;
    let label = chunk.label();
    let begun = Instant::now();
    let mut ran = 0;
    let mut listed = false;
    let mut well = true;
    let mut stop = None;
    while well
        && stop.is_none()
        && let Some(mut claim) = chunk.claim(seat.id())
    {
        if !listed && chunk.left() > 0 {
            listed = true;
            invite(shared, chunk);
        }
        loop {
            stop = look_up(shared, seat, chunk, ran);
            if stop.is_some() {
                break;
            }
            let Some((place, payload)) = claim.next() else {
                break;
            };
            let id = place.job();
            let job = Job::new(id, payload, Lent::new(label.token.clone(), closing));
            let result = execute(shared, seat, worker, job);
            well = !matches!(result, Ran::Panicked(_));
            place.put(outcome(id, seat.id(), result));
            seat.job_settled(label.generation);
            chunk.board().call(label.place);
            ran += 1;
            if !well {
                break;
            }
        }
    }
    if ran > 0 {
        chunk.board().ran(ran, begun.elapsed());
    }
    if let Some(Stop::Refuse(reason)) = stop {
        chunk.refuse(reason, Some(&shared.books));
    }
    if listed {
        shared.open.unlist(chunk);
    }
    if chunk.left() > 0 {
        // One ticket more than needed harms nobody: who takes it finds nothing left.
        shared
            .ready
            .put_back(label.number as u32, Ticket::chunk(Arc::clone(chunk)));
        fence(SeqCst);
        shared.crew.wake_one();
    }
    well
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

/// Between two inputs: is there a reason not to begin the next?
#[inline]
fn look_up<P, O, E>(
    shared: &Shared<P, O, E>,
    seat: &Seat,
    chunk: &Chunk<P, O, E>,
    ran: u64,
) -> Option<Stop> {
    if let Some(fired) = chunk.label().token.as_ref().and_then(CancelToken::fired_by) {
        return Some(Stop::Refuse(fired.into()));
    }
    if chunk.is_halted() {
        return Some(Stop::Refuse(Reason::Cancelled));
    }
    if seat.dismissed() {
        return Some(Stop::Leave);
    }
    if shared.ready.is_usual() {
        return None;
    }
    if shared.ready.is_shut() {
        return Some(Stop::Refuse(Reason::Closed));
    }
    // Whoever comes back to a chunk does one at least, or it would starve beside urgent jobs. If it
    // is urgent itself, it came before those that wait.
    let urgent = ran > 0 && chunk.label().priority != Priority::High && shared.ready.is_urgent();
    (shared.ready.is_held() || urgent).then_some(Stop::Leave)
}

#[inline]
fn outcome<P, O, E>(job: JobId, worker: WorkerId, ran: Ran<O, E>) -> Outcome<P, O, E> {
    let cause = match ran {
        Ran::Returned(Ok(output)) => return Ok(output),
        Ran::Returned(Err(error)) => Cause::Worker(error),
        Ran::Panicked(panic) => Cause::Panicked(panics::message(panic)),
    };
    let error = JobError::new(job, Some(worker), cause);
    Err(Box::new(SubmitError::Failed(error)))
}
