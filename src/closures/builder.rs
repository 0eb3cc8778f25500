//! The [`ThreadPoolBuilder`].

use std::fmt;

use crate::closures::{Closure, ClosurePanic, ThreadPool};
use crate::error::{AddError, BuildError};
use crate::hook::Hook;
use crate::manager::builder::Builder;
use crate::manager::{Manager, OnDrop};
use crate::sync::thread;

type ManagerBuilder = Builder<Closure, (), ClosurePanic>;

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
#[must_use = "no pool is built until `build` is called"]
pub struct ThreadPoolBuilder {
    threads: Option<usize>,
    builder: ManagerBuilder,
}

impl ThreadPoolBuilder {
    pub(super) fn new() -> Self {
        ThreadPoolBuilder {
            threads: None,
            builder: Manager::builder().on_drop(OnDrop::Drain),
        }
    }

    fn with(self, set: impl FnOnce(ManagerBuilder) -> ManagerBuilder) -> Self {
        ThreadPoolBuilder {
            builder: set(self.builder),
            ..self
        }
    }

    /// How many threads the pool has, at least 1; by default as many as the machine runs at once.
    pub fn num_threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// The pool's name, for logs and gauges; "pool" by default.
    pub fn name(self, name: impl Into<String>) -> Self {
        self.with(|builder| builder.name(name))
    }

    /// The name of the threads, which are `name-1`, `name-2`, …; the pool's name by default.
    pub fn thread_name(self, name: impl Into<String>) -> Self {
        self.with(|builder| builder.thread_name_prefix(name))
    }

    /// The size of each thread's stack, in bytes; the system's default if not set.
    pub fn thread_stack_size(self, bytes: usize) -> Self {
        self.with(|builder| builder.stack_size(bytes))
    }

    /// How many closures may wait before [`execute`](ThreadPool::execute) blocks; 1,024 by default.
    /// See [`Builder::queue_capacity`].
    pub fn queue_capacity(self, closures: usize) -> Self {
        self.with(|builder| builder.queue_capacity(closures))
    }

    /// Adds a hook, such as a [`Meter`](crate::Meter), that is told what happens in the pool; see
    /// [`Builder::hook`]. A closure that panics counts as [`Failed`](crate::Outcome::Failed), since
    /// its thread continues.
    pub fn hook(self, hook: impl Hook + 'static) -> Self {
        self.with(|builder| builder.hook(hook))
    }

    /// Starts the pool and its threads.
    ///
    /// # Errors
    /// Zero threads, a capacity that is zero or too large, a NUL byte in the threads' names, or a
    /// thread that cannot be started. No thread is left then.
    pub fn build(self) -> Result<ThreadPool, BuildError> {
        let threads = self
            .threads
            .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
        if threads == 0 {
            return Err(BuildError::ZeroThreads);
        }
        let manager = self.builder.build()?;
        ThreadPool::start(manager, threads).map_err(|AddError { spawn, .. }| {
            // Without a spawn error, a hook has closed the pool while it was built.
            BuildError::Spawn(spawn.unwrap_or_else(|| std::io::Error::other("the pool is closed")))
        })
    }
}

impl fmt::Debug for ThreadPoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPoolBuilder")
            .field("num_threads", &self.threads)
            .field("builder", &self.builder)
            .finish()
    }
}
