//! One run of a job: hook, run, hook.

use crate::job::id::JobId;
use crate::job::{Job, Outcome};
use crate::pool::Shared;
use crate::pool::roster::record::Seat;
use crate::stats::clock::{Stamp, Timings};
use crate::worker::Worker;
use crate::worker::current_job::Ran;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A job, or an input of a batch, is about to run.
#[inline]
pub(super) fn begins<P, O, E>(shared: &Shared<P, O, E>, seat: &Seat, id: JobId, accepted: Stamp) {
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
pub(super) fn ends<P, O, E>(
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
