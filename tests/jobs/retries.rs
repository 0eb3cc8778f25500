//! Jobs that are tried again: how often, by whom, and what ends them in between.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{Event, LIMIT, Latch, Recorder, eventually, next, within};
use crossbeam_channel::{Sender, bounded, unbounded};
use worker_pool::{
    CancelToken, Failure, Job, JobError, Manager, Outcome, Priority, Retry, Stats, SubmitError,
    WorkerId,
};

/// What each try of a job does.
type Run = dyn Fn(&Job<Call>) -> Result<u32, String> + Send + Sync;

/// A payload that says so, and can be cloned.
#[derive(Clone)]
struct Call(Arc<Run>);

type Pool = Manager<Call, u32, String>;

fn call(run: impl Fn(&Job<Call>) -> Result<u32, String> + Send + Sync + 'static) -> Call {
    Call(Arc::new(run))
}

/// Fails until that try, which answers its number.
fn until(attempt: u32) -> Call {
    call(move |job| match job.attempt() {
        this if this < attempt => Err(format!("try {this}")),
        this => Ok(this),
    })
}

/// Fails always.
fn never() -> Call {
    until(u32::MAX)
}

/// Fails always, and says so each time.
fn tell(failing: &Sender<u32>) -> Call {
    let failing = failing.clone();
    call(move |job| {
        failing.send(job.attempt()).unwrap();
        Err("no".to_owned())
    })
}

fn serve(job: Job<Call>) -> Result<u32, String> {
    let Call(run) = job.payload().clone();
    run(&job)
}

fn pool(workers: usize) -> Pool {
    let pool = Pool::builder().timings(true).build().unwrap();
    for _ in 0..workers {
        pool.add(serve).unwrap();
    }
    pool
}

/// A wait that no test lives to see the end of.
fn long(times: u32) -> Retry {
    let hour = Duration::from_secs(3600);
    Retry::max_retries(times).backoff(hour, hour)
}

/// A wait that is soon over.
fn short(times: u32) -> Retry {
    Retry::max_retries(times).backoff(Duration::from_millis(2), Duration::from_millis(5))
}

#[track_caller]
fn failed(error: SubmitError<Call, String>) -> JobError<String> {
    match error {
        SubmitError::Failed(error) => error,
        SubmitError::Rejected(rejected) => panic!("it began, but: {rejected:?}"),
    }
}

/// At rest each job is counted once, whatever the number of its tries.
#[track_caller]
fn assert_balanced(stats: &Stats) {
    assert_eq!(stats.accepted, stats.ended(), "{stats:?}");
    let run = stats.completed + stats.failed + stats.panicked + stats.retried;
    assert_eq!(stats.started, run, "{stats:?}");
    assert_eq!((stats.waiting, stats.backing_off, stats.busy), (0, 0, 0));
    assert_eq!(stats.oldest_waiting, None);
}

#[test]
fn after_so_many_tries_the_last_error_is_the_answer() {
    within(LIMIT, || {
        for retry in [Retry::max_retries(2), short(2), short(2).jitter()] {
            let pool = pool(2);
            let error = failed(pool.job(never()).retry(retry).submit().unwrap_err());
            assert_eq!(
                (&error.cause, error.attempts),
                (&Failure::Worker("try 3".to_owned()), 3)
            );
            assert!(
                error.to_string().contains("in try 3 failed: try 3"),
                "{error}"
            );
            let handle = pool.job(never()).retry(retry).enqueue().unwrap();
            assert_eq!(failed(handle.wait().unwrap_err()).attempts, 3);
            let (errors, failures) = unbounded();
            pool.job(never()).retry(retry).detach(7, &errors).unwrap();
            let failure = next(&failures);
            assert_eq!((failure.id, failure.error.attempts), (7, 3));
            pool.drain();
            let stats = pool.stats();
            assert_eq!((stats.failed, stats.retried, stats.started), (3, 6, 9));
            assert_balanced(&stats);
            assert!(failures.is_empty(), "answered once");
        }
    });
}

#[test]
fn without_retries_there_is_one_try() {
    within(LIMIT, || {
        let pool = pool(1);
        let error = failed(pool.submit(never()).unwrap_err());
        assert_eq!((error.attempts, error.worker), (1, Some(WorkerId::new(1))));
        assert!(!error.to_string().contains("in try"), "{error}");
        let none = pool.job(never()).retry(Retry::max_retries(0)).submit();
        assert_eq!(failed(none.unwrap_err()).attempts, 1);
        assert_eq!(pool.stats().retried, 0);
    });
}

#[test]
fn a_second_try_that_succeeds_is_the_answer() {
    within(LIMIT, || {
        let recorder = Recorder::new();
        let pool = Pool::builder().hook(recorder.clone()).build().unwrap();
        pool.add(serve).unwrap();
        assert_eq!(pool.job(until(2)).retry(short(5)).submit().unwrap(), 2);
        let stats = pool.stats();
        assert_eq!((stats.accepted, stats.completed, stats.failed), (1, 1, 0));
        assert_eq!((stats.started, stats.retried), (2, 1));
        pool.drain();
        let tries: Vec<_> = recorder
            .events()
            .try_iter()
            .filter_map(|event| match event {
                Event::JobFinish(job, _, outcome) => Some((job.get(), outcome)),
                _ => None,
            })
            .collect();
        assert_eq!(tries, [(1, Outcome::Failed), (1, Outcome::Completed)]);
        assert_eq!(recorder.calls().job_start, 2);
    });
}

#[test]
fn cancelling_ends_a_job_that_waits_for_its_next_try() {
    within(LIMIT, || {
        let pool = pool(1);
        let (failing, tries) = unbounded();
        let in_backoff = || eventually("it waits", || pool.stats().backing_off == 1);

        let handle = pool.job(tell(&failing)).retry(long(9)).enqueue().unwrap();
        in_backoff();
        assert!(handle.cancel());
        let error = failed(handle.wait().unwrap_err());
        assert_eq!((error.cause, error.attempts), (Failure::Cancelled, 1));
        assert_eq!(error.worker, Some(WorkerId::new(1)));
        eventually("it is forgotten", || pool.stats().backing_off == 0);

        // Another thread holds the handle's token.
        let handle = pool.job(tell(&failing)).retry(long(9)).enqueue().unwrap();
        in_backoff();
        handle.cancel_token().cancel();
        eventually("it is swept away", || pool.stats().backing_off == 0);
        assert!(handle.wait().unwrap_err().is_cancelled());

        // Nobody waits for this one but the channel.
        let token = CancelToken::new();
        let (errors, failures) = unbounded();
        let job = pool.job(tell(&failing)).retry(long(9));
        job.cancel_token(&token).detach(3, &errors).unwrap();
        in_backoff();
        token.cancel();
        let error = next(&failures).error;
        assert_eq!((error.cause, error.attempts), (Failure::Cancelled, 1));

        let token = CancelToken::new();
        std::thread::scope(|scope| {
            let job = pool.job(tell(&failing)).retry(long(9)).cancel_token(&token);
            let waits = scope.spawn(move || job.submit());
            in_backoff();
            token.cancel();
            let error = failed(waits.join().unwrap().unwrap_err());
            assert_eq!((error.cause, error.attempts), (Failure::Cancelled, 1));
        });
        assert_eq!(tries.try_iter().collect::<Vec<_>>(), [1; 4]);
        assert!(pool.wait_idle(), "none of them is waited for any more");
        let stats = pool.stats();
        assert_eq!((stats.cancelled, stats.retried), (4, 4));
        assert_balanced(&stats);
    });
}

#[test]
fn a_cancelled_job_among_many_that_wait_does_not_hold_up_a_drain() {
    within(LIMIT, || {
        let latch = Latch::new();
        let pool = pool(1);
        let handle = pool.job(never()).retry(long(9)).enqueue().unwrap();
        eventually("it waits", || pool.stats().backing_off == 1);
        let door = latch.door();
        let held = call(move |job| {
            door.pass(job.id());
            Ok(0)
        });
        let (errors, _failures) = unbounded();
        for number in 0..100 {
            pool.detach_submit(held.clone(), number, &errors).unwrap();
        }
        latch.wait_for_one();
        handle.cancel();
        latch.open();
        pool.drain();
        assert_balanced(&pool.stats());
    });
}

#[test]
fn a_deadline_ends_a_job_that_waits_for_its_next_try() {
    within(LIMIT, || {
        let pool = pool(1);
        // Long enough for the first try even on a busy machine.
        let patience = Duration::from_secs(1);
        let (errors, failures) = unbounded();
        let job = |patience| pool.job(never()).retry(long(9)).timeout(patience);
        let error = failed(job(patience).submit().unwrap_err());
        assert_eq!((error.cause, error.attempts), (Failure::DeadlinePassed, 1));
        // Nobody but the pool looks at the clock for these.
        for id in [1, 2] {
            job(id as u32 * patience).detach(id, &errors).unwrap();
        }
        for _ in 0..2 {
            let error = next(&failures).error;
            assert_eq!((error.cause, error.attempts), (Failure::DeadlinePassed, 1));
        }
        pool.wait_idle();
        assert_eq!(pool.stats().expired, 3);
        assert_balanced(&pool.stats());
    });
}

#[test]
fn the_pools_end_ends_jobs_that_wait_for_their_next_try() {
    within(LIMIT, || {
        let ends: [fn(Pool); 3] = [
            |pool| pool.close(),
            drop,
            |pool| {
                let error = pool.drain_timeout(Duration::from_millis(10)).unwrap_err();
                assert_eq!(error.abandoned, 2);
            },
        ];
        for end in ends {
            let pool = pool(1);
            let (errors, failures) = unbounded();
            pool.job(never()).retry(long(9)).detach(1, &errors).unwrap();
            let handle = pool.job(never()).retry(long(9)).enqueue().unwrap();
            eventually("both wait", || pool.stats().backing_off == 2);
            end(pool.clone());
            drop(pool);
            // The handle does not keep the pool open.
            let error = failed(handle.wait().unwrap_err());
            assert_eq!((&error.cause, error.attempts), (&Failure::Closed, 1));
            assert!(
                error
                    .to_string()
                    .ends_with("is not tried again: the pool is closed")
            );
            let error = next(&failures).error;
            assert_eq!((error.cause, error.attempts), (Failure::Closed, 1));
        }
    });
}

#[test]
fn draining_and_waiting_for_idle_wait_for_all_tries() {
    within(LIMIT, || {
        for drain in [false, true] {
            let pool = pool(2);
            let retry = || short(9).jitter();
            let mut jobs: Vec<_> = (1..=10)
                .map(|tries| pool.job(until(tries)).retry(retry()).enqueue().unwrap())
                .collect();
            match drain {
                true => pool.drain(),
                false => assert!(pool.wait_idle()),
            }
            for (number, job) in jobs.iter_mut().enumerate() {
                let answer = job.try_wait().expect("it has ended");
                assert_eq!(answer.unwrap(), number as u32 + 1);
            }
            let stats = pool.stats();
            assert_eq!((stats.completed, stats.retried), (10, 45));
            assert_balanced(&stats);
        }
    });
}

#[test]
fn a_panic_is_tried_again_by_another_worker_if_wanted() {
    within(LIMIT, || {
        let panics = || {
            call(|job| match job.attempt() {
                1 => panic!("on purpose"),
                this => Ok(this),
            })
        };
        let pool = pool(1);
        let error = failed(
            pool.job(panics())
                .retry(Retry::max_retries(3))
                .submit()
                .unwrap_err(),
        );
        assert_eq!(
            (error.cause, error.attempts),
            (Failure::Panicked("on purpose".to_owned()), 1)
        );
        let first = pool.add(serve).unwrap();
        let retry = Retry::max_retries(3).also_panics();
        let handle = pool.job(panics()).retry(retry).enqueue().unwrap();
        // It waits for a worker as any other job.
        eventually("the first one has left", || pool.workers().is_empty());
        let second = pool.add(serve).unwrap();
        assert_ne!(first, second);
        assert_eq!(handle.wait().unwrap(), 2);
        // The last worker of a draining pool leaves it unserved.
        let handle = pool.job(panics()).retry(retry).enqueue().unwrap();
        pool.drain();
        let error = failed(handle.wait().unwrap_err());
        assert_eq!((error.cause, error.attempts), (Failure::Closed, 1));
        let stats = pool.stats();
        assert_eq!((stats.panicked, stats.retried, stats.closed), (1, 2, 1));
        assert_balanced(&stats);
    });
}

/// A call that says when it starts, and waits at the latch in each try.
fn at_latch(latch: &Latch, started: &Sender<(u64, u32)>, until_try: u32) -> Call {
    let (started, door) = (started.clone(), latch.door());
    call(move |job| {
        started.send((job.id().get(), job.attempt())).unwrap();
        door.pass(job.id());
        until(until_try).0(job)
    })
}

#[test]
fn a_retry_needs_no_room_and_goes_to_the_end_of_its_queue() {
    within(LIMIT, || {
        for priority in [Priority::Low, Priority::Normal] {
            let latch = Latch::new();
            let pool = Pool::builder().queue_capacity(1).build().unwrap();
            pool.add(serve).unwrap();
            let (started, starts) = unbounded();
            let enqueue = |until_try| {
                let job = pool.job(at_latch(&latch, &started, until_try));
                let job = job.priority(priority).retry(Retry::max_retries(1));
                job.enqueue().unwrap()
            };
            let mut jobs = vec![enqueue(2)];
            latch.wait_for_one();
            // One is released to the worker, one is in the one place of the queue.
            jobs.push(enqueue(1));
            eventually("it is released", || pool.waiting() == 0);
            jobs.push(enqueue(1));
            pool.try_enqueue(never()).unwrap_err();
            latch.open();
            let answers: Vec<_> = jobs.into_iter().map(|job| job.wait().unwrap()).collect();
            assert_eq!(answers, [2, 1, 1]);
            let order: Vec<_> = starts.try_iter().collect();
            assert_eq!(order, [(1, 1), (2, 1), (3, 1), (1, 2)]);
        }
    });
}

#[test]
fn an_urgent_retry_goes_before_the_others() {
    within(LIMIT, || {
        let latch = Latch::new();
        let pool = pool(1);
        let (started, starts) = unbounded();
        let job = pool.job(at_latch(&latch, &started, 2));
        let job = job.priority(Priority::High).retry(Retry::max_retries(1));
        let mut jobs = vec![job.enqueue().unwrap()];
        latch.wait_for_one();
        for _ in 0..2 {
            jobs.push(pool.enqueue(at_latch(&latch, &started, 1)).unwrap());
        }
        pool.pause();
        latch.open();
        eventually("it waits for a worker again", || {
            let stats = pool.stats();
            (stats.retried, stats.backing_off) == (1, 0)
        });
        pool.resume();
        jobs.into_iter().for_each(|job| assert!(job.wait().is_ok()));
        let order: Vec<_> = starts.try_iter().collect();
        assert_eq!(order, [(1, 1), (1, 2), (2, 1), (3, 1)]);
    });
}

#[test]
fn a_job_that_waits_for_a_worker_again_can_be_cancelled() {
    within(LIMIT, || {
        let latch = Latch::new();
        let pool = pool(1);
        let door = latch.door();
        let retried = pool.job(never()).retry(short(1)).enqueue().unwrap();
        let held = call(move |job| {
            door.pass(job.id());
            Ok(0)
        });
        eventually("it waits", || pool.stats().retried == 1);
        let held = pool.job(held).priority(Priority::High).enqueue().unwrap();
        latch.wait_for_one();
        if pool.stats().failed == 0 {
            eventually("its time has come", || pool.stats().backing_off == 0);
            assert!(retried.cancel());
            let error = failed(retried.wait().unwrap_err());
            assert_eq!((error.cause, error.attempts), (Failure::Cancelled, 1));
        }
        latch.open();
        held.wait().unwrap();
        pool.drain();
        assert_balanced(&pool.stats());
    });
}

#[test]
fn a_try_that_fails_after_its_token_fired_is_the_last() {
    within(LIMIT, || {
        let pool = pool(1);
        let token = CancelToken::new();
        let (errors, failures) = unbounded();
        let fires = token.clone();
        let job = pool.job(call(move |_| {
            fires.cancel();
            Err("told to stop".to_owned())
        }));
        let job = job.retry(Retry::max_retries(5)).cancel_token(&token);
        job.detach(1, &errors).unwrap();
        let error = next(&failures).error;
        assert_eq!(
            (error.cause, error.attempts),
            (Failure::Worker("told to stop".to_owned()), 1)
        );
        // The same when the pool closes.
        let (begun, begins) = bounded(1);
        let job = pool.job(call(move |job| {
            begun.send(()).unwrap();
            assert!(job.cancel_token().wait_timeout(LIMIT));
            Err("closing".to_owned())
        }));
        let handle = job.retry(Retry::max_retries(5)).enqueue().unwrap();
        next(&begins);
        pool.close();
        let error = failed(handle.wait().unwrap_err());
        assert_eq!(
            (error.cause, error.attempts),
            (Failure::Worker("closing".to_owned()), 1)
        );
        assert_balanced(&pool.stats());
    });
}
