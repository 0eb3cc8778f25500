//! A pool for plain closures, for programs whose jobs need no worker with a state of its own.
//!
//! [`ThreadPool`] is a [`Manager`] whose workers call the closures that they are given. Its methods
//! are those of the `threadpool` crate; [`moving_over`] is a guide from that crate to this one.
//! Closures capture what they need.
//!
//! ```
//! use worker_pool::closures::ThreadPool;
//!
//! let pool = ThreadPool::new(4);
//! pool.execute(|| println!("on another thread"))?; // nobody waits for it
//! assert_eq!(pool.run(|| 6 * 7)?, 42); // blocks for the result
//! let later = pool.spawn(|| "done".to_owned())?; // a handle to wait on
//! assert_eq!(later.wait()?, "done");
//! pool.join(); // blocks until every closure has ended
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{AddError, DetachedError, RejectedError};
use crate::job::Job;
use crate::job::id::WorkerId;
use crate::manager::Manager;
use crate::pool::roster::record::WorkerState;
use crate::sync::log;
use crate::sync::user_channel::{Sender, bounded};
use crate::sync::{Arc, AtomicUsize, Ordering::SeqCst, unwind};

mod builder;
mod join_handle;

pub use builder::ThreadPoolBuilder;
pub use join_handle::{JoinError, JoinHandle};

pub mod moving_over {
    #![doc = include_str!("moving_over.md")]
}

/// The payload of the [`Manager`] inside a [`ThreadPool`].
pub type Closure = Box<dyn FnOnce() + Send>;

/// A closure panicked, and the thread that ran it continues. This is the worker's error of the
/// [`Manager`] inside a [`ThreadPool`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClosurePanic {
    /// The panic's message.
    pub message: String,
}

impl fmt::Display for ClosurePanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the closure panicked: {}", self.message)
    }
}

impl std::error::Error for ClosurePanic {}

/// A pool of threads that run closures. It is cheap to clone and can be shared between threads.
///
/// Closures of one submitter begin in the order in which they were submitted. The queue is bounded:
/// if it is full, submitting blocks.
///
/// A closure that panics does not affect the others. The panic is logged and counted
/// ([`panic_count`](Self::panic_count)), the caller that waits for the result gets an error, and the
/// thread continues.
///
/// Dropping the last clone (of the pool, and of the [`manager`](Self::manager) inside)
/// [drains](Manager::drain) the pool: the drop blocks until every accepted closure has run and every
/// thread is joined. From inside the pool, for instance in a closure that owns the last clone, the
/// drop only requests this. To skip closures that have not begun, call `pool.manager().close()` first.
#[derive(Clone)]
pub struct ThreadPool {
    inner: Arc<Inner>,
}

struct Inner {
    manager: Manager<Closure, (), ClosurePanic>,
    /// A channel without a receiver: panics of closures that `execute` was given are only logged.
    no_receiver: Sender<DetachedError<ClosurePanic>>,
    /// How many threads the pool is to have.
    target: AtomicUsize,
}

impl ThreadPool {
    /// Starts a pool of `threads` threads, with a queue for 1,024 closures.
    ///
    /// # Panics
    /// If `threads` is zero, or a thread cannot be started. [`ThreadPoolBuilder::build`] returns an
    /// error instead.
    pub fn new(threads: usize) -> Self {
        build_or_panic(Self::builder().num_threads(threads))
    }

    /// As [`new`](Self::new), with threads named `name-1`, `name-2` and so on.
    ///
    /// # Panics
    /// As [`new`](Self::new), or if there is a NUL byte in the name.
    pub fn with_name(name: impl Into<String>, threads: usize) -> Self {
        build_or_panic(Self::builder().name(name).num_threads(threads))
    }

    /// Returns a builder, for a pool with other settings than the defaults.
    pub fn builder() -> ThreadPoolBuilder {
        ThreadPoolBuilder::new()
    }

    fn start(
        manager: Manager<Closure, (), ClosurePanic>,
        threads: usize,
    ) -> Result<Self, AddError<()>> {
        let inner = Inner {
            manager,
            no_receiver: bounded(0).0,
            target: AtomicUsize::new(0),
        };
        let pool = ThreadPool {
            inner: Arc::new(inner),
        };
        pool.set_num_threads(threads)?;
        Ok(pool)
    }

    /// Submits a closure whose result nobody waits for. Blocks only while the queue is full.
    ///
    /// ```
    /// use worker_pool::closures::ThreadPool;
    ///
    /// let pool = ThreadPool::new(2);
    /// let (results, sums) = std::sync::mpsc::channel();
    /// for part in [1..10, 10..100] {
    ///     let results = results.clone();
    ///     pool.execute(move || results.send(part.sum::<u32>()).unwrap())?;
    /// }
    /// drop(results);
    /// assert_eq!(sums.iter().sum::<u32>(), 4950);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The closure, if the pool is draining or closed or, from inside the pool, if waiting for room
    /// would deadlock. The closure can still be called: `(rejected.payload)()`.
    pub fn execute<F>(&self, closure: F) -> Result<(), RejectedError<Closure>>
    where
        F: FnOnce() + Send + 'static,
    {
        let job = self.inner.manager.job(Box::new(closure));
        job.detach_numbered(&self.inner.no_receiver)
    }

    /// Runs a closure on one of the pool's threads, and blocks until its result is there.
    ///
    /// # Errors
    /// The closure panicked, or the pool closed before it began, or waiting would deadlock, because
    /// the call comes from inside the pool and no thread is left to run the closure.
    pub fn run<T, F>(&self, closure: F) -> Result<T, JoinError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.spawn(closure)?.wait()
    }

    /// Submits a closure and returns a handle to its result. Blocks only while the queue is full.
    ///
    /// # Errors
    /// The closure was not accepted: the pool is draining or closed, or waiting for room would
    /// deadlock.
    pub fn spawn<T, F>(&self, closure: F) -> Result<JoinHandle<T>, JoinError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        JoinHandle::spawn(&self.inner.manager, closure)
    }

    /// Blocks until every closure accepted so far has ended, and so have those that were accepted
    /// meanwhile, for instance from these closures. Then returns `true`. If other threads submit closures
    /// without a pause, this may block forever; see [`Manager::wait_idle`].
    ///
    /// From inside the pool it returns `false` at once, since it would wait for the calling closure
    /// itself.
    pub fn join(&self) -> bool {
        let manager = &self.inner.manager;
        loop {
            let before = manager.submissions();
            if !manager.wait_idle() {
                return false;
            }
            if manager.submissions() == before {
                return true;
            }
        }
    }

    /// How many closures run right now.
    pub fn active_count(&self) -> usize {
        self.inner.manager.busy()
    }

    /// How many closures were accepted and have not begun.
    pub fn queued_count(&self) -> usize {
        // The running closures are counted first, so `accepted`, read later, includes them.
        let active = self.active_count() as u64;
        let stats = self.inner.manager.stats();
        let queued = stats.accepted.saturating_sub(stats.ended() + active);
        usize::try_from(queued).unwrap_or(usize::MAX)
    }

    /// How many threads take closures, now or when their current one has ended.
    pub fn max_count(&self) -> usize {
        self.serving().count()
    }

    /// How many closures panicked so far.
    pub fn panic_count(&self) -> u64 {
        self.inner.manager.stats().failed
    }

    /// Changes the number of threads to `threads`. When this returns, new threads take closures.
    /// Surplus threads leave when their current closure has ended; this does not wait for them.
    ///
    /// # Errors
    /// A thread could not be started (those before it were), or the pool is draining or closed.
    ///
    /// # Panics
    /// If `threads` is zero. To stop closures from beginning, use [`Manager::pause`].
    pub fn set_num_threads(&self, threads: usize) -> Result<(), AddError<()>> {
        assert!(threads > 0, "a pool needs at least one thread");
        // There is no lock, since `add` calls hooks, which may call this method. Two calls at the same
        // time both aim for the number that was stored last.
        self.inner.target.store(threads, SeqCst);
        loop {
            let serving = self.serving().count();
            match serving.cmp(&self.inner.target.load(SeqCst)) {
                std::cmp::Ordering::Equal => return Ok(()),
                std::cmp::Ordering::Less => {
                    let added = self.inner.manager.add(run_closure);
                    added.map_err(|AddError { spawn, .. }| AddError { worker: (), spawn })?;
                }
                std::cmp::Ordering::Greater => {
                    let newest = self.serving().last();
                    // If it has just left by itself, nothing is left to do.
                    newest.map(|id| self.inner.manager.remove(id).ok());
                }
            }
        }
    }

    /// The [`Manager`] inside, for priorities, deadlines, cancel tokens, [`Stats`](crate::Stats), and
    /// every way to end the pool. Its [`job`](Manager::job) takes a boxed closure.
    ///
    /// ```
    /// use worker_pool::{Priority, closures::ThreadPool};
    ///
    /// let pool = ThreadPool::new(1);
    /// let urgent = pool.manager().job(Box::new(|| println!("first"))).priority(Priority::High);
    /// urgent.enqueue()?.wait()?;
    /// assert_eq!(pool.manager().stats().completed, 1);
    /// pool.manager().close();
    /// assert!(pool.execute(|| println!("too late")).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn manager(&self) -> &Manager<Closure, (), ClosurePanic> {
        &self.inner.manager
    }

    /// The threads that are there to stay, oldest first.
    fn serving(&self) -> impl Iterator<Item = WorkerId> {
        let workers = self.inner.manager.workers().into_iter();
        let serving = workers.filter(|worker| worker.state != WorkerState::Leaving);
        serving.map(|worker| worker.id)
    }
}

/// The worker: calls each closure and contains its panic.
fn run_closure(job: Job<Closure>) -> Result<(), ClosurePanic> {
    let id = job.id();
    catch_unwind(AssertUnwindSafe(job.into_payload())).map_err(|panic| {
        let message = unwind::message(panic);
        log::error!("closure {id} panicked: {message}");
        ClosurePanic { message }
    })
}

#[track_caller]
fn build_or_panic(builder: ThreadPoolBuilder) -> ThreadPool {
    match builder.build() {
        Ok(pool) => pool,
        Err(error) => panic!("{error}"),
    }
}

impl Default for ThreadPool {
    /// Starts a pool of as many threads as the machine runs at once.
    ///
    /// # Panics
    /// If a thread cannot be started.
    fn default() -> Self {
        build_or_panic(Self::builder())
    }
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPool")
            .field("name", &self.inner.manager.name())
            .field("max_count", &self.max_count())
            .field("active_count", &self.active_count())
            .field("queued_count", &self.queued_count())
            .finish_non_exhaustive()
    }
}
