//! A worker at a chunk. Compiled for the worker's own type: a chunk costs one look at its task, and
//! each input no more than the loop below.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::error::{Failure, JobError, RejectReason, SubmitError};
use crate::job::cancel::CancelToken;
use crate::job::id::Attempt;
use crate::job::id::JobId;
use crate::job::tokens::JobTokens;
use crate::job::{Job, Outcome, Priority};
use crate::pool::Pool;
use crate::pool::roster::record::WorkerRecord;
use crate::stats::clock::Stamp;
use crate::sync::unwind as panics;
use crate::sync::{Arc, Ordering::SeqCst, fence};
use crate::task::Task;
use crate::task::chunk::{Chunk, Claim};
use crate::worker::Worker;
use crate::worker::current_job::RunResult;
use crate::worker::find_work::WorkFinder;
use crate::worker::invoke::run_input;

/// A rest that is shorter is not worth to wake another worker for.
const WORTH_A_WAKE: u64 = 50_000;

/// Why a worker leaves a chunk before its end.
enum Stop {
    /// Others shall go on with it.
    Leave,
    /// Nobody shall.
    Reject(RejectReason),
}

/// Runs a chunk's inputs, as far as other workers leave any. `false` when the worker panicked.
pub(crate) fn run<P, O, E, W>(
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
    let begun = Instant::now();
    let mut at = ChunkRun {
        pool,
        record,
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
        && let Some(claim) = chunk.claim(record.id())
    {
        if !listed && chunk.left() > 0 {
            listed = true;
            invite(pool, chunk);
        }
        well = if pool.hooks.is_empty() && pool.counters.wait_clock.is_none() {
            at.run_through(worker, claim)
        } else {
            at.run_each(worker, claim)
        };
    }
    if at.ran > 0 {
        chunk.progress().ran(at.ran, begun.elapsed());
    }
    if let Some(Stop::Reject(reason)) = at.stop {
        chunk.reject(reason, Some(&pool.counters));
    }
    if listed {
        pool.shared_chunks.unlist(chunk);
    }
    if chunk.left() > 0 {
        // One task more than needed harms nobody: who takes it finds nothing left.
        let mut task = Task::chunk(Arc::clone(chunk));
        let order = task.order();
        task.begin_wait(&pool.counters);
        pool.run_queue.push_back_unrun(order, task);
        fence(SeqCst);
        pool.sleep.wake_one();
    }
    well
}

/// A worker's stay at a chunk.
struct ChunkRun<'a, P, O, E> {
    pool: &'a Pool<P, O, E>,
    record: &'a WorkerRecord,
    chunk: &'a Arc<Chunk<P, O, E>>,
    closing: &'a CancelToken,
    /// When the chunk was accepted, in pools with timings.
    accepted: Stamp,
    /// Inputs that it ran.
    ran: u64,
    stop: Option<Stop>,
}

impl<P, O, E> ChunkRun<'_, P, O, E> {
    fn job(&self, id: JobId, payload: P) -> Job<P> {
        let own = self.chunk.header().token.clone();
        Job::new(id, 1, payload, JobTokens::new(own, self.closing))
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
                self.pool,
                self.record,
                worker,
                self.job(id, payload),
                self.accepted,
            );
            let result = match ran {
                RunResult::Returned(result) => result.map_err(Failure::Worker),
                RunResult::Panicked(panic) => Err(Failure::Panicked(panics::message(panic))),
            };
            let well = !matches!(result, Err(Failure::Panicked(_)));
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
                self.record.count_start();
                let result = worker.run(self.job(claim.job(), payload));
                self.record.count_end(Some(match result {
                    Ok(_) => Outcome::Completed,
                    Err(_) => Outcome::Failed,
                }));
                self.settle(&mut claim, result.map_err(Failure::Worker));
                self.look_up();
            }
        }));
        if let Err(panic) = ran {
            let me = self.record.id();
            log::error!("worker {me} panicked in job {} and ends", claim.job());
            self.record.count_end(Some(Outcome::Panicked));
            self.record.finish_now();
            self.settle(&mut claim, Err(Failure::Panicked(panics::message(panic))));
            return false;
        }
        true
    }

    /// The input in hand has its result.
    #[inline(always)]
    fn settle(&mut self, claim: &mut Claim<'_, P, O, E>, result: Result<O, Failure<E>>) {
        match result {
            Ok(output) => claim.put(Ok(output)),
            Err(cause) => self.put_error(claim, cause),
        }
        self.ran += 1;
        let header = self.chunk.header();
        self.record.job_settled(header.header.epoch());
        self.chunk.progress().notify(header.place);
    }

    #[cold]
    fn put_error(&self, claim: &mut Claim<'_, P, O, E>, cause: Failure<E>) {
        let error = JobError::new(claim.job(), Some(Attempt::first(self.record.id())), cause);
        claim.put(Err(Box::new(SubmitError::Failed(error))));
    }

    /// Between two inputs: is there a reason not to begin the next?
    #[inline]
    fn look_up(&mut self) {
        let token = self.chunk.header().token.as_ref();
        if self.chunk.is_halted()
            || self.record.is_leaving()
            || !self.pool.run_queue.is_usual()
            || token.is_some()
        {
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
        if self.chunk.is_halted() {
            return Some(Stop::Reject(RejectReason::Cancelled));
        }
        if run_queue.is_shut() {
            return Some(Stop::Reject(RejectReason::Closed));
        }
        // Whoever comes back to a chunk does one at least, or it would starve beside urgent jobs. If
        // it is urgent itself, it came before those that wait.
        let high = self.chunk.header().header.priority() == Priority::High;
        let urgent = self.ran > 0 && !high && run_queue.is_urgent();
        (self.record.is_leaving() || run_queue.is_held() || urgent).then_some(Stop::Leave)
    }
}

/// Lets idle workers join in.
#[cold]
fn invite<P, O, E>(pool: &Pool<P, O, E>, chunk: &Arc<Chunk<P, O, E>>) {
    pool.shared_chunks.list(chunk);
    let worth = chunk
        .header()
        .pace
        .is_none_or(|nanos| nanos.saturating_mul(chunk.left() as u64) >= WORTH_A_WAKE);
    // Nobody looks after a crumb whose jobs are slower than they were, if its iterator sleeps.
    if worth || chunk.progress().is_asleep() {
        fence(SeqCst);
        pool.sleep.wake_one();
    }
}
