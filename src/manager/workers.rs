//! Adding, removing and resizing workers.

use std::fmt;

use crate::error::{AddError, FactoryError, ResizeError, UnknownWorkerError};
use crate::job::id::WorkerId;
use crate::manager::Manager;
use crate::policy::deadlock::Role;
use crate::pool::roster::current;
use crate::pool::roster::record::WorkerInfo;
use crate::pool::roster::{AddKind, NotAdded};
use crate::sync::channel::bounded;
use crate::sync::thread_spawn::{Free, Spawn};
use crate::sync::unwind::Contained;
use crate::worker::{Worker, thread as worker_thread};

impl<P, O, E> Manager<P, O, E>
where
    P: Send,
    O: Send,
    E: Send,
{
    /// Adds a worker, on a new thread of its own. When this returns, the hooks have been told of it and
    /// it takes jobs.
    ///
    /// # Errors
    /// The worker, if the pool is draining or closed, or its thread cannot be started.
    pub fn add<W>(&self, worker: W) -> Result<WorkerId, AddError<W>>
    where
        P: 'static,
        O: 'static,
        E: 'static,
        W: Worker<P, O, E> + Send + 'static,
    {
        self.add_with(&Free, worker)
    }

    /// As [`add`](Self::add), but starts the worker's thread by `spawn`.
    pub(crate) fn add_with<'a, W>(
        &self,
        spawn: &impl Spawn<'a>,
        worker: W,
    ) -> Result<WorkerId, AddError<W>>
    where
        P: 'a,
        O: 'a,
        E: 'a,
        W: Worker<P, O, E> + Send + 'a,
    {
        let pool = &self.owner.pool;
        // The worker is sent to its thread afterwards, so it is still here if no thread was started.
        let (sender, receiver) = bounded::<W>(1);
        let start = |record: &_| {
            worker_thread::spawn(spawn, pool, record, move |pool, record| {
                if let Ok(worker) = receiver.recv() {
                    worker_thread::run_once(pool, record, worker);
                }
            })
        };
        let added = || pool.admission.clear_no_workers();
        let record = match pool.roster.add(AddKind::Made, start, added) {
            Ok(record) => record,
            Err(NotAdded::Spawn(error)) => {
                let spawn = Some(error);
                return Err(AddError { worker, spawn });
            }
            Err(NotAdded::Closed | NotAdded::Enough) => {
                let spawn = None;
                return Err(AddError { worker, spawn });
            }
        };
        pool.signal.notify();
        let id = record.id();
        {
            // A hook that closes the pool must not wait for this worker, which waits for the hook.
            let _inside = current::enter(pool.key(), Role::Adder(id.get()));
            pool.hooks.each("worker_add", |hook| hook.worker_add(id));
        }
        let sent = sender.send(worker);
        debug_assert!(sent.is_ok(), "the thread waits for its worker");
        Ok(id)
    }

    /// Asks a worker to leave for good, even if it has a factory, and returns at once. The worker
    /// finishes its current job, takes no other, and closes. The hooks are told when its thread is gone.
    ///
    /// # Errors
    /// The id, if the pool has no such worker (any more).
    pub fn remove(&self, worker: WorkerId) -> Result<(), UnknownWorkerError> {
        if self.owner.pool.roster.stop(worker) {
            Ok(())
        } else {
            Err(UnknownWorkerError(worker))
        }
    }

    /// The workers whose thread is not yet gone, in the order in which they were added.
    pub fn workers(&self) -> Vec<WorkerInfo> {
        self.owner.pool.roster.workers()
    }
}

impl<P, O, E> Manager<P, O, E>
where
    P: Send + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    /// Adds a worker that `factory` makes, on a new thread of its own. If it panics or
    /// [finishes](crate::WorkerHandle::finish), the factory makes the next one on that thread, as often
    /// as the pool's [`Restarts`](crate::Restarts) allow. Blocks until the first is made. When this
    /// returns, the hooks have been told of it and it takes jobs.
    ///
    /// The worker is made, used and dropped on its own thread, so it need not be `Send`. The factory
    /// gets the worker's id, which stays the same over restarts.
    ///
    /// Hooks see a restart as `worker_remove`, after the old worker was closed and dropped, and
    /// `worker_add`, when the new one is made. If the factory fails or panics at a restart, this is
    /// logged and it is tried again, which counts as another restart. A factory that blocks cannot be
    /// interrupted: [`close`](Self::close) waits for it. A factory that waits for a job of this same
    /// pool relies on the pool's other workers.
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
    /// The factory's own error or its panic, or the pool is draining or closed, or the thread cannot be
    /// started. Then nothing has changed and no thread is left.
    pub fn add_factory<W, X>(
        &self,
        factory: impl FnMut(WorkerId) -> Result<W, X> + Send + 'static,
    ) -> Result<WorkerId, FactoryError<X>>
    where
        W: Worker<P, O, E> + 'static,
        X: fmt::Display + Send + 'static,
    {
        let pool = &self.owner.pool;
        let factory = Contained::new("factory", factory);
        let added = worker_thread::add(pool, AddKind::ToBeMade, |record, reply| {
            worker_thread::spawn(&Free, pool, record, move |pool, record| {
                worker_thread::supervise(pool, record, factory, Some(reply));
            })
        });
        added.and_then(|id| id.ok_or(FactoryError::Closed))
    }

    /// Changes the number of workers to `workers`. If there are too few, the pool's own
    /// [`factory`](crate::Builder::factory) makes more, one after the other, and this blocks until they
    /// are made. If there are too many, idle workers are asked to leave first, then the newest. This
    /// does not wait until they are gone.
    ///
    /// All workers count that are not leaving for good, including those that were added by other means
    /// and those in a back-off.
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
    /// The pool has no factory, or a worker could not be made, or the pool is draining or closed.
    /// Workers that were made before stay, and the error names them.
    pub fn resize(&self, workers: usize) -> Result<(), ResizeError> {
        let pool = &self.owner.pool;
        let factory = pool.factory.as_ref().ok_or(ResizeError::NoFactory)?;
        let (made, filled) = match pool.roster.shrink(workers) {
            true => worker_thread::fill_up(pool, factory, workers),
            false => (Vec::new(), Err(FactoryError::Closed)),
        };
        filled.map_err(|error| ResizeError::Incomplete { made, error })
    }
}
