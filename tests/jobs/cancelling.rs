//! Cancel tokens, handles and deadlines: what they stop, whom they free, and when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{
    Counted, LIMIT, Latch, Tally, eventually, next, stress, threads_asleep, within,
};
use crate::more::{
    SHORT, add_workers, answer, at_latch, begun, failed, in_time, jitter, rejected, tasks,
    until_cancelled, wait_until,
};
use crossbeam_channel::{bounded, unbounded};
use worker_pool::{CancelToken, Failure, Job, Manager, Meter, RejectReason, SubmitError};

/// A pool of one worker, which is held with the first job, with room for so many waiting jobs.
fn held(capacity: usize) -> (Manager<Counted, u64>, Latch, Tally, Arc<AtomicUsize>) {
    let builder = Manager::<Counted, u64>::builder();
    let pool = builder.queue_capacity(capacity).build().unwrap();
    let (latch, tally, runs) = (Latch::new(), Tally::new(), Arc::new(AtomicUsize::new(0)));
    let door = latch.door();
    let count = Arc::clone(&runs);
    pool.add(move |job: Job<Counted>| {
        count.fetch_add(1, SeqCst);
        door.pass(job.id());
        Ok(job.payload().value)
    })
    .unwrap();
    (pool, latch, tally, runs)
}

/// A queued job that its handle cancels never runs, another takes its place in the full queue while
/// the worker is still held, and its payload comes back.
#[test]
fn a_queued_job_cancelled_by_its_handle_never_runs_and_frees_its_place() {
    within(LIMIT, || {
        let (pool, latch, tally, runs) = held(2);
        let first = pool.enqueue(tally.make(1)).unwrap();
        latch.wait_for_one();
        let mut waiting = Vec::new();
        while let Ok(handle) = pool.try_enqueue(tally.make(2)) {
            waiting.push(handle);
        }
        let cancelled = waiting.pop().unwrap();
        assert!(cancelled.cancel());
        assert!(cancelled.is_done());
        assert!(!cancelled.cancel(), "it has ended by now");
        // The worker is held, so only the cancelled job can have made room.
        let last = pool.job(tally.make(3)).timeout(LIMIT).enqueue().unwrap();
        let (payload, reason) = rejected(cancelled.wait().unwrap_err());
        assert_eq!((payload.value, reason), (2, RejectReason::Cancelled));
        drop(payload);
        let others = waiting.len();
        latch.open();
        assert_eq!(first.wait().unwrap(), 1);
        assert_eq!(last.wait().unwrap(), 3);
        for handle in waiting {
            assert_eq!(handle.wait().unwrap(), 2);
        }
        assert_eq!(runs.load(SeqCst), others + 2);
        assert_eq!(pool.stats().cancelled, 1);
        drop(pool);
        assert_eq!(tally.live(), 0);
    });
}

/// The same when it is the submitter's token that fires, and somebody else waits for the room.
#[test]
fn a_queued_job_cancelled_by_its_token_frees_its_place() {
    within(LIMIT, || {
        let (pool, latch, tally, runs) = held(1);
        let token = CancelToken::new();
        let (errors, failures) = unbounded();
        pool.detach_submit(tally.make(1), 1, &errors).unwrap();
        latch.wait_for_one();
        let submit = |id| {
            let job = pool.job(tally.make(id)).cancel_token(&token);
            job.try_detach(id, &errors)
        };
        let queued = (2..).take_while(|id| submit(*id).is_ok()).count();
        assert!(queued > 0);
        token.cancel();
        // Room, although the worker is held.
        let last = pool
            .job(tally.make(0))
            .timeout(LIMIT / 2)
            .enqueue()
            .unwrap();
        latch.open();
        assert_eq!(last.wait().unwrap(), 0);
        drop(pool);
        drop(errors);
        let errors: Vec<_> = failures.iter().collect();
        assert_eq!(errors.len(), queued);
        assert!(
            errors
                .iter()
                .all(|error| error.error.cause == Failure::Cancelled)
        );
        assert_eq!(runs.load(SeqCst), 2);
        assert_eq!(tally.live(), 0);
    });
}

/// A blocked caller whose queued job is cancelled returns with the payload while the worker is held.
#[test]
fn a_caller_blocked_in_submit_returns_when_its_token_fires() {
    within(LIMIT, || {
        let (pool, latch, tally, runs) = held(1);
        let token = CancelToken::new();
        drop(pool.enqueue(tally.make(1)).unwrap());
        latch.wait_for_one();
        thread::scope(|scope| {
            // Some of them wait for their result, the others for room in the queue.
            let callers: Vec<_> = (0..6)
                .map(|_| {
                    let thread = thread::Builder::new().name("tokencaller".to_owned());
                    let submit = || pool.job(tally.make(2)).cancel_token(&token).submit();
                    thread.spawn_scoped(scope, submit).unwrap()
                })
                .collect();
            eventually("all are blocked, and one of their jobs waits", || {
                pool.waiting() >= 1 && threads_asleep("tokencaller") == 6
            });
            token.cancel();
            for caller in callers {
                let (payload, reason) = rejected(caller.join().unwrap().unwrap_err());
                assert_eq!((payload.value, reason), (2, RejectReason::Cancelled));
            }
        });
        latch.open();
        drop(pool);
        assert_eq!(runs.load(SeqCst), 1);
        assert_eq!(tally.live(), 0);
    });
}

/// However closely a cancel races the start of a job, either it ran or it was cancelled before it
/// began and its payload is back, and the handle's word fits.
#[test]
fn a_job_either_ran_or_was_cancelled_before_it_began() {
    let rounds = stress(3_000);
    within(LIMIT, move || {
        let pool = Manager::<Arc<AtomicBool>, bool>::new();
        let mut turn = 0;
        pool.add(move |job: Job<Arc<AtomicBool>>| {
            job.payload().store(true, SeqCst);
            turn += 1;
            jitter(turn);
            Ok(job.is_cancelled())
        })
        .unwrap();
        let mut counts = [0; 3];
        for round in 0..rounds {
            let ran = Arc::new(AtomicBool::new(false));
            let handle = pool.enqueue(Arc::clone(&ran)).unwrap();
            jitter(round);
            let cancelled = handle.cancel();
            match handle.wait() {
                // It ended in time, or its last word crossed the cancel.
                Ok(_) => {
                    assert!(ran.load(SeqCst));
                    counts[0] += 1;
                }
                Err(SubmitError::Failed(error)) => {
                    assert_eq!(error.cause, Failure::Cancelled);
                    assert!(cancelled, "the answer is the cancel's doing");
                    counts[1] += 1;
                }
                Err(SubmitError::Rejected(back)) => {
                    assert_eq!(back.reason, RejectReason::Cancelled);
                    assert!(cancelled, "the answer is the cancel's doing");
                    assert!(Arc::ptr_eq(&back.payload, &ran));
                    // A job that comes later has its answer: that one had its chance.
                    assert!(pool.submit(Arc::default()).is_ok());
                    assert!(!ran.load(SeqCst), "it ran although it was cancelled");
                    counts[2] += 1;
                }
            }
        }
        pool.drain();
        let stats = pool.stats();
        assert_eq!(stats.cancelled, counts[2], "{counts:?}");
        assert_eq!(stats.accepted, stats.ended(), "{stats}");
    });
}

/// A running job sees its token fire, whichever way its submitter cancels, and so does a thread that
/// waits on the token for it.
#[test]
fn a_running_job_sees_that_it_is_cancelled() {
    within(LIMIT, || {
        let pool = tasks().build().unwrap();
        add_workers(&pool, 1);

        let (work, begins) = until_cancelled();
        let handle = pool.enqueue(work).unwrap();
        let seen = begun(&begins);
        assert!(!seen.is_cancelled());
        handle.cancel();
        assert!(seen.is_cancelled());
        failed(handle.wait().unwrap_err()); // by the worker, if it was quick

        let (work, begins) = until_cancelled();
        let token = CancelToken::new();
        let parent = token.clone();
        thread::scope(|scope| {
            let caller = scope.spawn(|| pool.job(work).cancel_token(&token.child()).submit());
            let seen = begun(&begins);
            assert!(!seen.is_cancelled());
            parent.cancel();
            assert!(seen.is_cancelled());
            caller.join().unwrap().unwrap_err();
        });

        let (work, begins) = until_cancelled();
        let handle = pool.enqueue(work).unwrap();
        let seen = begun(&begins);
        assert!(!seen.is_cancelled());
        pool.close(); // returns only when the job has seen it
        assert!(seen.is_cancelled());
        let error = failed(handle.wait().unwrap_err());
        assert_eq!(error.cause, Failure::Worker("told to stop".to_owned()));
    });
}

/// A queue full of cancelled jobs, some of them cancelled while the pool drains, holds up no drain.
#[test]
fn cancelled_jobs_in_the_queue_do_not_hold_up_a_drain() {
    let rounds = stress(150);
    within(LIMIT, move || {
        for round in 0..rounds {
            let pool = tasks().queue_capacity(64).build().unwrap();
            add_workers(&pool, 1 + round % 3);
            let token = CancelToken::new();
            let handles: Vec<_> = (0..60)
                .map(|n| match n % 3 {
                    0 => pool.enqueue(answer(n)).unwrap(),
                    _ => pool.job(answer(n)).cancel_token(&token).enqueue().unwrap(),
                })
                .collect();
            thread::scope(|scope| {
                scope.spawn(|| token.cancel());
                scope.spawn(|| {
                    handles
                        .iter()
                        .rev()
                        .step_by(3)
                        .for_each(|one| _ = one.cancel())
                });
                jitter(round);
                pool.drain();
            });
            for handle in handles {
                if let Err(error) = handle.wait() {
                    assert!(error.is_cancelled(), "{error:?}");
                }
            }
            let stats = pool.stats();
            assert_eq!((stats.accepted, stats.closed), (60, 0), "{stats}");
            assert_eq!(stats.accepted, stats.ended(), "{stats}");
        }
    });
}

/// A job whose deadline passes in the queue never runs, and its caller has its payload back while
/// the worker is still held.
#[test]
fn a_job_whose_deadline_passes_in_the_queue_never_runs() {
    within(LIMIT, || {
        let (pool, latch, tally, runs) = held(4);
        drop(pool.enqueue(tally.make(1)).unwrap());
        latch.wait_for_one();
        let error = pool.submit_timeout(tally.make(2), SHORT).unwrap_err();
        let (payload, reason) = rejected(error);
        assert_eq!((payload.value, reason), (2, RejectReason::DeadlinePassed));
        let handle = in_time(|soon| pool.job(tally.make(3)).deadline(soon).enqueue());
        assert_eq!(
            rejected(handle.wait().unwrap_err()).1,
            RejectReason::DeadlinePassed
        );
        // Of nobody who waits: only the worker, or the dispatcher, can answer it.
        let (errors, failures) = bounded(1);
        let late = in_time(|soon| {
            let job = pool.job(tally.make(4)).deadline(soon);
            job.detach(4, &errors).map(|()| soon)
        });
        wait_until(late);
        latch.open();
        let error = next(&failures);
        assert_eq!((error.id, error.error.cause), (4, Failure::DeadlinePassed));
        drop(payload);
        drop(pool);
        assert_eq!(runs.load(SeqCst), 1);
        assert_eq!(tally.live(), 0);
    });
}

/// The caller of a running job returns at its deadline although the worker is held; the worker counts
/// as busy until it is done, and then serves on.
#[test]
fn a_deadline_frees_the_caller_of_a_running_job_and_not_its_worker() {
    within(LIMIT, || {
        let meter = Meter::new();
        let pool = tasks().hook(meter.clone()).build().unwrap();
        let latch = Latch::new();
        let worker = add_workers(&pool, 1)[0];
        let error = pool.submit_timeout(at_latch(&latch, 1), SHORT).unwrap_err();
        // It may not have begun by then on a loaded machine: then it never will.
        if let SubmitError::Failed(error) = &error {
            assert_eq!(
                (error.worker, &error.cause),
                (Some(worker), &Failure::DeadlinePassed)
            );
            latch.wait_for_one();
            assert_eq!((meter.snapshot().busy, meter.snapshot().total), (1, 1));
        }
        assert!(error.is_deadline_passed());
        latch.open();
        assert_eq!(pool.submit(answer(2)).unwrap(), 2);
        assert_eq!((meter.snapshot().busy, meter.snapshot().total), (0, 1));

        // A running job sees its deadline, and that it has passed.
        let (handle, begins, deadline) = in_time(|soon| {
            let (work, begins) = until_cancelled();
            let handle = pool.job(work).deadline(soon).enqueue();
            handle.map(|handle| (handle, begins, soon))
        });
        if let Err(SubmitError::Failed(_)) = handle.wait() {
            let seen = begun(&begins);
            assert_eq!(seen.deadline(), Some(deadline));
            assert!(seen.is_cancelled());
        }
    });
}

/// What is already late or cancelled is turned away at once, even where others would block: the queue
/// is full, the worker held.
#[test]
fn what_is_late_or_cancelled_before_it_is_submitted_is_turned_away_at_once() {
    within(LIMIT, || {
        let (pool, latch, tally, runs) = held(1);
        drop(pool.enqueue(tally.make(0)).unwrap());
        latch.wait_for_one();
        while pool.try_enqueue(tally.make(0)).is_ok() {}
        let (errors, failures) = unbounded();
        let fired = CancelToken::new();
        fired.cancel();
        for (token, deadline, reason) in [
            (None, Some(Instant::now()), RejectReason::DeadlinePassed),
            (Some(&fired), None, RejectReason::Cancelled),
            (Some(&fired), Some(Instant::now()), RejectReason::Cancelled),
        ] {
            let job = || {
                let job = pool.job(tally.make(1));
                let job = token
                    .into_iter()
                    .fold(job, |job, token| job.cancel_token(token));
                deadline.into_iter().fold(job, |job, at| job.deadline(at))
            };
            assert_eq!(rejected(job().submit().unwrap_err()).1, reason);
            assert_eq!(job().enqueue().unwrap_err().reason, reason);
            assert_eq!(job().try_enqueue().unwrap_err().reason, reason);
            assert_eq!(job().detach(1, &errors).unwrap_err().reason, reason);
            assert_eq!(job().try_detach(1, &errors).unwrap_err().reason, reason);
        }
        drop(errors);
        latch.open();
        pool.drain();
        let accepted = pool.stats().accepted;
        assert_eq!(
            failures.iter().count(),
            0,
            "what was not accepted sends nothing"
        );
        assert_eq!(runs.load(SeqCst) as u64, accepted);
        assert_eq!(tally.live(), 0);
    });
}

/// The call that submits a detached job returns before the job runs: its token is still live then,
/// also if the submitter has dropped its own.
#[test]
fn a_detached_jobs_token_outlives_the_call_that_submitted_it() {
    within(LIMIT, || {
        let pool = tasks().build().unwrap();
        let (errors, failures) = unbounded();
        let (work, begins) = until_cancelled();
        let token = CancelToken::new();
        let before = pool
            .job(work)
            .cancel_token(&token.child())
            .timeout(10 * LIMIT);
        before.detach(1, &errors).unwrap();
        let (work, plain) = until_cancelled();
        pool.detach_submit(work, 2, &errors).unwrap();
        // Both calls have returned before there is a worker.
        add_workers(&pool, 2);
        let (seen, other) = (begun(&begins), begun(&plain));
        assert!(!seen.is_cancelled() && !other.is_cancelled());
        token.cancel();
        assert!(seen.is_cancelled() && !other.is_cancelled());
        assert_eq!(next(&failures).id, 1);
        pool.close();
        assert!(other.is_cancelled());
        assert_eq!(next(&failures).id, 2);
    });
}

/// Whoever waits for a job, for room, or on a token is always woken by the cancel that races it.
#[test]
fn a_cancel_wakes_every_caller_that_is_about_to_wait() {
    let rounds = stress(1_000);
    within(LIMIT, move || {
        let (pool, latch, tally, _) = held(1);
        drop(pool.enqueue(tally.make(0)).unwrap());
        latch.wait_for_one();
        let (rounds_in, round) = bounded::<CancelToken>(0);
        let (done, finished) = bounded(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for token in &round {
                    let error = pool.job(tally.make(1)).cancel_token(&token).submit();
                    let _ = done.send(error.unwrap_err().is_cancelled());
                }
            });
            for round in 0..rounds {
                let token = CancelToken::new();
                rounds_in.send(token.clone()).unwrap();
                jitter(round);
                token.cancel();
                assert!(next(&finished));
                if round % 100 == 0 {
                    // From here on they wait for room, later again for their result.
                    let _ = pool.try_enqueue(tally.make(2));
                }
            }
            drop(rounds_in);
        });
        latch.open();
    });
}

/// As long as only the time a job may take is bounded, its end is what counts.
#[test]
fn a_deadline_that_never_comes_harms_nothing() {
    within(LIMIT, || {
        let pool = tasks().build().unwrap();
        add_workers(&pool, 1);
        assert_eq!(pool.submit_timeout(answer(1), Duration::MAX).unwrap(), 1);
        let mut handle = pool.enqueue(answer(2)).unwrap();
        assert_eq!(handle.wait_timeout(Duration::MAX).unwrap().unwrap(), 2);
        let far = pool
            .job(answer(3))
            .timeout(Duration::MAX)
            .timeout(10 * LIMIT);
        assert_eq!(far.submit().unwrap(), 3);
    });
}
