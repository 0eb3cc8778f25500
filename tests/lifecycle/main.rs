//! The life of a pool, from its builder to its end.

#[path = "../common/mod.rs"]
mod common;

mod closing_from_inside;
mod drain_close;
mod drain_timeout;
mod expiry_at_rest;
mod lifecycle;
mod pause;
mod wait_idle;
mod waits_across_pools;
