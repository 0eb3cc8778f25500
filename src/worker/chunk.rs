//! How a worker runs a chunk. The code is compiled for the worker's own type: a chunk costs one
//! look at its task, and each input no more than the loops below.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Failure, JobError, RejectReason, SubmitError};
use crate::job::cancel::CancelToken;
use crate::job::id::{Attempt, JobId};
use crate::job::tokens::JobTokens;
use crate::job::{Job, Outcome, Priority};
use crate::pool::Pool;
use crate::pool::roster::record::WorkerRecord;
use crate::stats::clock::Stamp;
use crate::sync::time;
use crate::sync::unwind as panics;
use crate::sync::{Arc, Ordering::SeqCst, fence};
use crate::task::Task;
use crate::task::chunk::Chunk;
use crate::task::chunk::claim::Claim;
use crate::worker::Worker;
use crate::worker::current_job::RunResult;
use crate::worker::find_work::WorkFinder;
use crate::worker::invoke::{log_panic, run_input};

/// If the rest of a chunk takes fewer nanoseconds, it is not worth waking another worker for it.
const WORTH_A_WAKE_NANOS: u64 = 50_000;

/// Why a worker leaves a chunk before its end.
enum Stop {
    /// Other workers go on with it.
    Leave,
    /// The remaining inputs are rejected.
    Reject(RejectReason),
}

/// Runs those inputs of a chunk that no other worker takes. Returns `false` if the worker panicked.
pub(super) fn run_chunk<P, O, E, W>(
    finder: &mut WorkFinder<'_, P, O, E>,
    worker: &mut W,
    closing: &CancelToken,
    chunk: &Arc<Chunk<P, O, E>>,
    stamp: Stamp,
) -> bool
where
    W: Worker<P, O, E>,
{
    let WorkFinder { pool, record, .. } = *finder;
    let begun = time::now();
    let mut run = ChunkRun {
        pool,
        record,
        chunk,
        closing,
        accepted: chunk.accepted(stamp),
        ended: 0,
        stop: None,
    };
    let mut listed = false;
    let mut healthy = true;
    run.check_stop();
    while healthy
        && run.stop.is_none()
        && let Some(claim) = chunk.claim(record.id(), Some(&pool.counters))
    {
        if !listed && chunk.left() > 0 {
            listed = true;
            invite_helpers(pool, chunk);
        }
        healthy = if pool.hooks.is_empty() && pool.counters.wait_clock.is_none() {
            run.run_bare(worker, claim)
        } else {
            run.run_with_hooks(worker, claim)
        };
    }
    if run.ended > 0 {
        chunk.progress().ran(run.ended, time::since(begun));
    }
    if let Some(Stop::Reject(reason)) = run.stop {
        chunk.reject(reason, Some(&pool.counters));
    }
    if listed {
        pool.shared_chunks.unlist(chunk);
    }
    if chunk.left() > 0 {
        // One task more than needed does no harm: a worker that takes it finds nothing left.
        let mut task = Task::chunk(Arc::clone(chunk));
        task.begin_wait(&pool.counters);
        pool.run_queue.push_back_unrun(task);
        fence(SeqCst);
        pool.sleep.wake_one();
    }
    healthy
}

/// What a worker needs while it runs a chunk.
struct ChunkRun<'a, P, O, E> {
    pool: &'a Pool<P, O, E>,
    record: &'a WorkerRecord,
    chunk: &'a Arc<Chunk<P, O, E>>,
    closing: &'a CancelToken,
    /// When the chunk was accepted, in pools with timings.
    accepted: Stamp,
    /// Inputs that the worker ran.
    ended: u64,
    stop: Option<Stop>,
}

impl<P, O, E> ChunkRun<'_, P, O, E> {
    fn job(&self, id: JobId, payload: P) -> Job<P> {
        let own = self.chunk.header().token.clone();
        Job::new(id, 1, payload, JobTokens::new(own, self.closing))
    }

    /// Runs the claimed inputs, each between its hooks. Returns `false` if the worker panicked.
    fn run_with_hooks<W>(&mut self, worker: &mut W, mut claim: Claim<'_, P, O, E>) -> bool
    where
        W: Worker<P, O, E>,
    {
        while self.goes_on(&mut claim) {
            let payload = claim.next();
            let id = claim.job();
            let result = run_input(
                self.pool,
                self.record,
                worker,
                self.job(id, payload),
                self.accepted,
            );
            let result = match result {
                RunResult::Returned(result) => result.map_err(Failure::Worker),
                RunResult::Panicked(panic) => Err(Failure::Panicked(panics::message(panic))),
            };
            let healthy = !matches!(result, Err(Failure::Panicked(_)));
            self.settle(&mut claim, result);
            if !healthy {
                drop(claim);
                log_panic(self.record.id(), id);
                return false;
            }
            self.check_stop();
        }
        true
    }

    /// The same for a pool without hooks and timings: one frame catches the panics of all inputs,
    /// and the worker's own code is compiled into the loop.
    fn run_bare<W>(&mut self, worker: &mut W, mut claim: Claim<'_, P, O, E>) -> bool
    where
        W: Worker<P, O, E>,
    {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            while self.goes_on(&mut claim) {
                let payload = claim.next();
                self.record.count_start();
                let result = worker.run(self.job(claim.job(), payload));
                self.record.count_end(Some(match result {
                    Ok(_) => Outcome::Completed,
                    Err(_) => Outcome::Failed,
                }));
                self.settle(&mut claim, result.map_err(Failure::Worker));
                self.check_stop();
            }
        }));
        if let Err(panic) = outcome {
            self.record.count_end(Some(Outcome::Panicked));
            self.record.finish_now();
            let job = claim.job();
            self.settle(&mut claim, Err(Failure::Panicked(panics::message(panic))));
            drop(claim);
            log_panic(self.record.id(), job);
            return false;
        }
        true
    }

    /// Has the worker an input to begin? If there is a reason to stop, it has only those that the batch
    /// answered as begun.
    #[inline(always)]
    fn goes_on(&self, claim: &mut Claim<'_, P, O, E>) -> bool {
        !(claim.is_empty() || self.stop.is_some() && claim.give_back())
    }

    /// Stores the result of the input that was started last.
    #[inline(always)]
    fn settle(&mut self, claim: &mut Claim<'_, P, O, E>, result: Result<O, Failure<E>>) {
        match result {
            Ok(output) => claim.put(Ok(output)),
            Err(cause) => self.put_error(claim, cause),
        }
        self.ended += 1;
        let header = self.chunk.header();
        self.record.job_settled(header.header.epoch());
        self.chunk.progress().notify(header.place);
    }

    #[cold]
    fn put_error(&self, claim: &mut Claim<'_, P, O, E>, cause: Failure<E>) {
        let error = JobError::new(claim.job(), Some(Attempt::first(self.record.id())), cause);
        // After a panic, the worker begins nothing.
        let panicked = matches!(error.cause, Failure::Panicked(_));
        let result = Err(Box::new(SubmitError::Failed(error)));
        match panicked {
            true => claim.put_last(result),
            false => claim.put(result),
        }
    }

    /// Called before each input: is there a reason not to begin it?
    #[inline]
    fn check_stop(&mut self) {
        let token = self.chunk.header().token.as_ref();
        if self.record.is_leaving() || !self.pool.run_queue.is_usual() || token.is_some() {
            self.stop = self.reason_to_stop();
        }
    }

    #[cold]
    fn reason_to_stop(&self) -> Option<Stop> {
        let run_queue = &self.pool.run_queue;
        let token = self.chunk.header().token.as_ref();
        if let Some(fired) = token.and_then(CancelToken::fired_by) {
            return Some(Stop::Reject(fired.into()));
        }
        if run_queue.is_shut() {
            return Some(Stop::Reject(RejectReason::Closed));
        }
        // A worker that comes back to a chunk runs at least one input. Otherwise urgent jobs would
        // starve the chunk. An urgent chunk came before the urgent jobs that wait.
        let high = self.chunk.header().header.priority() == Priority::High;
        let urgent = self.ended > 0 && !high && run_queue.is_urgent();
        (self.record.is_leaving() || run_queue.is_held() || urgent).then_some(Stop::Leave)
    }
}

/// Lets idle workers help.
#[cold]
fn invite_helpers<P, O, E>(pool: &Pool<P, O, E>, chunk: &Arc<Chunk<P, O, E>>) {
    pool.shared_chunks.list(chunk);
    let worth = chunk
        .header()
        .nanos_per_job
        .is_none_or(|nanos| nanos.saturating_mul(chunk.left() as u64) >= WORTH_A_WAKE_NANOS);
    // Jobs may be slower than they were, so even a small rest may take long. The iterator sees to
    // that, unless it sleeps.
    if worth || chunk.progress().is_asleep() {
        fence(SeqCst);
        pool.sleep.wake_one();
    }
}
