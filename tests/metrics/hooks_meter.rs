//! Hooks pair up and harm nothing; the meter's counters hold in every snapshot.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::thread;

use crate::common::{Event, LIMIT, Latch, Recorder, eventually, next, stress, within};
use crate::more::{SHORT, add_workers, answer, at_latch, task, tasks};
use crossbeam_channel::{Receiver, unbounded};
use worker_pool::{Hook, JobId, Meter, Outcome, PoolState, PoolStatus, Snapshot, WorkerId};

/// Through every way a job and a worker can end, each `job_start` has its `job_finish` with the same
/// ids, each `worker_add` its `worker_remove`, jobs lie within their worker's life, and the pool's
/// states come once, in order, last of all.
#[test]
fn hooks_pair_up_per_job_and_per_worker() {
    let rounds = stress(40);
    within(LIMIT, move || {
        for round in 0..rounds {
            let recorder = Recorder::new();
            let pool = tasks()
                .hook(recorder.clone())
                .queue_capacity(16)
                .build()
                .unwrap();
            let workers = add_workers(&pool, 5);
            let (errors, _failures) = unbounded();
            thread::scope(|scope| {
                for submitter in 0..3 {
                    let (pool, errors) = (&pool, &errors);
                    scope.spawn(move || {
                        for n in 0..60 {
                            let work = match (n, submitter) {
                                (30, 1 | 2) => task(|_| panic!("boom")),
                                _ if n % 7 == 0 => task(|_| Err("no".to_owned())),
                                _ => answer(n),
                            };
                            let _ = match n % 3 {
                                0 => pool.submit(work).map(drop).map_err(drop),
                                1 => pool.enqueue(work).map(|job| _ = job.cancel()).map_err(drop),
                                _ => pool.detach_submit(work, n, errors).map_err(drop),
                            };
                        }
                    });
                }
                // One that has panicked and left cannot be removed any more.
                scope.spawn(|| _ = pool.remove(workers[round % 5]));
            });
            if round % 2 == 0 {
                pool.close();
            } else {
                pool.drain();
            }
            let events: Vec<_> = recorder.events().try_iter().collect();
            assert_paired(&events);
            let calls = recorder.calls();
            assert_eq!(calls.pool_start, 1);
            assert_eq!((calls.worker_add, calls.worker_remove), (5, 5));
            assert_eq!(calls.job_start, calls.job_finish);
            let stats = pool.stats();
            let ran = stats.completed + stats.failed + stats.panicked;
            assert_eq!(calls.job_start as u64, ran);
            assert_eq!((calls.draining, calls.closed), (1, 1));
            assert_eq!(events.last(), Some(&Event::State(PoolState::Closed)));
        }
    });
}

#[track_caller]
fn assert_paired(events: &[Event]) {
    let (mut workers, mut running) = (HashSet::new(), HashMap::new());
    let mut gone = HashSet::new();
    for event in events {
        match *event {
            Event::WorkerAdd(id) => assert!(workers.insert(id) && !gone.contains(&id)),
            Event::WorkerRemove(id) => {
                assert!(workers.remove(&id) && gone.insert(id));
                assert!(!running.contains_key(&id), "it left in the midst of a job");
            }
            Event::JobStart(job, by) => {
                assert!(workers.contains(&by));
                assert_eq!(running.insert(by, job), None, "two jobs at once");
            }
            Event::JobFinish(job, by, _) => assert_eq!(running.remove(&by), Some(job)),
            Event::State(_) => {}
        }
    }
    assert!(workers.is_empty() && running.is_empty());
}

/// Whatever happens to workers and jobs, no snapshot and no subscriber ever sees more workers busy
/// than there are, or a count below zero.
#[test]
fn busy_is_at_most_total_in_every_snapshot() {
    let rounds = stress(30);
    within(LIMIT, move || {
        for _ in 0..rounds {
            let meter = Meter::new();
            let pool = tasks().hook(meter.clone()).build().unwrap();
            let over = AtomicBool::new(false);
            let (errors, _failures) = unbounded();
            thread::scope(|scope| {
                let check = |now: Snapshot| {
                    assert!(now.busy <= now.total, "{now}");
                    assert!(now.total <= 64, "{now}");
                    assert!((0.0..=1.0).contains(&now.utilization()), "{now}");
                };
                let over = &over;
                let poll = meter.clone();
                scope.spawn(move || {
                    while !over.load(SeqCst) {
                        check(poll.snapshot());
                    }
                });
                let news = meter.subscribe();
                scope.spawn(move || news.for_each(check));
                scope.spawn(|| {
                    for n in 0..300_u64 {
                        if n % 10 == 0 {
                            add_workers(&pool, 1);
                        }
                        let work = match n % 20 {
                            7 => task(|_| panic!("boom")),
                            _ => answer(n),
                        };
                        pool.detach_submit(work, n, &errors).unwrap();
                        if n % 30 == 29 {
                            let busy = pool.workers();
                            let _ = pool.remove(busy[n as usize % busy.len()].id);
                        }
                    }
                    add_workers(&pool, 1);
                    pool.drain();
                    over.store(true, SeqCst);
                });
            });
            let end = meter.snapshot();
            assert_eq!((end.busy, end.total, end.state), (0, 0, PoolState::Closed));
        }
    });
}

/// Busy and total are read at one moment: the only worker there is comes, works and goes, and is never
/// seen at work without being there.
#[test]
fn a_snapshot_never_mixes_two_moments() {
    let rounds = stress(300_000) as u64;
    within(LIMIT, move || {
        let meter = Meter::new();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut news = meter.subscribe();
                while !over.load(SeqCst) {
                    for now in [Some(meter.snapshot()), news.try_recv()]
                        .into_iter()
                        .flatten()
                    {
                        assert!(now.busy <= now.total && now.total <= 1, "{now}");
                    }
                }
            });
            for id in 0..rounds {
                let (job, worker) = (JobId::new(id), WorkerId::new(id));
                meter.worker_add(worker);
                meter.job_start(job, worker);
                meter.job_finish(job, worker, Outcome::Completed);
                meter.worker_remove(worker);
            }
            over.store(true, SeqCst);
            watcher.join().unwrap();
        });
    });
}

/// Panics in the method that it is told to.
struct Bad(&'static str);

impl Bad {
    fn at(&self, method: &str) {
        assert!(method != self.0, "a hook's panic in {method}");
    }
}

impl Hook for Bad {
    fn pool_start(&self, _: Weak<dyn PoolStatus>) {
        self.at("pool_start");
    }
    fn pool_state(&self, state: PoolState) {
        self.at(if state == PoolState::Closed {
            "closed"
        } else {
            "draining"
        });
    }
    fn job_start(&self, _: JobId, _: WorkerId) {
        self.at("job_start");
    }
    fn job_finish(&self, _: JobId, _: WorkerId, _: Outcome) {
        self.at("job_finish");
    }
    fn worker_add(&self, _: WorkerId) {
        self.at("worker_add");
    }
    fn worker_remove(&self, _: WorkerId) {
        self.at("worker_remove");
    }
}

/// A panic in any method of a hook costs nothing: the results arrive, the other hooks are called, the
/// counters are right, the pool lives and closes.
#[test]
fn a_panic_in_any_hook_harms_nothing() {
    let methods = [
        "pool_start",
        "draining",
        "closed",
        "job_start",
        "job_finish",
        "worker_add",
        "worker_remove",
    ];
    for method in methods {
        within(LIMIT, move || {
            let (meter, recorder) = (Meter::new(), Recorder::new());
            let builder = tasks().hook(Bad(method)).hook(meter.clone());
            let pool = builder
                .hook(recorder.clone())
                .hook(Bad(method))
                .build()
                .unwrap();
            let leaver = add_workers(&pool, 2)[0];
            for n in 0..5 {
                assert_eq!(pool.submit(answer(n)).unwrap(), n, "{method}");
                assert_eq!(meter.snapshot().busy, 0, "{method}");
            }
            let error = pool.submit(task(|_| Err("no".to_owned()))).unwrap_err();
            assert_eq!(error.into_worker_error().as_deref(), Some("no"));
            pool.remove(leaver).unwrap();
            // The events are kept for later.
            eventually("it has left", || recorder.calls().worker_remove == 1);
            assert_eq!(meter.snapshot().total, 1, "{method}");
            assert_eq!(pool.submit(answer(6)).unwrap(), 6, "{method}");
            pool.close();
            assert_paired(&recorder.events().try_iter().collect::<Vec<_>>());
            let calls = recorder.calls();
            assert_eq!((calls.job_start, calls.job_finish), (7, 7), "{method}");
            assert_eq!((calls.worker_add, calls.worker_remove), (2, 2), "{method}");
            assert_eq!(
                (calls.pool_start, calls.draining, calls.closed),
                (1, 1, 1),
                "{method}"
            );
            let end = meter.snapshot();
            assert_eq!((end.busy, end.total, end.state), (0, 0, PoolState::Closed));
        });
    }
}

/// Whoever holds a job's answer, output, error or panic, finds that job taken off busy and counted as
/// finished, every time.
#[test]
fn whoever_holds_an_answer_sees_settled_counters() {
    let rounds = stress(3_000);
    within(LIMIT, move || {
        let meter = Meter::new();
        let pool = tasks().hook(meter.clone()).build().unwrap();
        add_workers(&pool, 1);
        for round in 0..rounds as u64 {
            match round % 50 {
                49 => {
                    assert!(pool.submit(task(|_| panic!("boom"))).is_err());
                    add_workers(&pool, 1);
                }
                n if n % 3 == 0 => drop(pool.submit(task(|_| Err("no".to_owned())))),
                n if n % 3 == 1 => drop(pool.enqueue(answer(n)).unwrap().wait().unwrap()),
                n => drop(pool.submit(answer(n)).unwrap()),
            }
            let now = meter.snapshot();
            assert_eq!((now.busy, now.finished), (0, round + 1));
        }
        let (errors, failures) = unbounded();
        pool.detach_submit(task(|_| Err("no".to_owned())), 1, &errors)
            .unwrap();
        next(&failures);
        assert_eq!(meter.snapshot().busy, 0);
    });
}

/// Without workers nothing can be taken on: the utilisation is 1, not a division by zero.
#[test]
fn without_workers_the_utilisation_is_one() {
    within(LIMIT, || {
        let meter = Meter::new();
        let full = |now: Snapshot| assert_eq!((now.total, now.utilization()), (0, 1.0));
        full(meter.snapshot());
        let pool = tasks().hook(meter.clone()).build().unwrap();
        full(meter.snapshot());
        let latch = Latch::new();
        add_workers(&pool, 2);
        assert_eq!(meter.snapshot().utilization(), 0.0);
        let handle = pool.enqueue(at_latch(&latch, 1)).unwrap();
        latch.wait_for_one();
        assert_eq!(meter.snapshot().utilization(), 0.5);
        let other = pool.enqueue(at_latch(&latch, 2)).unwrap();
        latch.wait_for_one();
        assert_eq!(meter.snapshot().utilization(), 1.0);
        latch.open();
        assert_eq!((handle.wait().unwrap(), other.wait().unwrap()), (1, 2));
        assert_eq!(meter.snapshot().utilization(), 0.0);
        pool.close();
        full(meter.snapshot());
    });
}

/// A worker takes no job before every hook has been told of it, however long that takes.
#[test]
fn no_job_starts_on_a_worker_that_the_hooks_do_not_know() {
    struct Slow(Receiver<()>, AtomicBool);
    impl Hook for Slow {
        fn worker_add(&self, _: WorkerId) {
            // In vain, if the job waits for this to return: time enough for one that does not.
            let early = self.0.recv_timeout(5 * SHORT).is_ok();
            self.1.store(early, SeqCst);
            assert!(!early, "a job started on an unknown worker");
        }
    }
    within(LIMIT, || {
        let (meter, recorder) = (Meter::new(), Recorder::new());
        let (start, started) = unbounded();
        let slow = Arc::new(Slow(started, AtomicBool::new(true)));
        let builder = tasks().hook(Forward(Arc::clone(&slow)));
        let builder = builder.hook(meter.clone()).hook(recorder.clone());
        let pool = builder.build().unwrap();
        let counts = meter.clone();
        let handle = pool
            .enqueue(task(move |_| {
                let _ = start.send(());
                Ok(counts.snapshot().total.into())
            }))
            .unwrap();
        add_workers(&pool, 1);
        assert_eq!(handle.wait().unwrap(), 1, "the job's own worker is counted");
        assert!(!slow.1.load(SeqCst));
        pool.close();
        assert_paired(&recorder.events().try_iter().collect::<Vec<_>>());
    });
}

/// A hook that the test keeps a hand on.
struct Forward<H>(Arc<H>);

impl<H: Hook> Hook for Forward<H> {
    fn worker_add(&self, worker: WorkerId) {
        self.0.worker_add(worker);
    }
}

/// One meter in two pools shows their sums and ends with the second.
#[test]
fn a_meter_in_two_pools_shows_their_sums() {
    within(LIMIT, || {
        let meter = Meter::new();
        let build = || {
            tasks()
                .hook(meter.clone())
                .queue_capacity(5)
                .build()
                .unwrap()
        };
        let (one, two) = (build(), build());
        add_workers(&one, 1);
        add_workers(&two, 2);
        let latch = Arc::new(Latch::new());
        let held = two.enqueue(at_latch(&latch, 1)).unwrap();
        latch.wait_for_one();
        one.submit(answer(1)).unwrap();
        let now = meter.snapshot();
        assert_eq!((now.busy, now.total, now.queue_capacity), (1, 3, 10));
        assert_eq!(now.finished, 1);
        one.close();
        let now = meter.snapshot();
        assert_eq!((now.busy, now.total, now.state), (1, 2, PoolState::Running));
        latch.open();
        held.wait().unwrap();
        two.close();
        let end = meter.snapshot();
        assert_eq!((end.busy, end.total, end.state), (0, 0, PoolState::Closed));
        assert_eq!(end.finished, 2);
    });
}
