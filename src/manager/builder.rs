//! The [`Builder`] of a pool.

use std::fmt;

use crate::dispatcher;
use crate::error::BuildError;
use crate::hook::{Hook, Hooks, PoolStatus};
use crate::job::cancel::CancelToken;
use crate::job::id::WorkerId;
use crate::manager::{Manager, OnDrop};
use crate::policy::NoWorkers;
use crate::policy::elastic::Elastic;
use crate::policy::restart::Restarts;
use crate::pool::dispatch_state::DispatchState;
use crate::pool::gauge::PoolGauge;
use crate::pool::queue::Admission;
use crate::pool::queue::run_queue::RunQueue;
use crate::pool::roster::Roster;
use crate::pool::signal::DispatcherSignal;
use crate::pool::waits::PoolWaits;
use crate::pool::{Pool, WorkerFactory};
use crate::stats::counters::Counters;
use crate::sync::channel::{bounded, unbounded};
use crate::sync::thread_spawn::{Free, Spawn};
use crate::sync::{Arc, Mutex, Weak, thread, user_channel};
use crate::task::chunk::shared::SharedChunks;
use crate::task::free_list::FreeList;
use crate::worker::{Worker, thread as worker_thread};

/// How many jobs may wait by default.
const DEFAULT_CAPACITY: usize = 1024;
/// The queue's memory is allocated at once, which is a gigabyte for this capacity.
const MAX_CAPACITY: usize = 1 << 24;

/// Builds a [`Manager`]; made by [`Manager::builder`].
///
/// ```
/// use worker_pool::{Manager, Meter};
///
/// let meter = Meter::new();
/// let pool = Manager::<String, usize>::builder()
///     .name("lengths")
///     .queue_capacity(64)
///     .hook(meter.clone())
///     .build()?;
/// assert_eq!(pool.name(), "lengths");
/// # Ok::<(), worker_pool::BuildError>(())
/// ```
#[must_use = "no pool is built until `build` is called"]
pub struct Builder<P, O, E> {
    name: String,
    capacity: usize,
    hooks: Hooks,
    thread_prefix: Option<String>,
    stack_size: Option<usize>,
    #[cfg(feature = "affinity")]
    pin_to_cores: bool,
    factory: Option<WorkerFactory<P, O, E>>,
    workers: usize,
    elastic: Option<Elastic>,
    restarts: Restarts,
    no_workers: NoWorkers,
    on_drop: OnDrop,
    timings: bool,
}

impl<P, O, E> Builder<P, O, E> {
    pub(crate) fn new() -> Self {
        Builder {
            name: "pool".to_owned(),
            capacity: DEFAULT_CAPACITY,
            hooks: Hooks::new(),
            thread_prefix: None,
            stack_size: None,
            #[cfg(feature = "affinity")]
            pin_to_cores: false,
            factory: None,
            workers: 0,
            elastic: None,
            restarts: Restarts::default(),
            no_workers: NoWorkers::default(),
            on_drop: OnDrop::Close,
            timings: false,
        }
    }

    /// The pool's name, for logs and gauges; "pool" by default.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How many jobs may wait before [`submit`](Manager::submit) blocks; 1,024 by default, at least 1
    /// and at most 16,777,216.
    ///
    /// 24 bytes are allocated at once for each of them. A job that waits needs some 50 bytes more
    /// (some 110 if it has a handle), and its payload. Jobs that are already released to the workers,
    /// about one per worker or what they do in a millisecond, do not count.
    pub fn queue_capacity(mut self, jobs: usize) -> Self {
        self.capacity = jobs;
        self
    }

    /// Adds a hook that is told what happens in the pool. Several hooks are called in the order in
    /// which they were added.
    pub fn hook(mut self, hook: impl Hook + 'static) -> Self {
        self.hooks.push(hook);
        self
    }

    /// The prefix of thread names; the pool's name by default. Workers' threads are named `prefix-1`,
    /// `prefix-2`, …, the dispatcher's thread `prefix-0`, and the thread that joins workers and calls
    /// their last hooks `prefix-r`. (Linux shows the first 15 bytes.)
    pub fn thread_name_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.thread_prefix = Some(prefix.into());
        self
    }

    /// The size of each worker's stack, in bytes; the system's default if not set.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// How the pool ends when its last handle is dropped.
    pub(crate) fn on_drop(mut self, on_drop: OnDrop) -> Self {
        self.on_drop = on_drop;
        self
    }

    /// Measures how long jobs wait and run, for [`Stats`](crate::Stats). It is off by default, since
    /// the clock is read three times for each job.
    ///
    /// On a virtual machine with two cores, where reading the clock takes 23 ns, it cost an empty
    /// detached job 50 ns more, and a blocking one 105 to 145 (`cargo bench --bench pool -- extras`).
    /// The pool takes some 80 kB for it. With the feature `histograms` each worker keeps two
    /// histograms, some 20 kB each if its jobs take milliseconds.
    ///
    /// ```
    /// use worker_pool::{Job, Manager};
    ///
    /// let pool = Manager::<u32>::builder().timings(true).build()?;
    /// assert_eq!(pool.stats().oldest_waiting, None);
    /// pool.try_enqueue(1)?; // no worker is there to take it
    /// assert!(pool.stats().oldest_waiting.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn timings(mut self, timings: bool) -> Self {
        self.timings = timings;
        self
    }

    /// Pins each worker's thread to one core: worker N to the core number (N - 1) modulo the number of
    /// cores that the process may use. If a thread cannot be pinned, this is logged and the worker runs
    /// unpinned.
    ///
    /// This is for pools that have the machine to themselves: a pinned worker waits for its core even
    /// if another core is idle.
    ///
    /// ```
    /// let pool = worker_pool::Manager::<u32>::builder().pin_to_cores(true).build()?;
    /// # Ok::<(), worker_pool::BuildError>(())
    /// ```
    #[cfg(feature = "affinity")]
    pub fn pin_to_cores(mut self, pin: bool) -> Self {
        self.pin_to_cores = pin;
        self
    }

    /// The pool's own factory. It makes the [`workers`](Self::workers) that the pool starts with and
    /// those that [`resize`](Manager::resize) or [`elastic`](Self::elastic) adds, each on its own
    /// thread, and restarts them as [`restarts`](Self::restarts) allows. The workers need not be `Send`.
    /// The factory may be called on several threads at once.
    ///
    /// The factory lives as long as the pool: a [`Manager`] of this same pool inside it would keep the
    /// pool open for ever.
    ///
    /// ```
    /// use worker_pool::{Job, Manager};
    ///
    /// let pool = Manager::<String, usize>::builder()
    ///     .factory(|id| {
    ///         let name = format!("counter {id}");
    ///         Ok::<_, std::io::Error>(move |job: Job<String>| Ok(name.len() + job.payload().len()))
    ///     })
    ///     .workers(3)
    ///     .build()?;
    /// assert_eq!(pool.submit("abc".to_owned())?, 12);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn factory<W, X>(
        mut self,
        factory: impl Fn(WorkerId) -> Result<W, X> + Send + Sync + 'static,
    ) -> Self
    where
        P: Send + 'static,
        O: Send + 'static,
        E: Send + 'static,
        W: Worker<P, O, E> + 'static,
        X: fmt::Display + 'static,
    {
        self.factory = Some(worker_thread::worker_factory(factory));
        self
    }

    /// How many workers the pool starts with, made by its [`factory`](Self::factory); none by default.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Makes the pool grow and shrink with its load, by workers of its [`factory`](Self::factory). It
    /// does not by default. The pool starts with the least number of workers, or with
    /// [`workers`](Self::workers) if that is more. See [`Elastic`].
    ///
    /// A job that waits inside another for its own pool is no deadlock while the pool may grow.
    /// Workers that were added by other means count too, and may be asked to leave.
    pub fn elastic(mut self, elastic: Elastic) -> Self {
        self.elastic = Some(elastic);
        self
    }

    /// How often a worker that has a factory is restarted, and after which pause; 5 times in 10
    /// seconds by default. See [`Restarts`].
    pub fn restarts(mut self, restarts: Restarts) -> Self {
        self.restarts = restarts;
        self
    }

    /// What becomes of jobs when the pool's last worker is gone for good; they wait by default. See
    /// [`NoWorkers`].
    pub fn no_workers(mut self, rule: NoWorkers) -> Self {
        self.no_workers = rule;
        self
    }

    /// Starts the pool: its dispatcher's thread, and then its first [`workers`](Self::workers), one
    /// after the other. Blocks until they are made.
    ///
    /// # Errors
    /// A capacity that is zero or too large, a NUL byte in the threads' names, a thread that cannot be
    /// started, bounds that make no sense, workers without a factory, or a factory that fails. No thread
    /// is left then: the workers made before have been closed.
    pub fn build(self) -> Result<Manager<P, O, E>, BuildError>
    where
        P: Send + 'static,
        O: Send + 'static,
        E: Send + 'static,
    {
        self.build_with(&Free)
    }

    /// As [`build`](Self::build), but starts the dispatcher's thread by `spawn`.
    pub(crate) fn build_with<'a>(
        self,
        spawn: &impl Spawn<'a>,
    ) -> Result<Manager<P, O, E>, BuildError>
    where
        P: Send + 'a,
        O: Send + 'a,
        E: Send + 'a,
    {
        if self.capacity == 0 {
            return Err(BuildError::ZeroCapacity);
        }
        if self.capacity > MAX_CAPACITY {
            return Err(BuildError::CapacityTooLarge(self.capacity));
        }
        let thread_prefix = self.thread_prefix.unwrap_or_else(|| self.name.clone());
        if thread_prefix.contains('\0') {
            return Err(BuildError::NulInName(thread_prefix));
        }
        if (self.workers > 0 || self.elastic.is_some()) && self.factory.is_none() {
            return Err(BuildError::NoFactory);
        }
        let mut workers = self.workers;
        if let Some(Elastic { least, most, .. }) = self.elastic {
            workers = workers.max(least);
            // Rejected jobs never wait, so a pool without workers would never grow again.
            let stuck_at_zero = least == 0 && self.no_workers == NoWorkers::Reject;
            if most == 0 || workers > most || stuck_at_zero {
                return Err(BuildError::Elastic { least, most });
            }
        }
        let (control, commands) = unbounded();
        let (cleanups, to_clean_up) = unbounded();
        let (end, ended) = user_channel::bounded(0);
        let admission = Arc::new(Admission::new(self.capacity));
        let signal = Arc::new(DispatcherSignal::new());
        let most = self.elastic.map(|elastic| elastic.most);
        let waits = PoolWaits::new(&admission, &signal, most);
        let gauge = Arc::new(PoolGauge {
            name: self.name,
            admission,
            roster: Arc::new(Roster::new(self.timings, waits)),
            counters: Arc::new(Counters::new(self.timings)),
        });
        let status: Weak<dyn PoolStatus> = Arc::downgrade(&gauge) as Weak<dyn PoolStatus>;
        let pool = Arc::new(Pool {
            thread_prefix,
            stack_size: self.stack_size,
            #[cfg(feature = "affinity")]
            pins: crate::sync::pin::Pins::new(self.pin_to_cores),
            hooks: self.hooks,
            factory: self.factory,
            elastic: self.elastic,
            restarts: self.restarts,
            no_workers: self.no_workers,
            jobs: bounded(self.capacity),
            low_jobs: unbounded(),
            retries: unbounded(),
            control,
            cleanups,
            admission: Arc::clone(&gauge.admission),
            pausing: Mutex::new(()),
            run_queue: RunQueue::new(),
            free_list: FreeList::new(),
            shared_chunks: SharedChunks::new(),
            sleep: Default::default(),
            signal,
            state: Mutex::new(DispatchState::new()),
            roster: Arc::clone(&gauge.roster),
            counters: Arc::clone(&gauge.counters),
            gauge,
            closing: CancelToken::new(),
        });
        let settings =
            |thread| thread::Builder::new().name(format!("{}-{thread}", pool.thread_prefix));
        let dispatcher = spawn.spawn(settings("0"), {
            let pool = Arc::clone(&pool);
            move || dispatcher::run(pool, commands)
        });
        let dispatcher = dispatcher.map_err(BuildError::Spawn)?;
        let reaper = spawn.spawn(settings("r"), {
            let pool = Arc::clone(&pool);
            move || dispatcher::reaper::run(pool, to_clean_up, end)
        });
        let reaper = match reaper {
            Ok(reaper) => reaper,
            Err(error) => {
                pool.close(None);
                let _ = dispatcher.join();
                return Err(BuildError::Spawn(error));
            }
        };
        pool.hooks
            .each("pool_start", |hook| hook.pool_start(Weak::clone(&status)));
        // From here on an error drops the manager, which ends the pool.
        let manager =
            Manager::new_with(Arc::clone(&pool), [dispatcher, reaper], ended, self.on_drop);
        if let Some(factory) = &pool.factory {
            let (_, filled) = worker_thread::fill_up(&pool, factory, workers);
            filled.map_err(BuildError::Worker)?;
        }
        Ok(manager)
    }
}

impl<P, O, E> fmt::Debug for Builder<P, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("queue_capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

impl<P, O, E> Manager<P, O, E>
where
    P: Send + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    /// Starts a pool with the default settings and no workers.
    ///
    /// # Panics
    /// If the dispatcher's thread cannot be started; [`Builder::build`] returns an error instead.
    pub fn new() -> Self {
        Builder::new()
            .build()
            .expect("the dispatcher's thread can be started")
    }
}

impl<P, O, E> Manager<P, O, E>
where
    P: Send,
    O: Send,
    E: Send,
{
    /// Returns a builder, for a pool with other settings than the defaults.
    pub fn builder() -> Builder<P, O, E> {
        Builder::new()
    }
}

impl<P, O, E> Default for Manager<P, O, E>
where
    P: Send + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn default() -> Self {
        Manager::new()
    }
}
