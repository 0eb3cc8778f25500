//! Which threads are a capacity server's own, and when they are gone.

use std::any::Any;
use std::cell::RefCell;

thread_local! {
    /// Dropped when the thread ends, however it does.
    static MARK: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) };
}

/// Marks this thread; it keeps `until_its_end`.
pub(super) fn mark(until_its_end: impl Any) {
    MARK.with(|mark| *mark.borrow_mut() = Some(Box::new(until_its_end)));
}

/// Is this a thread of some capacity server? Then nothing on it may wait for a server: not for its
/// streams, which may need this thread, and not for the thread itself.
pub(super) fn is_own_thread() -> bool {
    // While the thread ends, the mark cannot be read any more, and user code no longer runs.
    MARK.try_with(|mark| mark.borrow().is_some())
        .unwrap_or(true)
}
