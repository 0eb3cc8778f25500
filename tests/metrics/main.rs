//! What a pool tells of itself: numbers, hooks, meters, subscriptions.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/more.rs"]
mod more;

mod hooks_meter;
mod readings;
mod stats;
mod subscriptions;
