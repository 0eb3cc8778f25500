//! Adding and removing workers.

use crate::error::{AddError, UnknownWorkerError};
use crate::job::id::WorkerId;
use crate::manager::Manager;
use crate::pool::Command;
use crate::pool::roster::current::{self as context, ThreadRole};
use crate::pool::roster::record::WorkerInfo;
use crate::pool::roster::{AddKind, NotAdded};
use crate::sync::channel::bounded;
use crate::sync::thread_spawn::{Free, Spawn};
use crate::worker::Worker;
use crate::worker::thread as life;

impl<P, O, E> Manager<P, O, E>
where
    P: Send,
    O: Send,
    E: Send,
{
    /// Adds a worker, on a new thread of its own. When this returns, the hooks know of it and it
    /// takes jobs.
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

    /// As [`add`](Self::add), on a thread that is started so.
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
        // The worker follows its thread, so that it is still here if there is none.
        let (hand_over, receive) = bounded::<W>(1);
        let start = |record: &_| {
            life::spawn(spawn, pool, record, move |pool, record| {
                if let Ok(worker) = receive.recv() {
                    life::run_once(pool, record, worker);
                }
            })
        };
        let told = |id| {
            pool.admission.populate();
            pool.command(Command::Added(id));
        };
        let record = match pool.roster.add(AddKind::Made, start, told) {
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
        let id = record.id();
        {
            // A hook that closes the pool must not wait for the worker that waits for the hook.
            let _inside = context::enter(pool.key(), ThreadRole::Adder);
            pool.hooks.each("worker_add", |hook| hook.worker_add(id));
        }
        let handed_over = hand_over.send(worker);
        debug_assert!(handed_over.is_ok(), "the thread waits for its worker");
        Ok(id)
    }

    /// Asks a worker to leave for good, also if it has a factory. It finishes the job in hand, takes no other, and closes; this returns
    /// at once. The hooks are told when its thread is gone.
    ///
    /// # Errors
    /// If the pool has no such worker (any more).
    pub fn remove(&self, worker: WorkerId) -> Result<(), UnknownWorkerError> {
        if self.owner.pool.roster.stop(worker) {
            Ok(())
        } else {
            Err(UnknownWorkerError(worker))
        }
    }

    /// The workers that have a thread, in the order in which they were added.
    pub fn workers(&self) -> Vec<WorkerInfo> {
        self.owner.pool.roster.workers()
    }
}
