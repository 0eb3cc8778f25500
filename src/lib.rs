//! A pool of stateful workers on OS threads, for programs without an async runtime.
//!
//! A [`Worker`] is an object with a state of its own (a loaded model, a child process, a database
//! handle), not a bare closure. Each has its own thread; workers are added and removed while the
//! pool runs. A job goes in by a blocking [`submit`](Manager::submit), by
//! [`enqueue`](Manager::enqueue) or [`try_enqueue`](Manager::try_enqueue) with a [`JobHandle`] for
//! later, or by [`detach_submit`](Manager::detach_submit), where only failures are heard of.
//!
//! ```
//! use worker_pool::{Job, Manager, Meter, Worker};
//!
//! struct Counter { words: usize }
//!
//! impl Worker<String, usize, std::io::Error> for Counter {
//!     fn run(&mut self, job: Job<String>) -> Result<usize, std::io::Error> {
//!         self.words += job.payload().split_whitespace().count();
//!         Ok(self.words)
//!     }
//! }
//!
//! let meter = Meter::new();
//! let pool = Manager::builder().name("words").hook(meter.clone()).build()?;
//! pool.add(Counter { words: 0 })?;
//! assert_eq!(pool.submit("to be or not to be".to_owned())?, 6);
//! assert_eq!(meter.snapshot().to_string(), "0 of 1 workers busy, 0 jobs waiting, running");
//! pool.drain();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! For jobs that are plain closures there is [`closures::ThreadPool`]; for payloads and workers that
//! borrow from the caller's stack there is [`scope`](scope()).
//!
//! # The way of a job
//!
//! ```text
//! caller ──submit──▶ job channel ──▶ dispatcher thread ──▶ ready channel ──▶ worker thread ──▶ reply to the caller
//!            │          (bounded)                              │                 │
//!            └── nothing waits: straight to the workers ───────┘                 └─▶ hooks ─▶ meter ─▶ gRPC stream
//! ```
//!
//! 1. **The queue** counts the jobs that wait. Is the queue full, `submit` blocks and `try_enqueue`
//!    hands the payload back.
//! 2. **The job channel** is a bounded crossbeam channel. (Jobs of low priority have another; those
//!    of high priority have a lane of their own, which the workers look into first.)
//! 3. **The dispatcher**, one thread, moves jobs on to the workers, turns away those that were
//!    cancelled or are late, joins workers that leave, tells those that wait in vain, and keeps the
//!    order of closing. Its decisions are a pure state machine. While it sleeps, a worker that finds
//!    few jobs left moves the next ones itself.
//! 4. **The ready channel** is what the workers take from: about one job per worker if jobs are
//!    long; if they are short, as many as the workers take in a millisecond.
//! 5. **The handoff**: if nothing waits and the ready channel has room, the submitter puts the job
//!    there itself. As it does so only if nothing waits, its jobs keep their order.
//! 6. **The worker** calls the hooks, runs the job, calls the hooks, and *then* replies: who holds a
//!    result sees settled counters. One idle worker looks for jobs, for a tenth of a millisecond if
//!    they lately came that soon; the others sleep, and the last to lie down is woken first.
//! 7. **A batch** goes the same way, some inputs at a time: a *chunk* is one job to all but the worker,
//!    which takes its inputs one after the other, and shares them with workers that have nothing to do.
//!    Results lie in the chunk until the iterator takes them.
//! 8. **A job to be tried again** goes back to the dispatcher, which keeps it until it is time. A worker
//!    that ended and has a factory is made anew on its own thread.
//!
//! # Promises
//!
//! - Every accepted job has exactly one outcome; payloads and outputs are dropped exactly once.
//! - Jobs of one submitter and one priority begin in the order in which they were submitted. (Of a
//!   batch, the chunks do; each chunk may be shared by several workers.)
//! - A panic in a worker, hook, or destructor harms no other worker, and its caller is told. A worker
//!   that has a factory comes back.
//! - A caller returns when its token fires or its deadline passes, whatever the worker does.
//! - `0 ≤ busy ≤ total` in every [`Snapshot`].
//! - An idle pool uses no processor time.
//! - No call blocks for ever by accident: a submit from inside the pool that could never be served
//!   is an error ([`RejectReason::WouldDeadlock`]), and closing from inside only asks.
//!
//! # Features
//!
//! `histograms` (default) adds quantiles of waiting and running times to [`Stats`].
//! `grpc` (default) streams the meter's capacity to clients; it builds gRPC's C++ core. `tls` adds
//! TLS to it. `affinity` lets workers be pinned to cores. With `default-features = false` the pool has three small dependencies.

mod batch;
pub mod closures;
mod dispatcher;
mod error;
#[cfg(feature = "grpc")]
pub mod grpc;
mod hook;
mod job;
mod manager;
mod policy;
mod pool;
mod stats;
mod submit;
mod sync;
mod task;
mod worker;

pub use batch::{Batch, BatchError, Map, MapUnordered};
pub use error::{
    AddError, BuildError, CloseTimeoutError, DetachedError, DrainTimeoutError, FactoryError,
    Failure, JobError, RejectReason, RejectedError, ResizeError, SubmitError, UnknownWorkerError,
};
pub use hook::meter::{Meter, Snapshot, Subscription, SubscriptionError};
pub use hook::{Hook, PoolState, PoolStatus};
pub use job::cancel::CancelToken;
pub use job::id::{JobId, WorkerId};
pub use job::{Job, Outcome, Priority};
pub use manager::builder::Builder;
pub use manager::close::CloseSignal;
pub use manager::scope::{Scope, ScopedManager, scope};
pub use manager::{Manager, WeakManager};
pub use policy::NoWorkers;
pub use policy::elastic::Elastic;
pub use policy::restart::Restarts;
pub use policy::retry::Retry;
pub use pool::roster::record::{WorkerInfo, WorkerState};
#[cfg(feature = "histograms")]
pub use stats::histogram::Histogram;
pub use stats::{RunningJob, Stats};
pub use submit::JobBuilder;
pub use submit::handle::JobHandle;
pub use worker::{Worker, WorkerHandle};

/// The README's examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
