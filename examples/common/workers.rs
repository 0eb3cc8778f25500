//! How many workers: the value of `--workers`.

use std::ffi::OsStr;
use std::num::NonZero;
use std::thread;

/// More threads than this are a slip of the finger.
const MOST: usize = 1024;

/// As many workers as there are processors.
pub(crate) fn available() -> usize {
    let available = thread::available_parallelism().map_or(1, NonZero::get);
    available.min(MOST)
}

/// An error says what is wrong with the value.
pub(crate) fn parse(text: &OsStr) -> Result<usize, String> {
    match text.to_str().and_then(|text| text.parse().ok()) {
        Some(count @ 1..=MOST) => Ok(count),
        _ => Err(format!(
            "{text:?} workers? It takes a number from 1 to {MOST}"
        )),
    }
}
