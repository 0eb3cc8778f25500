//! Batches: many inputs with one call, whose results come back lazily.
//!
//! The consumer's own thread reads inputs and sends them off in [chunks](crate::task::chunk), each of
//! which travels as one job. [Workers](crate::worker::chunk) claim a few of a chunk's inputs at a time,
//! and idle workers [help](crate::task::chunk::shared). Results stay in the chunk until the consumer
//! takes them.

use std::fmt;
use std::time::{Duration, Instant};

use crate::error::SubmitError;
use crate::job::Priority;
use crate::job::cancel::CancelToken;
use crate::pool::Pool;
use crate::sync::Arc;
use crate::sync::time;

mod cursor;
mod feeder;
mod iter;

pub use iter::{Map, MapUnordered};

use feeder::{BatchOptions, Feeder};

/// A batch about to be run, made by [`Manager::batch`](crate::Manager::batch): set its options, then
/// call one of its verbs.
///
/// Every input has one result, whatever happens to it: an output, the worker's error or panic, or the
/// payload with the reason why its job did not begin. Each input is a job with its own id, and hooks and
/// counters see it as such. Only in the queue, a chunk of very short jobs takes a single place.
///
/// A chunk lasts about 200 µs, by the time that the batch's jobs took so far. Chunks begin in order,
/// and several workers may run inputs of one chunk at once. An urgent job, a pause or a worker's end
/// takes effect between two jobs of a chunk, not after it. (A worker claims one job of 4 µs at a time,
/// or up to 256 shorter ones.)
///
/// A batch that gives up, or whose pool closes, takes back what its workers claimed and did not begin.
/// A job begins when a worker takes it into its hand: one at a time, or up to four if they are shorter
/// than half a microsecond. It takes the next ones just before it hands over a result. Jobs in its hand are
/// answered as begun, and it begins them.
///
/// Results of jobs that are shorter than a chunk are handed over some chunks at a time, and may wait
/// for that for about a millisecond: to wake the caller's thread costs some microseconds of the cores'
/// time. Results of longer jobs are handed over at once.
///
/// ```
/// use std::time::Duration;
/// use worker_pool::{Job, Manager, Priority};
///
/// let pool = Manager::<u64, u64>::new();
/// for _ in 0..2 {
///     pool.add(|job: Job<u64>| Ok(job.into_payload().pow(2)))?;
/// }
/// let batch = pool.batch().priority(Priority::Low).timeout(Duration::from_secs(60));
/// let squares: Result<Vec<u64>, _> = batch.map(1..=4).collect();
/// assert_eq!(squares?, [1, 4, 9, 16]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing is run until one of the verbs is called"]
pub struct Batch<'a, P, O, E> {
    pool: &'a Arc<Pool<P, O, E>>,
    token: Option<CancelToken>,
    deadline: Option<Instant>,
    priority: Priority,
    buffered: usize,
}

impl<'a, P, O, E> Batch<'a, P, O, E> {
    pub(crate) fn new(pool: &'a Arc<Pool<P, O, E>>) -> Self {
        Batch {
            pool,
            token: None,
            deadline: None,
            priority: Priority::Normal,
            buffered: feeder::BUFFERED,
        }
    }

    /// Gives up at this moment: jobs that have not begun by then never will, and the batch does not wait
    /// for those that run.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(self.deadline.map_or(deadline, |old| old.min(deadline)));
        self
    }

    /// A deadline this long from now. A deadline that overflows is no deadline.
    pub fn timeout(self, timeout: Duration) -> Self {
        match time::now().checked_add(timeout) {
            Some(deadline) => self.deadline(deadline),
            None => self,
        }
    }

    /// Gives up when this token fires. The jobs' own tokens fire with it.
    pub fn cancel_token(mut self, token: &CancelToken) -> Self {
        self.token = Some(token.clone());
        self
    }

    /// How important the batch's jobs are; see [`JobBuilder::priority`](crate::JobBuilder::priority).
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// How many inputs may be read whose results are not yet yielded: 65,536 unless set, at least 1.
    /// Fewer than two per worker leave workers idle.
    pub fn buffered(mut self, inputs: usize) -> Self {
        self.buffered = inputs.max(1);
        self
    }

    /// See [`Manager::map`](crate::Manager::map).
    pub fn map<I>(self, inputs: I) -> Map<I::IntoIter, P, O, E>
    where
        I: IntoIterator<Item = P>,
    {
        let feeder = self.feeder(inputs.into_iter(), true);
        Map { feeder }
    }

    /// See [`Manager::map_unordered`](crate::Manager::map_unordered).
    pub fn map_unordered<I>(self, inputs: I) -> MapUnordered<I::IntoIter, P, O, E>
    where
        I: IntoIterator<Item = P>,
    {
        let feeder = self.feeder(inputs.into_iter(), false);
        MapUnordered { feeder, at: 0 }
    }

    /// See [`Manager::for_each`](crate::Manager::for_each).
    pub fn for_each<I>(self, inputs: I, mut each: impl FnMut(usize, Result<O, SubmitError<P, E>>))
    where
        I: IntoIterator<Item = P>,
    {
        for (index, result) in self.map_unordered(inputs) {
            each(index, result);
        }
    }

    /// See [`Manager::try_for_each`](crate::Manager::try_for_each).
    ///
    /// # Errors
    /// The first error in time, and the index of its input.
    pub fn try_for_each<I>(
        mut self,
        inputs: I,
        mut each: impl FnMut(usize, O),
    ) -> Result<(), BatchError<P, E>>
    where
        I: IntoIterator<Item = P>,
    {
        // A token of the batch's own cancels the jobs that run when one fails.
        let token = self
            .token
            .map_or_else(CancelToken::new, |token| token.child());
        self.token = Some(token.clone());
        for (index, result) in self.map_unordered(inputs) {
            match result {
                Ok(output) => each(index, output),
                Err(error) => {
                    token.cancel();
                    return Err(BatchError { index, error });
                }
            }
        }
        Ok(())
    }

    fn feeder<I>(self, inputs: I, ordered: bool) -> Feeder<I, P, O, E>
    where
        I: Iterator<Item = P>,
    {
        let options = BatchOptions {
            cancellable: self.token.is_some(),
            token: match (self.token, self.deadline) {
                (None, None) => None,
                (Some(token), None) => Some(token),
                (None, Some(deadline)) => Some(CancelToken::with_deadline(deadline)),
                (Some(token), Some(deadline)) => Some(token.child_with_deadline(deadline)),
            },
            priority: self.priority,
            buffered: self.buffered,
        };
        Feeder::new(self.pool, options, inputs, ordered)
    }
}

impl<P, O, E> fmt::Debug for Batch<'_, P, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("deadline", &self.deadline)
            .field("priority", &self.priority)
            .field("buffered", &self.buffered)
            .finish_non_exhaustive()
    }
}

/// One input of a batch failed, and the batch stopped there.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchError<P, E> {
    /// Which input, from 0 on.
    pub index: usize,
    /// What happened.
    pub error: SubmitError<P, E>,
}

// By hand: a payload need not be `Debug`.
impl<P, E: fmt::Debug> fmt::Debug for BatchError<P, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchError")
            .field("index", &self.index)
            .field("error", &self.error)
            .finish()
    }
}

impl<P, E: fmt::Display> fmt::Display for BatchError<P, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "input {}: {}", self.index, self.error)
    }
}

impl<P, E: fmt::Debug + fmt::Display> std::error::Error for BatchError<P, E> {}
