//! How a thread waits for an event: with a [`Parker`] of its own, so that `std::thread::park`'s token
//! is left to the user's code.

use std::time::Instant;

use crate::sync::thread_local;
use crate::sync::{Arc, AtomicU8, Condvar, Mutex, Ordering::SeqCst};

/// The owner does not wait, and no wake-up is pending.
const EMPTY: u8 = 0;
/// The owner sleeps, or is about to.
const PARKED: u8 = 1;
/// A wake-up is pending; the next `park` returns at once.
const NOTIFIED: u8 = 2;

/// Something that can be woken, to look again at what it waits for.
pub(crate) trait Wake: Send + Sync {
    fn wake(&self);
}

/// One thread, the owner, waits. Any thread wakes it. A wake-up before the wait is kept, and several
/// count as one.
///
/// | change | who |
/// |---|---|
/// | `EMPTY → PARKED` | the owner, under the lock |
/// | any state → `NOTIFIED` | any thread that wakes it |
/// | `PARKED → EMPTY` | the owner, at its deadline |
/// | `NOTIFIED → EMPTY` | the owner |
///
/// No wake-up is lost. If a waker replaces `EMPTY`, the owner's compare-exchange fails, and the owner
/// does not wait. If it replaces `PARKED`, it takes the lock before it signals. The owner holds the
/// lock from its compare-exchange until it waits, so by then it does wait.
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

    /// The calling thread's own parker. Waits are never nested, so one is enough.
    pub(crate) fn current() -> Arc<Parker> {
        CURRENT
            .try_with(Arc::clone)
            // So that a submit from a thread-local's destructor still works.
            .unwrap_or_else(|_| Arc::new(Parker::new()))
    }

    /// Blocks until a wake-up or the deadline, and forgets the wake-up. It may return because of an
    /// old one, so callers check and repeat.
    pub(crate) fn park(&self, deadline: Option<Instant>) {
        self.park_and_keep(deadline);
        self.forget_wake();
    }

    /// The owner forgets all wake-ups so far.
    pub(crate) fn forget_wake(&self) {
        // A swap, so that the owner sees all that the waker did before.
        self.state.swap(EMPTY, SeqCst);
    }

    /// Is a wake-up pending?
    pub(crate) fn is_woken(&self) -> bool {
        self.state.load(SeqCst) == NOTIFIED
    }

    /// As [`park`](Self::park), but the wake-up stays pending until
    /// [`forget_wake`](Self::forget_wake).
    pub(crate) fn park_and_keep(&self, deadline: Option<Instant>) {
        let mut guard = self.lock.lock();
        if self
            .state
            .compare_exchange(EMPTY, PARKED, SeqCst, SeqCst)
            .is_err()
        {
            return; // a wake-up was pending
        }
        loop {
            let timed_out = match deadline {
                None => {
                    self.signal.wait(&mut guard);
                    false
                }
                Some(at) => self.signal.wait_until(&mut guard, at).timed_out(),
            };
            if self.is_woken() {
                return;
            }
            if timed_out {
                // Fails if it is woken at this very moment.
                let _ = self.state.compare_exchange(PARKED, EMPTY, SeqCst, SeqCst);
                return;
            }
        }
    }
}

impl Wake for Parker {
    fn wake(&self) {
        if self.state.swap(NOTIFIED, SeqCst) == PARKED {
            drop(self.lock.lock()); // until the owner waits
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
