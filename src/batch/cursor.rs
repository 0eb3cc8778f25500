//! A chunk as its iterator keeps it: which answers were taken, and those that are given in place of
//! the workers.

use crate::error::cause_of;
use crate::error::{JobError, RejectReason, SubmitError};
use crate::job::id::Attempt;
use crate::sync::Arc;
use crate::sync::unwind as panics;
use crate::task::chunk::{Chunk, Load, Outcome, Reader};

/// What one input came to.
pub(super) type Answer<P, O, E> = Result<O, SubmitError<P, E>>;

/// A chunk that was sent off, as the iterator keeps it.
pub(super) struct ChunkCursor<P, O, E> {
    reader: Reader<P, O, E>,
    /// The index of its first input in the batch.
    first: usize,
    /// Where to look next.
    next: usize,
    /// How many results were taken.
    taken: usize,
    /// The batch gave up, and answers in place of the workers.
    given_up: Option<RejectReason>,
    /// Inputs that were answered so.
    abandoned: Vec<usize>,
}

impl<P, O, E> ChunkCursor<P, O, E> {
    pub(super) fn new(first: usize, reader: Reader<P, O, E>) -> Self {
        ChunkCursor {
            reader,
            first,
            next: 0,
            taken: 0,
            given_up: None,
            abandoned: Vec::new(),
        }
    }

    /// From now on, what has no result is answered so.
    pub(super) fn give_up(&mut self, reason: RejectReason) {
        self.given_up = Some(reason);
    }

    /// Nobody wants the results that are there: drops them now, for the chunk itself may wait or run
    /// for long.
    pub(super) fn drop_results(&mut self) {
        for index in 0..self.reader.len() {
            panics::discard("result", self.reader.take(index));
        }
    }

    /// The memory of the chunk, if it is free.
    pub(super) fn recycle(self) -> Option<Load<P, O, E>> {
        self.reader.recycle()
    }

    pub(super) fn chunk(&self) -> &Arc<Chunk<P, O, E>> {
        self.reader.chunk()
    }

    /// The same result as [`take_next`](Self::take_next) would give, where nothing is unusual.
    ///
    /// As narrow as it lies in the chunk, and inlined up to the caller's loop: an answer is wide, and
    /// to put it together in memory, to be copied from there at once, took longer than to find it.
    #[inline(always)]
    pub(super) fn take_ready(&mut self, all: bool) -> Option<Outcome<P, O, E>> {
        if self.given_up.is_some()
            || self.next == self.reader.len()
            || (all && !self.reader.is_finished())
        {
            return None;
        }
        let result = self.reader.take(self.next)?;
        self.next += 1;
        self.taken += 1;
        Some(result)
    }

    /// The index in the batch of the input to look at next.
    #[inline]
    pub(super) fn index(&self) -> usize {
        self.first + self.next
    }

    /// The next answer in the order of the inputs; with `all`, not before every one is there.
    pub(super) fn take_next(&mut self, all: bool) -> Option<Answer<P, O, E>> {
        if self.next == self.reader.len() || (all && !self.is_finished()) {
            return None;
        }
        let answer = self.take(self.next)?;
        self.next += 1;
        Some(answer)
    }

    /// The answer where the last one was found, or a little further.
    pub(super) fn take_here(&mut self, all: bool) -> Option<(usize, Answer<P, O, E>)> {
        let index = self.index();
        Some((index, self.take_next(all)?))
    }

    /// Any answer that is there.
    pub(super) fn take_any(&mut self, all: bool) -> Option<(usize, Answer<P, O, E>)> {
        if all && !self.is_finished() {
            return None;
        }
        let len = self.reader.len();
        for _ in 0..len {
            if self.next == len {
                self.next = 0;
            }
            let found = self.take_here(false);
            if found.is_some() {
                return found;
            }
            self.next += 1;
        }
        None
    }

    fn take(&mut self, index: usize) -> Option<Answer<P, O, E>> {
        let result = self.reader.take(index);
        let result = result.map(|result| result.map_err(|error| *error));
        let answer = match self.given_up {
            None => result,
            Some(_) => self.answer_for_worker(index, result),
        };
        self.taken += usize::from(answer.is_some());
        answer
    }

    fn answer_for_worker(
        &mut self,
        index: usize,
        result: Option<Answer<P, O, E>>,
    ) -> Option<Answer<P, O, E>> {
        let reason = self.given_up?;
        if self.abandoned.contains(&index) {
            panics::discard("result", result);
            return None;
        }
        if let Some(result) = result {
            return Some(result);
        }
        if self.reader.is_taken(index) {
            return None;
        }
        self.abandoned.push(index);
        let chunk = self.chunk();
        let holder = chunk.holder(index).map(Attempt::first);
        let error = JobError::new(chunk.job(index), holder, cause_of(reason));
        Some(Err(SubmitError::Failed(error)))
    }

    /// Has every input an answer?
    #[inline]
    fn is_finished(&mut self) -> bool {
        self.reader.is_finished() || self.given_up.is_some()
    }

    /// Is the answer there that it would be asked for next?
    pub(super) fn has_answer(&self) -> bool {
        self.next < self.reader.len() && self.reader.is_full(self.next)
    }

    #[inline]
    pub(super) fn is_done(&self) -> bool {
        self.taken == self.reader.len()
    }
}
