//! Panics of the user's code, contained.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The message of a panic, as the default panic handler would show it.
pub(crate) fn message(panic: Box<dyn Any + Send>) -> String {
    let text = if let Some(text) = panic.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    };
    discard("panic payload", panic);
    text
}

/// Drops a value of the user's; a panic in its `Drop` is logged and goes no further.
pub(crate) fn discard<T>(what: &str, value: T) {
    if !std::mem::needs_drop::<T>() {
        return;
    }
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        log::error!("dropping a {what} panicked");
        // Its own drop may panic as well: better leaked than unwound.
        std::mem::forget(panic);
    }
}
