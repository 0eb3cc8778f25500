//! Jobs that submit to their own pool, and block for it, from inside a worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::common::{Door, LIMIT, Latch, eventually, next, stress, threads_asleep, within};
use crossbeam_channel::{Receiver, bounded, unbounded};
use worker_pool::{Job, Manager, RejectReason, SubmitError, WorkerId};

/// What a job does. It has a handle of its pool in its closure if it needs one.
type Task = Box<dyn FnOnce() -> u32 + Send>;
type Pool = Manager<Task, u32>;
type Answer = Result<u32, SubmitError<Task, std::convert::Infallible>>;

fn task(work: impl FnOnce() -> u32 + Send + 'static) -> Task {
    Box::new(work)
}

fn add_worker(pool: &Pool) -> WorkerId {
    pool.add(|job: Job<Task>| Ok(job.into_payload()()))
        .expect("the pool is open")
}

fn pool_of(workers: usize) -> Pool {
    let pool = Pool::new();
    for _ in 0..workers {
        add_worker(&pool);
    }
    pool
}

/// Runs `work` inside a worker, with the pool, and tells its result.
fn inside<T: Send + 'static>(
    pool: &Pool,
    work: impl FnOnce(&Pool) -> T + Send + 'static,
) -> Receiver<T> {
    let (tell, told) = bounded(1);
    let me = pool.clone();
    let job = task(move || {
        let result = work(&me);
        drop(me);
        tell.send(result).expect("the test listens");
        0
    });
    let (errors, _) = unbounded();
    pool.detach_submit(job, 1, &errors).expect("there is room");
    told
}

/// A job that waits at the door.
fn held(door: Door) -> Task {
    task(move || {
        door.pass(worker_pool::JobId::new(0));
        7
    })
}

fn balanced(pool: &Pool) {
    let stats = pool.stats();
    assert_eq!(stats.accepted, stats.ended(), "{stats}");
}

/// A blocking submit in the only worker, which could never be served, is answered with an error, and
/// its payload, which still works, comes back.
#[test]
fn the_only_worker_that_submits_to_its_pool_is_told_that_it_would_deadlock() {
    within(LIMIT, || {
        let pool = pool_of(1);
        let told = inside(&pool, |pool| pool.submit(task(|| 5)));
        let error = next(&told).unwrap_err();
        assert!(error.is_would_deadlock(), "{error:?}");
        let payload = error.into_payload().expect("it never began");
        assert_eq!(payload(), 5);
        assert_eq!(pool.submit(task(|| 6)).unwrap(), 6); // the worker serves on
        pool.close();
        balanced(&pool);
    });
}

/// The same in each form of submit that blocks for the result, with a deadline that is far away too.
#[test]
fn waiting_for_a_handle_inside_the_only_worker_is_told_that_it_would_deadlock() {
    within(LIMIT, || {
        let pool = pool_of(1);
        let told = inside(&pool, |pool| {
            let handle = pool.enqueue(task(|| 5)).expect("there is room");
            let waited = handle.wait();
            let timed = pool.submit_timeout(task(|| 6), 10 * LIMIT);
            let never_blocks = pool.try_enqueue(task(|| 7)).expect("there is room");
            ([waited, timed], never_blocks)
        });
        let (answers, handle) = next(&told);
        for answer in answers {
            assert!(answer.unwrap_err().is_would_deadlock());
        }
        // What was not waited for inside runs once the worker is free.
        assert_eq!(handle.wait().unwrap(), 7);
        pool.drain();
        balanced(&pool);
    });
}

/// A worker that asks and does not wait is not in danger: its job runs after it.
#[test]
fn a_wait_without_patience_inside_the_only_worker_leaves_the_job_queued() {
    within(LIMIT, || {
        let pool = pool_of(1);
        let told = inside(&pool, |pool| {
            let mut handle = pool.enqueue(task(|| 5)).expect("there is room");
            assert!(handle.wait_timeout(Duration::ZERO).is_none());
            assert!(handle.try_wait().is_none());
            handle
        });
        assert_eq!(next(&told).wait().unwrap(), 5);
    });
}

/// Two workers that each wait for a job that only the other could run: one of them is told, and that
/// frees it for the other's job. Neither hangs.
#[test]
fn two_workers_that_wait_for_each_other_are_not_both_stuck() {
    within(LIMIT, || {
        for _ in 0..stress(200) {
            let pool = pool_of(2);
            let both_run = Arc::new(std::sync::Barrier::new(2));
            let answers: Vec<_> = (0..2)
                .map(|_| {
                    let both_run = Arc::clone(&both_run);
                    inside(&pool, move |pool| {
                        both_run.wait();
                        pool.submit(task(|| 5))
                    })
                })
                .collect();
            let answers: Vec<Answer> = answers.iter().map(next).collect();
            let served = answers.iter().filter(|answer| answer.is_ok()).count();
            assert_eq!(served, 1, "one gives way, the other is served");
            for error in answers.into_iter().filter_map(Result::err) {
                assert!(error.is_would_deadlock(), "{error:?}");
            }
            pool.close();
            balanced(&pool);
        }
    });
}

/// A nested job that another worker can run is served, how busy that worker may be just now.
#[test]
fn a_nested_job_waits_for_a_busy_worker_that_will_be_free() {
    within(LIMIT, || {
        let pool = pool_of(2);
        let latch = Latch::new();
        let other = pool.enqueue(held(latch.door())).unwrap();
        latch.wait_for_one();
        let (submits, submitting) = bounded(1);
        let told = inside(&pool, move |pool| {
            submits.send(()).unwrap();
            pool.submit(task(|| 5))
        });
        next(&submitting);
        latch.open();
        assert_eq!(next(&told).unwrap(), 5);
        assert_eq!(other.wait().unwrap(), 7);
    });
}

/// A worker whose wait is over is as good as free: another that waits behind it is served, and not
/// told that it would deadlock.
#[test]
fn a_worker_whose_answer_is_there_does_not_count_as_waiting() {
    within(2 * LIMIT, || {
        let pool = pool_of(2);
        for round in 0..stress(1_000) {
            // The first job's worker waits for `leaf`; the other worker runs it and then, its answer
            // given, waits itself: for a job that the first worker will be free to run.
            let (tell, told) = bounded(1);
            let first = inside(&pool, move |pool| {
                let leaf = task(|| {
                    // Long enough for whoever waits for it to fall asleep in most rounds.
                    thread::sleep(Duration::from_micros(200));
                    1
                });
                let leaf = pool.enqueue(leaf).expect("there is room");
                let second = inside(pool, |pool| pool.submit(task(|| 2)));
                tell.send(second).expect("the test listens");
                leaf.wait()
            });
            let second = next(&told);
            let first = next(&first);
            let second = next(&second);
            assert_eq!(first.ok(), Some(1), "round {round}");
            match second {
                Ok(answer) => assert_eq!(answer, 2),
                Err(error) => panic!("round {round}: {error}, though a worker becomes free"),
            }
        }
        pool.close();
        balanced(&pool);
    });
}

/// The worker that could have served a nested job is removed: whoever waits for it is told.
#[test]
fn a_nested_wait_ends_when_the_last_other_worker_is_removed() {
    within(LIMIT, || {
        let pool = Pool::builder().name("lastother").build().unwrap();
        let other = add_worker(&pool);
        let latch = Latch::new();
        let job = pool.enqueue(held(latch.door())).unwrap();
        latch.wait_for_one();
        let me = add_worker(&pool);
        let told = inside(&pool, |pool| pool.submit(task(|| 5)));
        let mine = format!("lastother-{me}");
        eventually("the worker waits", || {
            pool.waiting() == 0 && threads_asleep(&mine) == 1 && pool.stats().accepted == 3
        });
        assert!(told.is_empty(), "the other worker may still serve it");
        pool.remove(other).unwrap();
        latch.open(); // the other worker leaves after this job
        assert!(next(&told).unwrap_err().is_would_deadlock());
        assert_eq!(job.wait().unwrap(), 7);
        assert_eq!(pool.submit(task(|| 6)).unwrap(), 6);
    });
}

/// A worker that is added while another waits inside serves the waiting job.
#[test]
fn a_worker_that_is_added_serves_a_nested_job_that_waits() {
    within(LIMIT, || {
        let pool = pool_of(1);
        let latch = Latch::new();
        let other = pool.enqueue(held(latch.door())).unwrap();
        latch.wait_for_one();
        add_worker(&pool);
        let told = inside(&pool, |pool| pool.submit(task(|| 5)));
        eventually("both jobs are accepted", || pool.stats().accepted == 3);
        add_worker(&pool); // the first is still held
        assert_eq!(next(&told).unwrap(), 5);
        latch.open();
        assert_eq!(other.wait().unwrap(), 7);
    });
}

/// Blocking for room in a full queue inside the only worker, which alone makes room, is told too, and
/// what was accepted before runs.
#[test]
fn the_only_worker_that_blocks_on_a_full_queue_is_told_that_it_would_deadlock() {
    within(LIMIT, || {
        let pool = Pool::builder().queue_capacity(2).build().unwrap();
        add_worker(&pool);
        let ran = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&ran);
        let told = inside(&pool, move |pool| {
            let (errors, _) = unbounded();
            for accepted in 0..100 {
                let counter = Arc::clone(&counter);
                let job = task(move || {
                    counter.fetch_add(1, SeqCst);
                    0
                });
                if let Err(rejected) = pool.detach_submit(job, 2, &errors) {
                    let in_submit = pool.submit(rejected.payload).map_err(|error| {
                        assert!(error.is_would_deadlock());
                        error.into_payload().is_some()
                    });
                    return (accepted, rejected.reason, in_submit);
                }
            }
            panic!("a queue of two took a hundred jobs");
        });
        let (accepted, reason, in_submit) = next(&told);
        assert_eq!(reason, RejectReason::WouldDeadlock);
        assert_eq!(in_submit, Err(true), "the payload came back");
        pool.drain();
        assert_eq!(ran.load(SeqCst), accepted, "what was accepted ran");
        balanced(&pool);
    });
}

/// It is told only when the queue is full: the job that runs takes no place in it.
#[test]
fn the_only_worker_may_fill_the_queue_before_it_is_told() {
    within(LIMIT, || {
        for round in 0..stress(300) {
            let pool = Pool::builder().queue_capacity(2).build().unwrap();
            add_worker(&pool);
            let told = inside(&pool, |pool| {
                [1, 2].map(|number| pool.enqueue(task(move || number)).map(|_| ()))
            });
            let refused = next(&told).into_iter().filter_map(Result::err).next();
            assert!(refused.is_none(), "round {round}: {refused:?}, with room");
        }
    });
}

/// Blocking for room inside a worker is no deadlock while another worker will make room.
#[test]
fn blocking_on_a_full_queue_inside_a_worker_goes_on_when_another_makes_room() {
    within(LIMIT, || {
        let pool = Pool::builder().queue_capacity(1).build().unwrap();
        add_worker(&pool);
        let latch = Latch::new();
        let mut handles = vec![pool.enqueue(held(latch.door())).unwrap()];
        latch.wait_for_one();
        add_worker(&pool);
        let (full, is_full) = bounded(1);
        let told = inside(&pool, move |pool| {
            let mut handles = Vec::new();
            while let Ok(handle) = pool.try_enqueue(task(|| 7)) {
                handles.push(handle);
            }
            full.send(()).unwrap();
            pool.enqueue(task(|| 7)).map(|last| {
                handles.push(last);
                handles
            })
        });
        next(&is_full);
        latch.open();
        handles.extend(next(&told).expect("room was made"));
        for handle in handles {
            assert_eq!(handle.wait().unwrap(), 7);
        }
    });
}

/// Closing the pool ends the waits inside its workers, for a result and for room, with the payloads,
/// while the worker that could have served them is still held.
#[test]
fn a_nested_wait_ends_when_the_pool_closes() {
    within(LIMIT, || {
        let pool = Pool::builder().name("nestclose").queue_capacity(1);
        let pool = pool.build().unwrap();
        let latch = Latch::new();
        let mut ids = vec![add_worker(&pool)];
        let job = pool.enqueue(held(latch.door())).unwrap();
        latch.wait_for_one();
        ids.extend([add_worker(&pool), add_worker(&pool)]);
        let both_run = Arc::new(std::sync::Barrier::new(2));
        // Each waits for a result, or for room once the queue is full.
        let told = [(); 2].map(|()| {
            let both_run = Arc::clone(&both_run);
            inside(&pool, move |pool| {
                both_run.wait();
                let mut queued = Vec::new();
                while let Ok(handle) = pool.try_enqueue(task(|| 4)) {
                    queued.push(handle);
                }
                (pool.submit(task(|| 5)), queued)
            })
        });
        eventually("all workers are held or wait", || {
            threads_asleep("nestclose") == ids.len() + 1
        });
        thread::scope(|scope| {
            scope.spawn(|| pool.close());
            for told in told {
                let (answer, queued) = next(&told);
                let error = answer.unwrap_err();
                assert!(error.is_closed(), "{error:?}");
                assert_eq!(error.into_payload().expect("it never began")(), 5);
                assert!(queued.into_iter().all(|handle| handle.wait().is_err()));
            }
            assert!(!pool.close_signal().is_closed(), "a worker is held");
            latch.open();
        });
        assert_eq!(job.wait().unwrap(), 7);
        balanced(&pool);
    });
}

/// Workers of one pool may wait for another pool: that is no deadlock, however small both are.
#[test]
fn a_worker_of_one_pool_may_wait_for_another_pool() {
    within(LIMIT, || {
        let inner = pool_of(1);
        let outer = pool_of(1);
        for number in 0..stress(100) as u32 {
            let inner = inner.clone();
            let answer = outer.submit(task(move || {
                let waited = inner.enqueue(task(move || number)).unwrap().wait().unwrap();
                waited + inner.submit(task(|| 1)).unwrap()
            }));
            assert_eq!(answer.unwrap(), number + 1);
        }
        outer.drain();
        inner.drain();
        balanced(&outer);
        balanced(&inner);
    });
}

/// Also while the other pool's workers are all busy: they are not this pool's.
#[test]
fn a_worker_may_wait_for_another_pool_whose_workers_are_busy() {
    within(LIMIT, || {
        let inner = pool_of(1);
        let outer = Pool::builder().name("outerwaits").build().unwrap();
        add_worker(&outer);
        let latch = Latch::new();
        let first = inner.enqueue(held(latch.door())).unwrap();
        latch.wait_for_one();
        let other = inner.clone();
        let told = inside(&outer, move |_| other.submit(task(|| 5)));
        // Its only worker and its dispatcher: the job inside is blocked.
        eventually("the outer worker waits", || {
            inner.stats().accepted == 2 && threads_asleep("outerwaits") == 2
        });
        latch.open();
        assert_eq!(next(&told).unwrap(), 5);
        assert_eq!(first.wait().unwrap(), 7);
    });
}

/// Many jobs that submit further jobs and wait, on few workers: each is served or told, none hangs,
/// and the pool closes with its counters balanced.
#[test]
fn a_crowd_of_nested_jobs_is_served_or_told() {
    fn tree(pool: &Pool, depth: u32, told: &Arc<AtomicUsize>) -> u32 {
        if depth == 0 {
            return 1;
        }
        let mut sum = 1;
        for _ in 0..2 {
            let (below, counter) = (pool.clone(), Arc::clone(told));
            match pool.submit(task(move || tree(&below, depth - 1, &counter))) {
                Ok(more) => sum += more,
                Err(error) => {
                    assert!(error.is_would_deadlock(), "{error:?}");
                    told.fetch_add(1, SeqCst);
                    // What comes back can be done on the spot.
                    sum += error.into_payload().expect("it never began")();
                }
            }
        }
        sum
    }
    within(2 * LIMIT, || {
        for round in 0..stress(20) {
            let pool = pool_of(1 + round % 4);
            let told = Arc::new(AtomicUsize::new(0));
            let handles: Vec<_> = (0..4)
                .map(|_| {
                    let (inside, told) = (pool.clone(), Arc::clone(&told));
                    pool.enqueue(task(move || tree(&inside, 4, &told))).unwrap()
                })
                .collect();
            for handle in handles {
                assert_eq!(handle.wait().unwrap(), 31, "every node is counted once");
            }
            pool.close();
            balanced(&pool);
        }
    });
}
