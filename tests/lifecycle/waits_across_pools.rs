//! Waits that cross pools: circles are found, and what is no circle is let be.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use crate::common::{LIMIT, next, stress, threads_asleep, within};
use crossbeam_channel::{Receiver, bounded};
use worker_pool::{Elastic, Hook, Job, Manager, WorkerId};

type Task = Box<dyn FnOnce() -> u32 + Send>;
type Pool = Manager<Task, u32>;

fn task(work: impl FnOnce() -> u32 + Send + 'static) -> Task {
    Box::new(work)
}

fn run(job: Job<Task>) -> Result<u32, std::convert::Infallible> {
    Ok(job.into_payload()())
}

fn pool_of(workers: usize) -> Pool {
    let pool = Pool::new();
    for _ in 0..workers {
        pool.add(run).unwrap();
    }
    pool
}

/// Runs `work` inside a worker of the pool, and tells its result.
fn inside<T: Send + 'static>(
    pool: &Pool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Receiver<T> {
    let (tell, told) = bounded(1);
    let (errors, _) = bounded(0);
    let job = task(move || {
        tell.send(work()).expect("the test listens");
        0
    });
    pool.detach_submit(job, 1, &errors).unwrap();
    told
}

/// Each of the pools' only workers waits for the other pool: one is told, and the other is served.
#[test]
fn two_pools_that_wait_for_each_other_are_not_both_stuck() {
    within(LIMIT, || {
        for _ in 0..stress(100) {
            let pools = [pool_of(1), pool_of(1)];
            let both_run = Arc::new(Barrier::new(2));
            let told = [0, 1].map(|own| {
                let (both_run, other) = (Arc::clone(&both_run), pools[1 - own].clone());
                inside(&pools[own], move || {
                    both_run.wait();
                    other.submit(task(|| 5))
                })
            });
            let answers = told.map(|told| next(&told));
            assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
            let told = answers.into_iter().find_map(Result::err);
            assert!(told.unwrap().is_would_deadlock());
        }
    });
}

/// Two pools of which each waits until the other is idle, or ends: one of the calls gives up.
#[test]
fn two_pools_that_wait_for_each_others_end_both_end() {
    type Way = fn(&Pool) -> bool;
    let ways: [Way; 5] = [
        |pool| pool.wait_idle(),
        |pool| pool.wait_idle_timeout(10 * LIMIT),
        |pool| {
            pool.close();
            pool.close_signal().is_closed()
        },
        |pool| pool.close_timeout(10 * LIMIT).is_ok(),
        |pool| pool.drain_timeout(10 * LIMIT).is_ok(),
    ];
    within(LIMIT, move || {
        for way in ways {
            let pools = [pool_of(1), pool_of(1)];
            let both_run = Arc::new(Barrier::new(2));
            let told = [0, 1].map(|own| {
                let (both_run, other) = (Arc::clone(&both_run), pools[1 - own].clone());
                inside(&pools[own], move || {
                    both_run.wait();
                    way(&other)
                })
            });
            let answers = told.map(|told| next(&told));
            assert!(answers.contains(&false), "one has given up");
            pools.iter().for_each(Pool::close);
        }
    });
}

struct AtAdd<F>(F);

impl<F: Fn() + Send + Sync> Hook for AtAdd<F> {
    fn worker_add(&self, _: WorkerId) {
        (self.0)();
    }
}

/// A hook of one pool that runs inside the only worker of another, because that adds a worker, and
/// waits for that other pool: as a job of it would.
#[test]
fn a_hook_that_runs_inside_another_pools_worker_is_one_of_its_threads() {
    within(LIMIT, || {
        let outer = pool_of(1);
        let weak = outer.downgrade();
        let (tell, told) = bounded(1);
        let hook = AtAdd(move || {
            let pool = weak.upgrade().unwrap();
            tell.send(pool.submit(task(|| 5))).unwrap();
            assert!(!pool.wait_idle(), "it waits for the calling job");
            pool.close(); // asks only
        });
        let inner = Pool::builder().hook(hook).build().unwrap();
        let adding = inner.clone();
        let added = inside(&outer, move || adding.add(run).is_ok());
        assert!(next(&told).unwrap_err().is_would_deadlock());
        assert!(next(&added));
        assert!(outer.close_signal().wait_timeout(LIMIT));
        assert_eq!(inner.submit(task(|| 6)).unwrap(), 6);
    });
}

/// Who waits for two pools that wait for each other is not told in their place.
#[test]
fn a_worker_behind_a_circle_is_served_once_that_is_broken() {
    within(LIMIT, || {
        for _ in 0..stress(30) {
            let pools = [pool_of(1), pool_of(1)];
            let outer = pool_of(1);
            let all_run = Arc::new(Barrier::new(3));
            let told = [0, 1].map(|own| {
                let (all_run, other) = (Arc::clone(&all_run), pools[1 - own].clone());
                inside(&pools[own], move || {
                    all_run.wait();
                    other.submit(task(|| 5)).is_ok()
                })
            });
            let behind = pools[0].clone();
            let served = inside(&outer, move || {
                all_run.wait();
                behind.submit(task(|| 7)).is_ok()
            });
            assert!(next(&served));
            assert_eq!(told.map(|told| next(&told) as u32).iter().sum::<u32>(), 1);
        }
    });
}

/// In a paused elastic pool, the only worker waits for a job that a second worker will run after the
/// resume: it is not told.
#[test]
fn a_wait_in_a_paused_pool_that_may_grow_is_no_deadlock() {
    within(LIMIT, || {
        let grow_after = Duration::from_millis(1);
        let pool = Pool::builder()
            .name("pausegrow")
            .factory(|_| Ok::<_, String>(run))
            .elastic(Elastic::between(1, 2).grow_after(grow_after))
            .build()
            .unwrap();
        let (paused, is_paused) = bounded::<()>(0);
        let me = pool.clone();
        let told = inside(&pool, move || {
            let _ = is_paused.recv();
            me.submit(task(|| 5))
        });
        pool.pause();
        drop(paused);
        crate::common::eventually("the worker waits", || threads_asleep("pausegrow") == 2);
        assert!(told.recv_timeout(Duration::from_millis(50)).is_err());
        pool.resume();
        assert_eq!(next(&told).unwrap(), 5);
    });
}

/// A paused pool that cannot grow keeps what waits, and judges it after the resume.
#[test]
fn a_deadlock_in_a_paused_pool_is_found_after_the_resume() {
    within(LIMIT, || {
        let pool = pool_of(1);
        let (paused, is_paused) = bounded::<()>(0);
        let me = pool.clone();
        let told = inside(&pool, move || {
            let _ = is_paused.recv();
            me.submit(task(|| 5))
        });
        pool.pause();
        drop(paused);
        assert!(told.recv_timeout(Duration::from_millis(50)).is_err());
        pool.resume();
        assert!(next(&told).unwrap_err().is_would_deadlock());
    });
}

/// A factory that submits to its pool, for which the only other worker waits: one of them is told.
#[test]
fn a_worker_that_waits_for_a_factory_that_waits_for_it_has_an_answer() {
    within(LIMIT, || {
        for _ in 0..stress(50) {
            let pool = pool_of(1);
            let me = pool.clone();
            let told = inside(&pool, move || {
                let inner = me.clone();
                let (tell, told) = bounded(1);
                let made = me.add_factory(move |_| {
                    let answer = inner.submit(task(|| 5));
                    let _ = tell.send(answer.is_ok());
                    Ok::<_, String>(run)
                });
                (made.is_ok(), told)
            });
            let (made, told) = next(&told);
            let served = next(&told);
            // If the caller is told, its worker is free, unless the factory was told before.
            assert!(made != served, "made: {made}, served: {served}");
            pool.close();
        }
    });
}

/// A job that waits for itself, and two that wait for each other: to wait for what runs is in vain,
/// too, however many workers are idle.
#[test]
fn running_jobs_that_wait_for_themselves_give_up() {
    within(LIMIT, || {
        for jobs in [1, 2] {
            let pool = pool_of(3);
            let (tell, told) = bounded(2);
            let mut handles = Vec::new();
            let mut senders = Vec::new();
            for _ in 0..jobs {
                let (send, handle) = bounded::<worker_pool::JobHandle<Task, u32, _>>(1);
                let tell = tell.clone();
                let job = task(move || {
                    let answer = next(&handle).wait();
                    tell.send(answer.map_err(|error| error.is_would_deadlock()))
                        .unwrap();
                    7
                });
                handles.push(pool.enqueue(job).unwrap());
                senders.push(send);
            }
            handles.rotate_left(1);
            for (send, handle) in senders.iter().zip(handles) {
                send.send(handle).unwrap();
            }
            let answers: Vec<_> = (0..jobs).map(|_| next(&told)).collect();
            assert!(answers.contains(&Err(true)), "{answers:?}");
        }
    });
}
