//! Workers that a factory makes, and makes anew.

use std::fmt;

use crate::error::FactoryError;
use crate::life;
use crate::manager::Manager;
use crate::roster::{NotAdded, Recruit};
use crate::shared::{Command, Shared};
use crate::sync::Arc;
use crate::sync::channel::bounded;
use crate::worker::{Worker, WorkerId};

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
    /// [`close`](Self::close) waits for it.
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
        let shared = &self.owner.shared;
        let (told, answer) = bounded(1);
        let start = |seat: &_| {
            life::spawn(shared, seat, move |shared, seat| {
                life::renewed(shared, seat, factory, Some(told));
            })
        };
        let entered = |id| shared.command(Command::Added(id));
        let seat = match shared.roster.add(Recruit::ToBeMade, start, entered) {
            Ok(seat) => seat,
            Err(NotAdded::Spawn(error)) => return Err(FactoryError::Spawn(error)),
            Err(NotAdded::Closed | NotAdded::Enough) => return Err(FactoryError::Closed),
        };
        let id = seat.id();
        let made = answer.recv().unwrap_or(Err(FactoryError::Closed));
        if made.is_err() {
            forget(shared, id);
        }
        made.map(|()| id)
    }
}

/// A worker was not made: its thread, which has said so, is joined.
fn forget<P, O, E>(shared: &Arc<Shared<P, O, E>>, id: WorkerId) {
    if let Some(leaver) = shared.roster.remove(id) {
        let _ = leaver.thread.join();
    }
    shared.command(Command::Gone(id));
}
