//! A worker at work: the loop reads like the lifecycle in the docs of [`Worker`].

use crate::worker::find_work::WorkFinder;
use crate::worker::invoke::{after_run, before_run};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::job::cancel::CancelToken;
use crate::job::tokens::JobTokens;
use crate::job::{Job, Outcome};
use crate::pool::Pool;
use crate::pool::roster::record::WorkerRecord;
use crate::sync::unwind as panics;
use crate::sync::{Arc, Ordering::SeqCst, fence};
use crate::task::free_list::Returns;
use crate::worker::chunk as batch;
use crate::worker::current_job::{CurrentJob, RunResult};
use crate::worker::sender_cache::SenderCache;
use crate::worker::{Worker, WorkerHandle};

/// One worker from its start to its drop, on the calling thread.
pub(crate) fn run<P, O, E, W>(pool: &Pool<P, O, E>, record: &Arc<WorkerRecord>, mut worker: W)
where
    W: Worker<P, O, E>,
{
    let id = record.id();
    log::debug!("worker {id} of pool {:?} starts", pool.name());
    let mut finder = WorkFinder {
        pool,
        record,
        searching: false,
        taken: 1, // the first is not the others' turn
        ended: None,
        senders: SenderCache::new(),
        returns: Returns::new(&pool.free_list),
    };
    let handle = WorkerHandle::new(Arc::clone(record));
    if contained(id, "start", || worker.start(&handle)) {
        // A worker's own, so that counting its owners is no other worker's business.
        let closing = pool.closing.child();
        JobTokens::serve(&closing);
        let mut current = CurrentJob::of(id);
        let work = AssertUnwindSafe(|| serve(&mut finder, &mut worker, &closing, &mut current));
        if let Err(panic) = catch_unwind(work) {
            if current.is_empty() {
                resume_unwind(panic); // a bug in the pool itself
            }
            end(&mut finder, &mut current, RunResult::Panicked(panic));
        }
    }
    record.finish_now();
    finder.stop_search();
    fence(SeqCst);
    finder.report_ended(None);
    finder.senders.drop_all();
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
    finder: &mut WorkFinder<'_, P, O, E>,
    worker: &mut W,
    closing: &CancelToken,
    current: &mut CurrentJob<P, O, E>,
) where
    W: Worker<P, O, E>,
{
    while let Some(mut task) = finder.next() {
        if let Some(chunk) = task.take_chunk() {
            let accepted = task.end_wait(&finder.pool.counters);
            finder.senders.make_way(None);
            let well = batch::run(finder, worker, closing, &chunk, accepted);
            finder.ended = Some(task.epoch());
            if !well {
                return;
            }
            continue;
        }
        finder.ended = Some(task.epoch());
        // Without a payload it was cancelled, late, or taken back, and has its answer.
        if let Some(payload) = current.take(task, &finder.pool.counters, &mut finder.returns) {
            finder.senders.make_way(current.errors());
            before_run(finder.pool, finder.record, current.id, current.accepted);
            let tokens = JobTokens::new(current.take_token(), closing);
            let result = worker.run(Job::new(
                current.id,
                current.this.number.get(),
                payload,
                tokens,
            ));
            end(finder, current, RunResult::Returned(result));
        }
    }
}

/// The job in hand was run: another try follows, or its answer.
#[inline]
fn end<P, O, E>(
    finder: &mut WorkFinder<'_, P, O, E>,
    current: &mut CurrentJob<P, O, E>,
    ran: RunResult<O, E>,
) {
    let WorkFinder { pool, record, .. } = *finder;
    let outcome = ran.outcome();
    // The queue's word is not read without need: submitters write it.
    let next_attempt = current.next_attempt(outcome, || pool.admission.is_closing());
    let last = next_attempt.is_none().then_some(outcome);
    after_run(pool, record, current.id, outcome, last);
    if let Some(next_attempt) = next_attempt {
        let (task, at) = *next_attempt;
        panics::discard("worker error", ran);
        return pool.retry_later(task, at);
    }
    if current.is_awaited() && outcome != Outcome::Panicked {
        finder.search_early();
    }
    let errors = current.answer(ran, &pool.counters, || finder.stop_search());
    errors
        .into_iter()
        .for_each(|errors| finder.senders.keep(errors));
    record.job_settled(current.epoch);
}
