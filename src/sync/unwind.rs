//! Contains panics of the user's code.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The message of a panic, if it has one, or a text in place of it. Drops the panic's payload.
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

/// Drops a value of the user's. A panic in its `Drop` is logged and contained.
pub(crate) fn discard<T>(what: &str, value: T) {
    if !std::mem::needs_drop::<T>() {
        return;
    }
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        log::error!("dropping a {what} panicked");
        // Its drop may panic as well, so it is leaked.
        std::mem::forget(panic);
    }
}
