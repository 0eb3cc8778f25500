//! What a caller hears of its job: one answer, its own, whatever happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::common::{self, LIMIT, Latch, Recorder, eventually, next, stress, within};
use crate::more::{
    self, SHORT, add_workers, answer, at_latch, failed, in_time, task, tasks, until_cancelled,
    wait_until,
};
use crossbeam_channel::{bounded, unbounded};
use worker_pool::{
    CancelToken, DetachedError, Failure, Job, JobError, Manager, Meter, Outcome, RejectReason,
    SubmitError,
};

/// Each of N jobs of M submitters is run once and answers the caller that submitted it.
#[test]
fn every_submitter_gets_its_own_answers_once() {
    const SUBMITTERS: usize = 6;
    let jobs = stress(2_000);
    within(LIMIT, move || {
        let pool = Manager::<u64, (u64, u32)>::new();
        let runs: Arc<Vec<AtomicU32>> =
            Arc::new((0..SUBMITTERS * jobs).map(|_| AtomicU32::new(0)).collect());
        for _ in 0..3 {
            let runs = Arc::clone(&runs);
            pool.add(move |job: Job<u64>| {
                let number = job.into_payload();
                Ok((number, runs[number as usize].fetch_add(1, SeqCst) + 1))
            })
            .unwrap();
        }
        thread::scope(|scope| {
            for submitter in 0..SUBMITTERS {
                let pool = &pool;
                scope.spawn(move || {
                    let mine = (submitter * jobs) as u64..((submitter + 1) * jobs) as u64;
                    if submitter % 2 == 0 {
                        for number in mine {
                            assert_eq!(pool.submit(number), Ok((number, 1)));
                        }
                    } else {
                        let enqueue = |number| (number, pool.enqueue(number).unwrap());
                        let handles: Vec<_> = mine.map(enqueue).collect();
                        for (number, handle) in handles.into_iter().rev() {
                            assert_eq!(handle.wait(), Ok((number, 1)));
                        }
                    }
                });
            }
        });
        assert!(runs.iter().all(|runs| runs.load(SeqCst) == 1));
        let stats = pool.stats();
        assert_eq!(stats.completed, (SUBMITTERS * jobs) as u64);
        assert_eq!(stats.accepted, stats.ended());
    });
}

/// The worker's error is the very value that its caller gets, and the same worker runs the next job.
#[test]
fn a_workers_error_reaches_its_caller_unchanged_and_the_worker_serves_on() {
    within(LIMIT, || {
        let meter = Meter::new();
        let pool = Manager::<Option<Arc<str>>, u32, Arc<str>>::builder()
            .hook(meter.clone())
            .build()
            .unwrap();
        let mut served = 0;
        let worker = pool
            .add(move |job: Job<Option<Arc<str>>>| {
                served += 1;
                job.into_payload().map_or(Ok(served), Err)
            })
            .unwrap();
        let fault: Arc<str> = "out of cheese".into();
        for turn in 0..3 {
            let handle = pool.enqueue(Some(Arc::clone(&fault))).unwrap();
            let id = handle.id();
            let Err(SubmitError::Failed(error)) = handle.wait() else {
                panic!("turn {turn}: the job began and failed");
            };
            assert_eq!((error.job, error.worker), (id, Some(worker)));
            assert!(Arc::ptr_eq(&error.into_worker_error().unwrap(), &fault));
        }
        let error = pool.submit(Some(Arc::clone(&fault))).unwrap_err();
        assert!(Arc::ptr_eq(&error.into_worker_error().unwrap(), &fault));
        assert_eq!(pool.submit(None), Ok(5), "the same worker, with its state");
        assert_eq!((meter.snapshot().busy, meter.snapshot().total), (0, 1));
        assert_eq!((pool.stats().failed, pool.stats().completed), (4, 1));
    });
}

/// A handle can be asked at any time, with no patience at all, and gives its one answer once.
#[test]
fn a_handle_gives_one_answer_once_however_it_is_asked() {
    within(LIMIT, || {
        let pool = tasks().build().unwrap();
        let latch = Latch::new();
        add_workers(&pool, 1);

        let mut handle = pool.enqueue(at_latch(&latch, 7)).unwrap();
        latch.wait_for_one();
        assert!(!handle.is_done());
        assert!(handle.try_wait().is_none());
        assert!(handle.wait_timeout(Duration::ZERO).is_none());
        assert!(handle.wait_timeout(SHORT).is_none());
        latch.release(1);
        assert_eq!(handle.wait_timeout(LIMIT).unwrap().unwrap(), 7);
        assert!(handle.is_done());
        assert!(
            handle.wait_timeout(Duration::ZERO).is_none(),
            "taken before"
        );
        assert!(handle.wait_timeout(2 * LIMIT).is_none(), "taken before");
        assert!(handle.try_wait().is_none(), "taken before");
        assert!(!handle.cancel(), "it has ended");
        let again = thread::spawn(move || handle.wait().is_ok());
        assert!(again.join().is_err(), "to wait for a taken result is a bug");

        // Waited for later, from another thread, long after it has ended.
        let handle = pool.enqueue(answer(8)).unwrap();
        eventually("the job ends", || handle.is_done());
        assert_eq!(thread::spawn(|| handle.wait()).join().unwrap().unwrap(), 8);

        // Nobody waits until it is polled.
        let mut handle = pool.enqueue(answer(9)).unwrap();
        eventually("the job ends", || handle.is_done());
        assert_eq!(handle.try_wait().unwrap().unwrap(), 9);
        assert!(handle.try_wait().is_none());
    });
}

/// To cancel a job that has ended comes too late, says so, and does not touch the answer.
#[test]
fn cancelling_a_finished_job_says_false_and_leaves_its_answer() {
    within(LIMIT, || {
        let pool = tasks().build().unwrap();
        add_workers(&pool, 1);
        let handle = pool.enqueue(answer(1)).unwrap();
        eventually("the job ends", || handle.is_done());
        assert!(!handle.cancel());
        assert!(!handle.cancel());
        assert_eq!(handle.wait().unwrap(), 1);

        let handle = pool.enqueue(task(|_| Err("no".to_owned()))).unwrap();
        eventually("the job ends", || handle.is_done());
        assert!(!handle.cancel());
        let error = handle.wait().unwrap_err();
        assert_eq!(error.into_worker_error().as_deref(), Some("no"));
        assert_eq!(pool.stats().cancelled, 0);
    });
}

/// A running job that is cancelled: the handle says true, and waiting ends at once.
#[test]
fn cancelling_a_running_job_says_true_and_frees_its_caller() {
    within(LIMIT, || {
        let pool = tasks().build().unwrap();
        let latch = Latch::new();
        let worker = add_workers(&pool, 1)[0];
        let handle = pool.enqueue(at_latch(&latch, 1)).unwrap();
        latch.wait_for_one();
        let id = handle.id();
        assert!(handle.cancel(), "it has not ended");
        assert!(handle.is_done(), "waiting will not block");
        let error = failed(handle.wait().unwrap_err()); // although the worker is held
        assert_eq!((error.job, error.worker), (id, Some(worker)));
        assert_eq!(error.cause, Failure::Cancelled);
        latch.release(1);
        assert_eq!(pool.submit(answer(2)).unwrap(), 2);
    });
}

/// A caller that drops its handle stops neither the job nor the worker, and busy falls as usual.
#[test]
fn dropped_handles_cost_no_worker() {
    within(LIMIT, || {
        let (meter, recorder) = (Meter::new(), Recorder::new());
        let pool = tasks()
            .hook(meter.clone())
            .hook(recorder.clone())
            .build()
            .unwrap();
        let latch = Latch::new();
        add_workers(&pool, 2);
        // Two running, two queued, all of them abandoned.
        drop([1, 2].map(|n| pool.enqueue(at_latch(&latch, n)).unwrap()));
        latch.wait_for(2);
        drop([3, 4].map(|n| pool.enqueue(at_latch(&latch, n)).unwrap()));
        assert_eq!((meter.snapshot().busy, meter.snapshot().total), (2, 2));
        latch.open();
        for _ in 0..4 {
            recorder.wait_for(|event| {
                matches!(event, common::Event::JobFinish(.., Outcome::Completed))
            });
        }
        // Both still serve, at the same time.
        let latch = Latch::new();
        let handles = [5, 6].map(|n| pool.enqueue(at_latch(&latch, n)).unwrap());
        latch.wait_for(2);
        latch.open();
        assert_eq!(handles.map(|handle| handle.wait().unwrap()), [5, 6]);
        assert_eq!((meter.snapshot().busy, meter.snapshot().total), (0, 2));
        assert_eq!(pool.stats().completed, 6);
        assert_eq!(recorder.calls().worker_remove, 0);
    });
}

/// Everything that can go wrong with a detached job arrives as its id and the error; a success, and
/// a job that was not accepted, send nothing.
#[test]
fn a_detached_jobs_failure_arrives_with_its_id_and_its_success_sends_nothing() {
    within(LIMIT, || {
        let pool = tasks().build().unwrap();
        let latch = Latch::new();
        let workers = add_workers(&pool, 2);
        let (errors, failures) = unbounded();

        pool.detach_submit(answer(1), 10, &errors).unwrap();
        pool.detach_submit(task(|_| Err("no".to_owned())), 11, &errors)
            .unwrap();
        let error = next(&failures);
        assert_eq!((error.id, error.error.job.get()), (11, 11));
        assert!(error.error.worker.is_some_and(|id| workers.contains(&id)));
        assert_eq!(error.error.cause, Failure::Worker("no".to_owned()));

        let boom = || panic!("boom {}", 12);
        pool.detach_submit(task(move |_| boom()), 12, &errors)
            .unwrap();
        let error = next(&failures);
        assert_eq!(error.id, 12);
        assert!(error.error.worker.is_some_and(|id| workers.contains(&id)));
        assert_eq!(error.error.cause, Failure::Panicked("boom 12".to_owned()));

        // One worker is left; while it is held, jobs queue, are cancelled, and pass their deadline.
        pool.detach_submit(at_latch(&latch, 13), 13, &errors)
            .unwrap();
        latch.wait_for_one();
        let token = CancelToken::new();
        pool.job(answer(14))
            .cancel_token(&token)
            .detach(14, &errors)
            .unwrap();
        let soon = in_time(|soon| {
            let job = pool.job(answer(15)).deadline(soon);
            job.detach(15, &errors).map(|()| soon)
        });
        token.cancel();
        wait_until(soon);
        latch.release(1);
        let mut two = [next(&failures), next(&failures)];
        two.sort_by_key(|error| error.id);
        let seen = two.map(|error| (error.id, error.error.worker, error.error.cause));
        let expected = [
            (14, None, Failure::Cancelled),
            (15, None, Failure::DeadlinePassed),
        ];
        assert_eq!(seen, expected);

        // The pool closes over a running job and those that wait.
        let (work, begins) = until_cancelled();
        pool.detach_submit(work, 16, &errors).unwrap();
        more::begun(&begins);
        for id in 17..20 {
            pool.detach_submit(answer(id), id, &errors).unwrap();
        }
        pool.close();
        assert_eq!(
            pool.detach_submit(answer(20), 20, &errors)
                .unwrap_err()
                .reason,
            RejectReason::Closed
        );
        drop(errors);
        let mut rest: Vec<_> = failures
            .iter()
            .map(|error| (error.id, error.error.cause))
            .collect();
        rest.sort_by_key(|(id, _)| *id);
        let told = Failure::Worker("told to stop".to_owned());
        let expected = [
            (16, told),
            (17, Failure::Closed),
            (18, Failure::Closed),
            (19, Failure::Closed),
        ];
        assert_eq!(rest, expected);
        assert_eq!(pool.lost_errors(), 0);
        let stats = pool.stats();
        assert_eq!((stats.completed, stats.failed, stats.panicked), (2, 2, 1));
        assert_eq!((stats.cancelled, stats.expired, stats.closed), (1, 1, 3));
        assert_eq!(stats.accepted, 10);
    });
}

/// Nobody reads the errors, or nobody can any more: the worker serves on, and what is lost is counted.
#[test]
fn detached_errors_that_nobody_takes_block_no_worker_and_are_counted() {
    within(LIMIT, || {
        let pool = tasks().build().unwrap();
        add_workers(&pool, 1);
        let fail = || task(|_| Err("no".to_owned()));

        let (errors, failures) = bounded::<DetachedError<String>>(1);
        for id in 0..3 {
            pool.detach_submit(fail(), id, &errors).unwrap();
        }
        assert_eq!(pool.submit(answer(1)).unwrap(), 1, "the worker serves on");
        assert_eq!(pool.lost_errors(), 2);
        assert_eq!(next(&failures).id, 0);

        drop(failures);
        pool.detach_submit(fail(), 3, &errors).unwrap();
        assert_eq!(pool.submit(answer(2)).unwrap(), 2, "the worker serves on");
        assert_eq!(pool.lost_errors(), 3);

        // One that never has room.
        let (errors, _failures) = bounded::<DetachedError<String>>(0);
        pool.detach_submit(fail(), 4, &errors).unwrap();
        pool.detach_submit(task(|_| panic!("boom")), 5, &errors)
            .unwrap();
        eventually("both ran", || pool.lost_errors() == 5);
        // That was the last worker: these are answered as the pool closes.
        for id in 6..9 {
            pool.detach_submit(answer(0), id, &errors).unwrap();
        }
        pool.close();
        assert_eq!(pool.lost_errors(), 8);
        let stats = pool.stats();
        assert_eq!((stats.failed, stats.panicked, stats.closed), (5, 1, 3));
        assert_eq!(stats.lost_errors, 8);
    });
}

/// A panic is an error for whoever waits, in each form of submit.
#[test]
fn a_panic_is_heard_by_whoever_waits_for_the_job() {
    within(LIMIT, || {
        let pool = tasks().build().unwrap();
        let boom = || task(|_| panic!("boom"));
        let mut workers = add_workers(&pool, 3).into_iter();

        let error = pool.submit(boom()).unwrap_err();
        assert_eq!(error.panic_message(), Some("boom"));
        let first = failed(error).worker.unwrap();

        let handle = pool.enqueue(boom()).unwrap();
        let id = handle.id();
        let error: JobError<String> = failed(handle.wait().unwrap_err());
        assert_eq!(
            (error.job, error.cause),
            (id, Failure::Panicked("boom".to_owned()))
        );
        let second = error.worker.unwrap();

        let (errors, failures) = bounded(1);
        pool.detach_submit(boom(), 3, &errors).unwrap();
        let error = next(&failures);
        assert_eq!(
            (error.id, error.error.cause),
            (3, Failure::Panicked("boom".to_owned()))
        );
        let third = error.error.worker.unwrap();
        assert!(workers.all(|id| [first, second, third].contains(&id)));
        assert_eq!(pool.stats().panicked, 3);
    });
}

/// A caller that has dropped its own sender learns from the channel's end that its detached jobs have
/// ended: while the pool idles, and while a job of another caller runs.
#[test]
fn the_error_channel_ends_with_its_jobs() {
    within(LIMIT, || {
        let pool = Manager::<Option<crossbeam_channel::Receiver<()>>, (), String>::new();
        pool.add(|job: Job<Option<crossbeam_channel::Receiver<()>>>| {
            if let Some(held) = job.into_payload() {
                let _ = held.recv();
            }
            Ok(())
        })
        .unwrap();
        for other_job in [false, true] {
            let (errors, failures) = crossbeam_channel::bounded(1);
            for id in 0..10 {
                pool.detach_submit(None, id, &errors).unwrap();
            }
            let (release, held) = crossbeam_channel::bounded(0);
            let (others, _other_failures) = crossbeam_channel::bounded(1);
            if other_job {
                pool.detach_submit(Some(held), 11, &others).unwrap();
            }
            drop(errors);
            let end = failures.recv_timeout(LIMIT / 2);
            assert_eq!(
                end.unwrap_err(),
                crossbeam_channel::RecvTimeoutError::Disconnected
            );
            drop(release);
        }
    });
}
