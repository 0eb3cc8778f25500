//! The [`Worker`] trait: what a worker is, and its lifecycle.
//!
//! A worker's thread begins in [`thread`]. The loop that it runs is in [`run`].

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
/// factory) is restarted after a panic and after [`finish`](WorkerHandle::finish). The old worker
/// is closed and dropped. After a short back-off the factory makes the next one, on the same thread
/// and under the same id; see [`Restarts`](crate::Restarts). Removal and the pool's end are final.
///
/// All three methods are called on the worker's thread, one at a time. Whatever ends the worker,
/// `close` runs exactly once, even after a panic. Then the worker is dropped on that thread. A
/// panic in any of the methods is contained. If `run` panics, the job's caller gets the message. A
/// worker that panicked in `start` or `run` ends, since its state cannot be trusted.
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
    /// Called once, before the first job. The worker may keep the handle, clone it, and give it to
    /// other threads.
    fn start(&mut self, handle: &WorkerHandle) {
        let _ = handle;
    }

    /// Runs one job.
    ///
    /// # Errors
    /// The worker's own error, which reaches the submitter unchanged. If the job has
    /// [retries](crate::Retry), the submitter gets the error of the last attempt. The worker goes
    /// on with the next job.
    fn run(&mut self, job: Job<P>) -> Result<O, E>;

    /// Called once, after the last job. Release here what dropping the worker does not release.
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

/// Lets a worker say that it is finished, at any time and from any thread: for instance from a
/// thread that watches the worker's child process.
#[derive(Clone)]
pub struct WorkerHandle {
    record: Arc<WorkerRecord>,
    /// The handle has no effect on a later incarnation on the same record.
    incarnation: Incarnation,
}

impl WorkerHandle {
    /// The handle of the worker that serves on this record now.
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

    /// Says that the worker is finished. It ends its current job and takes no other. Then it leaves
    /// the pool, or is restarted if it has a factory. A job that it took and did not begin goes
    /// back to the other workers. The call returns at once. Further calls do nothing.
    ///
    /// The handle belongs to one worker object. It does nothing to the worker that the factory
    /// makes after that one.
    pub fn finish(&self) {
        self.record.finish(self.incarnation);
    }

    /// Is the worker gone or about to leave, because it is finished, panicked, was removed, or the
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
