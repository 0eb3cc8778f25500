//! What a worker claims of a chunk, and how it begins it.

use std::ops::Range;

use crate::job::id::JobId;
use crate::stats::counters::Counters;
use crate::sync::Arc;
use crate::sync::Ordering::SeqCst;
use crate::task::chunk::claims::Rest;
use crate::task::chunk::{Chunk, Outcome};

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
