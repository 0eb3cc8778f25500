//! A pool that doubles numbers, for tests of batches.
#![allow(dead_code)] // not every test needs all of it

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use worker_pool::{Job, Manager};

pub(crate) type Pool = Manager<u64, u64, String>;

pub(crate) fn double(job: Job<u64>) -> Result<u64, String> {
    Ok(job.into_payload() * 2)
}

pub(crate) fn pool(workers: usize) -> Pool {
    let pool = Pool::new();
    for _ in 0..workers {
        pool.add(double).unwrap();
    }
    pool
}

/// Inputs, and how many of them were read.
pub(crate) fn counted(
    inputs: u64,
) -> (impl ExactSizeIterator<Item = u64> + Send, Arc<AtomicUsize>) {
    let read = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&read);
    let inputs = (0..inputs as u32).map(move |n| {
        count.fetch_add(1, SeqCst);
        u64::from(n)
    });
    (inputs, read)
}
