//! The clock. Moments are the standard library's, since users give them as deadlines.

use std::time::{Duration, Instant};

pub(crate) use crate::sync::source::now;

/// How long ago that was.
#[inline]
pub(crate) fn since(moment: Instant) -> Duration {
    now().saturating_duration_since(moment)
}
