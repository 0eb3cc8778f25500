//! Workers that a factory makes, and makes anew; and how many there shall be.

use std::fmt;

use crate::error::{FactoryError, ResizeError};
use crate::job::id::WorkerId;
use crate::manager::Manager;
use crate::pool::roster::AddKind;
use crate::sync::thread_spawn::Free;
use crate::worker::Worker;
use crate::worker::thread as life;

impl<P, O, E> Manager<P, O, E>
where
    P: Send + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    /// Adds a worker that `factory` makes, on a new thread of its own, and makes anew on that thread
    /// after it panicked or said that it is finished, as often as the pool's
    /// [`Restarts`](crate::Restarts) allow. Blocks until the first is made; then the hooks know of it
    /// and it takes jobs.
    ///
    /// The worker is made, used and dropped on its own thread, so it need not be `Send`. The factory
    /// is told the worker's id, which stays the same.
    ///
    /// A restart is seen by the hooks as `worker_remove`, after the old worker was closed and
    /// dropped, and `worker_add`, when the new one is made. A factory that fails or panics then is
    /// logged and tried again, which counts as a restart. One that blocks cannot be interrupted:
    /// [`close`](Self::close) waits for it. One that waits for a job of this same pool relies on its
    /// other workers.
    ///
    /// ```
    /// use std::rc::Rc;
    /// use worker_pool::{Job, Manager};
    ///
    /// let pool = Manager::<u32, u32>::new();
    /// pool.add_factory(|_| {
    ///     let limit = Rc::new(100); // need not be `Send`
    ///     Ok::<_, String>(move |job: Job<u32>| {
    ///         let number = job.into_payload();
    ///         assert!(number < *limit, "too large");
    ///         Ok(number + 1)
    ///     })
    /// })?;
    /// let error = pool.submit(100).unwrap_err();
    /// assert_eq!(error.panic_message(), Some("too large"));
    /// assert_eq!(pool.submit(1)?, 2); // by the next worker
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The factory's own error, or its panic; or the pool is draining or closed, or the thread cannot
    /// be started. Then nothing has changed and no thread is left.
    pub fn add_factory<W, X>(
        &self,
        factory: impl FnMut(WorkerId) -> Result<W, X> + Send + 'static,
    ) -> Result<WorkerId, FactoryError<X>>
    where
        W: Worker<P, O, E> + 'static,
        X: fmt::Display + Send + 'static,
    {
        let pool = &self.owner.pool;
        let added = life::add(pool, AddKind::ToBeMade, |record, told| {
            life::spawn(&Free, pool, record, move |pool, record| {
                life::supervise(pool, record, factory, Some(told));
            })
        });
        added.and_then(|id| id.ok_or(FactoryError::Closed))
    }

    /// Sees to it that the pool has so many workers: more are made by the pool's own
    /// [`factory`](crate::Builder::factory), one after the other, and this blocks until they are
    /// made; if there are too many, idle ones are asked to leave first, then those that were added
    /// last. This does not wait until they are gone.
    ///
    /// All workers count that are there to stay, also those that were added by other means, and those
    /// in a back-off.
    ///
    /// ```
    /// use worker_pool::{Job, Manager};
    ///
    /// let pool = Manager::<u32, u32>::builder()
    ///     .factory(|_| Ok::<_, String>(|job: Job<u32>| Ok(job.into_payload() + 1)))
    ///     .workers(2)
    ///     .build()?;
    /// assert_eq!(pool.workers().len(), 2);
    /// pool.resize(5)?;
    /// assert_eq!(pool.workers().len(), 5);
    /// pool.resize(1)?; // four leave as soon as they can
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The pool has no factory; or a worker could not be made, or the pool is draining or closed.
    /// Workers that were made before stay; the error names them.
    pub fn resize(&self, workers: usize) -> Result<(), ResizeError> {
        let pool = &self.owner.pool;
        let factory = pool.factory.as_ref().ok_or(ResizeError::NoFactory)?;
        let (made, filled) = match pool.roster.shrink(workers) {
            true => life::fill_up(pool, factory, workers),
            false => (Vec::new(), Err(FactoryError::Closed)),
        };
        filled.map_err(|error| ResizeError::Incomplete { made, error })
    }
}
