//! Which threads belong to a capacity server, and when they have ended.

use std::any::Any;
use std::cell::RefCell;

use crate::sync::{Arc, Mutex, thread};

thread_local! {
    /// Present on a server's thread; dropped when the thread ends, for whatever reason.
    static GUARD: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) };
}

/// Registers this thread as a server's own; `until_its_end` is dropped when it ends.
pub(crate) fn register(until_its_end: impl Any) {
    GUARD.with(|guard| *guard.borrow_mut() = Some(Box::new(until_its_end)));
}

/// Whether this is a thread of some capacity server. Then nothing on it may wait for a server: not
/// for its streams, which may need this thread, and not for the thread itself.
pub(crate) fn is_server_thread() -> bool {
    // While the thread ends, its guard cannot be read any more; user code no longer runs then.
    GUARD
        .try_with(|guard| guard.borrow().is_some())
        .unwrap_or(true)
}

/// Runs this on a new thread, for a caller that must not wait.
pub(crate) fn run_on_new(run: impl FnOnce() + Send + 'static) {
    // Shared, so that it can be leaked instead of dropped here if no thread can be started.
    let slot = Arc::new(Mutex::new(Some(run)));
    let theirs = Arc::clone(&slot);
    let spawned = thread::Builder::new()
        .name("capacity-shutdown".to_owned())
        .spawn(move || {
            let run = theirs.lock().take();
            if let Some(run) = run {
                run();
            }
        });
    if let Err(error) = spawned {
        log::error!("no thread to stop the server, it is leaked: {error}");
        std::mem::forget(slot);
    }
}
