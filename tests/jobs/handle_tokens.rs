//! The token of a job that has a handle: there as soon as somebody asks for it, and of that job alone.

use crate::common::{LIMIT, within};
use crossbeam_channel::unbounded;
use worker_pool::{CancelToken, Job, Manager};

/// What the worker is to do: wait until the job is cancelled, or say whether it is, or give its token away.
#[derive(Clone, Copy, PartialEq)]
enum Task {
    WaitForIt,
    Look,
    Keep,
}

struct Fixture {
    pool: Manager<Task, bool>,
    begun: crossbeam_channel::Receiver<()>,
    kept: crossbeam_channel::Receiver<CancelToken>,
}

/// A pool with one worker, so that all jobs are lent tokens by the same.
fn one_worker() -> Fixture {
    let pool = Manager::new();
    let (begins, begun) = unbounded();
    let (keep, kept) = unbounded();
    pool.add(move |job: Job<Task>| {
        begins.send(()).unwrap();
        match job.payload() {
            // By looking, so that nothing keeps the token.
            Task::WaitForIt => {
                while !job.is_cancelled() {
                    std::thread::yield_now();
                }
            }
            Task::Look => {}
            Task::Keep => keep.send(job.cancel_token()).unwrap(),
        }
        Ok(job.is_cancelled())
    })
    .unwrap();
    Fixture { pool, begun, kept }
}

/// The token is asked for before the job begins, while it runs, or by `cancel` only: the job hears of it
/// in each case, and the next job, on the same worker, does not.
#[test]
fn a_handle_reaches_its_running_job_and_no_other() {
    within(LIMIT, || {
        let Fixture { pool, begun, kept } = one_worker();
        for round in 0..30 {
            let handle = pool.enqueue(Task::WaitForIt).unwrap();
            let early = (round % 3 == 0).then(|| handle.cancel_token());
            begun.recv().unwrap();
            match round % 3 {
                0 => early.unwrap().cancel(),
                1 => handle.cancel_token().cancel(),
                _ => assert!(handle.cancel()),
            }
            assert!(handle.is_done() && handle.cancel_token().is_cancelled());
            // Whichever is faster.
            let heard = handle.wait().unwrap_or_else(|error| error.is_cancelled());
            assert!(heard, "round {round}");
            for _ in 0..2 {
                let next = pool.enqueue(Task::Look).unwrap();
                begun.recv().unwrap();
                assert_eq!(next.wait(), Ok(false), "round {round}");
            }
        }
        drop((begun, kept));
    });
}

/// Tokens outlive their jobs: each is of its own job, whatever runs later.
#[test]
fn a_token_that_outlives_its_job_is_not_lent_again() {
    within(LIMIT, || {
        let Fixture { pool, begun, kept } = one_worker();
        let first = pool.enqueue(Task::Keep).unwrap();
        let of_first = first.cancel_token();
        assert_eq!(first.wait(), Ok(false));
        let in_job = kept.recv().unwrap();
        let second = pool.enqueue(Task::Keep).unwrap();
        assert_eq!(second.wait(), Ok(false));
        let in_second = kept.recv().unwrap();
        of_first.cancel();
        assert!(in_job.is_cancelled() && !in_second.is_cancelled());
        let third = pool.enqueue(Task::Look).unwrap();
        assert_eq!(third.wait(), Ok(false));
        drop(begun);
    });
}

/// A handle whose job has ended still has a token, which does nothing.
#[test]
fn cancelling_after_the_end_changes_nothing() {
    within(LIMIT, || {
        let Fixture { pool, begun, kept } = one_worker();
        let mut handle = pool.enqueue(Task::Look).unwrap();
        while !handle.is_done() {
            std::thread::yield_now();
        }
        assert!(!handle.cancel(), "too late");
        assert!(handle.cancel_token().is_cancelled());
        assert_eq!(handle.try_wait(), Some(Ok(false)));
        assert_eq!(pool.enqueue(Task::Look).unwrap().wait(), Ok(false));
        drop((begun, kept));
    });
}
