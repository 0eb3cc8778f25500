//! How a pool is built.

use std::fmt;

use crate::batch::Open;
use crate::cancel::CancelToken;
use crate::dispatcher;
use crate::error::BuildError;
use crate::gate::Gate;
use crate::gauge::PoolGauge;
use crate::hook::{Gauge, Hook, Hooks};
use crate::manager::{Manager, OnDrop};
use crate::ready::Ready;
use crate::roster::Roster;
use crate::shared::Shared;
use crate::spawn::{Free, Spawn};
use crate::stats::Books;
use crate::sync::channel::{bounded, unbounded};
use crate::sync::{Arc, Weak, thread};

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
    on_drop: OnDrop,
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
            on_drop: OnDrop::Close,
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

    /// What becomes of the pool when its last handle is dropped.
    pub(crate) fn on_drop(mut self, on_drop: OnDrop) -> Self {
        self.on_drop = on_drop;
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
        self.build_with(&Free)
    }

    /// As [`build`](Self::build), on threads that are started so.
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
        let (control, commands) = unbounded();
        let (end, ended) = bounded(0);
        let gauge = Arc::new(PoolGauge {
            name: self.name,
            gate: Arc::new(Gate::new(self.capacity)),
            roster: Arc::new(Roster::new()),
        });
        let seen: Weak<dyn Gauge> = Arc::downgrade(&gauge) as Weak<dyn Gauge>;
        let shared = Arc::new(Shared {
            thread_prefix,
            stack_size: self.stack_size,
            hooks: Hooks::new(self.hooks),
            jobs: bounded(self.capacity),
            low_jobs: unbounded(),
            control,
            gate: Arc::clone(&gauge.gate),
            ready: Ready::new(),
            open: Open::new(),
            crew: Default::default(),
            bell: Arc::new(crate::bell::Bell::new()),
            roster: Arc::clone(&gauge.roster),
            gauge,
            books: Books::default(),
            closing: CancelToken::new(),
        });
        let settings = thread::Builder::new().name(format!("{}-0", shared.thread_prefix));
        let dispatcher = spawn.spawn(settings, {
            let shared = Arc::clone(&shared);
            move || dispatcher::run(shared, commands, end)
        });
        let dispatcher = dispatcher.map_err(BuildError::Spawn)?;
        shared
            .hooks
            .each("pool_start", |hook| hook.pool_start(Weak::clone(&seen)));
        Ok(Manager::new_with(shared, dispatcher, ended, self.on_drop))
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
