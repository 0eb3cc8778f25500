//! The [`Worker`] trait: what a worker is, and the order of its life.

pub(crate) mod chunk;
pub(crate) mod current_job;
pub(crate) mod find_work;
pub(crate) mod invoke;
pub(crate) mod run;
pub(crate) mod sender_cache;
pub(crate) mod thread;

use std::fmt;

use crate::job::Job;
use crate::job::id::WorkerId;
use crate::pool::roster::record::{Incarnation, WorkerRecord};
use crate::sync::Arc;

/// A stateful object that runs jobs on an OS thread of its own.
///
/// ```text
///  add ──▶ start ──▶ idle ──▶ run ──▶ idle … ──▶ close ──▶ dropped, thread joined
///            ▲        │        │ panic             ▲  │
///            │        └────────┴───────────────────┘  │
///            │         removed, finished, pool closed │
///            │                                        │
///            └───── factory ◀── back-off ◀────────────┘
///                               panicked or finished, and has a factory
/// ```
///
/// A worker that was added by [`add_factory`](crate::Manager::add_factory) (or by the pool's own
/// factory) comes back after a panic and after [`finish`](WorkerHandle::finish): the old one is
/// closed and dropped, and after a short back-off the factory makes the next, on the same thread and
/// under the same id; see [`Restarts`](crate::Restarts). Removal and the pool's end are final.
///
/// All three methods are called on the worker's thread, one at a time. Whatever ends the worker,
/// `close` runs exactly once, also after a panic, and then the worker is dropped there. A panic in
/// any of them is contained: in `run` the job's caller is told its message; and a worker that
/// panicked in `start` or `run` ends, since its state is not to be trusted.
///
/// Any `FnMut(Job<P>) -> Result<O, E>` is a worker too.
///
/// ```
/// use worker_pool::{Job, Manager, Worker, WorkerHandle};
///
/// /// Keeps its buffer between jobs, and retires after three.
/// struct Upper { buffer: String, left: u32, me: Option<WorkerHandle> }
///
/// impl Worker<String, String, std::convert::Infallible> for Upper {
///     fn start(&mut self, me: &WorkerHandle) {
///         self.me = Some(me.clone());
///     }
///     fn run(&mut self, job: Job<String>) -> Result<String, std::convert::Infallible> {
///         self.buffer.clear();
///         self.buffer.extend(job.payload().chars().flat_map(char::to_uppercase));
///         self.left -= 1;
///         if self.left == 0 {
///             self.me.as_ref().inspect(|me| me.finish());
///         }
///         Ok(self.buffer.clone())
///     }
/// }
///
/// let pool = Manager::<String, String>::new();
/// pool.add(Upper { buffer: String::new(), left: 3, me: None })?;
/// assert_eq!(pool.submit("grüße".to_owned())?, "GRÜSSE");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Worker<P, O, E> {
    /// Called once, before the first job. The handle may be kept, cloned and given to other threads.
    fn start(&mut self, handle: &WorkerHandle) {
        let _ = handle;
    }

    /// Does one job.
    ///
    /// # Errors
    /// The worker's own error, which reaches the submitter unchanged (of a job with
    /// [retries](crate::Retry), that of the last try); the worker serves on.
    fn run(&mut self, job: Job<P>) -> Result<O, E>;

    /// Called once, after the last job: the place to let go of what outlives memory.
    fn close(&mut self) {}
}

impl<P, O, E, F> Worker<P, O, E> for F
where
    F: FnMut(Job<P>) -> Result<O, E>,
{
    #[inline]
    fn run(&mut self, job: Job<P>) -> Result<O, E> {
        self(job)
    }
}

/// A worker's way to say that it is finished, at any time and from any thread: for instance from one
/// that watches the worker's child process.
#[derive(Clone)]
pub struct WorkerHandle {
    record: Arc<WorkerRecord>,
    /// A worker made anew on the same record is none of this handle's business.
    incarnation: Incarnation,
}

impl WorkerHandle {
    /// Of the worker that is there now.
    pub(crate) fn new(record: Arc<WorkerRecord>) -> Self {
        let incarnation = record.incarnation();
        WorkerHandle {
            record,
            incarnation,
        }
    }

    /// The worker's id in its pool.
    pub fn id(&self) -> WorkerId {
        self.record.id()
    }

    /// Says that the worker is finished: it ends the job in hand, takes no other, and leaves the
    /// pool, or is made anew by its factory if it has one. Returns at once; again: harmless. A job
    /// that it had taken and not begun goes back to the others.
    ///
    /// The handle is that of one worker object: kept for longer, it does nothing to the worker that
    /// the factory made after it.
    pub fn finish(&self) {
        self.record.finish(self.incarnation);
    }

    /// Is the worker gone or on its way out, because it is finished, panicked, was removed, or the
    /// pool is closing?
    pub fn is_finishing(&self) -> bool {
        self.record.has_ended(self.incarnation)
    }
}

impl fmt::Debug for WorkerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerHandle")
            .field("id", &self.id())
            .field("finishing", &self.is_finishing())
            .finish()
    }
}
