//! Which threads are a capacity server's own, and when they are gone.

use std::any::Any;
use std::cell::RefCell;

use crate::sync::{Arc, Mutex, thread};

thread_local! {
    /// Dropped when the thread ends, however it does.
    static GUARD: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) };
}

/// Marks this thread; it keeps `until_its_end`.
pub(crate) fn register(until_its_end: impl Any) {
    GUARD.with(|guard| *guard.borrow_mut() = Some(Box::new(until_its_end)));
}

/// Is this a thread of some capacity server? Then nothing on it may wait for a server: not for its
/// streams, which may need this thread, and not for the thread itself.
pub(crate) fn is_server_thread() -> bool {
    // While the thread ends, the mark cannot be read any more, and user code no longer runs.
    GUARD
        .try_with(|guard| guard.borrow().is_some())
        .unwrap_or(true)
}

/// Runs this on a thread of its own, for a thread that must not wait.
pub(crate) fn run_on_new(run: impl FnOnce() + Send + 'static) {
    // In a slot, so that it can be kept from being dropped here when there is no thread for it.
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
