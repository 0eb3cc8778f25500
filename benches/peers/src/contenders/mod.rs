//! The contenders, each used as its own documentation says.

use std::time::Instant;

use crate::work::Work;

mod channel;
mod maps;
mod pool;
mod rayon;
mod rusty_pool;
mod split;
mod threadfin;
mod threadpool;
mod workerpool;

pub(crate) use channel::{Bounded, Unbounded};
pub(crate) use maps::Mapped;
pub(crate) use pool::{Plain, WithDeadline, WithMeter, WithMeterAndTimings, WithTimings};
pub(crate) use rayon::{ParIter, Rayon};
pub(crate) use rusty_pool::RustyPool;
pub(crate) use split::Split;
pub(crate) use threadfin::Threadfin;
pub(crate) use threadpool::Threadpool;
pub(crate) use workerpool::Workerpool;

/// One way to have jobs run by threads. A contender implements what it offers; `cases` lists which
/// contenders take part in what. `job` makes the job of each number, from 0 on, in order.
pub(crate) trait Contender: Sized + Sync {
    /// With so many worker threads, and room for so many waiting jobs where that has a bound.
    fn start(workers: usize, queue: usize) -> Self;

    /// Jobs whose results nobody asks for; returns when all have run, and tells when that was.
    /// Called once.
    fn burst(&mut self, _count: u64, _job: impl Fn(u64) -> Work + Sync) -> Instant {
        not_offered()
    }

    /// Jobs one after the other, each waited for; the sum of their results.
    fn calls(&self, _count: u64, _job: impl Fn(u64) -> Work) -> u64 {
        not_offered()
    }

    /// All results, in the order of the jobs.
    fn in_order(&self, _count: u64, _job: impl Fn(u64) -> Work + Sync) -> Vec<u64> {
        not_offered()
    }

    /// All results, in any order.
    fn as_they_come(&self, _count: u64, _job: impl Fn(u64) -> Work + Sync) -> Vec<u64> {
        not_offered()
    }
}

fn not_offered() -> ! {
    panic!("this contender does not offer that")
}
