//! Jobs: submitted, ordered, nested, cancelled, tried again, and answered.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/more.rs"]
mod more;

mod cancel_tokens;
mod cancelling;
mod fairness;
mod handle_tokens;
mod memory;
mod nested;
mod priority;
mod results;
mod retries;
mod retries_at_rest;
mod submitting;
mod waiting_jobs;
