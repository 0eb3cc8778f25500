//! Waiting until all that was accepted so far has ended, while more may come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::common::{LIMIT, Latch, eventually, next, stress, threads_asleep, within};
use crossbeam_channel::{bounded, unbounded};
use worker_pool::{CancelToken, Job, Manager, Priority, RejectReason};

type Pool = Manager<u64, u64, String>;

/// Much too short for a job that is held.
const SHORT: Duration = Duration::from_millis(5);

/// It returns although submits never cease: each job is let go only when the next one is accepted, so
/// at every moment one has not ended.
#[test]
fn wait_idle_returns_though_submits_go_on_for_ever() {
    within(2 * LIMIT, || {
        let pool = Pool::builder().queue_capacity(64).build().unwrap();
        let latch = Arc::new(Latch::new());
        pool.add(latch.worker()).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let (started, first) = bounded(1);
        let submitter = thread::spawn({
            let (pool, latch, over) = (pool.clone(), Arc::clone(&latch), Arc::clone(&over));
            move || {
                let (errors, _) = unbounded();
                pool.detach_submit(0, 0, &errors).unwrap();
                started.send(()).unwrap();
                while !over.load(SeqCst) {
                    pool.detach_submit(0, 0, &errors).unwrap();
                    latch.release(1);
                }
            }
        });
        next(&first);
        for _ in 0..stress(200) {
            assert!(pool.wait_idle());
            assert!(pool.wait_idle_timeout(LIMIT));
        }
        over.store(true, SeqCst);
        submitter.join().unwrap();
        assert!(!pool.wait_idle_timeout(SHORT), "the last one is held");
        latch.open();
        assert!(pool.wait_idle());
    });
}

/// It does not wait for a job that was accepted after the call: one that is held does not hold it.
#[test]
fn wait_idle_does_not_wait_for_later_jobs() {
    within(LIMIT, || {
        let pool = Pool::builder().thread_name_prefix("idle-b").build();
        let pool = pool.unwrap();
        let latch = Latch::new();
        for _ in 0..2 {
            pool.add(latch.worker()).unwrap();
        }
        let first = pool.enqueue(1).unwrap();
        latch.wait_for_one();
        let (done, returned) = bounded(1);
        let other = pool.clone();
        let waiter = thread::Builder::new().name("idle-waiter-b".to_owned());
        let waiter = waiter.spawn(move || done.send(other.wait_idle()).unwrap());
        eventually("it waits", || threads_asleep("idle-waiter-b") == 1);
        assert_eq!(returned.len(), 0, "the first job is held");
        let second = pool.enqueue(2).unwrap();
        latch.wait_for_one();
        // Whichever worker goes on, one of the jobs is held from here on; let the first end.
        latch.release(1);
        let ended = |job: &worker_pool::JobHandle<u64, u64, String>| job.is_done();
        eventually("one has ended", || ended(&first) || ended(&second));
        if ended(&second) {
            latch.release(1); // the permit went to the wrong one
        } else {
            assert!(next(&returned), "the second job is still held");
        }
        latch.open();
        waiter.unwrap().join().unwrap();
    });
}

/// When it returns, each failure of the detached jobs so far is in its channel.
#[test]
fn all_detached_errors_are_there_when_wait_idle_returns() {
    within(LIMIT, || {
        let pool = Pool::builder().queue_capacity(16).build().unwrap();
        for _ in 0..2 {
            pool.add(|job: Job<u64>| Err(format!("no {}", job.payload())))
                .unwrap();
        }
        let (errors, failures) = unbounded();
        for round in 0..stress(2_000) as u64 {
            let jobs = 1 + round % 7;
            for id in 0..jobs {
                pool.detach_submit(id, id, &errors).unwrap();
            }
            assert!(pool.wait_idle());
            assert_eq!(failures.try_iter().count() as u64, jobs);
        }
    });
}

/// With a limit it says `false` while a job is held, again and again, and then `true`.
#[test]
fn wait_idle_with_a_limit_says_whether_all_have_ended() {
    within(LIMIT, || {
        let pool = Pool::new();
        assert!(
            pool.wait_idle_timeout(Duration::ZERO),
            "nothing to wait for"
        );
        let latch = Latch::new();
        pool.add(latch.worker()).unwrap();
        let held = pool.enqueue(1).unwrap();
        latch.wait_for_one();
        for _ in 0..3 {
            assert!(!pool.wait_idle_timeout(SHORT));
        }
        let later = pool.enqueue(2).unwrap();
        for _ in 0..3 {
            assert!(!pool.wait_idle_timeout(SHORT));
        }
        latch.release(1);
        assert_eq!(held.wait(), Ok(1));
        assert!(!pool.wait_idle_timeout(SHORT), "the second is held");
        latch.release(1);
        assert!(pool.wait_idle());
        assert!(later.is_done());
        assert!(pool.wait_idle_timeout(Duration::MAX));
    });
}

/// Several may wait at the same time: all return when the job ends, none before; and one that has
/// the least patience returns first.
#[test]
fn several_may_wait_at_once() {
    within(LIMIT, || {
        let pool = Pool::new();
        let latch = Latch::new();
        pool.add(latch.worker()).unwrap();
        let job = pool.enqueue(1).unwrap();
        latch.wait_for_one();
        let (done, returned) = unbounded();
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let (pool, done) = (pool.clone(), done.clone());
                let waiter = thread::Builder::new().name("idle-waiter-e".to_owned());
                let waiter = waiter.spawn(move || done.send(pool.wait_idle()).unwrap());
                waiter.unwrap()
            })
            .collect();
        eventually("all wait", || threads_asleep("idle-waiter-e") == 4);
        assert!(!pool.wait_idle_timeout(SHORT), "behind the others");
        assert_eq!(returned.len(), 0);
        latch.open();
        for _ in 0..4 {
            assert!(next(&returned));
        }
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert_eq!(job.wait(), Ok(1));
    });
}

/// Jobs that never begin are waited for no longer than until that is clear: refused, cancelled by
/// handle or token, or late; though no worker exists.
#[test]
fn jobs_that_never_begin_count_as_ended() {
    never_begin(&[Priority::Low, Priority::Normal]);
}

/// So it is with high ones.
#[test]
fn high_jobs_that_never_begin_count_as_ended() {
    never_begin(&[Priority::High]);
}

#[track_caller]
fn never_begin(priorities: &[Priority]) {
    for &priority in priorities {
        within(LIMIT, move || {
            let pool = Pool::builder().queue_capacity(2).build().unwrap();
            let (errors, failures) = unbounded();
            let token = CancelToken::new();
            let job = pool.job(1).priority(priority).cancel_token(&token);
            job.detach(1, &errors).unwrap();
            let job = pool.job(2).priority(priority);
            let handle = job.enqueue().unwrap();
            for _ in 0..3 {
                let refused = pool.job(3).priority(priority).try_enqueue();
                assert_eq!(refused.unwrap_err().reason, RejectReason::Full);
            }
            assert!(!pool.wait_idle_timeout(SHORT), "two wait");
            assert!(handle.cancel());
            token.cancel();
            assert!(pool.wait_idle(), "{priority:?}");
            assert_eq!(next(&failures).id, 1);
            let late = pool.job(4).priority(priority).timeout(SHORT).submit();
            assert!(late.unwrap_err().is_deadline_passed());
            assert!(pool.wait_idle(), "{priority:?}");
        });
    }
}

/// Jobs that the pool's end came before, and those of a worker that panics, count as ended.
#[test]
fn closed_and_panicked_jobs_count_as_ended() {
    within(LIMIT, || {
        let pool = Pool::new();
        pool.add(|_: Job<u64>| -> Result<u64, String> { panic!("as it should") })
            .unwrap();
        let (errors, failures) = unbounded();
        pool.detach_submit(1, 1, &errors).unwrap();
        assert!(pool.wait_idle());
        assert_eq!(failures.len(), 1);
        pool.detach_submit(2, 2, &errors).unwrap();
        assert!(!pool.wait_idle_timeout(SHORT), "no worker is left");
        let other = pool.clone();
        let waiter = thread::spawn(move || other.wait_idle());
        pool.close();
        assert!(waiter.join().unwrap());
        assert_eq!(failures.len(), 2);
        assert!(pool.wait_idle());
    });
}

/// From a job of the same pool it says `false` at once, as the job would wait for itself; with a
/// limit, too. From a job of another pool it waits.
#[test]
fn wait_idle_from_inside_says_false_at_once() {
    within(LIMIT, || {
        let pool = Manager::<u64, (bool, bool)>::new();
        let weak = pool.downgrade();
        pool.add(move |_: Job<u64>| {
            let pool = weak.upgrade().expect("the pool is there");
            Ok((pool.wait_idle(), pool.wait_idle_timeout(Duration::MAX)))
        })
        .unwrap();
        assert_eq!(pool.submit(1), Ok((false, false)));
        let outer = Manager::<u64, bool>::new();
        let inner = pool.clone();
        outer.add(move |_: Job<u64>| Ok(inner.wait_idle())).unwrap();
        assert_eq!(outer.submit(1), Ok(true));
    });
}

/// With several submitters at work, workers that come and go, and waiters of all kinds: after it
/// returns, every job that its caller had submitted before has its effect in sight.
#[test]
fn every_job_submitted_before_has_its_effect_after_wait_idle() {
    let rounds = stress(3_000) as u64;
    within(2 * LIMIT, move || {
        const SUBMITTERS: usize = 3;
        let pool = Pool::builder().queue_capacity(8).build().unwrap();
        let effects: Arc<[AtomicU64; SUBMITTERS]> = Arc::default();
        let worker = || {
            let effects = Arc::clone(&effects);
            move |job: Job<u64>| {
                // Relaxed: the pool itself makes them visible.
                effects[job.into_payload() as usize].fetch_add(1, Relaxed);
                Ok(0)
            }
        };
        pool.add(worker()).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        thread::scope(|scope| {
            let threads: Vec<_> = (0..SUBMITTERS)
                .map(|me| {
                    let (pool, effects) = (&pool, &effects);
                    scope.spawn(move || {
                        let (errors, _) = unbounded();
                        let mut sent = 0;
                        for round in 0..rounds {
                            for n in 0..=(round % 4) {
                                let priority = [Priority::Low, Priority::Normal, Priority::High];
                                let job = pool.job(me as u64);
                                let job = job.priority(priority[((round + n) % 3) as usize]);
                                job.detach(0, &errors).unwrap();
                                sent += 1;
                            }
                            if round % 3 == 0 && !pool.wait_idle_timeout(Duration::ZERO) {
                                continue; // one that gave up must not mislead the others
                            }
                            assert!(pool.wait_idle());
                            assert_eq!(effects[me].load(Relaxed), sent, "round {round}");
                        }
                    })
                })
                .collect();
            let (pool, worker, stop) = (&pool, &worker, &over);
            scope.spawn(move || {
                while !stop.load(SeqCst) {
                    let id = pool.add(worker()).unwrap();
                    thread::yield_now();
                    pool.remove(id).unwrap();
                    // Its jobs stay counted when it has gone.
                    eventually("it has left", || pool.workers().len() == 1);
                }
            });
            let results: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
            over.store(true, SeqCst);
            assert!(results.iter().all(Result::is_ok));
        });
    });
}
