//! rayon: work stealing, for closures.

use std::hint::black_box;
use std::sync::mpsc;
use std::time::Instant;

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::Contender;
use crate::work::Work;

fn build(workers: usize) -> ThreadPool {
    ThreadPoolBuilder::new()
        .num_threads(workers)
        .build()
        .expect("build")
}

/// `spawn` in a scope for a burst, so that the end can be waited for; `install` for a call.
pub(crate) struct Rayon(ThreadPool);

impl Contender for Rayon {
    fn start(workers: usize, _: usize) -> Self {
        Rayon(build(workers))
    }

    fn burst(&mut self, count: u64, job: impl Fn(u64) -> Work + Sync) -> Instant {
        self.0.in_place_scope(|scope| {
            for number in 0..count {
                let work = job(number);
                scope.spawn(move |_| {
                    black_box(work.run());
                });
            }
        });
        Instant::now()
    }

    fn calls(&self, count: u64, job: impl Fn(u64) -> Work) -> u64 {
        (0..count)
            .map(|number| {
                let work = job(number);
                self.0.install(|| work.run())
            })
            .sum()
    }
}

/// Parallel iterators: all jobs are known at once, and nothing is queued.
pub(crate) struct ParIter(ThreadPool);

impl Contender for ParIter {
    fn start(workers: usize, _: usize) -> Self {
        ParIter(build(workers))
    }

    fn burst(&mut self, count: u64, job: impl Fn(u64) -> Work + Sync) -> Instant {
        self.0.install(|| {
            (0..count).into_par_iter().for_each(|number| {
                black_box(job(number).run());
            });
        });
        Instant::now()
    }

    fn in_order(&self, count: u64, job: impl Fn(u64) -> Work + Sync) -> Vec<u64> {
        self.0.install(|| {
            (0..count)
                .into_par_iter()
                .map(|number| job(number).run())
                .collect()
        })
    }

    fn as_they_come(&self, count: u64, job: impl Fn(u64) -> Work + Sync) -> Vec<u64> {
        let (results, answers) = mpsc::channel();
        self.0.install(|| {
            (0..count)
                .into_par_iter()
                .for_each_with(results, |results, number| {
                    results.send(job(number).run()).expect("send");
                });
        });
        answers.iter().collect()
    }
}
