//! The one place from which the pool takes locks, atomics, threads and channels, so that a model
//! checker's types can replace them at compile time.
//!
//! Three things do not come from here: cells that are set once (`std::sync::OnceLock`), thread-locals,
//! and what only tests use.

pub(crate) mod adaptive_spin;
pub(crate) mod backoff;
pub(crate) mod log;
pub(crate) mod park;
#[cfg(feature = "affinity")]
pub(crate) mod pin;
pub(crate) mod thread_spawn;
pub(crate) mod unwind;

pub(crate) use crossbeam_channel as channel;
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use std::sync::{Arc, Weak};
pub(crate) use std::thread;
