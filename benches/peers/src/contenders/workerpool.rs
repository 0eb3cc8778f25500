//! workerpool: workers with a state, made by `Default`; results go through a channel of the caller's.

use std::hint::black_box;
use std::time::Instant;

use crossbeam_channel::unbounded;
use workerpool::{Pool, Worker};

use super::Contender;
use crate::work::Work;

#[derive(Default)]
struct Runner;

impl Worker for Runner {
    type Input = Work;
    type Output = u64;

    fn execute(&mut self, work: Work) -> u64 {
        black_box(work.run())
    }
}

pub(crate) struct Workerpool(Pool<Runner>);

impl Contender for Workerpool {
    fn start(workers: usize, _: usize) -> Self {
        Workerpool(Pool::new(workers))
    }

    fn burst(&mut self, count: u64, job: impl Fn(u64) -> Work + Sync) -> Instant {
        for number in 0..count {
            self.0.execute(job(number));
        }
        self.0.join();
        Instant::now()
    }

    fn calls(&self, count: u64, job: impl Fn(u64) -> Work) -> u64 {
        let (results, answers) = unbounded();
        (0..count)
            .map(|number| {
                self.0.execute_to(results.clone(), job(number));
                answers.recv().expect("answer")
            })
            .sum()
    }

    fn as_they_come(&self, count: u64, job: impl Fn(u64) -> Work + Sync) -> Vec<u64> {
        let (results, answers) = unbounded();
        for number in 0..count {
            self.0.execute_to(results.clone(), job(number));
        }
        answers.iter().take(count as usize).collect()
    }
}
