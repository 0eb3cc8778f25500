//! Log records of the pool. The log backend is the user's code, like a hook: its panic goes no
//! further than the record that it was given, so it costs no job and no thread.
//!
//! The macros are used as those of the crate `log`, after `use crate::sync::log;`. While their level
//! is off they cost one load. What they are given is then not evaluated, and dropped like any other
//! value: so a panic's payload is turned into its message *before*.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Writes a record, and contains what the backend throws.
#[cold]
pub(crate) fn contained(write: impl FnOnce()) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(write)) else {
        return;
    };
    // There is nowhere to tell of it.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(panic); // its drop may panic as well: better leaked than unwound
    }
}

pub(crate) use ::log::Level;

/// Writes a line that was made before.
pub(crate) fn write(level: Level, line: &str) {
    contained(|| ::log::log!(level, "{line}"));
}

/// Is this level on?
pub(crate) fn is_on(level: Level) -> bool {
    level <= ::log::STATIC_MAX_LEVEL && level <= ::log::max_level()
}

/// A record of this level; the backend is asked nothing while the level is off.
macro_rules! log_at {
    ($level:ident, $($record:tt)+) => {{
        let level = ::log::Level::$level;
        if $crate::sync::log::is_on(level) {
            $crate::sync::log::contained(|| ::log::log!(level, $($record)+));
        }
    }};
}

macro_rules! log_error {
    ($($record:tt)+) => { $crate::sync::log::log_at!(Error, $($record)+) };
}

macro_rules! log_warn {
    ($($record:tt)+) => { $crate::sync::log::log_at!(Warn, $($record)+) };
}

macro_rules! log_debug {
    ($($record:tt)+) => { $crate::sync::log::log_at!(Debug, $($record)+) };
}

macro_rules! log_trace {
    ($($record:tt)+) => { $crate::sync::log::log_at!(Trace, $($record)+) };
}

// Under their own names, `warn` could be mistaken for the attribute.
pub(crate) use {
    log_at, log_debug as debug, log_error as error, log_trace as trace, log_warn as warn,
};
