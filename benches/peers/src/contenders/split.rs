//! No pool at all: the jobs split evenly among threads beforehand. What the machine gives at most.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use super::Contender;
use crate::work::Work;

pub(crate) struct Split(u64);

impl Contender for Split {
    fn start(workers: usize, _: usize) -> Self {
        Split(workers as u64)
    }

    fn burst(&mut self, count: u64, job: impl Fn(u64) -> Work + Sync) -> Instant {
        let (job, threads) = (&job, self.0);
        thread::scope(|scope| {
            for part in 0..threads {
                scope.spawn(move || {
                    for number in count * part / threads..count * (part + 1) / threads {
                        black_box(job(number).run());
                    }
                });
            }
        });
        Instant::now()
    }
}
