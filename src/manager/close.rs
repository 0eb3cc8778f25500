//! The pool's end, and those who wait for it.

use std::convert::Infallible;
use std::fmt;
use std::time::{Duration, Instant};

use crate::sync::channel::{Receiver, RecvTimeoutError};
use crate::sync::thread_spawn::Joinable;
use crate::sync::{AtomicBool, Mutex, Ordering::SeqCst};

/// StartReply when a pool has closed: every job has its outcome, every worker's thread is gone. Cheap to
/// clone; any number may wait, and those who come late are told at once.
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

    /// Blocks until the pool has closed, for at most `timeout`. Has it?
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.ended.recv_timeout(timeout) == Err(RecvTimeoutError::Disconnected)
    }

    /// Has the pool closed?
    pub fn is_closed(&self) -> bool {
        self.wait_timeout(Duration::ZERO)
    }

    /// A channel that is disconnected when the pool has closed, for `crossbeam_channel::select!`.
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

/// What the owners of a pool need to wait for its end.
pub(crate) struct Ending {
    signal: CloseSignal,
    dispatcher: Mutex<Option<Joinable>>,
    /// Somebody lost patience: dropping the pool does not wait again.
    gave_up: AtomicBool,
}

impl Ending {
    pub(crate) fn new(dispatcher: Joinable, ended: Receiver<Infallible>) -> Self {
        Ending {
            signal: CloseSignal { ended },
            dispatcher: Mutex::new(Some(dispatcher)),
            gave_up: AtomicBool::new(false),
        }
    }

    pub(crate) fn signal(&self) -> CloseSignal {
        self.signal.clone()
    }

    /// Blocks until every thread is joined, unless called from inside the pool. Are they?
    pub(crate) fn wait(&self, inside: bool, timeout: Option<Duration>) -> bool {
        if inside {
            return self.signal.is_closed();
        }
        // A time too far to be told is no limit.
        match timeout.and_then(|timeout| Instant::now().checked_add(timeout)) {
            None => self.signal.wait(),
            Some(at) => {
                if self.signal.ended.recv_deadline(at) == Err(RecvTimeoutError::Timeout) {
                    self.gave_up.store(true, SeqCst);
                    return false;
                }
            }
        }
        // Under the lock, so that whoever returns from here finds it joined.
        let mut dispatcher = self.dispatcher.lock();
        if let Some(thread) = dispatcher.take() {
            let _ = thread.join();
        }
        true
    }

    pub(crate) fn wait_on_drop(&self, inside: bool) {
        if !self.gave_up.load(SeqCst) {
            self.wait(inside, None);
        }
    }
}
