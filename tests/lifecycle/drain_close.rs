//! Draining and closing: what happens to the jobs, the workers, and those who wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::{self, ThreadId};
use std::time::Duration;

use crate::common::{
    Event, LIMIT, Latch, Recorder, eventually, next, stress, threads_asleep, within,
};
use crossbeam_channel::{Sender, bounded, unbounded};
use worker_pool::{
    Failure, Job, JobHandle, JobId, Manager, Outcome, PoolState, RejectReason, Worker,
    WorkerHandle, WorkerId,
};

type Pool = Manager<u32, u32, String>;
type Handle = JobHandle<u32, u32, String>;

fn echo(job: Job<u32>) -> Result<u32, String> {
    Ok(job.into_payload())
}

/// So many workers held in a job each, and so many jobs that wait behind them.
fn held_pool(workers: usize, behind: usize) -> (Pool, Latch, Vec<WorkerId>, Vec<Handle>) {
    let pool = Pool::new();
    let latch = Latch::new();
    let ids = (0..workers).map(|_| pool.add(latch.worker()).unwrap());
    let ids = ids.collect();
    let jobs = 0..(workers + behind) as u32;
    let handles = jobs.map(|number| pool.enqueue(number).unwrap()).collect();
    latch.wait_for(workers);
    (pool, latch, ids, handles)
}

#[track_caller]
fn balanced(pool: &Pool) {
    let stats = pool.stats();
    assert_eq!(stats.accepted, stats.ended(), "{stats}");
}

/// Draining runs everything that was accepted, and turns new jobs away as soon as it begins.
#[test]
fn a_drain_runs_what_was_accepted_and_turns_new_jobs_away() {
    within(LIMIT, || {
        let (pool, latch, _, handles) = held_pool(2, 10);
        thread::scope(|scope| {
            let drained = scope.spawn(|| {
                pool.drain();
                assert_eq!(pool.state(), PoolState::Closed);
            });
            eventually("it drains", || pool.state() == PoolState::Draining);
            let (errors, _) = unbounded();
            let rejected = [
                pool.try_enqueue(99).unwrap_err(),
                pool.enqueue(99).unwrap_err(),
                pool.detach_submit(99, 1, &errors).unwrap_err(),
            ];
            for rejected in rejected {
                assert_eq!(
                    (rejected.reason, rejected.payload),
                    (RejectReason::Closed, 99)
                );
            }
            assert!(pool.submit(99).unwrap_err().is_closed());
            assert!(pool.add(echo).is_err(), "nor new workers");
            assert!(!drained.is_finished(), "two workers are held");
            latch.open();
        });
        for (number, handle) in (0..).zip(handles) {
            assert_eq!(handle.wait(), Ok(number));
        }
        assert_eq!(pool.stats().completed, 12);
        balanced(&pool);
    });
}

/// While a pool drains, its own running jobs are turned away too; their tokens do not fire.
#[test]
fn a_job_that_submits_while_its_pool_drains_is_turned_away() {
    within(LIMIT, || {
        let pool = Pool::new();
        let latch = Latch::new();
        let (door, inside) = (latch.door(), pool.clone());
        let (tell, told) = bounded(1);
        let run = move |job: Job<u32>| {
            door.pass(job.id());
            let reasons = [inside.try_enqueue(1).err(), inside.enqueue(1).err()]
                .map(|rejected| rejected.map(|rejected| rejected.reason));
            let in_submit = inside.submit(1).err().map(|error| error.is_closed());
            tell.send((reasons, in_submit, job.is_cancelled())).unwrap();
            Ok(0)
        };
        pool.add(run).unwrap();
        let handle = pool.enqueue(0).unwrap();
        latch.wait_for_one();
        thread::scope(|scope| {
            scope.spawn(|| pool.drain());
            eventually("it drains", || pool.state() == PoolState::Draining);
            latch.open();
        });
        let closed = Some(RejectReason::Closed);
        assert_eq!(next(&told), ([closed, closed], Some(true), false));
        assert_eq!(handle.wait(), Ok(0));
    });
}

/// However a drain races workers that take the last jobs, sleep, or leave, every accepted job runs
/// as long as one worker stays.
#[test]
fn a_drain_loses_no_job() {
    within(2 * LIMIT, || {
        for round in 0..stress(300) {
            let pool = Pool::builder().queue_capacity(64).build().unwrap();
            let ran = Arc::new(AtomicUsize::new(0));
            let ids = [(); 3].map(|()| {
                let ran = Arc::clone(&ran);
                let run = move |_: Job<u32>| {
                    ran.fetch_add(1, SeqCst);
                    Ok(0)
                };
                pool.add(run).unwrap()
            });
            let (errors, failures) = unbounded();
            let jobs = round % 100;
            for number in 0..jobs {
                pool.detach_submit(0, number as u64, &errors).unwrap();
            }
            if round % 2 == 0 {
                pool.remove(ids[round % 3]).unwrap();
            }
            pool.drain();
            assert_eq!(ran.load(SeqCst), jobs, "round {round}");
            assert!(failures.is_empty());
            balanced(&pool);
        }
    });
}

/// A draining pool takes no new workers: when the last one leaves, what waits is answered "closed".
#[test]
fn a_drain_without_workers_answers_closed() {
    within(LIMIT, || {
        let pool = Pool::new();
        let waits = pool.enqueue(7).unwrap();
        pool.drain();
        let error = waits.wait().unwrap_err();
        assert!(error.is_closed());
        assert_eq!(error.into_payload(), Some(7));

        let (pool, latch, ids, handles) = held_pool(1, 3);
        thread::scope(|scope| {
            scope.spawn(|| pool.drain());
            eventually("it drains", || pool.state() == PoolState::Draining);
            pool.remove(ids[0]).unwrap();
            latch.open();
        });
        let ran = handles.into_iter().map(|handle| handle.wait().is_ok());
        assert_eq!(ran.collect::<Vec<_>>(), [true, false, false, false]);
        assert_eq!(pool.stats().closed, 3);
        balanced(&pool);
    });
}

/// Closing answers the jobs that have not begun, with their payloads, while the running ones are
/// still held; it tells those through their tokens, and waits for them.
#[test]
fn a_close_answers_the_jobs_that_wait_and_finishes_those_that_run() {
    within(LIMIT, || {
        let (pool, latch) = (Pool::new(), Latch::new());
        for _ in 0..2 {
            let door = latch.door();
            let run = move |job: Job<u32>| {
                door.pass(job.id());
                let told = job.cancel_token().wait_timeout(LIMIT);
                assert!(told && job.is_cancelled(), "the job is told");
                Ok(job.into_payload())
            };
            pool.add(run).unwrap();
        }
        let mut handles: Vec<_> = (0..5).map(|job| pool.enqueue(job).unwrap()).collect();
        latch.wait_for(2);
        thread::scope(|scope| {
            let closed = scope.spawn(|| pool.close());
            for (number, handle) in (2..).zip(handles.drain(2..)) {
                let error = handle.wait().unwrap_err();
                assert!(error.is_closed(), "{error:?}");
                assert_eq!(error.into_payload(), Some(number));
            }
            assert!(!closed.is_finished(), "two workers are held");
            latch.open();
        });
        for (number, handle) in (0..).zip(handles) {
            assert_eq!(handle.wait(), Ok(number));
        }
        let stats = pool.stats();
        assert_eq!((stats.accepted, stats.completed, stats.closed), (5, 2, 3));
    });
}

/// A detached job that waits when the pool closes is heard of as (id, closed).
#[test]
fn a_close_tells_of_detached_jobs_that_never_ran() {
    within(LIMIT, || {
        let (pool, latch, _, _handles) = held_pool(1, 0);
        let (errors, failures) = unbounded();
        for id in 10..14 {
            pool.detach_submit(0, id, &errors).unwrap();
        }
        thread::scope(|scope| {
            scope.spawn(|| pool.close());
            for id in 10..14 {
                let failure = next(&failures);
                assert_eq!((failure.id, failure.error.job), (id, JobId::new(id)));
                assert_eq!(
                    (failure.error.worker, failure.error.cause),
                    (None, Failure::Closed)
                );
            }
            latch.open();
        });
    });
}

/// Says where and how often its `close` ran.
struct Closes {
    started_on: Option<ThreadId>,
    closes: Sender<(ThreadId, ThreadId)>,
}

impl Worker<u32, u32, String> for Closes {
    fn start(&mut self, _me: &WorkerHandle) {
        self.started_on = Some(thread::current().id());
    }
    fn run(&mut self, job: Job<u32>) -> Result<u32, String> {
        echo(job)
    }
    fn close(&mut self) {
        let started_on = self.started_on.expect("it started before");
        let here = thread::current().id();
        self.closes.send((started_on, here)).unwrap();
    }
}

/// Closing or draining runs each worker's `close` once, on the worker's own thread, and returns
/// after it.
#[test]
fn each_worker_is_closed_once_on_its_own_thread() {
    within(LIMIT, || {
        let ends: [fn(Pool); 3] = [|pool| pool.close(), |pool| pool.drain(), drop];
        for end in ends {
            let pool = Pool::new();
            let (closes, closed) = unbounded();
            for _ in 0..3 {
                let worker = Closes {
                    started_on: None,
                    closes: closes.clone(),
                };
                pool.add(worker).unwrap();
            }
            pool.submit(1).unwrap();
            end(pool);
            let mut threads: Vec<_> = closed.try_iter().collect();
            assert_eq!(threads.len(), 3, "each once, before the end");
            assert!(threads.iter().all(|(started, here)| started == here));
            threads.dedup();
            assert_eq!(threads.len(), 3, "a thread for each");
        }
    });
}

/// The hooks hear "draining" before anything else of the end, and "closed" after all of it.
#[test]
fn the_hooks_hear_of_the_end_in_order() {
    within(LIMIT, || {
        for end in [Pool::close, Pool::drain] {
            let recorder = Recorder::new();
            let pool = Pool::builder().hook(recorder.clone()).build().unwrap();
            let worker = pool.add(echo).unwrap();
            let job = pool.enqueue(1).unwrap();
            let id = job.id();
            job.wait().unwrap();
            end(&pool);
            let events: Vec<_> = recorder.events().try_iter().collect();
            let expected = [
                Event::WorkerAdd(worker),
                Event::JobStart(id, worker),
                Event::JobFinish(id, worker, Outcome::Completed),
                Event::State(PoolState::Draining),
                Event::WorkerRemove(worker),
                Event::State(PoolState::Closed),
            ];
            assert_eq!(events, expected);
        }
    });
}

/// A close with a limit names the workers that still run, does not make the last handle wait for
/// them, and goes on by itself when they return.
#[test]
fn a_close_that_runs_out_of_time_names_the_workers_that_run() {
    within(LIMIT, || {
        let (pool, latch, held, mut handles) = held_pool(2, 3);
        let idle = pool.add(echo).unwrap();
        for handle in handles.drain(2..) {
            handle.wait().unwrap(); // by the third worker
        }
        let signal = pool.close_signal();
        eventually("the idle worker is gone", || {
            let error = pool.close_timeout(Duration::from_millis(1)).unwrap_err();
            assert!(held.iter().all(|id| error.running.contains(id)), "{error}");
            !error.running.contains(&idle)
        });
        let error = pool.close_timeout(Duration::ZERO).unwrap_err();
        assert_eq!(error.running, held);
        drop(pool); // does not wait again
        assert!(!signal.is_closed());
        latch.open();
        assert!(signal.wait_timeout(LIMIT));
        assert!(handles.into_iter().all(|handle| handle.wait().is_ok()));
    });
}

/// A close with a limit that is long enough, or too long to be told, is a close.
#[test]
fn a_close_that_has_time_is_a_close() {
    within(LIMIT, || {
        for time in [LIMIT, Duration::MAX] {
            let pool = Pool::new();
            pool.add(echo).unwrap();
            assert_eq!(pool.close_timeout(time), Ok(()));
            assert_eq!(pool.state(), PoolState::Closed);
            let pool = Pool::new();
            pool.add(echo).unwrap();
            let handle = pool.enqueue(4).unwrap();
            assert_eq!(pool.drain_timeout(time), Ok(()));
            assert_eq!(handle.wait(), Ok(4), "what was accepted ran");
        }
    });
}

/// A drain with a limit says how many jobs it abandoned and who still runs; the abandoned are
/// answered "closed", and the running ones are told through their tokens.
#[test]
fn a_drain_that_runs_out_of_time_says_how_many_jobs_were_abandoned() {
    within(LIMIT, || {
        for (workers, behind) in [(1, 0), (1, 7), (2, 20)] {
            let (pool, latch, ids, mut handles) = held_pool(workers, behind);
            let error = pool.drain_timeout(Duration::from_millis(1)).unwrap_err();
            assert_eq!((error.abandoned, error.running), (behind, ids));
            for handle in handles.drain(workers..) {
                assert!(handle.is_done(), "answered by now");
                assert!(handle.wait().unwrap_err().is_closed());
            }
            assert!(!pool.close_signal().is_closed(), "workers are held");
            latch.open();
            pool.close();
            let stats = pool.stats();
            assert_eq!(
                (stats.completed, stats.closed),
                (workers as u64, behind as u64)
            );
            assert!(handles.into_iter().all(|handle| handle.wait().is_ok()));
        }
    });
}

/// A drain with a limit that a close overtakes, at any moment: both return, every job is answered.
#[test]
fn a_drain_with_a_limit_that_a_close_overtakes_returns() {
    within(2 * LIMIT, || {
        for round in 0..stress(400) as u64 {
            let pool = Pool::new();
            for _ in 0..2 {
                pool.add(echo).unwrap();
            }
            let handles: Vec<_> = (0..20).map(|job| pool.enqueue(job).unwrap()).collect();
            let start = std::sync::Barrier::new(3);
            let abandoned = thread::scope(|scope| {
                let drains = scope.spawn(|| {
                    start.wait();
                    let limit = match round % 3 {
                        0 => LIMIT,
                        _ => Duration::from_micros(round % 50),
                    };
                    pool.drain_timeout(limit)
                });
                scope.spawn(|| {
                    start.wait();
                    pool.close();
                });
                start.wait();
                drains.join().unwrap()
            });
            pool.close();
            for (number, handle) in (0..).zip(handles) {
                match handle.wait() {
                    Ok(output) => assert_eq!(output, number),
                    Err(error) => assert!(error.is_closed(), "{error:?}"),
                }
            }
            balanced(&pool);
            if let Err(error) = abandoned {
                assert!(error.abandoned as u64 <= pool.stats().closed, "{error}");
            }
        }
    });
}

/// Submitters that are on their way in at the very moment when the pool has closed: each job that
/// was accepted is answered, and the books balance as soon as the close and the submits returned.
#[test]
fn a_job_that_slips_in_while_the_pool_closes_is_answered() {
    within(2 * LIMIT, || {
        for round in 0..stress(40) {
            let pool = Pool::new();
            for _ in 0..2 {
                pool.add(echo).unwrap();
            }
            let (errors, failures) = unbounded();
            let start = std::sync::Barrier::new(9);
            thread::scope(|scope| {
                // More threads than cores, so that some are held up in the midst of a submit.
                for _ in 0..8 {
                    let errors = errors.clone();
                    let (pool, start) = (&pool, &start);
                    scope.spawn(move || {
                        start.wait();
                        let mut ids = 0..;
                        ids.find(|id| match pool.job(0).try_detach(*id, &errors) {
                            Err(rejected) => rejected.reason == RejectReason::Closed,
                            Ok(()) => false,
                        })
                    });
                }
                start.wait();
                thread::sleep(Duration::from_millis(round as u64 % 8));
                if round % 2 == 0 {
                    pool.close()
                } else {
                    pool.drain()
                }
            });
            balanced(&pool);
            assert_eq!(failures.len() as u64, pool.stats().closed);
        }
    });
}

/// A close overtakes a drain that waits for a held worker: what waits is answered at once, and both
/// return when the worker does.
#[test]
fn a_close_overtakes_a_drain_that_waits() {
    within(LIMIT, || {
        let (pool, latch, _, mut handles) = held_pool(1, 4);
        thread::scope(|scope| {
            let drains = thread::Builder::new().name("drainwaits".to_owned());
            drains.spawn_scoped(scope, || pool.drain()).unwrap();
            eventually("it waits", || {
                pool.state() == PoolState::Draining && threads_asleep("drainwaits") == 1
            });
            scope.spawn(|| pool.close());
            for handle in handles.drain(1..) {
                assert!(handle.wait().unwrap_err().is_closed());
            }
            latch.open();
        });
        assert_eq!(pool.state(), PoolState::Closed);
    });
}
