//! Order, and that nobody starves: jobs start as they came, and commands get through any flood.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;

use crate::common::{Event, LIMIT, Latch, Recorder, eventually, stress, within};
use crate::more::{add_workers, at_latch, tasks, tell};
use crossbeam_channel::unbounded;
use worker_pool::{Job, Manager, Priority, RejectReason};

/// One worker starts jobs in the order in which they were submitted, by whichever form of submit,
/// while they pile up behind a held one.
#[test]
fn one_worker_starts_jobs_in_the_order_of_their_submission() {
    const JOBS: u64 = 600;
    within(LIMIT, || {
        let pool = tasks().build().unwrap();
        let latch = Latch::new();
        add_workers(&pool, 1);
        drop(pool.enqueue(at_latch(&latch, 0)).unwrap());
        latch.wait_for_one();
        let (ran, runs) = mpsc::channel();
        let (errors, _failures) = unbounded();
        for n in 0..JOBS {
            match n % 4 {
                0 => drop(pool.enqueue(tell(&ran, n)).unwrap()),
                1 => drop(pool.try_enqueue(tell(&ran, n)).unwrap()),
                2 => pool.detach_submit(tell(&ran, n), n, &errors).unwrap(),
                _ => pool
                    .job(tell(&ran, n))
                    .timeout(LIMIT)
                    .detach(n, &errors)
                    .unwrap(),
            }
        }
        drop(ran);
        latch.open();
        assert!(runs.iter().eq(0..JOBS));
    });
}

/// The same without anything that holds them up: on the way straight to an idle worker, through the
/// queue, and where the two ways meet.
#[test]
fn a_submitters_jobs_keep_their_order_whichever_way_they_go() {
    let jobs = stress(20_000) as u64;
    within(LIMIT, move || {
        for capacity in [1, 3, 1024] {
            let builder = Manager::<(u64, u64), ()>::builder();
            let pool = builder.queue_capacity(capacity).build().unwrap();
            let mut last = [0; 3];
            pool.add(move |job: Job<(u64, u64)>| {
                let (submitter, number) = job.into_payload();
                let last = &mut last[submitter as usize];
                assert_eq!(*last + 1, number, "submitter {submitter}");
                *last = number;
                Ok(())
            })
            .unwrap();
            let (errors, failures) = unbounded();
            thread::scope(|scope| {
                for submitter in 0..3 {
                    let (pool, errors) = (&pool, &errors);
                    scope.spawn(move || {
                        for number in 1..=jobs / 3 {
                            // Now and then it waits until all is quiet.
                            if number % 256 == 0 {
                                pool.submit((submitter, number)).unwrap();
                            } else {
                                pool.detach_submit((submitter, number), number, errors)
                                    .unwrap();
                            }
                        }
                    });
                }
            });
            pool.drain();
            drop(errors);
            assert_eq!(failures.iter().next(), None);
            assert_eq!(pool.stats().completed, jobs / 3 * 3);
        }
    });
}

/// While submitters flood the pool, so that its queue is never empty, workers are still added and
/// removed, and the pool closes.
#[test]
fn commands_take_effect_in_a_flood_of_jobs() {
    let rounds = stress(12);
    within(LIMIT, move || {
        for round in 0..rounds {
            let recorder = Recorder::new();
            let quiet = Quiet(recorder.clone());
            let builder = Manager::<(), ()>::builder().hook(quiet);
            let pool = builder.queue_capacity(256).build().unwrap();
            let worker = || {
                let jobs = Arc::new(AtomicU64::new(0));
                let count = Arc::clone(&jobs);
                let id = pool.add(move |_: Job<()>| {
                    count.fetch_add(1, SeqCst);
                    Ok(())
                });
                (id.unwrap(), jobs)
            };
            let (_, first) = worker();
            let stop = AtomicBool::new(false);
            let (errors, _failures) = unbounded();
            thread::scope(|scope| {
                let flood = || {
                    // Until the pool closes, or the test fails.
                    while !stop.load(SeqCst) {
                        if let Err(error) = pool.detach_submit((), 0, &errors) {
                            assert_eq!(error.reason, RejectReason::Closed);
                            return;
                        }
                    }
                };
                let _stop = Stop(&stop);
                for _ in 0..3 {
                    scope.spawn(flood);
                }
                eventually("the flood runs", || first.load(SeqCst) > 1_000);
                // An added worker gets its share,
                let (second, jobs) = worker();
                eventually("the new one works", || jobs.load(SeqCst) > 10);
                // a removed one is let go,
                pool.remove(second).unwrap();
                recorder.wait_for(|event| *event == Event::WorkerRemove(second));
                let at_the_end = jobs.load(SeqCst);
                let before = first.load(SeqCst);
                eventually("the other goes on", || first.load(SeqCst) > before + 100);
                assert_eq!(jobs.load(SeqCst), at_the_end);
                // and the end comes in the midst of it.
                if round % 2 == 0 {
                    pool.close();
                } else {
                    pool.drain();
                }
                assert!(!stop.load(SeqCst));
            });
            assert!(pool.close_signal().is_closed());
            let stats = pool.stats();
            assert_eq!(stats.accepted, stats.ended(), "{stats}");
        }
    });
}

/// Ends the flood also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Records workers and states, but not the many jobs.
struct Quiet(Recorder);

impl worker_pool::Hook for Quiet {
    fn worker_add(&self, worker: worker_pool::WorkerId) {
        self.0.worker_add(worker);
    }
    fn worker_remove(&self, worker: worker_pool::WorkerId) {
        self.0.worker_remove(worker);
    }
}

/// Fifteen jobs per worker that block: as many run as there are workers, never more.
#[test]
fn as_many_jobs_run_at_once_as_there_are_workers() {
    const WORKERS: usize = 4;
    within(LIMIT, || {
        let builder = Manager::<Box<u64>, Box<u64>, String>::builder();
        let pool = builder.queue_capacity(100).build().unwrap();
        let latch = Latch::new();
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..WORKERS {
            let (door, running, most) = (latch.door(), Arc::clone(&running), Arc::clone(&most));
            let run = move |job: Job<Box<u64>>| {
                let now = running.fetch_add(1, SeqCst) + 1;
                most.fetch_max(now, SeqCst);
                door.pass(job.id());
                running.fetch_sub(1, SeqCst);
                Ok(job.into_payload())
            };
            pool.add(run).unwrap();
        }
        let jobs = 15 * WORKERS;
        let handles: Vec<_> = (0..jobs as u64)
            .map(|number| pool.enqueue(Box::new(number)).unwrap())
            .collect();
        latch.wait_for(WORKERS); // they all run at the same time
        for _ in WORKERS..jobs {
            latch.release(1);
            latch.wait_for_one(); // one out, one in
        }
        latch.open();
        for (number, handle) in (0..).zip(handles) {
            assert_eq!(handle.wait(), Ok(Box::new(number)));
        }
        assert_eq!(most.load(SeqCst), WORKERS);
        assert_eq!(latch.arrivals(), 0);
    });
}

/// One worker stays while others come and go: of what it runs, nothing comes too early or too late, in
/// any priority.
#[test]
fn jobs_begin_in_order_while_workers_leave() {
    for priority in [Priority::Normal, Priority::High, Priority::Low] {
        within(LIMIT, move || {
            let builder = Manager::<u64, (), String>::builder();
            let pool = builder.queue_capacity(64).build().unwrap();
            let (begun, begins) = mpsc::channel();
            let worker = |number: u64| {
                let begun = begun.clone();
                move |job: Job<u64>| {
                    let _ = begun.send((number, job.into_payload()));
                    Ok(())
                }
            };
            pool.add(worker(0)).unwrap();
            let done = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    for number in 1.. {
                        if done.load(SeqCst) {
                            break;
                        }
                        let id = pool.add(worker(number)).unwrap();
                        thread::yield_now();
                        pool.remove(id).unwrap();
                    }
                });
                let (errors, _failures) = unbounded();
                for n in 0..stress(60_000) as u64 {
                    let job = pool.job(n).priority(priority);
                    job.detach(0, &errors).unwrap();
                }
                done.store(true, SeqCst);
            });
            pool.drain();
            let mut last = std::collections::HashMap::new();
            for (worker, job) in begins.try_iter() {
                if let Some(before) = last.insert(worker, job) {
                    assert!(
                        before < job,
                        "{priority:?}: {job} after {before} on {worker}"
                    );
                }
            }
        });
    }
}
