//! The [`Manager`]: the handle through which users work with a pool.

use std::convert::Infallible;
use std::fmt;

use crate::hook::PoolStatus;
use crate::manager::close::{CloseSignal, Termination};
use crate::pool::Pool;
use crate::pool::lifecycle::Close;
use crate::sync::thread_spawn::Joinable;
use crate::sync::user_channel::Receiver;
use crate::sync::{Arc, Weak};

mod batch;
pub(crate) mod builder;
pub(crate) mod close;
mod info;
#[cfg(all(test, worker_pool_shuttle))]
mod model;
pub(crate) mod scope;
mod shutdown;
mod submit;
mod weak;
mod workers;

pub use weak::WeakManager;

/// A pool of stateful workers, each on its own OS thread: payloads of type `P` go in, outputs of
/// type `O` or the workers' errors of type `E` come out.
///
/// A manager is cheap to clone and can be shared between threads. Dropping the last clone closes the
/// pool, as [`close`](Self::close) does.
///
/// Jobs of one submitter and one priority begin in the order in which they were submitted. A pool
/// without workers keeps what it accepts until a worker is added. If that may never happen, give jobs
/// a deadline, or let the pool reject jobs when its last worker is gone
/// ([`NoWorkers`](crate::NoWorkers)).
///
/// Payloads, outputs, errors and workers that borrow need a [`scope`](crate::scope()).
///
/// ```
/// use worker_pool::{Job, Manager};
///
/// let pool = Manager::<String, usize>::new();
/// for _ in 0..2 {
///     pool.add(|job: Job<String>| Ok(job.payload().len()))?;
/// }
/// assert_eq!(pool.submit("hello".to_owned())?, 5);
/// pool.close();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Manager<P, O = (), E = Infallible> {
    owner: Arc<Owner<P, O, E>>,
}

/// What the clones of a manager share. The pool's own threads do not hold it: when the last clone is
/// dropped, the pool ends.
struct Owner<P, O, E> {
    pool: Arc<Pool<P, O, E>>,
    termination: Termination,
    on_drop: OnDrop,
}

/// How a pool ends when its last handle is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnDrop {
    /// It closes, and the drop waits for its end.
    Close,
    /// It drains: accepted jobs run first. The drop waits for its end.
    Drain,
    /// It closes, and the drop does not wait: the scope does.
    AskToClose,
}

impl<P, O, E> Drop for Owner<P, O, E> {
    fn drop(&mut self) {
        match self.on_drop {
            OnDrop::Close | OnDrop::AskToClose => self.pool.close(None),
            OnDrop::Drain => self.pool.drain(),
        }
        if self.on_drop != OnDrop::AskToClose {
            self.termination
                .wait_on_drop(self.pool.thread_role().is_some());
        }
    }
}

impl<P, O, E> Clone for Manager<P, O, E> {
    fn clone(&self) -> Self {
        Manager {
            owner: Arc::clone(&self.owner),
        }
    }
}

impl<P, O, E> Manager<P, O, E>
where
    P: Send,
    O: Send,
    E: Send,
{
    /// Returns a handle that does not keep the pool open, for workers, hooks and payloads that submit
    /// to their own pool. If they held a [`Manager`], the last one would never be dropped.
    pub fn downgrade(&self) -> WeakManager<P, O, E> {
        WeakManager {
            owner: Arc::downgrade(&self.owner),
        }
    }

    /// Returns a signal of the pool's end, for any number of waiters; see [`CloseSignal`].
    pub fn close_signal(&self) -> CloseSignal {
        self.owner.termination.signal()
    }

    /// Lets a scope close the pool without keeping it alive.
    pub(crate) fn closer<'a>(&self) -> Weak<dyn Close + Send + Sync + 'a>
    where
        P: 'a,
        O: 'a,
        E: 'a,
    {
        Arc::downgrade(&self.owner.pool) as _
    }

    /// Is the caller inside the pool: on one of its threads, or in a hook that `add` calls?
    fn is_inside(&self) -> bool {
        self.owner.pool.thread_role().is_some()
    }
}

impl<P, O, E> Manager<P, O, E> {
    pub(crate) fn new_with(
        pool: Arc<Pool<P, O, E>>,
        threads: [Joinable; 2],
        ended: Receiver<Infallible>,
        on_drop: OnDrop,
    ) -> Self {
        Manager {
            owner: Arc::new(Owner {
                termination: Termination::new(pool.key(), threads, ended),
                pool,
                on_drop,
            }),
        }
    }
}

impl<P, O, E> fmt::Debug for Manager<P, O, E>
where
    P: Send,
    O: Send,
    E: Send,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pool = &self.owner.pool;
        f.debug_struct("Manager")
            .field("name", &pool.name())
            .field("state", &pool.gauge.state())
            .field("workers", &pool.roster.ids().len())
            .field("waiting", &pool.gauge.waiting())
            .finish_non_exhaustive()
    }
}
