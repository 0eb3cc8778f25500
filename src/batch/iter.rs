//! The iterators over a batch's results.

use std::fmt;
use std::iter::FusedIterator;

use crate::batch::cursor::{Answer, ChunkCursor};
use crate::batch::feeder::Feeder;
use crate::task::chunk::Outcome;

/// A batch's results in the order of its inputs; made by [`Manager::map`](crate::Manager::map).
///
/// It is lazy: nothing is read or run before the first call of `next`. When it is dropped, jobs that
/// have not begun are cancelled. It knows its length when its input does.
#[must_use = "a batch is lazy: nothing runs until its results are asked for"]
pub struct Map<I, P, O, E> {
    pub(super) feeder: Feeder<I, P, O, E>,
}

/// A batch's results as they come, each with the index of its input; made by
/// [`Manager::map_unordered`](crate::Manager::map_unordered). Otherwise it is like [`Map`].
#[must_use = "a batch is lazy: nothing runs until its results are asked for"]
pub struct MapUnordered<I, P, O, E> {
    pub(super) feeder: Feeder<I, P, O, E>,
    /// The cursor to look at first: where the last result was found.
    pub(super) at: usize,
}

impl<I, P, O, E> Iterator for Map<I, P, O, E>
where
    I: Iterator<Item = P>,
{
    type Item = Result<O, crate::SubmitError<P, E>>;

    /// The result of the next input. Blocks until it is there. If the batch's token fires or its
    /// deadline passes, each input without a result gets an error that says so.
    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        match self.next_ready() {
            Some(Ok(output)) => Some(Ok(output)),
            Some(Err(error)) => Some(Err(*error)),
            None => self.next_slowly(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.feeder.size_hint()
    }
}

impl<I, P, O, E> Map<I, P, O, E>
where
    I: Iterator<Item = P>,
{
    /// The next result, if it is there and nothing else is to be done.
    #[inline(always)]
    fn next_ready(&mut self) -> Option<Outcome<P, O, E>> {
        let feeder = &mut self.feeder;
        let cursor = feeder.cursors.front_mut()?;
        let result = cursor.take_ready(feeder.whole_chunks)?;
        feeder.yielded += 1;
        Some(result)
    }

    #[cold]
    fn next_slowly(&mut self) -> Option<Answer<P, O, E>> {
        loop {
            self.feeder.remove_done(0);
            self.feeder.feed();
            if self.feeder.cursors.is_empty() {
                return None;
            }
            let found = self.feeder.spin(look_at_first);
            let found = found.or_else(|| self.feeder.wait(look_at_first));
            if found.is_some() {
                return found;
            }
        }
    }
}

fn look_at_first<I, P, O, E>(feeder: &mut Feeder<I, P, O, E>) -> Option<Answer<P, O, E>>
where
    I: Iterator<Item = P>,
{
    let cursor = feeder.cursors.front_mut()?;
    let answer = cursor.take_next(feeder.whole_chunks)?;
    feeder.yielded += 1;
    Some(answer)
}

impl<I, P, O, E> Iterator for MapUnordered<I, P, O, E>
where
    I: Iterator<Item = P>,
{
    type Item = (usize, Result<O, crate::SubmitError<P, E>>);

    /// The next result that is there, and the index of its input, from 0 on. Blocks like [`Map`].
    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        match self.next_ready() {
            Some((index, Ok(output))) => Some((index, Ok(output))),
            Some((index, Err(error))) => Some((index, Err(*error))),
            None => self.next_slowly(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.feeder.size_hint()
    }
}

impl<I, P, O, E> MapUnordered<I, P, O, E>
where
    I: Iterator<Item = P>,
{
    /// The next result where the last one was found, if it is there and nothing else is to be done.
    #[inline(always)]
    fn next_ready(&mut self) -> Option<(usize, Outcome<P, O, E>)> {
        let feeder = &mut self.feeder;
        let cursor = feeder.cursors.get_mut(self.at)?;
        let index = cursor.index();
        let result = cursor.take_ready(feeder.whole_chunks)?;
        feeder.yielded += 1;
        Some((index, result))
    }

    #[cold]
    fn next_slowly(&mut self) -> Option<(usize, Answer<P, O, E>)> {
        let at = &mut self.at;
        loop {
            self.feeder.remove_done(*at);
            self.feeder.feed();
            if self.feeder.cursors.is_empty() {
                return None;
            }
            let mut anywhere =
                |feeder: &mut Feeder<I, P, O, E>| look_around(feeder, at, ChunkCursor::take_any);
            if let Some(found) = anywhere(&mut self.feeder) {
                return Some(found);
            }
            let here =
                |feeder: &mut Feeder<I, P, O, E>| look_around(feeder, at, ChunkCursor::take_here);
            if let Some(found) = self.feeder.spin(here) {
                return Some(found);
            }
            let anywhere =
                |feeder: &mut Feeder<I, P, O, E>| look_around(feeder, at, ChunkCursor::take_any);
            let found = self.feeder.wait(anywhere);
            if found.is_some() {
                return found;
            }
        }
    }
}

/// Looks at each chunk, beginning where the last result was found. Stops at a chunk that was yielded to
/// the end: more is to be sent off first.
fn look_around<I, P, O, E>(
    feeder: &mut Feeder<I, P, O, E>,
    at: &mut usize,
    take: impl Fn(&mut ChunkCursor<P, O, E>, bool) -> Option<(usize, Answer<P, O, E>)>,
) -> Option<(usize, Answer<P, O, E>)>
where
    I: Iterator<Item = P>,
{
    for _ in 0..feeder.cursors.len() {
        if *at >= feeder.cursors.len() {
            *at = 0;
        }
        let cursor = &mut feeder.cursors[*at];
        if let Some(found) = take(cursor, feeder.whole_chunks) {
            feeder.yielded += 1;
            return Some(found);
        }
        if cursor.is_done() {
            return None;
        }
        *at += 1;
    }
    None
}

impl<I, P, O, E> FusedIterator for Map<I, P, O, E> where I: Iterator<Item = P> {}
impl<I, P, O, E> FusedIterator for MapUnordered<I, P, O, E> where I: Iterator<Item = P> {}
impl<I, P, O, E> ExactSizeIterator for Map<I, P, O, E> where I: ExactSizeIterator<Item = P> {}
impl<I, P, O, E> ExactSizeIterator for MapUnordered<I, P, O, E> where I: ExactSizeIterator<Item = P> {}

impl<I, P, O, E> fmt::Debug for Map<I, P, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").finish_non_exhaustive()
    }
}

impl<I, P, O, E> fmt::Debug for MapUnordered<I, P, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapUnordered").finish_non_exhaustive()
    }
}
