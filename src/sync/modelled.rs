//! Stand-ins whose every step is a choice of the model checker, and the run of a model.
//!
//! All threads of a run are coroutines on one thread of the system, which change only at these steps:
//! so what a run does follows from the checker's choices alone. Orderings weaker than `SeqCst` are
//! treated as `SeqCst`. What waits with a limit may always be too late.

pub(crate) mod channel;
mod lock;
#[cfg(test)]
pub(crate) mod run;
pub(crate) mod thread;

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

pub(crate) use channel as user_channel;
pub(crate) use lock::{Condvar, Mutex, MutexGuard};
pub(crate) use shuttle::hint::spin_loop;
pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize};
pub(crate) use shuttle::thread_local;

std::thread_local! {
    /// The time of the run on this thread of the system, in nanoseconds.
    static CLOCK: Cell<u64> = const { Cell::new(0) };
}

/// So far the clock advances whenever it is read.
const TICK: u64 = 10_000;

/// When all clocks begin.
fn beginning() -> Instant {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    // Not zero, since some subtract from it.
    *BEGINNING.get_or_init(Instant::now)
}

pub(crate) fn now() -> Instant {
    let nanos = CLOCK.get() + TICK;
    CLOCK.set(nanos);
    beginning() + Duration::from_nanos(nanos)
}

/// Time passes until that moment, at least.
fn pass_until(end: Instant) {
    let nanos = end.saturating_duration_since(beginning()).as_nanos() as u64;
    CLOCK.set(CLOCK.get().max(nanos));
}

/// Does a thread that waits with a limit give up now, although nothing keeps it from waiting on?
fn is_late() -> bool {
    use shuttle::rand::Rng;
    shuttle::rand::thread_rng().gen_ratio(1, 4)
}

/// A moment at which other threads may run.
fn step() {
    shuttle::thread::sleep(Duration::ZERO);
}

/// All steps are in one order, so a fence is only a step.
pub(crate) fn fence(_: Ordering) {
    step();
}
