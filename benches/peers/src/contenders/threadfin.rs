//! threadfin: closures and handles, with a queue that has no bound unless one is set.

use std::time::Instant;

use threadfin::ThreadPool;

use super::Contender;
use crate::work::Work;

pub(crate) struct Threadfin(Option<ThreadPool>);

impl Threadfin {
    fn pool(&self) -> &ThreadPool {
        self.0.as_ref().expect("the pool is taken by its one burst")
    }
}

impl Contender for Threadfin {
    fn start(workers: usize, _: usize) -> Self {
        Threadfin(Some(threadfin::builder().size(workers).build()))
    }

    /// Waiting for the end of all tasks is waiting for the end of the threads, here.
    fn burst(&mut self, count: u64, job: impl Fn(u64) -> Work + Sync) -> Instant {
        for number in 0..count {
            let work = job(number);
            self.pool().execute(move || work.run());
        }
        self.0.take().expect("one burst").join();
        Instant::now()
    }

    fn calls(&self, count: u64, job: impl Fn(u64) -> Work) -> u64 {
        (0..count)
            .map(|number| {
                let work = job(number);
                self.pool().execute(move || work.run()).join()
            })
            .sum()
    }

    fn in_order(&self, count: u64, job: impl Fn(u64) -> Work + Sync) -> Vec<u64> {
        let tasks: Vec<_> = (0..count)
            .map(|number| {
                let work = job(number);
                self.pool().execute(move || work.run())
            })
            .collect();
        tasks.into_iter().map(|task| task.join()).collect()
    }
}
