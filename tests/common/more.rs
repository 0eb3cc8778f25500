//! Jobs that are closures, so that a test says where it submits a job what that job does.

// Each test binary compiles its own copy of this module and uses only a part of it.
#![allow(dead_code)]

use std::sync::mpsc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use worker_pool::{
    Builder, CancelToken, Job, JobError, Manager, RejectReason, SubmitError, WorkerId,
};

use super::common::{LIMIT, Latch, next};

/// A job that is a closure. It sees its cancel token.
pub(crate) type Task = Box<dyn FnOnce(&CancelToken) -> Result<u64, String> + Send>;

/// A pool of workers that run [`Task`]s.
pub(crate) type Tasks = Manager<Task, u64, String>;

/// Boxes a closure.
pub(crate) fn task(
    work: impl FnOnce(&CancelToken) -> Result<u64, String> + Send + 'static,
) -> Task {
    Box::new(work)
}

/// A task that only answers.
pub(crate) fn answer(output: u64) -> Task {
    task(move |_| Ok(output))
}

/// A worker for [`Task`]s.
pub(crate) fn run_task(job: Job<Task>) -> Result<u64, String> {
    let (work, token) = job.into_parts();
    work(&token)
}

/// A builder of pools of closures.
pub(crate) fn tasks() -> Builder<Task, u64, String> {
    Tasks::builder()
}

/// Adds so many workers.
#[track_caller]
pub(crate) fn add_workers(pool: &Tasks, workers: usize) -> Vec<WorkerId> {
    let add = |_| pool.add(run_task).expect("the pool is open");
    (0..workers).map(add).collect()
}

/// A task that panics.
pub(crate) fn boom() -> Task {
    task(|_| panic!("boom"))
}

/// Adds workers that are made anew.
#[track_caller]
pub(crate) fn restartable(pool: &Tasks, workers: usize) -> Vec<WorkerId> {
    let add = |_| {
        pool.add_factory(|_| Ok::<_, String>(run_task))
            .expect("the pool is open")
    };
    (0..workers).map(add).collect()
}

/// A task that waits at the latch and then answers.
pub(crate) fn at_latch(latch: &Latch, output: u64) -> Task {
    let door = latch.door();
    task(move |_| {
        door.pass(worker_pool::JobId::new(output));
        Ok(output)
    })
}

/// A task that says on the channel that it ran.
pub(crate) fn tell(ran: &mpsc::Sender<u64>, output: u64) -> Task {
    let ran = ran.clone();
    task(move |_| {
        let _ = ran.send(output);
        Ok(output)
    })
}

/// A task that hands out its token as it begins and ends when that token fires.
pub(crate) fn until_cancelled() -> (Task, Receiver<CancelToken>) {
    let (begun, begins) = bounded(1);
    let work = task(move |token| {
        let _ = begun.send(token.clone());
        if token.wait_timeout(2 * LIMIT) {
            Err("told to stop".to_owned())
        } else {
            panic!("nobody told the job to stop")
        }
    });
    (work, begins)
}

/// Waits until that task has begun.
#[track_caller]
pub(crate) fn begun(begins: &Receiver<CancelToken>) -> CancelToken {
    next(begins)
}

/// Small and different each time, to shift threads against each other.
pub(crate) fn jitter(round: usize) {
    for _ in 0..(round * 7919) % 257 {
        std::hint::spin_loop();
    }
    if round.is_multiple_of(5) {
        std::thread::yield_now();
    }
}

/// Much too short for a job that is held, and long enough to be a wait.
pub(crate) const SHORT: Duration = Duration::from_millis(20);

/// The error of a job that began (or was to be run by a worker that has gone).
#[track_caller]
pub(crate) fn failed<P, E: std::fmt::Debug>(error: SubmitError<P, E>) -> JobError<E> {
    match error {
        SubmitError::Failed(error) => error,
        SubmitError::Rejected(rejected) => panic!("the job began, but: {rejected:?}"),
    }
}

/// Why a job did not begin. Its payload came back.
#[track_caller]
pub(crate) fn rejected<P, E: std::fmt::Debug>(error: SubmitError<P, E>) -> (P, RejectReason) {
    match error {
        SubmitError::Rejected(rejected) => (rejected.payload, rejected.reason),
        SubmitError::Failed(error) => panic!("the job did not begin, but: {error:?}"),
    }
}

/// Submits with a deadline that soon passes. A thread that is kept from running for so long is late
/// before it begins: then it tries again with a later one.
#[track_caller]
pub(crate) fn in_time<T, R>(mut submit: impl FnMut(Instant) -> Result<T, R>) -> T {
    let mut patience = SHORT;
    while patience < LIMIT {
        if let Ok(accepted) = submit(Instant::now() + patience) {
            return accepted;
        }
        patience *= 2;
    }
    panic!("turned away again and again");
}

/// Blocks until that moment.
pub(crate) fn wait_until(moment: Instant) {
    CancelToken::with_deadline(moment).wait();
}
