//! One run of a job: the hooks before it, the run, the hooks after it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::job::id::{JobId, WorkerId};
use crate::job::{Job, Outcome};
use crate::pool::Pool;
use crate::pool::roster::record::WorkerRecord;
use crate::stats::clock::{Stamp, WaitClock};
use crate::sync::log;
use crate::worker::Worker;
use crate::worker::current_job::RunResult;

/// A job, or an input of a batch, is about to run. `accepted` is when it was accepted, in pools
/// with timings.
#[inline]
pub(super) fn before_run<P, O, E>(
    pool: &Pool<P, O, E>,
    record: &WorkerRecord,
    id: JobId,
    accepted: Stamp,
) {
    let wait_clock = pool.counters.wait_clock.as_ref();
    record.job_begins(
        id,
        wait_clock.map(|wait_clock| (accepted, wait_clock.now())),
    );
    let worker = record.id();
    pool.hooks
        .each("job_start", |hook| hook.job_start(id, worker));
}

/// The job, or the input, was run. `last` is its outcome, unless another attempt follows. A worker
/// that panicked takes no further job from then on.
#[inline]
pub(super) fn after_run<P, O, E>(
    pool: &Pool<P, O, E>,
    record: &WorkerRecord,
    id: JobId,
    outcome: Outcome,
    last: Option<Outcome>,
) {
    let worker = record.id();
    record.job_ended(last, pool.counters.wait_clock.as_ref().map(WaitClock::now));
    pool.hooks
        .each("job_finish", |hook| hook.job_finish(id, worker, outcome));
    if outcome == Outcome::Panicked {
        // Before the reply: once a caller has it, the worker counts as leaving.
        record.finish_now();
    }
}

/// The worker panicked in this job. Called after the reply, which does not wait for the log.
#[cold]
pub(super) fn log_panic(worker: WorkerId, job: JobId) {
    log::error!("worker {worker} panicked in job {job} and ends");
}

/// Runs one input of a batch, between its hooks.
pub(super) fn run_input<P, O, E, W>(
    pool: &Pool<P, O, E>,
    record: &WorkerRecord,
    worker: &mut W,
    job: Job<P>,
    accepted: Stamp,
) -> RunResult<O, E>
where
    W: Worker<P, O, E>,
{
    let id = job.id();
    before_run(pool, record, id, accepted);
    let result = match catch_unwind(AssertUnwindSafe(|| worker.run(job))) {
        Ok(result) => RunResult::Returned(result),
        Err(panic) => RunResult::Panicked(panic),
    };
    let outcome = result.outcome();
    after_run(pool, record, id, outcome, Some(outcome));
    result
}
