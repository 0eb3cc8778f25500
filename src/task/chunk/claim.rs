//! What a worker claims of a chunk, and how it begins it.

use std::ops::Range;

use crate::job::id::{JobId, WorkerId};
use crate::stats::counters::Counters;
use crate::sync::Arc;
use crate::sync::Ordering::SeqCst;
use crate::task::chunk::claims::Rest;
use crate::task::chunk::{Chunk, Outcome};

/// The most inputs that a worker claims at a time.
const MAX_CLAIM: usize = 256;
/// How long the inputs of a claim are to take.
const CLAIM_NANOS: u64 = 4_000;
/// The most inputs that a worker takes into its hand at a time.
const MAX_TAKE: usize = 4;
/// How long what it takes is to run, unless it is a single input. The core does not begin a job before
/// the one ahead of the step is done: by itself for each, that cost 35 ns beside jobs of 280.
const TAKE_NANOS: u64 = 1_000;

impl<P, O, E> Chunk<P, O, E> {
    /// Claims the next inputs for this worker. Its claim before has ended.
    pub(crate) fn claim<'a>(
        &'a self,
        worker: WorkerId,
        counters: Option<&'a Counters>,
    ) -> Option<Claim<'a, P, O, E>> {
        let mut claims = self.claims.lock();
        let range = claims.take(self.fit_in(CLAIM_NANOS, MAX_CLAIM))?;
        self.left.store(self.left() - range.len(), SeqCst);
        let held = claims.hold(worker, range);
        drop(claims);
        let step = self.fit_in(TAKE_NANOS, MAX_TAKE);
        Some(Claim::new(self, counters, held, step))
    }

    /// How many inputs run in this time: at least one, at most `most`, and one while it is unknown.
    fn fit_in(&self, nanos: u64, most: usize) -> usize {
        let fit =
            |nanos_per_job: u64| (nanos / nanos_per_job.max(1)).clamp(1, most as u64) as usize;
        self.header().nanos_per_job.map_or(1, fit)
    }
}

/// Inputs that one worker is about to run, one after the other. When the claim is dropped, the inputs
/// that it did not start are free again.
pub(crate) struct Claim<'a, P, O, E> {
    chunk: &'a Chunk<P, O, E>,
    counters: Option<&'a Counters>,
    /// The worker's place among those that hold inputs.
    at: usize,
    /// What may still be taken, and how many at a time.
    rest: Arc<Rest>,
    step: usize,
    /// Taken, and not started.
    taken: Range<usize>,
    /// The input that was started last, and whether it has no result yet.
    current: usize,
    started: bool,
    /// How many inputs got their result from this claim.
    ended: usize,
}

impl<'a, P, O, E> Claim<'a, P, O, E> {
    pub(super) fn new(
        chunk: &'a Chunk<P, O, E>,
        counters: Option<&'a Counters>,
        (at, rest): (usize, Arc<Rest>),
        step: usize,
    ) -> Self {
        Claim {
            chunk,
            counters,
            at,
            taken: rest.take(step),
            rest,
            step,
            current: 0,
            started: false,
            ended: 0,
        }
    }

    /// Has the worker nothing in its hand to start?
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// Starts the next input: moves its payload out. [`put`](Self::put) then stores its result.
    ///
    /// Not an `Option`: a payload with a niche would be taken apart and put together again, and could
    /// not be read before the stores of earlier results had left the core.
    ///
    /// # Panics
    /// If the claim is empty.
    #[inline]
    pub(crate) fn next(&mut self) -> P {
        debug_assert!(!self.started, "the one before has no result");
        self.current = self.taken.next().expect("an input is left");
        self.started = true;
        self.chunk.payload(self.current)
    }

    /// The job of the input that was started last.
    #[inline]
    pub(crate) fn job(&self) -> JobId {
        self.chunk.job(self.current)
    }

    /// Stores the result of the input that was started last. Before that, takes the next ones if none is
    /// in hand: to take waits for all stores before it, and those of earlier results had a job's time to
    /// leave the core.
    #[inline]
    pub(crate) fn put(&mut self, result: Outcome<P, O, E>) {
        if self.taken.is_empty() {
            self.taken = self.rest.take(self.step);
        }
        self.put_last(result);
    }

    /// The same, for a worker that begins no other input: takes none.
    #[inline]
    pub(crate) fn put_last(&mut self, result: Outcome<P, O, E>) {
        assert!(self.started, "no input was started");
        self.started = false;
        self.ended += 1;
        self.chunk.fill(self.current, result);
    }

    /// Gives back what was not started. `false` if the chunk was rejected meanwhile: its caller takes
    /// what is in hand as begun, so the worker begins it.
    #[cold]
    pub(crate) fn give_back(&mut self) -> bool {
        let mut claims = self.chunk.claims.lock();
        if claims.rejected.is_some() {
            return self.taken.is_empty();
        }
        let given = claims.give_back(self.at, std::mem::take(&mut self.taken));
        let left = &self.chunk.left;
        left.store(left.load(SeqCst) + given, SeqCst);
        true
    }
}

impl<P, O, E> Drop for Claim<'_, P, O, E> {
    fn drop(&mut self) {
        let some = !(self.taken.is_empty() && self.rest.is_empty());
        if some && !self.give_back() {
            // The worker panicked, and begins nothing any more. The caller may have been told that it
            // began these, but has not got their payloads.
            let taken = std::mem::take(&mut self.taken);
            self.chunk.reject_taken(taken, self.counters);
        }
        self.chunk.add_ended(self.ended);
    }
}
