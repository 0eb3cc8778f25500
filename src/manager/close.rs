//! Waiting for a pool's end.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use crate::policy::deadlock::{PoolKey, Wait};
use crate::pool::waits::{self, NoMessage};
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

/// How a wait for a pool's end went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    Ended,
    TimedOut,
    /// To go on would deadlock.
    InVain,
}

/// What a pool's handles need to wait for its end.
pub(crate) struct Termination {
    signal: CloseSignal,
    pool: PoolKey,
    threads: Mutex<Vec<Joinable>>,
    /// A wait has timed out, so dropping the pool does not wait again.
    timed_out: AtomicBool,
}

impl Termination {
    pub(crate) fn new(pool: PoolKey, threads: [Joinable; 2], ended: Receiver<Infallible>) -> Self {
        Termination {
            pool,
            signal: CloseSignal { ended },
            threads: Mutex::new(threads.into()),
            timed_out: AtomicBool::new(false),
        }
    }

    pub(crate) fn signal(&self) -> CloseSignal {
        self.signal.clone()
    }

    /// Blocks until every thread is joined, unless called from inside the pool, or from a thread for
    /// which the pool waits.
    pub(crate) fn wait(&self, inside: bool, timeout: Option<Duration>) -> Waited {
        let in_vain = || match self.signal.is_closed() {
            true => Waited::Ended,
            false => Waited::InVain,
        };
        if inside {
            return in_vain();
        }
        // A deadline that overflows is no deadline.
        let deadline = timeout.and_then(|timeout| time::now().checked_add(timeout));
        match waits::receive(Wait::End(self.pool), &self.signal.ended, deadline) {
            Err(NoMessage::Disconnected) => {}
            Err(NoMessage::WouldDeadlock) => return in_vain(),
            Err(NoMessage::Timeout) => {
                self.timed_out.store(true, SeqCst);
                return Waited::TimedOut;
            }
            Ok(message) => match message {},
        }
        // The lock is held until the threads are joined, so every caller returns after that.
        for thread in self.threads.lock().drain(..) {
            unwind::discard("panic payload", thread.join());
        }
        Waited::Ended
    }

    pub(crate) fn wait_on_drop(&self, inside: bool) {
        if !self.timed_out.load(SeqCst) {
            self.wait(inside, None);
        }
    }
}
