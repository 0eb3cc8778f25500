//! threadpool: closures; results go through a channel of the caller's own.

use std::hint::black_box;
use std::sync::mpsc;
use std::time::Instant;

use threadpool::ThreadPool;

use super::Contender;
use crate::work::Work;

pub(crate) struct Threadpool(ThreadPool);

impl Threadpool {
    fn send_to(&self, results: &mpsc::Sender<u64>, work: Work) {
        let results = results.clone();
        self.0.execute(move || {
            results.send(work.run()).expect("the caller waits");
        });
    }
}

impl Contender for Threadpool {
    fn start(workers: usize, _: usize) -> Self {
        Threadpool(ThreadPool::new(workers))
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
        let (results, answers) = mpsc::channel();
        (0..count)
            .map(|number| {
                self.send_to(&results, job(number));
                answers.recv().expect("answer")
            })
            .sum()
    }

    fn as_they_come(&self, count: u64, job: impl Fn(u64) -> Work + Sync) -> Vec<u64> {
        let (results, answers) = mpsc::channel();
        (0..count).for_each(|number| self.send_to(&results, job(number)));
        answers.iter().take(count as usize).collect()
    }
}
