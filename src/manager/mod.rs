//! The [`Manager`]: the pool as its users hold it.

use std::convert::Infallible;
use std::fmt;

use crate::hook::PoolStatus;
use crate::manager::close::{CloseSignal, Ending};
use crate::pool::Pool;
use crate::pool::lifecycle::Close;
use crate::sync::channel::Receiver;
use crate::sync::thread_spawn::Joinable;
use crate::sync::{Arc, Weak};

mod asking;
mod batches;
pub(crate) mod builder;
pub(crate) mod close;
mod ending;
mod factories;
pub(crate) mod scope;
mod submitting;
mod weak;
mod workers;

pub use weak::WeakManager;

/// A pool of stateful workers, each on its own OS thread: payloads of type `P` go in, outputs of
/// type `O` or the workers' errors of type `E` come out.
///
/// Cheap to clone, to be shared between threads. Dropping the last clone closes the pool, as
/// [`close`](Self::close) does.
///
/// Jobs of one submitter and one priority begin in the order in which they were submitted. A pool without workers
/// keeps what it accepts until one is added, unless it was told to turn jobs away when the last is
/// gone ([`NoWorkers`](crate::NoWorkers)): give jobs a deadline if that may be never.
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

/// Pool by the clones of a manager, not by the pool's own threads: when the last is dropped, the
/// pool closes.
struct Owner<P, O, E> {
    pool: Arc<Pool<P, O, E>>,
    ending: Ending,
    on_drop: OnDrop,
}

/// How a pool ends whose last owner is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnDrop {
    /// It closes; the owner waits.
    Close,
    /// What was accepted runs first; the owner waits.
    Drain,
    /// It closes; somebody else waits.
    AskToClose,
}

impl<P, O, E> Drop for Owner<P, O, E> {
    fn drop(&mut self) {
        match self.on_drop {
            OnDrop::Close | OnDrop::AskToClose => self.pool.close(None),
            OnDrop::Drain => self.pool.drain(),
        }
        if self.on_drop != OnDrop::AskToClose {
            self.ending.wait_on_drop(self.pool.place().is_some());
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
    /// A handle that does not keep the pool open: for workers, hooks and payloads that submit to
    /// their own pool. If they held a [`Manager`], the last one would never be dropped.
    pub fn downgrade(&self) -> WeakManager<P, O, E> {
        WeakManager {
            owner: Arc::downgrade(&self.owner),
        }
    }

    /// A signal of the pool's end, for any number of waiters; see [`CloseSignal`].
    pub fn close_signal(&self) -> CloseSignal {
        self.owner.ending.signal()
    }

    /// For whoever closes the pool without a handle to it.
    pub(crate) fn closer<'a>(&self) -> Weak<dyn Close + Send + Sync + 'a>
    where
        P: 'a,
        O: 'a,
        E: 'a,
    {
        Arc::downgrade(&self.owner.pool) as _
    }

    fn is_inside(&self) -> bool {
        self.owner.pool.place().is_some()
    }
}

impl<P, O, E> Manager<P, O, E> {
    pub(crate) fn new_with(
        pool: Arc<Pool<P, O, E>>,
        dispatcher: Joinable,
        ended: Receiver<Infallible>,
        on_drop: OnDrop,
    ) -> Self {
        Manager {
            owner: Arc::new(Owner {
                pool,
                ending: Ending::new(dispatcher, ended),
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
            .field("waiting", &pool.admission.count())
            .finish_non_exhaustive()
    }
}
