//! A drain with a limit tells the truth about the jobs that did not run.

use std::thread;
use std::time::{Duration, Instant};

use crate::common::{LIMIT, Latch, eventually, within};
use crossbeam_channel::{Receiver, bounded};
use worker_pool::{CancelToken, Hook, Job, JobHandle, Manager, PoolState, Worker};

type Pool = Manager<u32, u32, String>;
type Handle = JobHandle<u32, u32, String>;

const SOON: Duration = Duration::from_millis(1);

/// One worker that is held in a job, and so many jobs that wait behind it.
fn held(pool: &Pool, behind: u32) -> (Latch, Vec<Handle>) {
    let latch = Latch::new();
    pool.add(latch.worker()).unwrap();
    let handles = (0..=behind).map(|number| pool.enqueue(number).unwrap());
    let handles = handles.collect();
    latch.wait_for_one();
    (latch, handles)
}

/// Holds up the thread that tells of the drain, for much longer than a running job is waited for.
struct Slow;

impl Hook for Slow {
    fn pool_state(&self, state: PoolState) {
        if state == PoolState::Draining {
            CancelToken::with_deadline(Instant::now() + Duration::from_millis(400)).wait();
        }
    }
}

#[test]
fn jobs_are_counted_as_abandoned_however_slow_the_dispatcher_is() {
    within(LIMIT, || {
        let pool = Pool::builder().hook(Slow).build().unwrap();
        let (latch, handles) = held(&pool, 9);
        let error = pool.drain_timeout(SOON).unwrap_err();
        assert_eq!((error.abandoned, error.running.len()), (9, 1));
        assert!(handles[1..].iter().all(Handle::is_done));
        latch.open();
        pool.close();
        assert_eq!(pool.stats().closed, 9);
        // What was abandoned stays so.
        let error = pool.drain_timeout(SOON).unwrap_err();
        assert_eq!((error.abandoned, error.running.len()), (9, 0));
    });
}

#[test]
fn a_drain_whose_last_worker_leaves_is_no_success() {
    within(LIMIT, || {
        let pool = Pool::new();
        let (latch, handles) = held(&pool, 3);
        let error = thread::scope(|scope| {
            let drain = scope.spawn(|| pool.drain_timeout(LIMIT));
            eventually("it drains", || pool.state() == PoolState::Draining);
            let worker = pool.workers()[0].id;
            pool.remove(worker).unwrap();
            latch.open();
            drain.join().unwrap().unwrap_err()
        });
        assert_eq!((error.abandoned, error.running), (3, vec![]));
        let closed = handles.into_iter().map(JobHandle::wait);
        assert_eq!(closed.filter(Result::is_err).count(), 3);
    });
}

#[test]
fn a_drain_that_a_close_overtakes_counts_what_that_abandoned() {
    within(LIMIT, || {
        let pool = Pool::new();
        let (latch, _handles) = held(&pool, 5);
        let error = thread::scope(|scope| {
            let drain = scope.spawn(|| pool.drain_timeout(LIMIT));
            eventually("it drains", || pool.state() == PoolState::Draining);
            pool.close_timeout(SOON).unwrap_err();
            latch.open();
            drain.join().unwrap().unwrap_err()
        });
        assert_eq!((error.abandoned, error.running), (5, vec![]));
    });
}

/// A worker that hangs in its `close` has no job, and its thread still runs.
#[test]
fn a_worker_that_is_on_its_way_out_still_runs() {
    struct Closes(Receiver<()>);
    impl Worker<u32, u32, String> for Closes {
        fn run(&mut self, job: Job<u32>) -> Result<u32, String> {
            Ok(job.into_payload())
        }
        fn close(&mut self) {
            let _ = self.0.recv();
        }
    }
    within(LIMIT, || {
        let (go, going) = bounded::<()>(0);
        let pool = Pool::new();
        let worker = pool.add(Closes(going)).unwrap();
        assert_eq!(pool.submit(1), Ok(1));
        let error = pool.drain_timeout(SOON).unwrap_err();
        assert_eq!((error.abandoned, error.running), (0, vec![worker]));
        drop(go);
        pool.close();
        assert_eq!(pool.drain_timeout(SOON), Ok(()));
    });
}
