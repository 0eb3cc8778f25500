//! This crate's pool, given all jobs at once: `for_each`, `map` and `map_unordered`.

use std::hint::black_box;
use std::time::Instant;

use worker_pool::Manager;

use super::{Contender, Plain};
use crate::work::Work;

pub(crate) struct Mapped(Manager<Work, u64>);

impl Contender for Mapped {
    fn start(workers: usize, queue: usize) -> Self {
        Mapped(Plain::start(workers, queue).pool)
    }

    fn burst(&mut self, count: u64, job: impl Fn(u64) -> Work + Sync) -> Instant {
        self.0.for_each((0..count).map(job), |_, result| {
            black_box(result.expect("for_each"));
        });
        Instant::now()
    }

    fn in_order(&self, count: u64, job: impl Fn(u64) -> Work + Sync) -> Vec<u64> {
        self.0
            .map((0..count).map(job))
            .map(|result| result.expect("map"))
            .collect()
    }

    fn as_they_come(&self, count: u64, job: impl Fn(u64) -> Work + Sync) -> Vec<u64> {
        self.0
            .map_unordered((0..count).map(job))
            .map(|(_, result)| result.expect("map_unordered"))
            .collect()
    }
}
