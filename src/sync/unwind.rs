//! Contains panics of the user's code.

use std::any::Any;
use std::mem::{forget, needs_drop};
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::sync::log;

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
    if !needs_drop::<T>() {
        return;
    }
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        log::error!("dropping a {what} panicked");
        // Its drop may panic as well, so it is leaked.
        forget(panic);
    }
}

/// A value of the user's that the pool owns: wherever it is dropped, it is [discarded](discard).
pub(crate) struct Contained<T> {
    what: &'static str,
    /// `None` only while it is dropped.
    value: Option<T>,
}

impl<T> Contained<T> {
    pub(crate) fn new(what: &'static str, value: T) -> Self {
        let value = Some(value);
        Contained { what, value }
    }
}

impl<T> Deref for Contained<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("it is not dropped")
    }
}

impl<T> DerefMut for Contained<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("it is not dropped")
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        discard(self.what, self.value.take());
    }
}
