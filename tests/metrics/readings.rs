//! What a reading of the numbers says holds in itself, also while jobs are under way.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{LIMIT, stress, within};
use crate::more::SHORT;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::Mutex;
use worker_pool::{Hook, Job, Manager, Priority, Restarts, Retry, Stats, WorkerId};

type Pool = Manager<u32, u32, String>;

#[track_caller]
fn assert_holds(stats: &Stats) {
    assert!(stats.ended() + stats.waiting <= stats.accepted, "{stats:?}");
    assert!(stats.busy <= stats.total, "{stats:?}");
    let ran = stats.completed + stats.failed + stats.panicked + stats.retried;
    assert!(ran <= stats.started, "{stats:?}");
}

/// Fails, panics or answers, by the payload.
fn run(job: Job<u32>) -> Result<u32, String> {
    match job.into_payload() {
        number if number % 101 == 7 => panic!("made up"),
        number if number % 7 == 3 => Err("made up".to_owned()),
        number => Ok(number),
    }
}

/// A bit of everything; every job has ended when it returns.
fn mix(pool: &Pool, seed: u32) {
    let (errors, _failures) = unbounded();
    for round in 0..20 {
        let number = seed * 31 + round;
        let handle = pool.enqueue(number).unwrap();
        let urgent = pool.job(number).priority(Priority::High);
        let urgent = urgent.enqueue().unwrap();
        if round % 2 == 0 {
            handle.cancel();
            urgent.cancel();
        }
        let soon = Instant::now() + Duration::from_micros(u64::from(number % 97));
        let _ = pool.job(number).deadline(soon).detach(1, &errors);
        drop(pool.submit(number + 1));
        let retry = Retry::max_retries(1);
        let _ = pool.job(number).retry(retry).detach(2, &errors);
        let mut dropped = pool.map(0..100);
        drop(dropped.next());
        drop(dropped);
        let late = pool.batch().deadline(soon).map(0..60);
        let _ = late.take(number as usize % 60).count();
        drop((handle, urgent));
    }
}

#[test]
fn no_reading_contradicts_itself_while_jobs_come_and_go() {
    let rounds = stress(6) as u32;
    within(2 * LIMIT, move || {
        for round in 0..rounds {
            let restarts = Restarts::without_limit().back_off(Duration::ZERO, Duration::ZERO);
            let pool = Pool::builder()
                .queue_capacity(16)
                .restarts(restarts)
                .build()
                .unwrap();
            for _ in 0..2 {
                pool.add_factory(|_| Ok::<_, String>(run)).unwrap();
            }
            let over = AtomicBool::new(false);
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        while !over.load(SeqCst) {
                            assert_holds(&pool.stats());
                        }
                    });
                }
                let mixing: Vec<_> = (0..3)
                    .map(|seed| {
                        scope.spawn({
                            let pool = &pool;
                            move || mix(pool, 3 * round + seed)
                        })
                    })
                    .collect();
                let mixed = mixing.into_iter().map(|thread| thread.join());
                let mixed: Vec<_> = mixed.collect();
                assert!(pool.wait_idle());
                let stats = pool.stats();
                over.store(true, SeqCst);
                assert!(mixed.iter().all(Result::is_ok));
                assert_eq!((stats.waiting, pool.waiting()), (0, 0), "{stats:?}");
                assert_eq!(stats.accepted, stats.ended(), "{stats:?}");
            });
        }
    });
}

/// Holds up the thread that tells of a worker's end, until the other end is dropped.
struct Hold(Sender<()>, Mutex<Receiver<()>>);

impl Hook for Hold {
    fn worker_remove(&self, _: WorkerId) {
        let _ = self.0.send(());
        let _ = self.1.lock().recv();
    }
}

/// The inputs of a batch that its consumer gave up have ended. They take their place in the queue until
/// somebody sweeps, and wait no more.
#[test]
fn a_batch_that_was_given_up_does_not_count_as_waiting() {
    within(LIMIT, || {
        let (held, holds) = unbounded();
        let (go, going) = bounded::<()>(0);
        let hook = Hold(held, Mutex::new(going));
        let pool = Pool::builder().hook(hook).build().unwrap();
        let first = pool.add(run).unwrap();
        pool.add(run).unwrap();
        pool.remove(first).unwrap();
        holds.recv_timeout(LIMIT).unwrap();
        pool.pause();
        let late = pool.batch().deadline(Instant::now() + SHORT).map(0..4);
        assert_eq!(late.filter(Result::is_err).count(), 4);
        assert!(pool.wait_idle());
        let (stats, waiting) = (pool.stats(), pool.waiting());
        drop(go);
        assert!(stats.accepted > 0, "{stats:?}");
        assert_eq!(stats.accepted, stats.expired, "{stats:?}");
        assert_eq!((stats.waiting, waiting), (0, 0), "{stats:?}");
    });
}
