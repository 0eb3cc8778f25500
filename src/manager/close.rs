//! Waiting for a pool's end.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use crate::sync::thread_spawn::Joinable;
use crate::sync::time;
use crate::sync::user_channel::{Receiver, RecvTimeoutError};
use crate::sync::{AtomicBool, Mutex, Ordering::SeqCst, unwind};

/// Signals when a pool has closed: every job has its outcome, and every worker's thread is gone.
///
/// It is cheap to clone. Any number of threads may wait, and once the pool has closed, waiting returns
/// at once.
///
/// ```
/// let pool = worker_pool::Manager::<()>::new();
/// let end = pool.close_signal();
/// let waiter = std::thread::spawn(move || end.wait());
/// pool.close();
/// waiter.join().unwrap();
/// ```
#[derive(Clone)]
pub struct CloseSignal {
    ended: Receiver<Infallible>,
}

impl CloseSignal {
    /// Blocks until the pool has closed.
    pub fn wait(&self) {
        let _ = self.ended.recv();
    }

    /// Blocks until the pool has closed, for at most `timeout`. Returns `false` if it has not closed
    /// by then.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.ended.recv_timeout(timeout) == Err(RecvTimeoutError::Disconnected)
    }

    /// Has the pool closed?
    pub fn is_closed(&self) -> bool {
        self.wait_timeout(Duration::ZERO)
    }

    /// A channel that is disconnected once the pool has closed, for `crossbeam_channel::select!`.
    pub fn receiver(&self) -> &Receiver<Infallible> {
        &self.ended
    }
}

impl fmt::Debug for CloseSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloseSignal")
            .field("closed", &self.is_closed())
            .finish()
    }
}

/// What a pool's handles need to wait for its end.
pub(crate) struct Termination {
    signal: CloseSignal,
    threads: Mutex<Vec<Joinable>>,
    /// A wait has timed out, so dropping the pool does not wait again.
    timed_out: AtomicBool,
}

impl Termination {
    pub(crate) fn new(threads: [Joinable; 2], ended: Receiver<Infallible>) -> Self {
        Termination {
            signal: CloseSignal { ended },
            threads: Mutex::new(threads.into()),
            timed_out: AtomicBool::new(false),
        }
    }

    pub(crate) fn signal(&self) -> CloseSignal {
        self.signal.clone()
    }

    /// Blocks until every thread is joined, unless called from inside the pool. Returns whether the
    /// pool has closed.
    pub(crate) fn wait(&self, inside: bool, timeout: Option<Duration>) -> bool {
        if inside {
            return self.signal.is_closed();
        }
        // A deadline that overflows is no deadline.
        match timeout.and_then(|timeout| time::now().checked_add(timeout)) {
            None => self.signal.wait(),
            Some(deadline) => {
                if self.signal.ended.recv_deadline(deadline) == Err(RecvTimeoutError::Timeout) {
                    self.timed_out.store(true, SeqCst);
                    return false;
                }
            }
        }
        // The lock is held until the threads are joined, so every caller returns after that.
        for thread in self.threads.lock().drain(..) {
            unwind::discard("panic payload", thread.join());
        }
        true
    }

    pub(crate) fn wait_on_drop(&self, inside: bool) {
        if !self.timed_out.load(SeqCst) {
            self.wait(inside, None);
        }
    }
}
