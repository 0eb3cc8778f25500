//! A worker's loop, to be read from top to bottom: **find work, run it between its hooks, answer,
//! again**.
//!
//! The functions stand in the order in which they are reached, and no other file is needed to
//! follow the loop:
//!
//! 1. [`run_worker`] starts the worker and, after the loop, closes and drops it.
//! 2. [`serve`] is the loop: it takes the next job, calls the hooks before the run, and runs the
//!    job.
//! 3. [`end_job`] calls the hooks after the run, and then answers, or has the job attempted again.
//!
//! What a step does inside is in the file of its name: [`find_work`](crate::worker::find_work) for
//! taking, spinning and sleeping, [`invoke`](crate::worker::invoke) for the hooks,
//! [`current_job`](crate::worker::current_job) for the answer, and [`chunk`](crate::worker::chunk)
//! for the many jobs of a chunk. What comes before and after, restarts included, is in
//! [`thread`](crate::worker::thread).

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::job::cancel::CancelToken;
use crate::job::id::WorkerId;
use crate::job::tokens::JobTokens;
use crate::job::{Job, Outcome};
use crate::pool::Pool;
use crate::pool::roster::record::WorkerRecord;
use crate::sync::log;
use crate::sync::unwind as panics;
use crate::sync::{Arc, Ordering::SeqCst, fence};
use crate::worker::chunk::run_chunk;
use crate::worker::current_job::{CurrentJob, RunResult};
use crate::worker::find_work::WorkFinder;
use crate::worker::invoke::{after_run, before_run, log_panic};
use crate::worker::{Worker, WorkerHandle};

/// Runs one worker from its start to its drop, on the calling thread.
pub(crate) fn run_worker<P, O, E, W>(
    pool: &Pool<P, O, E>,
    record: &Arc<WorkerRecord>,
    mut worker: W,
) where
    W: Worker<P, O, E>,
{
    let id = record.id();
    log::debug!("worker {id} of pool {:?} starts", pool.name());
    let mut finder = WorkFinder::new(pool, record);
    let handle = WorkerHandle::new(Arc::clone(record));
    if contained(id, "start", || worker.start(&handle)) {
        // A child token for this worker alone: to count the owners of a shared one, workers would
        // write to the same cache line.
        let closing = pool.closing.child();
        JobTokens::serve(&closing);
        // Outside of the frame that catches panics, so that one frame serves for many jobs.
        let mut current = CurrentJob::new(id);
        record.takes_jobs.store(true, SeqCst); // before the first look at the run queue
        let work = AssertUnwindSafe(|| serve(&mut finder, &mut worker, &closing, &mut current));
        if let Err(panic) = catch_unwind(work) {
            if current.is_empty() {
                resume_unwind(panic); // a bug in the pool itself
            }
            end_job(&mut finder, &mut current, RunResult::Panicked(panic));
        }
    }
    record.finish_now();
    record.takes_jobs.store(false, SeqCst);
    finder.stop_search();
    fence(SeqCst); // between the end of the last job and the report
    finder.report_ended(None);
    finder.senders.drop_all();
    contained(id, "close", || worker.close());
    panics::discard("worker", worker);
}

/// Calls a method of the worker. Returns `false` if it panicked.
fn contained(id: WorkerId, method: &str, call: impl FnOnce()) -> bool {
    let result = catch_unwind(AssertUnwindSafe(call));
    result
        .map_err(|panic| {
            let message = panics::message(panic);
            log::error!("worker {id} panicked in {method}: {message}");
        })
        .is_ok()
}

/// The loop: runs one job after another, until the worker is to leave. If the worker panics, the
/// panic leaves this function, and the job is still the current one.
fn serve<P, O, E, W>(
    finder: &mut WorkFinder<'_, P, O, E>,
    worker: &mut W,
    closing: &CancelToken,
    current: &mut CurrentJob<P, O, E>,
) where
    W: Worker<P, O, E>,
{
    // Find work. This blocks while there is none.
    while let Some(mut task) = finder.next_task() {
        // A chunk of a batch holds many jobs. It has its own way to do what follows here for one.
        if let Some(chunk) = task.take_chunk() {
            let accepted = task.end_wait(&finder.pool.counters);
            finder.senders.drop_others(None);
            let healthy = run_chunk(finder, worker, closing, &chunk, accepted);
            finder.ended = Some(task.epoch());
            if !healthy {
                return;
            }
            continue;
        }
        finder.ended = Some(task.epoch());
        // Without a payload, the job was cancelled, late, or taken back, and has its answer.
        if let Some(payload) = current.begin(task, &finder.pool.counters, &mut finder.returns) {
            finder.senders.drop_others(current.errors());
            // Run it between its hooks: those before it,
            before_run(finder.pool, finder.record, current.id, current.accepted);
            // the job itself,
            let tokens = JobTokens::new(current.take_token(), closing);
            let attempt = current.attempt.number.get();
            let result = worker.run(Job::new(current.id, attempt, payload, tokens));
            // and those after it. Answer. Again.
            end_job(finder, current, RunResult::Returned(result));
        }
    }
}

/// The current job was run. Calls the hooks after the run, and *then* answers: once a caller has
/// the result, the counters include it. If another attempt follows, there is no answer yet.
#[inline]
fn end_job<P, O, E>(
    finder: &mut WorkFinder<'_, P, O, E>,
    current: &mut CurrentJob<P, O, E>,
    result: RunResult<O, E>,
) {
    let WorkFinder { pool, record, .. } = *finder;
    let outcome = result.outcome();
    // Asks whether the pool is closing only if the job has retries: submitters write to that word.
    let next_attempt = current.next_attempt(outcome, || pool.admission.is_closing());
    let last = next_attempt.is_none().then_some(outcome);
    after_run(pool, record, current.id, outcome, last);
    if let Some(next_attempt) = next_attempt {
        let (task, at) = *next_attempt;
        panics::discard("worker error", result);
        pool.retry_later(task, at);
    } else {
        answer(finder, current, result, outcome);
    }
    if outcome == Outcome::Panicked {
        log_panic(record.id(), current.id);
    }
}

/// Answers the current job: there is no other attempt.
#[inline]
fn answer<P, O, E>(
    finder: &mut WorkFinder<'_, P, O, E>,
    current: &mut CurrentJob<P, O, E>,
    result: RunResult<O, E>,
    outcome: Outcome,
) {
    let WorkFinder { pool, record, .. } = *finder;
    if current.is_awaited() && outcome != Outcome::Panicked {
        finder.search_early();
    }
    let sender = current.answer(result, &pool.counters, || finder.stop_search());
    if let Some(sender) = sender {
        finder.senders.keep(sender);
    }
    record.job_settled(current.epoch);
}
