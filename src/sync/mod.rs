//! The one place from which the pool takes locks, atomics, threads, channels and the time.
//!
//! Everything that depends on how threads are scheduled comes from one of three sources, chosen at
//! compile time:
//!
//! | source | with | what it is |
//! |---|---|---|
//! | `plain` | nothing | the standard library's types, `parking_lot`'s and `crossbeam_channel`'s |
//! | `perturbed` | `--cfg worker_pool_perturb` | the same, with random pauses around each step |
//! | `modelled` | `--cfg worker_pool_shuttle` | types whose every step the model checker schedules |

pub(crate) mod adaptive_spin;
pub(crate) mod backoff;
pub(crate) mod log;
#[cfg(worker_pool_shuttle)]
pub(crate) mod modelled;
pub(crate) mod park;
#[cfg(worker_pool_perturb)]
pub(crate) mod perturbed;
#[cfg(feature = "affinity")]
pub(crate) mod pin;
#[cfg(not(any(worker_pool_perturb, worker_pool_shuttle)))]
pub(crate) mod plain;
pub(crate) mod thread_spawn;
pub(crate) mod time;
pub(crate) mod unwind;

#[cfg(worker_pool_shuttle)]
use modelled as source;
#[cfg(worker_pool_perturb)]
use perturbed as source;
#[cfg(not(any(worker_pool_perturb, worker_pool_shuttle)))]
use plain as source;

/// The channels that are part of the public interface. Users make them, so they are never perturbed.
pub(crate) use source::user_channel;
pub(crate) use source::{
    AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Condvar, Mutex, MutexGuard, channel, fence,
    spin_loop, thread, thread_local,
};
pub(crate) use std::sync::atomic::Ordering;
/// Their own steps decide nothing about how threads meet: no source replaces them.
pub(crate) use std::sync::{Arc, OnceLock, Weak};
