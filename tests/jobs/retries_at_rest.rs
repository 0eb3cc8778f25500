//! Retries at rest: the books balance, and every clone of a payload is dropped once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use crate::common::{LIMIT, stress, within};
use crossbeam_channel::unbounded;
use worker_pool::{CancelToken, Job, Manager, Priority, Retry, Stats};

/// At rest each job is counted once, whatever the number of its tries.
#[track_caller]
fn assert_balanced(stats: &Stats) {
    assert_eq!(stats.accepted, stats.ended(), "{stats:?}");
    let run = stats.completed + stats.failed + stats.panicked + stats.retried;
    assert_eq!(stats.started, run, "{stats:?}");
    assert_eq!((stats.waiting, stats.backing_off, stats.busy), (0, 0, 0));
    assert_eq!(stats.oldest_waiting, None);
}

/// Counts its living clones; cloning may panic.
struct Costly {
    counts: Arc<[AtomicU64; 2]>,
    clones_left: u64,
    number: u64,
}

impl Costly {
    fn new(counts: &Arc<[AtomicU64; 2]>, number: u64) -> Self {
        counts[0].fetch_add(1, SeqCst);
        Costly {
            counts: Arc::clone(counts),
            clones_left: 2,
            number,
        }
    }
}

impl Clone for Costly {
    fn clone(&self) -> Self {
        let clones_left = self.clones_left.checked_sub(1);
        let clones_left = clones_left.expect("cloned once too often");
        let mut clone = Costly::new(&self.counts, self.number);
        clone.clones_left = clones_left;
        clone
    }
}

impl Drop for Costly {
    fn drop(&mut self) {
        self.counts[1].fetch_add(1, SeqCst);
    }
}

#[test]
fn a_payload_is_cloned_before_each_try_but_the_last() {
    within(LIMIT, || {
        let counts: Arc<[AtomicU64; 2]> = Arc::default();
        let pool = Manager::<Costly, (), u32>::new();
        pool.add(|job: Job<Costly>| Err(job.attempt())).unwrap();
        let job = |times| {
            let job = pool
                .job(Costly::new(&counts, 0))
                .retry(Retry::max_retries(times));
            let error = job.submit().unwrap_err();
            let tries = error.into_worker_error().unwrap();
            (tries, counts[0].load(SeqCst), counts[1].load(SeqCst))
        };
        assert_eq!(job(0), (1, 1, 1));
        assert_eq!(job(2), (3, 4, 4));
        // The third clone panics: the try for which it was made is the last.
        assert_eq!(job(9), (3, 7, 7));
        assert_eq!(pool.workers().len(), 1, "the worker is not to blame");
        pool.drain();
        assert_balanced(&pool.stats());
    });
}

#[test]
fn books_balance_and_every_clone_is_dropped_once_after_a_random_mix() {
    within(4 * LIMIT, || {
        for round in 0..stress(30) as u64 {
            let counts: Arc<[AtomicU64; 2]> = Arc::default();
            let builder = Manager::<Costly, (), String>::builder();
            let pool = builder.queue_capacity(8).timings(true).build().unwrap();
            let worker = |job: Job<Costly>| match (job.payload().number, job.attempt()) {
                (0..20, _) => Err("never".to_owned()),
                (20..50, 1) => Err("the second time".to_owned()),
                (50..53, _) => panic!("on purpose"),
                _ => Ok(()),
            };
            let refill = |pool: &Manager<Costly, (), String>| {
                while pool.workers().len() < 3 && pool.add(worker).is_ok() {}
            };
            refill(&pool);
            std::thread::scope(|scope| {
                for submitter in 0..3 {
                    let (pool, counts) = (&pool, &counts);
                    scope.spawn(move || {
                        let (errors, failures) = unbounded();
                        for number in 0..100 {
                            let dice = (number * 7919 + submitter * 104_729 + round * 31) % 1009;
                            let token = CancelToken::new();
                            let wait = Duration::from_micros(dice % 3 * 100);
                            let retry = Retry::max_retries(2).backoff(wait, wait).jitter();
                            let retry = if dice % 2 == 0 {
                                retry
                            } else {
                                retry.also_panics()
                            };
                            let priority = [Priority::Low, Priority::Normal, Priority::High];
                            let job = pool
                                .job(Costly::new(counts, dice % 100))
                                .retry(retry)
                                .priority(priority[dice as usize % 3])
                                .cancel_token(&token);
                            let job = match dice % 7 {
                                0 => job.timeout(Duration::from_micros(200)),
                                // Without workers, this submitter must come to add some.
                                _ => job.timeout(Duration::from_millis(20)),
                            };
                            match dice % 4 {
                                0 => drop(job.enqueue().map(|handle| handle.cancel())),
                                1 => drop(job.submit()),
                                _ => drop(job.detach(number, &errors)),
                            }
                            if dice % 5 == 0 {
                                token.cancel();
                            }
                            refill(pool);
                        }
                        drop(failures);
                    });
                }
            });
            match round % 3 {
                0 => pool.close(),
                1 => pool.drain(),
                _ => {
                    while !pool.wait_idle_timeout(Duration::from_millis(20)) {
                        refill(&pool);
                    }
                }
            }
            let stats = pool.stats();
            assert!(stats.accepted > 0);
            assert_balanced(&stats);
            drop(pool);
            assert_eq!(counts[0].load(SeqCst), counts[1].load(SeqCst));
        }
    });
}
