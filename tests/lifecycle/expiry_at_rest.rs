//! Released jobs hear of their deadline or their token at once, also where no worker comes to them: in a
//! pause, behind long jobs, and after the last worker left.

use std::time::Duration;

use crate::common::{LIMIT, Latch, eventually, within};
use crossbeam_channel::unbounded;
use worker_pool::{CancelToken, Failure, Job, Manager, Priority};

const SOON: Duration = Duration::from_millis(20);

fn echo(job: Job<u32>) -> Result<u32, String> {
    Ok(job.into_payload())
}

type Pool = Manager<u32, u32, String>;

/// Two jobs of this priority that go straight to the workers' side: one with a deadline, one with a
/// token that is then cancelled. Both are answered, though no worker takes a job.
fn expire(pool: &Pool, priority: Priority) {
    let (errors, failures) = unbounded();
    let late = pool.job(1).timeout(SOON).priority(priority);
    late.detach(1, &errors).unwrap();
    let token = CancelToken::new();
    let given_up = pool.job(2).cancel_token(&token).priority(priority);
    given_up.detach(2, &errors).unwrap();
    token.cancel();
    let mut answers: Vec<_> = (0..2)
        .map(|_| failures.recv_timeout(LIMIT).expect("an answer"))
        .map(|failure| (failure.id, failure.error.cause))
        .collect();
    answers.sort_by_key(|(id, _)| *id);
    let expected = [(1, Failure::DeadlinePassed), (2, Failure::Cancelled)];
    assert_eq!(answers, expected);
}

#[test]
fn jobs_behind_long_ones_hear_of_their_deadline_and_token() {
    within(LIMIT, || {
        for priority in [Priority::Normal, Priority::Low, Priority::High] {
            let pool = Pool::new();
            let latch = Latch::new();
            pool.add(latch.worker()).unwrap();
            let running = pool.enqueue(7).unwrap();
            latch.wait_for(1);
            expire(&pool, priority);
            latch.open();
            assert_eq!(running.wait(), Ok(7));
        }
    });
}

#[test]
fn jobs_in_a_paused_pool_hear_of_their_deadline_and_token() {
    within(LIMIT, || {
        for priority in [Priority::Normal, Priority::Low, Priority::High] {
            let pool = Pool::new();
            let latch = Latch::new();
            for _ in 0..2 {
                pool.add(latch.worker()).unwrap();
            }
            // One worker is busy, so that a job is released to the other.
            let running = pool.enqueue(7).unwrap();
            latch.wait_for(1);
            pool.pause();
            expire(&pool, priority);
            assert!(pool.is_paused());
            latch.open();
            pool.resume();
            assert_eq!(running.wait(), Ok(7));
            assert_eq!(pool.submit(3), Ok(3));
        }
    });
}

/// Released before the pause, and not only accepted in it.
#[test]
fn jobs_that_were_released_before_a_pause_hear_of_their_token() {
    within(LIMIT, || {
        let pool = Pool::new();
        let latch = Latch::new();
        pool.add(latch.worker()).unwrap();
        let running = pool.enqueue(7).unwrap();
        latch.wait_for(1);
        let token = CancelToken::new();
        let (errors, failures) = unbounded();
        for id in 0..5 {
            let job = pool.job(1).cancel_token(&token);
            job.detach(id, &errors).unwrap();
        }
        let after = pool.enqueue(8).unwrap();
        pool.pause();
        token.cancel();
        for _ in 0..5 {
            failures.recv_timeout(LIMIT).expect("an answer");
        }
        pool.resume();
        latch.open();
        assert_eq!((running.wait(), after.wait()), (Ok(7), Ok(8)));
    });
}

#[test]
fn a_pool_whose_last_worker_left_is_as_one_that_never_had_any() {
    within(LIMIT, || {
        for jobs_before in [0, 1, 20_000] {
            let pool: Pool = Manager::builder().queue_capacity(4).build().unwrap();
            if jobs_before > 0 {
                let id = pool.add(echo).unwrap();
                let (errors, _failures) = unbounded();
                for _ in 0..jobs_before {
                    pool.detach_submit(1, 0, &errors).unwrap();
                }
                pool.wait_idle();
                pool.remove(id).unwrap();
                eventually("it is gone", || pool.workers().is_empty());
            }
            for priority in [Priority::Normal, Priority::Low, Priority::High] {
                expire(&pool, priority);
            }
            pool.submit_timeout(3, SOON).unwrap_err();
            assert!(pool.wait_idle_timeout(LIMIT), "all have an answer");
            eventually("their places are free", || pool.waiting() == 0);
            let held: Vec<_> = std::iter::from_fn(|| pool.try_enqueue(1).ok()).collect();
            assert_eq!(held.len(), 4, "after {jobs_before} jobs");
        }
    });
}

#[test]
fn a_job_that_is_cancelled_by_its_handles_token_frees_its_place() {
    within(LIMIT, || {
        let pool: Pool = Manager::builder().queue_capacity(2).build().unwrap();
        let handles = [1, 2].map(|n| pool.enqueue(n).unwrap());
        let tokens = handles.each_ref().map(|handle| handle.cancel_token());
        pool.try_enqueue(3).unwrap_err();
        tokens[0].cancel();
        drop(pool.enqueue(3).unwrap()); // blocks until there is room
        drop(handles);
        tokens[1].cancel();
        drop(pool.enqueue(4).unwrap());
    });
}
