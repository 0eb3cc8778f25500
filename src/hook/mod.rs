//! What the pool tells the outside: the [`Hook`] trait, and the [`PoolStatus`] that a hook may ask.
//!
//! This is all that the pool half and the meter half know of each other.

pub(crate) mod meter;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::job::Outcome;
use crate::job::id::JobId;
use crate::job::id::WorkerId;
use crate::sync::Weak;
use crate::sync::log;
use crate::sync::unwind as panics;

/// The three states of a pool's life, in the order in which they come.
///
/// `Running → Draining → Closed`, or `Running → Closed` directly. A pool that is closing (no new
/// jobs, the running ones are waited for) still counts as [`Draining`](PoolState::Draining).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PoolState {
    /// Jobs are accepted and run.
    Running,
    /// No new jobs; those accepted, or at least those running, are being finished.
    Draining,
    /// Every job has its outcome and every worker's thread is gone.
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

/// What a pool answers when it is asked about itself. Handed to each hook by
/// [`Hook::pool_start`]; every method is cheap and never blocks for a job.
pub trait PoolStatus: Send + Sync {
    /// The pool's name, as given to its builder.
    fn name(&self) -> &str;
    /// Jobs that were accepted and are not yet released to the workers.
    fn waiting(&self) -> usize;
    /// The most jobs that may wait.
    fn queue_capacity(&self) -> usize;
    /// Jobs that a worker has run to their end, whatever their outcome.
    fn finished(&self) -> u64;
    /// Where the pool is in its life.
    fn state(&self) -> PoolState;
}

/// StartReply of what happens in a pool. All methods do nothing unless you write them.
///
/// Per job, [`job_start`](Hook::job_start) and [`job_finish`](Hook::job_finish) come in pairs, on
/// the worker's own thread, around [`Worker::run`](crate::Worker::run); the caller gets its result
/// only after `job_finish` has returned. A job with [retries](crate::Retry) has a pair for each try.
/// Per worker, [`worker_add`](Hook::worker_add) and
/// [`worker_remove`](Hook::worker_remove) come in pairs, around everything else of that worker; a
/// worker that is made anew has a pair each time.
///
/// Methods run on several threads **at the same time**, and while they run the worker (or the
/// dispatcher) waits: be quick. A method that panics is logged and harms nothing; the other hooks
/// are still called. Adding or removing workers, detached jobs and [`close`](crate::Manager::close)
/// from inside a hook do not deadlock: `close` then only asks, and does not wait.
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
    /// The pool reached this state: once `Draining`, once `Closed`, in this order. `Closed` is the
    /// last call of all.
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
    /// A worker has its thread and is about to take jobs; also one that was made anew.
    fn worker_add(&self, worker: WorkerId) {
        let _ = worker;
    }
    /// A worker's thread is gone; or the worker is, and its factory is to make it anew on that thread.
    /// It does not take jobs until it is added again.
    fn worker_remove(&self, worker: WorkerId) {
        let _ = worker;
    }
}

/// The hooks of one pool; calls and drops each of them, and contains their panics.
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

    #[inline]
    pub(crate) fn each(&self, name: &str, call: impl Fn(&dyn Hook)) {
        if !self.is_empty() {
            self.call(name, call);
        }
    }

    fn call(&self, name: &str, call: impl Fn(&dyn Hook)) {
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
