//! Submitting many jobs at once.

use crate::batch::{Batch, BatchError, Map, MapUnordered};
use crate::error::SubmitError;
use crate::manager::Manager;

impl<P, O, E> Manager<P, O, E>
where
    P: Send,
    O: Send,
    E: Send,
{
    /// Starts a batch with options, such as a deadline, a cancel token or a priority; see [`Batch`].
    pub fn batch(&self) -> Batch<'_, P, O, E> {
        Batch::new(&self.owner.pool)
    }

    /// Runs a job for each input and yields the results in the order of the inputs, one for each.
    ///
    /// The iterator is lazy and has backpressure: it reads inputs on the thread that asks for results,
    /// and only a bounded number of them ahead (see [`Batch::buffered`]). Tiny jobs travel in chunks and
    /// cost some nanoseconds each. The iterator does not keep the pool open. Dropping it cancels jobs
    /// that have not begun, and does not wait for those that run.
    ///
    /// ```
    /// use worker_pool::{Job, Manager};
    ///
    /// let pool = Manager::<&str, usize>::new();
    /// for _ in 0..2 {
    ///     pool.add(|job: Job<&str>| Ok(job.payload().len()))?;
    /// }
    /// let lengths: Result<Vec<usize>, _> = pool.map(["to", "be", "or", "not"]).collect();
    /// assert_eq!(lengths?, [2, 2, 2, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Its length is known if that of the input is, so progress bars such as `indicatif`'s
    /// `.progress()` work on it.
    ///
    /// # Errors
    /// Each item is an output, or what [`submit`](Self::submit) would have returned.
    pub fn map<I>(&self, inputs: I) -> Map<I::IntoIter, P, O, E>
    where
        I: IntoIterator<Item = P>,
    {
        self.batch().map(inputs)
    }

    /// As [`map`](Self::map), but yields each result as it comes, with the index of its input. A slow
    /// job does not delay the results of the others.
    ///
    /// ```
    /// use worker_pool::{Job, Manager};
    ///
    /// let pool = Manager::<u64, u64>::new();
    /// for _ in 0..2 {
    ///     pool.add(|job: Job<u64>| Ok(job.into_payload() * 10))?;
    /// }
    /// for (index, result) in pool.map_unordered([1, 2, 3]) {
    ///     assert_eq!(result?, (index as u64 + 1) * 10);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`map`](Self::map).
    pub fn map_unordered<I>(&self, inputs: I) -> MapUnordered<I::IntoIter, P, O, E>
    where
        I: IntoIterator<Item = P>,
    {
        self.batch().map_unordered(inputs)
    }

    /// Runs a job for each input and blocks until all have ended. Calls `each` with each result as it
    /// comes, on the calling thread.
    pub fn for_each<I>(&self, inputs: I, each: impl FnMut(usize, Result<O, SubmitError<P, E>>))
    where
        I: IntoIterator<Item = P>,
    {
        self.batch().for_each(inputs, each);
    }

    /// As [`for_each`](Self::for_each), but stops at the first error. Jobs that have not begun are
    /// cancelled. The tokens of running jobs fire, and this does not wait for them.
    ///
    /// ```
    /// use worker_pool::{Job, Manager};
    ///
    /// let pool = Manager::<&str, u32, std::num::ParseIntError>::new();
    /// pool.add(|job: Job<&str>| job.payload().parse())?;
    /// let mut sum = 0;
    /// let error = pool.try_for_each(["1", "2", "three", "4"], |_, number| sum += number);
    /// assert_eq!(error.unwrap_err().index, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The first error in time, and the index of its input.
    pub fn try_for_each<I>(
        &self,
        inputs: I,
        each: impl FnMut(usize, O),
    ) -> Result<(), BatchError<P, E>>
    where
        I: IntoIterator<Item = P>,
    {
        self.batch().try_for_each(inputs, each)
    }
}
