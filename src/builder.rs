//! How a pool is built.

use std::fmt;

use crate::books::Books;
use crate::cancel::CancelToken;
use crate::dispatcher;
use crate::error::BuildError;
use crate::gate::Gate;
use crate::hook::{Gauge, Hook, Hooks};
use crate::manager::Manager;
use crate::ready::Ready;
use crate::roster::Roster;
use crate::shared::Shared;
use crate::sync::channel::{bounded, unbounded};
use crate::sync::{Arc, Mutex, Weak, thread};

/// Jobs that may wait, unless the builder says otherwise.
const DEFAULT_CAPACITY: usize = 1024;
/// The queue's memory is taken at once: a gigabyte for so many.
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
#[must_use = "a pool is built by `build`"]
pub struct Builder<P, O, E> {
    name: String,
    capacity: usize,
    hooks: Vec<Box<dyn Hook>>,
    thread_prefix: Option<String>,
    stack_size: Option<usize>,
    timings: bool,
    kind: std::marker::PhantomData<fn(P) -> Result<O, E>>,
}

impl<P, O, E> Builder<P, O, E> {
    pub(crate) fn new() -> Self {
        Builder {
            name: "pool".to_owned(),
            capacity: DEFAULT_CAPACITY,
            hooks: Vec::new(),
            thread_prefix: None,
            stack_size: None,
            timings: false,
            kind: std::marker::PhantomData,
        }
    }

    /// The pool's name, for logs and gauges; "pool" unless given.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How many jobs may wait before [`submit`](Manager::submit) blocks; 1,024 unless given, at
    /// least 1 and at most 16,777,216. Its memory (some 64 bytes and a payload per job) is taken at once. Jobs that are
    /// already released to the workers, about one per worker and more when they are very short, do
    /// not count.
    pub fn queue_capacity(mut self, jobs: usize) -> Self {
        self.capacity = jobs;
        self
    }

    /// A hook that is told of what happens. May be called several times; the hooks are called in
    /// this order.
    pub fn hook(mut self, hook: impl Hook + 'static) -> Self {
        self.hooks.push(Box::new(hook));
        self
    }

    /// Workers' threads are named `prefix-1`, `prefix-2`, …, and the dispatcher's `prefix-0`; the
    /// pool's name unless given. (Linux shows the first 15 bytes.)
    pub fn thread_name_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.thread_prefix = Some(prefix.into());
        self
    }

    /// The size of each worker's stack, in bytes; the system's default unless given.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Measures how long jobs wait and run, for [`Stats`](crate::Stats); off unless given, since the
    /// clock is read three times for each job. On a busy virtual machine with two cores it cost an
    /// empty detached job 90 to 280 ns more (`cargo bench --bench pool -- extras`). With the feature
    /// `histograms`, each worker keeps two of them, some 20 kB each if its jobs take milliseconds.
    ///
    /// ```
    /// use worker_pool::{Job, Manager};
    ///
    /// let pool = Manager::<u32>::builder().timings(true).build()?;
    /// assert_eq!(pool.stats().oldest_waiting, None);
    /// pool.try_submit(1)?; // no worker is there to take it
    /// assert!(pool.stats().oldest_waiting.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn timings(mut self, timings: bool) -> Self {
        self.timings = timings;
        self
    }

    /// Starts the pool: its dispatcher's thread, and no worker yet.
    ///
    /// # Errors
    /// A zero or absurd capacity, a NUL byte in the threads' names, or a thread that cannot be
    /// started.
    pub fn build(self) -> Result<Manager<P, O, E>, BuildError>
    where
        P: Send + 'static,
        O: Send + 'static,
        E: Send + 'static,
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
        let (control, commands) = unbounded();
        let (end, ended) = bounded(0);
        let shared = Arc::new(Shared {
            name: self.name,
            thread_prefix,
            stack_size: self.stack_size,
            hooks: Hooks::new(self.hooks),
            jobs: bounded(self.capacity),
            low_jobs: unbounded(),
            retries: unbounded(),
            control,
            gate: Gate::new(self.capacity),
            ready: Ready::new(),
            crew: Default::default(),
            bell: Arc::new(crate::bell::Bell::new()),
            roster: Roster::new(self.timings),
            books: Books::new(self.timings),
            closing: CancelToken::new(),
        });
        let gauge: Weak<dyn Gauge> = Arc::downgrade(&shared) as Weak<dyn Gauge>;
        let dispatcher = thread::Builder::new()
            .name(format!("{}-0", shared.thread_prefix))
            .spawn({
                let shared = Arc::clone(&shared);
                move || dispatcher::run(shared, commands, end)
            })
            .map_err(BuildError::Spawn)?;
        shared
            .hooks
            .each("pool_start", |hook| hook.pool_start(Weak::clone(&gauge)));
        Ok(Manager::new_with(
            shared,
            Mutex::new(Some(dispatcher)),
            ended,
        ))
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
