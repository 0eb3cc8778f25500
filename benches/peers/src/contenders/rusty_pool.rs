//! rusty_pool: closures and handles over an unbounded crossbeam channel.

use std::hint::black_box;
use std::time::Instant;

use rusty_pool::{Builder, ThreadPool};

use super::Contender;
use crate::work::Work;

pub(crate) struct RustyPool(ThreadPool);

impl Contender for RustyPool {
    fn start(workers: usize, _: usize) -> Self {
        let pool = Builder::new().core_size(workers).max_size(workers).build();
        pool.start_core_threads();
        RustyPool(pool)
    }

    fn burst(&mut self, count: u64, job: impl Fn(u64) -> Work + Sync) -> Instant {
        for number in 0..count {
            let work = job(number);
            self.0.execute(move || {
                black_box(work.run());
            });
        }
        self.0.join();
        Instant::now()
    }

    fn calls(&self, count: u64, job: impl Fn(u64) -> Work) -> u64 {
        (0..count)
            .map(|number| {
                let work = job(number);
                self.0.evaluate(move || work.run()).await_complete()
            })
            .sum()
    }

    fn in_order(&self, count: u64, job: impl Fn(u64) -> Work + Sync) -> Vec<u64> {
        let handles: Vec<_> = (0..count)
            .map(|number| {
                let work = job(number);
                self.0.evaluate(move || work.run())
            })
            .collect();
        handles
            .into_iter()
            .map(|handle| handle.await_complete())
            .collect()
    }
}
