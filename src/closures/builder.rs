//! How a pool for closures is built.

use std::fmt;

use crate::closures::{Closure, ClosurePanic, ThreadPool};
use crate::error::{AddError, BuildError};
use crate::hook::Hook;
use crate::manager::builder::Builder;
use crate::manager::{Manager, OnDrop};
use crate::sync::thread;

type Below = Builder<Closure, (), ClosurePanic>;

/// Builds a [`ThreadPool`]; made by [`ThreadPool::builder`].
///
/// ```
/// use worker_pool::{Meter, closures::ThreadPool};
///
/// let meter = Meter::new();
/// let pool = ThreadPool::builder()
///     .num_threads(4)
///     .thread_name("thumbnail")
///     .queue_capacity(100)
///     .hook(meter.clone())
///     .build()?;
/// assert_eq!(meter.snapshot().total, 4);
/// # Ok::<(), worker_pool::BuildError>(())
/// ```
#[must_use = "a pool is built by `build`"]
pub struct ThreadPoolBuilder {
    threads: Option<usize>,
    below: Below,
}

impl ThreadPoolBuilder {
    pub(super) fn new() -> Self {
        ThreadPoolBuilder {
            threads: None,
            below: Manager::builder().on_drop(OnDrop::Drain),
        }
    }

    fn with(self, set: impl FnOnce(Below) -> Below) -> Self {
        ThreadPoolBuilder {
            below: set(self.below),
            ..self
        }
    }

    /// How many threads; as many as the machine runs at once unless given. At least 1.
    pub fn num_threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// The pool's name, for logs and gauges; "pool" unless given.
    pub fn name(self, name: impl Into<String>) -> Self {
        self.with(|below| below.name(name))
    }

    /// Threads are named `name-1`, `name-2`, …; the pool's name unless given.
    pub fn thread_name(self, name: impl Into<String>) -> Self {
        self.with(|below| below.thread_name_prefix(name))
    }

    /// The size of each thread's stack, in bytes; the system's default unless given.
    pub fn thread_stack_size(self, bytes: usize) -> Self {
        self.with(|below| below.stack_size(bytes))
    }

    /// How many closures may wait before [`execute`](ThreadPool::execute) blocks; 1,024 unless
    /// given. See [`Builder::queue_capacity`].
    pub fn queue_capacity(self, closures: usize) -> Self {
        self.with(|below| below.queue_capacity(closures))
    }

    /// A hook, such as a [`Meter`](crate::Meter), that is told of what happens; see
    /// [`Builder::hook`]. A closure that panics counts as [`Failed`](crate::Outcome::Failed), since
    /// its thread goes on.
    pub fn hook(self, hook: impl Hook + 'static) -> Self {
        self.with(|below| below.hook(hook))
    }

    /// Starts the pool and its threads.
    ///
    /// # Errors
    /// No threads at all, a zero or absurd capacity, a NUL byte in the threads' names, or a thread
    /// that cannot be started. No thread is left behind then.
    pub fn build(self) -> Result<ThreadPool, BuildError> {
        let threads = self
            .threads
            .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
        if threads == 0 {
            return Err(BuildError::ZeroThreads);
        }
        let manager = self.below.build()?;
        ThreadPool::start(manager, threads).map_err(|AddError { spawn, .. }| {
            // A hook that closes the pool while it is built: nobody's mistake but the hook's.
            BuildError::Spawn(spawn.unwrap_or_else(|| std::io::Error::other("the pool is closed")))
        })
    }
}

impl fmt::Debug for ThreadPoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPoolBuilder")
            .field("num_threads", &self.threads)
            .field("below", &self.below)
            .finish()
    }
}
