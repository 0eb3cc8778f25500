//! What becomes of jobs when the last worker is gone for good.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;

use crate::common::{
    Event, LIMIT, Latch, Recorder, eventually, next, stress, threads_asleep, within,
};
use crate::more::{
    self, Task, Tasks, add_workers, answer, jitter, rejected, run_task, task, tasks,
};
use crossbeam_channel::unbounded;
use worker_pool::{
    Builder, Failure, Hook, Job, JobHandle, JobId, Manager, NoWorkers, Priority, RejectReason,
    Restarts, SubmitError, WeakManager, WorkerId,
};

/// A builder of pools that turn away what nobody is there to run.
fn rejecting() -> Builder<Task, u64, String> {
    tasks().no_workers(NoWorkers::Reject)
}

/// A task that waits at the latch and panics.
fn boom_at(latch: &Latch) -> Task {
    let door = latch.door();
    task(move |_| {
        door.pass(JobId::new(0));
        panic!("boom")
    })
}

type Answer = Result<u64, SubmitError<Task, String>>;

/// More than wait in the queue, so that they do not all get in when that is cleared.
const SUBMITTERS: u64 = 20;
const SUBMITTER: &str = "in-line";

/// The only worker is held in a job that will panic; behind it jobs of each priority wait, some of
/// them released, and many submitters block for room.
fn crowd(pool: &Tasks, latch: &Latch, check: impl Fn(Answer) + Sync) {
    let bomb = pool.enqueue(boom_at(latch)).unwrap();
    latch.wait_for_one();
    let mut waiting: Vec<JobHandle<_, _, _>> = Vec::new();
    // Until it is full, also after the dispatcher has released what it will.
    let mut refused = 0;
    for priority in [Priority::Normal, Priority::Low, Priority::High]
        .into_iter()
        .cycle()
    {
        match pool.job(answer(0)).priority(priority).try_enqueue() {
            Ok(handle) => waiting.push(handle),
            Err(rejected) => {
                assert_eq!(rejected.reason, RejectReason::Full);
                refused += 1;
                thread::yield_now();
            }
        }
        if refused == 100 {
            break;
        }
    }
    thread::scope(|scope| {
        for n in 0..SUBMITTERS {
            let check = &check;
            let submitter = thread::Builder::new().name(SUBMITTER.to_owned());
            let submit = move || check(pool.submit(answer(n)));
            submitter.spawn_scoped(scope, submit).unwrap();
        }
        let all = SUBMITTERS as usize;
        eventually("all of them block", || threads_asleep(SUBMITTER) >= all);
        latch.open();
        assert_eq!(bomb.wait().unwrap_err().panic_message(), Some("boom"));
        for handle in waiting {
            check(handle.wait());
        }
    });
}

/// The last worker panics while jobs wait and submitters block: with `Reject` all are answered, with
/// their payloads, and submits fail at once until a worker is added.
#[test]
fn those_who_wait_for_nobody_are_answered() {
    let rounds = stress(20);
    within(LIMIT, move || {
        for _ in 0..rounds {
            let pool = rejecting().queue_capacity(8).build().unwrap();
            add_workers(&pool, 1);
            crowd(&pool, &Latch::new(), |answer| {
                let (payload, reason) = rejected(answer.unwrap_err());
                assert_eq!(reason, RejectReason::NoWorkers);
                assert!(
                    payload(&worker_pool::CancelToken::new()).is_ok(),
                    "the payload is whole"
                );
            });
            let late = pool.submit(answer(1)).unwrap_err();
            assert!(late.is_no_workers() && !late.is_closed(), "{late}");
            for priority in [Priority::Low, Priority::Normal, Priority::High] {
                let late = pool.job(answer(1)).priority(priority).try_enqueue();
                assert_eq!(late.unwrap_err().reason, RejectReason::NoWorkers);
            }
            assert_eq!(pool.waiting(), 0);
            add_workers(&pool, 1);
            assert_eq!(pool.submit(answer(2)).unwrap(), 2);
            let stats = pool.stats();
            assert_eq!(stats.accepted, stats.ended(), "{stats}");
            assert_eq!((stats.panicked, stats.completed), (1, 1));
            assert!(stats.closed >= 8, "counted with the closed ones: {stats}");
        }
    });
}

/// With `Wait` all is kept until a worker is added.
#[test]
fn those_who_wait_for_somebody_are_kept() {
    within(LIMIT, || {
        let pool = tasks().queue_capacity(8).build().unwrap();
        add_workers(&pool, 1);
        let (latch, helped) = (Latch::new(), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                eventually("the only worker is gone", || pool.workers().is_empty());
                assert!(pool.waiting() > 0);
                helped.store(true, SeqCst);
                add_workers(&pool, 1);
            });
            crowd(&pool, &latch, |answer| {
                assert!(answer.is_ok());
                assert!(helped.load(SeqCst));
            });
        });
    });
}

/// A worker in a back-off is not gone: what waits is served by the next. When it may not come back
/// any more, what waits is answered.
#[test]
fn a_worker_that_comes_back_was_not_the_last() {
    within(LIMIT, || {
        let restarts = Restarts::at_most(1).back_off(more::SHORT, more::SHORT);
        let builder = rejecting().queue_capacity(8).restarts(restarts);
        let pool = builder.build().unwrap();
        pool.add_factory(|_| Ok::<_, String>(run_task)).unwrap();
        crowd(&pool, &Latch::new(), |answer| assert!(answer.is_ok()));
        crowd(&pool, &Latch::new(), |answer| {
            assert!(answer.unwrap_err().is_no_workers());
        });
        pool.add_factory(|_| Ok::<_, String>(run_task)).unwrap();
        assert_eq!(pool.submit(answer(1)).unwrap(), 1);
    });
}

/// The last that is there leaves while another is in a back-off: the pool is not given up.
#[test]
fn a_worker_in_a_back_off_is_not_gone() {
    within(LIMIT, || {
        let recorder = Recorder::new();
        let restarts = Restarts::default().back_off(10 * more::SHORT, 10 * more::SHORT);
        let builder = rejecting().restarts(restarts).hook(recorder.clone());
        let pool = builder.build().unwrap();
        let absent = more::restartable(&pool, 1)[0];
        pool.submit(more::boom()).unwrap_err();
        recorder.wait_for(|event| *event == Event::WorkerRemove(absent));
        let there = add_workers(&pool, 1)[0];
        pool.remove(there).unwrap();
        recorder.wait_for(|event| *event == Event::WorkerRemove(there));
        assert_eq!(pool.submit(answer(1)).unwrap(), 1);
    });
}

/// A pool that has not had a worker yet waits for its first, also when one could not be made.
#[test]
fn a_pool_waits_for_its_first_worker() {
    within(LIMIT, || {
        let pool = rejecting().build().unwrap();
        let early = pool.enqueue(answer(1)).unwrap();
        let made = pool.add_factory(|_| Err::<fn(Job<Task>) -> _, _>("no"));
        made.unwrap_err();
        let second = pool.enqueue(answer(2)).unwrap();
        add_workers(&pool, 1);
        assert_eq!(early.wait().unwrap(), 1);
        assert_eq!(second.wait().unwrap(), 2);
    });
}

/// A factory that fails does not open a deserted pool.
#[test]
fn a_failed_factory_is_no_worker() {
    within(LIMIT, || {
        let recorder = Recorder::new();
        let pool = rejecting().hook(recorder.clone()).build().unwrap();
        let only = add_workers(&pool, 1)[0];
        pool.remove(only).unwrap();
        recorder.wait_for(|event| *event == Event::WorkerRemove(only));
        assert!(pool.submit(answer(1)).unwrap_err().is_no_workers());
        let made = pool.add_factory(|_| Err::<fn(Job<Task>) -> _, _>("no"));
        made.unwrap_err();
        let late = pool.try_enqueue(answer(1)).unwrap_err();
        assert_eq!(late.reason, RejectReason::NoWorkers);
        // Closed goes before it.
        pool.drain();
        assert!(pool.submit(answer(1)).unwrap_err().is_closed());
    });
}

/// The error of a detached job that nobody is there to run arrives on its channel.
#[test]
fn a_detached_job_says_so_too() {
    within(LIMIT, || {
        let (latch, pool) = (Latch::new(), rejecting().build().unwrap());
        add_workers(&pool, 1);
        let bomb = pool.enqueue(boom_at(&latch)).unwrap();
        latch.wait_for_one();
        let (errors, failures) = unbounded();
        for id in 1..=3 {
            pool.detach_submit(answer(id), id, &errors).unwrap();
        }
        latch.open();
        bomb.wait().unwrap_err();
        for _ in 0..3 {
            let failure = next(&failures);
            assert_eq!(failure.error.cause, Failure::NoWorkers);
            assert_eq!(failure.error.worker, None);
        }
    });
}

/// Adds a worker in place of each that leaves.
#[derive(Clone, Default)]
struct Replace(
    Arc<OnceLock<WeakManager<Task, u64, String>>>,
    Arc<AtomicUsize>,
);

impl Hook for Replace {
    fn worker_remove(&self, _: WorkerId) {
        if let Some(pool) = self.0.get().and_then(WeakManager::upgrade) {
            if let Err(rejected) = pool.try_enqueue(answer(0)) {
                assert_ne!(rejected.reason, RejectReason::NoWorkers, "not yet");
            }
            self.1.fetch_add(1, SeqCst);
            let _ = pool.add(run_task);
        }
    }
}

/// A hook that adds a worker when one leaves comes before the rule.
#[test]
fn a_hook_that_replaces_workers_keeps_the_jobs() {
    within(LIMIT, || {
        let replace = Replace::default();
        let builder = rejecting().queue_capacity(8).hook(replace.clone());
        let pool = builder.build().unwrap();
        assert!(replace.0.set(pool.downgrade()).is_ok());
        add_workers(&pool, 1);
        crowd(&pool, &Latch::new(), |answer| assert!(answer.is_ok()));
        assert_eq!(replace.1.load(SeqCst), 1, "it found the pool open");
    });
}

/// Whoever has added a worker is served, however the one before left just now; and others' jobs end in
/// one way or the other.
#[test]
fn who_has_added_a_worker_is_served() {
    let rounds = stress(500);
    within(LIMIT, move || {
        let builder = Manager::<u64, u64>::builder().no_workers(NoWorkers::Reject);
        let pool = builder.queue_capacity(4).build().unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for submitter in 0..2 {
                let (pool, stop) = (&pool, &stop);
                scope.spawn(move || {
                    while !stop.load(SeqCst) {
                        let priority = match submitter {
                            0 => Priority::Normal,
                            _ => Priority::High,
                        };
                        match pool.job(1).priority(priority).submit() {
                            Ok(output) => assert_eq!(output, 1),
                            Err(error) => assert!(error.is_no_workers(), "{error}"),
                        }
                    }
                });
            }
            for round in 0..rounds {
                let id = match round % 2 {
                    0 => pool.add(|job: Job<u64>| Ok(job.into_payload())).unwrap(),
                    _ => {
                        let echo = |_| Ok::<_, String>(|job: Job<u64>| Ok(job.into_payload()));
                        pool.add_factory(echo).unwrap()
                    }
                };
                assert_eq!(pool.submit(7).expect("there is a worker"), 7);
                jitter(round);
                pool.remove(id).unwrap();
                if round % 4 < 2 {
                    eventually("it is gone", || pool.workers().is_empty());
                }
            }
            stop.store(true, SeqCst);
        });
        let stats = pool.stats();
        assert_eq!(stats.accepted, stats.ended(), "{stats}");
    });
}
