//! A pool for plain closures, for programs whose jobs need no worker with a state of its own.
//!
//! [`ThreadPool`] is a [`Manager`] whose workers call the closures that they are given, and whose
//! verbs are those of the `threadpool` crate; [`moving_over`] leads from there to here. Closures get
//! what they need by capture.
//!
//! ```
//! use worker_pool::closures::ThreadPool;
//!
//! let pool = ThreadPool::new(4);
//! pool.execute(|| println!("somewhere else"))?; // nobody waits for it
//! assert_eq!(pool.run(|| 6 * 7)?, 42); // blocks for the result
//! let later = pool.spawn(|| "done".to_owned())?; // a handle to wait on
//! assert_eq!(later.wait()?, "done");
//! pool.join(); // nothing is left to be done
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{AddError, DetachedError, RejectedError};
use crate::job::Job;
use crate::job::id::WorkerId;
use crate::manager::Manager;
use crate::pool::roster::record::WorkerState;
use crate::sync::channel::{Sender, bounded};
use crate::sync::unwind as panics;
use crate::sync::{Arc, AtomicUsize, Ordering::SeqCst};

mod builder;
mod join_handle;

pub use builder::ThreadPoolBuilder;
pub use join_handle::{JoinError, JoinHandle};

pub mod moving_over {
    #![doc = include_str!("moving_over.md")]
}

/// What the [`Manager`] below a [`ThreadPool`] has for payloads.
pub type Closure = Box<dyn FnOnce() + Send>;

/// A closure panicked; the thread that ran it serves on. The worker's error of the [`Manager`] below
/// a [`ThreadPool`].
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

/// A pool of threads that run closures. Cheap to clone, to be shared between threads.
///
/// Closures of one submitter begin in the order in which they were submitted. The queue is bounded:
/// when it is full, submitting blocks.
///
/// A closure that panics harms nobody else: the panic is logged and counted
/// ([`panic_count`](Self::panic_count)), whoever waits for the result is told, and the thread goes on.
///
/// Dropping the last clone (of it, and of the [`manager`](Self::manager) below)
/// [drains](Manager::drain) the pool: it blocks until every closure that was accepted has run and
/// every thread is joined. From inside the pool, as with a closure that owns the last clone, it only
/// asks for that. To leave out those that have not begun, call `pool.manager().close()` first.
#[derive(Clone)]
pub struct ThreadPool {
    inner: Arc<Inner>,
}

struct Inner {
    manager: Manager<Closure, (), ClosurePanic>,
    /// Nobody listens: what `execute` was given has its panics logged.
    nobody: Sender<DetachedError<ClosurePanic>>,
    /// How many threads there shall be.
    wanted: AtomicUsize,
}

impl ThreadPool {
    /// A pool of so many threads, with a queue for 1,024 closures.
    ///
    /// # Panics
    /// If `threads` is zero, or a thread cannot be started; [`ThreadPoolBuilder::build`] returns an
    /// error instead.
    pub fn new(threads: usize) -> Self {
        started(Self::builder().num_threads(threads))
    }

    /// As [`new`](Self::new), with threads that are named `name-1`, `name-2` and so on.
    ///
    /// # Panics
    /// As [`new`](Self::new), and if there is a NUL byte in the name.
    pub fn with_name(name: impl Into<String>, threads: usize) -> Self {
        started(Self::builder().name(name).num_threads(threads))
    }

    /// A builder, for a pool with other settings.
    pub fn builder() -> ThreadPoolBuilder {
        ThreadPoolBuilder::new()
    }

    fn start(
        manager: Manager<Closure, (), ClosurePanic>,
        threads: usize,
    ) -> Result<Self, AddError<()>> {
        let inner = Inner {
            manager,
            nobody: bounded(0).0,
            wanted: AtomicUsize::new(0),
        };
        let pool = ThreadPool {
            inner: Arc::new(inner),
        };
        pool.set_num_threads(threads)?;
        Ok(pool)
    }

    /// Hands in a closure that nobody waits for, blocking only while the queue is full.
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
    /// The closure, if the pool is draining or closed; or, from inside the pool, if waiting for room
    /// would deadlock. It can still be called: `(rejected.payload)()`.
    pub fn execute<F>(&self, closure: F) -> Result<(), RejectedError<Closure>>
    where
        F: FnOnce() + Send + 'static,
    {
        let job = self.inner.manager.job(Box::new(closure));
        job.detach_numbered(&self.inner.nobody)
    }

    /// Runs a closure on one of the threads, and blocks until its result is there.
    ///
    /// # Errors
    /// It panicked, or the pool closed before it began, or waiting would deadlock, because it is
    /// called from inside the pool and no thread is left to run it.
    pub fn run<T, F>(&self, closure: F) -> Result<T, JoinError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.spawn(closure)?.wait()
    }

    /// Hands in a closure whose result is wanted later, blocking only while the queue is full.
    ///
    /// # Errors
    /// It was not accepted: the pool is draining or closed, or waiting for room would deadlock.
    pub fn spawn<T, F>(&self, closure: F) -> Result<JoinHandle<T>, JoinError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        JoinHandle::spawn(&self.inner.manager, closure)
    }

    /// Blocks until nothing is left to be done: every closure accepted so far has ended, and those
    /// that were accepted meanwhile as well, for instance from these closures. If others hand in
    /// closures without a pause, that may be never; see [`Manager::wait_idle`].
    ///
    /// `true`; or `false`, at once, from inside the pool, where the calling closure itself would be
    /// waited for.
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

    /// Closures that run right now.
    pub fn active_count(&self) -> usize {
        self.inner.manager.busy()
    }

    /// Closures that were accepted and have not begun.
    pub fn queued_count(&self) -> usize {
        // In this order: what runs or has ended was accepted before.
        let active = self.active_count() as u64;
        let stats = self.inner.manager.stats();
        let queued = stats.accepted.saturating_sub(stats.ended() + active);
        usize::try_from(queued).unwrap_or(usize::MAX)
    }

    /// Threads that take closures, now or when they are done with the one in hand.
    pub fn max_count(&self) -> usize {
        self.serving().count()
    }

    /// Closures that panicked so far.
    pub fn panic_count(&self) -> u64 {
        self.inner.manager.stats().failed
    }

    /// From now on there are so many threads. New ones take closures when this returns; of those
    /// that are too many each leaves when it is done with the closure in hand. This does not wait
    /// for it.
    ///
    /// # Errors
    /// A thread could not be started (those before it were), or the pool is draining or closed.
    ///
    /// # Panics
    /// If `threads` is zero. To hold the closures up, use [`Manager::pause`].
    pub fn set_num_threads(&self, threads: usize) -> Result<(), AddError<()>> {
        assert!(threads > 0, "a pool needs at least one thread");
        // No lock, since `add` calls hooks, which may come here. Of two calls at the same time both
        // go for what was asked last.
        self.inner.wanted.store(threads, SeqCst);
        loop {
            let serving = self.serving().count();
            match serving.cmp(&self.inner.wanted.load(SeqCst)) {
                std::cmp::Ordering::Equal => return Ok(()),
                std::cmp::Ordering::Less => {
                    let added = self.inner.manager.add(call);
                    added.map_err(|AddError { spawn, .. }| AddError { worker: (), spawn })?;
                }
                std::cmp::Ordering::Greater => {
                    let newest = self.serving().last();
                    // If it has just left by itself, so much the better.
                    newest.map(|id| self.inner.manager.remove(id).ok());
                }
            }
        }
    }

    /// The pool below: for priorities, deadlines, cancel tokens, [`Stats`](crate::Stats), and every
    /// way of ending it. [`job`](Manager::job) takes a boxed closure.
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

    fn serving(&self) -> impl Iterator<Item = WorkerId> {
        let workers = self.inner.manager.workers().into_iter();
        let serving = workers.filter(|worker| worker.state != WorkerState::Leaving);
        serving.map(|worker| worker.id)
    }
}

/// The worker: calls what it is given, and outlives its panics.
fn call(job: Job<Closure>) -> Result<(), ClosurePanic> {
    let id = job.id();
    catch_unwind(AssertUnwindSafe(job.into_payload())).map_err(|panic| {
        let message = panics::message(panic);
        log::error!("closure {id} panicked: {message}");
        ClosurePanic { message }
    })
}

#[track_caller]
fn started(builder: ThreadPoolBuilder) -> ThreadPool {
    match builder.build() {
        Ok(pool) => pool,
        Err(error) => panic!("{error}"),
    }
}

impl Default for ThreadPool {
    /// A pool of as many threads as the machine runs at once.
    ///
    /// # Panics
    /// If a thread cannot be started.
    fn default() -> Self {
        started(Self::builder())
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
