//! A pool of stateful workers on OS threads, for programs without an async runtime.
//!
//! A [`Worker`] is an object with a state of its own (a loaded model, a child process, a database
//! handle), not a bare closure. Each has its own thread, and you can add and remove workers while the
//! pool runs. [`submit`](Manager::submit) blocks until a job has its result.
//! [`enqueue`](Manager::enqueue) and [`try_enqueue`](Manager::try_enqueue) return a [`JobHandle`] for
//! later. After [`detach_submit`](Manager::detach_submit) only failures are reported.
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
//! For jobs that are plain closures there is [`closures::ThreadPool`]. For payloads and workers that
//! borrow from the caller's stack there is [`scope`](scope()).
//!
//! # The way of a job
//!
//! ```text
//! submit ──▶ job channel ──▶ dispatcher ──▶ run queue ──▶ worker ──▶ reply to the caller
//!    │        (bounded)                        ▲            │
//!    └── nothing waits: direct handoff ────────┘            └─▶ hooks ─▶ meter ─▶ gRPC stream
//! ```
//!
//! If the queue is full, `submit` blocks and `try_enqueue` returns the payload. The dispatcher, one
//! thread, releases waiting jobs to the run queue: about one per worker, or for short jobs as many as
//! the workers take in a millisecond. If nothing waits, the submitter puts a normal job there itself.
//! The worker calls the hooks, runs the job, calls the hooks, and *then* replies: once you have a
//! result, the counters include it. A batch goes the same way in chunks, and a job to be retried goes
//! back to the dispatcher until its back-off is over. [The design](guide::design) has the details, for
//! people who read or change the library.
//!
//! # Promises
//!
//! - Every accepted job has exactly one outcome. Payloads and outputs are dropped exactly once.
//! - Jobs of one submitter and one priority begin in the order in which they were submitted. (Of a
//!   batch, the chunks do; each chunk may be shared by several workers.)
//! - A panic in a worker, hook, or destructor does not affect the other workers, and its caller is
//!   told. A worker that has a factory is restarted.
//! - A caller returns when its token fires or its deadline passes, whatever the worker does.
//! - `0 ≤ busy ≤ total` in every [`Snapshot`].
//! - An idle pool uses no processor time.
//! - No call blocks forever by accident: a submit from inside a pool that could never be served, not
//!   even by way of other pools, is an error ([`RejectReason::WouldDeadlock`]), and closing from inside only requests it.
//!
//! # Features
//!
//! - `histograms` (default) adds quantiles of waiting and running times to [`Stats`].
//! - `grpc` (default) streams the meter's capacity to clients. It builds gRPC's C++ core.
//! - `tls` adds TLS to `grpc`.
//! - `affinity` lets workers be pinned to cores.
//!
//! With `default-features = false` the pool has three small dependencies.

mod batch;
pub mod closures;
mod dispatcher;
mod error;
#[cfg(feature = "grpc")]
pub mod grpc;
/// Documentation beyond the items: deadlocks and ends for users, and the design for people who read or
/// change the library.
pub mod guide {
    #[doc = include_str!("guide/deadlocks.md")]
    pub mod deadlocks {}
    #[doc = include_str!("guide/design.md")]
    pub mod design {}
}
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

/// Runs the README's examples as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
