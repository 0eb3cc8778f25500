//! Jobs that wait and are cancelled or late meanwhile: they are answered then, not when a worker
//! would have come to them.

use std::thread;
use std::time::Instant;

use crate::common::{LIMIT, Latch, eventually, next, stress, within};
use crate::more::{SHORT, in_time, jitter, wait_until};
use crossbeam_channel::unbounded;
use worker_pool::{
    CancelToken, Failure, Manager,
    Priority::{self, High, Low, Normal},
    RejectReason,
};

type Pool = Manager<u64, u64, String>;

fn pool(capacity: usize) -> Pool {
    Pool::builder().queue_capacity(capacity).build().unwrap()
}

/// A detached job whose deadline passes while it waits is answered though no worker exists, and its
/// place in the queue is free again.
#[test]
fn a_late_detached_job_is_answered_without_a_worker() {
    late(&[Low, Normal]);
}

/// So is one of high priority.
#[test]
fn a_late_detached_high_job_is_answered_without_a_worker() {
    late(&[High]);
}

#[track_caller]
fn late(priorities: &[Priority]) {
    for &priority in priorities {
        within(LIMIT, move || {
            let pool = pool(1);
            let (errors, failures) = unbounded();
            in_time(|at| {
                let job = pool.job(1).priority(priority).deadline(at);
                job.try_detach(7, &errors)
            });
            let failure = next(&failures);
            assert_eq!(failure.id, 7, "{priority:?}");
            assert!(matches!(failure.error.cause, Failure::DeadlinePassed));
            assert_eq!(failure.error.worker, None);
            eventually("its place is free", || pool.waiting() == 0);
            assert!(pool.wait_idle_timeout(LIMIT), "it is counted");
            assert_eq!(pool.stats().expired, 1);
            assert!(pool.job(2).priority(priority).try_enqueue().is_ok());
        });
    }
}

/// A detached job whose token fires while it waits is answered though no worker exists, and its place
/// in the queue is free again.
#[test]
fn a_cancelled_detached_job_is_answered_without_a_worker() {
    cancelled(&[Low, Normal]);
}

/// So is one of high priority.
#[test]
fn a_cancelled_detached_high_job_is_answered_without_a_worker() {
    cancelled(&[High]);
}

#[track_caller]
fn cancelled(priorities: &[Priority]) {
    for &priority in priorities {
        within(LIMIT, move || {
            let pool = pool(1);
            let (errors, failures) = unbounded();
            let token = CancelToken::new();
            let job = pool.job(1).priority(priority).cancel_token(&token);
            job.try_detach(7, &errors).unwrap();
            let refused = pool.try_enqueue(2).unwrap_err();
            assert_eq!(refused.reason, RejectReason::Full);
            token.cancel();
            let failure = next(&failures);
            assert_eq!(failure.id, 7, "{priority:?}");
            assert!(matches!(failure.error.cause, Failure::Cancelled));
            eventually("its place is free", || pool.waiting() == 0);
            assert!(pool.wait_idle_timeout(LIMIT), "it is counted");
            assert_eq!(pool.stats().cancelled, 1);
            assert!(pool.try_enqueue(2).is_ok());
        });
    }
}

/// Each of many deadlines is noticed, whatever their order; jobs without one stay.
#[test]
fn each_deadline_is_noticed_and_the_others_stay() {
    within(LIMIT, || {
        let pool = pool(100);
        let (errors, failures) = unbounded();
        let start = Instant::now();
        let mut detached = 0;
        for n in [9_u32, 1, 5, 3, 7] {
            in_time(|at| {
                let late = start.max(at) + SHORT * n;
                let job = pool.job(0).deadline(late);
                job.try_detach(u64::from(n), &errors)
            });
            pool.job(0).try_detach(100, &errors).unwrap();
            detached += 2;
        }
        let mut late: Vec<_> = (0..5).map(|_| next(&failures).id).collect();
        late.sort_unstable();
        assert_eq!(late, [1, 3, 5, 7, 9]);
        eventually("the others are left", || pool.waiting() == 5);
        assert_eq!(pool.stats().accepted, detached);
        pool.close();
        assert_eq!(failures.iter().take(5).filter(|f| f.id == 100).count(), 5);
    });
}

/// The workers held, late and cancelled jobs behind them are answered all the same, and a submitter
/// that waits for room gets it.
#[test]
fn a_late_job_behind_a_held_worker_makes_room() {
    within(LIMIT, || {
        let pool = pool(1);
        let latch = Latch::new();
        pool.add(latch.worker()).unwrap();
        let (errors, failures) = unbounded();
        pool.detach_submit(0, 0, &errors).unwrap();
        latch.wait_for_one();
        pool.detach_submit(1, 1, &errors).unwrap();
        eventually("one is released ahead", || pool.waiting() == 0);
        in_time(|at| pool.job(2).deadline(at).try_detach(2, &errors));
        let blocked = pool.enqueue(3).unwrap();
        let failure = next(&failures);
        assert_eq!(failure.id, 2);
        assert!(matches!(failure.error.cause, Failure::DeadlinePassed));
        assert_eq!(latch.arrivals(), 0, "the worker is still held");
        latch.open();
        assert_eq!(blocked.wait(), Ok(3));
    });
}

/// A handle's `poll` and `is_done` see that the job's deadline has passed or its token has fired,
/// though no worker exists; the payload comes back.
#[test]
fn a_handle_sees_that_its_waiting_job_is_late_or_cancelled() {
    within(LIMIT, || {
        let pool = pool(2);
        let mut at = Instant::now();
        let mut late = in_time(|deadline| {
            at = deadline;
            pool.job(1).deadline(deadline).try_enqueue()
        });
        let token = CancelToken::new();
        let mut cancelled = pool.job(2).cancel_token(&token).try_enqueue().unwrap();
        assert!(!cancelled.is_done());
        assert!(cancelled.try_wait().is_none());
        wait_until(at);
        assert!(late.is_done());
        token.cancel();
        assert!(cancelled.is_done());
        let error = cancelled.try_wait().expect("it is done").unwrap_err();
        assert!(error.is_cancelled());
        assert_eq!(error.into_payload(), Some(2));
        assert!(cancelled.try_wait().is_none(), "once");
        let error = late.try_wait().expect("it is done").unwrap_err();
        assert!(error.is_deadline_passed());
        // Its payload is gone if the pool was faster to turn it away.
        assert!(matches!(error.into_payload(), None | Some(1)));
        eventually("their places are free", || pool.waiting() == 0);
        assert!(pool.wait_idle_timeout(LIMIT), "they are counted");
        let stats = pool.stats();
        assert_eq!((stats.expired, stats.cancelled), (1, 1));
    });
}

/// A token that fires just as its job is submitted: either the job is refused, or it is answered.
#[test]
fn a_token_that_fires_during_the_submit_is_not_missed() {
    within(LIMIT, || {
        let pool = pool(4);
        let (errors, failures) = unbounded();
        let (tokens, to_fire) = unbounded::<CancelToken>();
        let firing = thread::spawn(move || {
            for (round, token) in to_fire.into_iter().enumerate() {
                jitter(round);
                token.cancel();
            }
        });
        for round in 0..stress(10_000) {
            let priority = [Low, Normal][round % 2];
            let token = CancelToken::new();
            tokens.send(token.clone()).unwrap();
            jitter(round / 3);
            let job = pool.job(0).priority(priority).cancel_token(&token);
            match job.try_detach(round as u64, &errors) {
                Ok(()) => assert_eq!(next(&failures).id, round as u64),
                Err(rejected) => assert_eq!(rejected.reason, RejectReason::Cancelled),
            }
            eventually("its place is free", || pool.waiting() == 0);
        }
        drop(tokens);
        firing.join().unwrap();
    });
}
