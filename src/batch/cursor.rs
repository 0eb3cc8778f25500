//! A batch's cursor in one chunk: which results were taken, and which inputs the batch answered itself
//! after it gave up.

use crate::error::{JobError, RejectReason, SubmitError, cause_of};
use crate::job::id::Attempt;
use crate::sync::Arc;
use crate::sync::unwind as panics;
use crate::task::chunk::reader::Reader;
use crate::task::chunk::{Chunk, Load, Outcome};

/// The result of one input, as the consumer gets it.
pub(super) type Answer<P, O, E> = Result<O, SubmitError<P, E>>;

/// A chunk that was sent off, and how far its results were yielded.
pub(super) struct ChunkCursor<P, O, E> {
    reader: Reader<P, O, E>,
    /// The index of its first input in the batch.
    first: usize,
    /// The input of the chunk to look at next.
    next: usize,
    /// How many inputs were answered.
    answered: usize,
    /// The batch gave up for this reason, and answers in place of the workers.
    given_up: Option<RejectReason>,
    /// Inputs that were answered in place of a worker.
    abandoned: Vec<usize>,
}

impl<P, O, E> ChunkCursor<P, O, E> {
    pub(super) fn new(first: usize, reader: Reader<P, O, E>) -> Self {
        ChunkCursor {
            reader,
            first,
            next: 0,
            answered: 0,
            given_up: None,
            abandoned: Vec::new(),
        }
    }

    /// The chunk was rejected: from now on each input without a result, which is in a worker's hand, is
    /// answered with this reason.
    pub(super) fn give_up(&mut self, reason: RejectReason) {
        self.given_up = Some(reason);
    }

    /// The results are not wanted. Drops those that are there now, since the chunk itself may wait or
    /// run for long.
    pub(super) fn drop_results(&mut self) {
        for index in 0..self.reader.len() {
            panics::discard("result", self.reader.take(index));
        }
    }

    /// The memory of the chunk, if nobody uses it any more.
    pub(super) fn recycle(self) -> Option<Load<P, O, E>> {
        self.reader.recycle()
    }

    pub(super) fn chunk(&self) -> &Arc<Chunk<P, O, E>> {
        self.reader.chunk()
    }

    /// The fast path of [`take_next`](Self::take_next): the same result, or `None` in unusual cases.
    ///
    /// The result is as narrow as in the chunk, and this is inlined up to the caller's loop. An answer
    /// is wide: to put it together in memory and copy it from there at once took longer than to find it.
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
        self.answered += 1;
        Some(result)
    }

    /// The input to look at next, by its index in the batch.
    #[inline]
    pub(super) fn index(&self) -> usize {
        self.first + self.next
    }

    /// The next answer in the order of the inputs. With `all`, `None` until every answer is there.
    pub(super) fn take_next(&mut self, all: bool) -> Option<Answer<P, O, E>> {
        if self.next == self.reader.len() || (all && !self.is_finished()) {
            return None;
        }
        let answer = self.take(self.next)?;
        self.next += 1;
        Some(answer)
    }

    /// The same, with the index of the input in the batch.
    pub(super) fn take_here(&mut self, all: bool) -> Option<(usize, Answer<P, O, E>)> {
        let index = self.index();
        Some((index, self.take_next(all)?))
    }

    /// Any answer that is there, with the index of its input in the batch.
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
        self.answered += usize::from(answer.is_some());
        answer
    }

    /// The batch gave up: the answer of an input, which is not left to a worker.
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
        let attempt = chunk.holder(index).map(Attempt::first);
        let error = JobError::new(chunk.job(index), attempt, cause_of(reason));
        Some(Err(SubmitError::Failed(error)))
    }

    /// Has every input an answer?
    #[inline]
    fn is_finished(&mut self) -> bool {
        self.reader.is_finished() || self.given_up.is_some()
    }

    /// Is the result of the input to look at next there?
    pub(super) fn has_answer(&self) -> bool {
        self.next < self.reader.len() && self.reader.is_full(self.next)
    }

    /// Was every input answered?
    #[inline]
    pub(super) fn is_done(&self) -> bool {
        self.answered == self.reader.len()
    }
}
