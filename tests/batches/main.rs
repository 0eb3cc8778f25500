//! Batches: their inputs, their results, their ends, and how they share a pool.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/doubling.rs"]
mod doubling;

mod batch_drops;
mod batch_ends;
mod batch_inputs;
mod batch_sharing;
mod batches;
mod nested_batches;
