//! What a pool is made of outside of tests.

pub(crate) use crossbeam_channel as channel;
pub(crate) use crossbeam_channel as user_channel;
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
pub(crate) use std::hint::spin_loop;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, fence};
pub(crate) use std::{thread, thread_local};

/// The moment.
#[inline]
pub(crate) fn now() -> std::time::Instant {
    std::time::Instant::now()
}
