//! Decisions without thread, lock or clock.

pub(crate) mod dispatch;
pub(crate) mod elastic;
pub(crate) mod prefetch;
pub(crate) mod restart;
pub(crate) mod retry;
