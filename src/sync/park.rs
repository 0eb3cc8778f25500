//! How a thread waits for one event: a [`Parker`] of its own, so that `std::thread::park`'s token
//! stays the user's.

use std::time::Instant;

use crate::sync::thread_local;
use crate::sync::{Arc, AtomicU8, Condvar, Mutex, Ordering::SeqCst};

/// Nobody waits and nobody has called.
const EMPTY: u8 = 0;
/// The owner sleeps, or is about to.
const PARKED: u8 = 1;
/// A call came; the next `park` returns at once.
const NOTIFIED: u8 = 2;

/// Something that can be told to look again.
pub(crate) trait Wake: Send + Sync {
    fn wake(&self);
}

/// One thread waits, any thread wakes. A wake before the wait is kept, several count as one.
///
/// `EMPTY → PARKED` only by the owner under the lock, `→ NOTIFIED` by any waker, `NOTIFIED → EMPTY`
/// by the owner. A waker that replaced `PARKED` takes the lock before it rings, so the owner is
/// either not yet past its compare-exchange (and sees `NOTIFIED`) or already waiting.
pub(crate) struct Parker {
    state: AtomicU8,
    lock: Mutex<()>,
    signal: Condvar,
}

thread_local! {
    static CURRENT: Arc<Parker> = Arc::new(Parker::new());
}

impl Parker {
    pub(crate) fn new() -> Self {
        Parker {
            state: AtomicU8::new(EMPTY),
            lock: Mutex::new(()),
            signal: Condvar::new(),
        }
    }

    /// The calling thread's own. Waits are never nested, so one is enough.
    pub(crate) fn current() -> Arc<Parker> {
        CURRENT
            .try_with(Arc::clone)
            // A submit from a destructor of a thread-local still works.
            .unwrap_or_else(|_| Arc::new(Parker::new()))
    }

    /// Blocks until a wake or the deadline, and forgets the wake. May return for an old one: callers
    /// check and repeat.
    pub(crate) fn park(&self, deadline: Option<Instant>) {
        self.park_and_keep(deadline);
        self.forget_wake();
    }

    /// The owner takes note of the wakes so far.
    pub(crate) fn forget_wake(&self) {
        // A swap, to see all that the waker did before.
        self.state.swap(EMPTY, SeqCst);
    }

    /// Has it been woken, and not yet taken note of it?
    pub(crate) fn is_woken(&self) -> bool {
        self.state.load(SeqCst) == NOTIFIED
    }

    /// As [`park`](Self::park), but the wake stays to be seen until it is forgotten.
    pub(crate) fn park_and_keep(&self, deadline: Option<Instant>) {
        let mut guard = self.lock.lock();
        if self
            .state
            .compare_exchange(EMPTY, PARKED, SeqCst, SeqCst)
            .is_err()
        {
            return; // woken before
        }
        loop {
            let late = match deadline {
                None => {
                    self.signal.wait(&mut guard);
                    false
                }
                Some(at) => self.signal.wait_until(&mut guard, at).timed_out(),
            };
            if self.is_woken() {
                return;
            }
            if late {
                // Unless it is woken at this very moment.
                let _ = self.state.compare_exchange(PARKED, EMPTY, SeqCst, SeqCst);
                return;
            }
        }
    }
}

impl Wake for Parker {
    fn wake(&self) {
        if self.state.swap(NOTIFIED, SeqCst) == PARKED {
            drop(self.lock.lock());
            self.signal.notify_one();
        }
    }
}

#[cfg(all(test, worker_pool_shuttle))]
mod model;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_wake_before_the_wait_is_kept() {
        let parker = Parker::new();
        parker.wake();
        parker.wake();
        parker.park(None); // would hang if the wake were lost
        let start = Instant::now();
        parker.park(Some(start + Duration::from_millis(5)));
        assert!(
            start.elapsed() >= Duration::from_millis(5),
            "two wakes count as one"
        );
    }

    #[test]
    fn every_wake_arrives() {
        let ping = Arc::new(Parker::new());
        let pong = Arc::new(Parker::new());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    ping.park(None);
                    pong.wake();
                }
            });
            for _ in 0..10_000 {
                ping.wake();
                pong.park(None);
            }
        });
    }
}
