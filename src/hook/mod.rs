//! What the pool reports to the outside: the [`Hook`] trait, and the [`PoolStatus`] that a hook can
//! read.
//!
//! The pool half and the meter half know nothing else of each other.

pub(crate) mod meter;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::job::Outcome;
use crate::job::id::{JobId, WorkerId};
use crate::sync::Weak;
use crate::sync::log;
use crate::sync::unwind as panics;

/// The three states of a pool's life, in their order.
///
/// `Running → Draining → Closed`, or `Running → Closed` directly. A pool that is closing (no new
/// jobs, but the running ones have not ended) still counts as [`Draining`](PoolState::Draining).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PoolState {
    /// Jobs are accepted and run.
    Running,
    /// No new jobs are accepted. The accepted ones, or at least the running ones, are being finished.
    Draining,
    /// Every job has its outcome, and every worker's thread has ended.
    Closed,
}

impl fmt::Display for PoolState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PoolState::Running => "running",
            PoolState::Draining => "draining",
            PoolState::Closed => "closed",
        })
    }
}

/// What a pool tells about itself. Each hook gets it in [`Hook::pool_start`]. Every method is cheap and
/// never blocks for a job.
pub trait PoolStatus: Send + Sync {
    /// The pool's name, as given to its builder.
    fn name(&self) -> &str;
    /// Jobs that were accepted and are not yet released to the workers.
    fn waiting(&self) -> usize;
    /// The most jobs that may wait.
    fn queue_capacity(&self) -> usize;
    /// Jobs that a worker has run to their end, whatever their outcome.
    fn finished(&self) -> u64;
    /// The state of the pool's life.
    fn state(&self) -> PoolState;
}

/// Observes what happens in a pool. A method that you do not implement does nothing.
///
/// Per job, [`job_start`](Hook::job_start) and [`job_finish`](Hook::job_finish) come in pairs, on
/// the worker's own thread, around [`Worker::run`](crate::Worker::run); the caller gets its result
/// only after `job_finish` has returned. A job with [retries](crate::Retry) has a pair for each attempt.
///
/// Per worker, [`worker_add`](Hook::worker_add) and [`worker_remove`](Hook::worker_remove) come in
/// pairs, around everything else of that worker. A worker that is restarted has a pair each time.
///
/// Methods run on several threads **at the same time**. While they run, the worker (or the dispatcher)
/// waits, so be quick. If a method panics, the panic is logged and contained, and the other hooks are
/// still called. From inside a hook you can add or remove workers, submit detached jobs, and call
/// [`close`](crate::Manager::close) without a deadlock: `close` then only requests it, and does not
/// wait.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use worker_pool::{Hook, JobId, WorkerId};
///
/// #[derive(Default)]
/// struct Started(AtomicUsize);
/// impl Hook for Started {
///     fn job_start(&self, _job: JobId, _worker: WorkerId) {
///         self.0.fetch_add(1, Ordering::Relaxed);
///     }
/// }
/// ```
pub trait Hook: Send + Sync {
    /// A pool was built with this hook. Called once per pool, before any other method.
    fn pool_start(&self, pool: Weak<dyn PoolStatus>) {
        let _ = pool;
    }
    /// The pool reached this state: `Draining` once, then `Closed` once. The call with `Closed` is the
    /// pool's last.
    fn pool_state(&self, state: PoolState) {
        let _ = state;
    }
    /// A worker is about to run a job.
    fn job_start(&self, job: JobId, worker: WorkerId) {
        let _ = (job, worker);
    }
    /// A worker has run a job to its end.
    fn job_finish(&self, job: JobId, worker: WorkerId, outcome: Outcome) {
        let _ = (job, worker, outcome);
    }
    /// A worker has a thread and is about to take jobs. Also called for one that was restarted.
    fn worker_add(&self, worker: WorkerId) {
        let _ = worker;
    }
    /// A worker's thread has ended, or the worker has and its factory is to restart it on that thread.
    /// It takes no jobs until it is added again.
    fn worker_remove(&self, worker: WorkerId) {
        let _ = worker;
    }
}

/// The hooks of one pool.
pub(crate) struct Hooks(Vec<Box<dyn Hook>>);

impl Hooks {
    pub(crate) fn new() -> Self {
        Hooks(Vec::new())
    }

    pub(crate) fn push(&mut self, hook: impl Hook + 'static) {
        self.0.push(Box::new(hook));
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Calls this method of each hook, and contains its panics. `name` is the method's, for the log.
    #[inline]
    pub(crate) fn each(&self, name: &str, call: impl Fn(&dyn Hook)) {
        if !self.is_empty() {
            self.call_each(name, call);
        }
    }

    fn call_each(&self, name: &str, call: impl Fn(&dyn Hook)) {
        for hook in &self.0 {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| call(&**hook))) {
                let message = panics::message(panic);
                log::error!("hook {name} panicked: {message}");
            }
        }
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        for hook in self.0.drain(..) {
            panics::discard("hook", hook);
        }
    }
}
