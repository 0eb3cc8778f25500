//! Closing a pool, or dropping its last handle, from inside: in a job, a worker or a hook.

use crate::common::{Event, LIMIT, eventually, next, within};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::Mutex;
use worker_pool::{Hook, Job, JobId, Manager, Outcome, PoolState, WorkerId};

type Task = Box<dyn FnOnce() + Send>;

fn task_pool(workers: usize) -> Manager<Task> {
    let pool = Manager::new();
    for _ in 0..workers {
        let run = |job: Job<Task>| {
            job.into_payload()();
            Ok(())
        };
        pool.add(run).unwrap();
    }
    pool
}

/// A job that closes its own pool, in each way, returns; the pool then closes.
#[test]
fn a_job_may_close_its_own_pool() {
    within(LIMIT, || {
        let ways: [fn(&Manager<Task>); 4] = [
            Manager::close,
            Manager::drain,
            |pool| drop(pool.close_timeout(LIMIT)),
            |pool| drop(pool.drain_timeout(LIMIT)),
        ];
        for (workers, way) in [
            (1, ways[0]),
            (3, ways[0]),
            (1, ways[1]),
            (1, ways[2]),
            (1, ways[3]),
        ] {
            let pool = task_pool(workers);
            let (returned, has_returned) = bounded(1);
            let inside = pool.clone();
            let job: Task = Box::new(move || {
                way(&inside);
                returned.send(()).unwrap();
            });
            let handle = pool.enqueue(job).unwrap();
            next(&has_returned);
            handle.wait().expect("the job ends as any other");
            assert!(pool.close_signal().wait_timeout(LIMIT));
            pool.close();
        }
    });
}

/// The last handle is dropped inside a job: no thread joins itself, and the pool closes.
#[test]
fn a_job_may_drop_the_last_handle_of_its_pool() {
    within(LIMIT, || {
        for workers in [1, 3] {
            let pool = task_pool(workers);
            let signal = pool.close_signal();
            let (hand_over, last) = bounded::<Manager<Task>>(1);
            let (errors, failures) = unbounded();
            let (dropped, was_dropped) = bounded(1);
            let job: Task = Box::new(move || {
                drop(next(&last));
                dropped.send(()).unwrap();
            });
            pool.detach_submit(job, 1, &errors).unwrap();
            drop(errors);
            assert!(!signal.is_closed());
            hand_over.send(pool).unwrap();
            next(&was_dropped);
            assert!(signal.wait_timeout(LIMIT));
            assert_eq!(failures.iter().count(), 0, "the job itself did not fail");
        }
    });
}

/// The last handle is dropped with the worker that owns it: the same.
#[test]
fn a_worker_may_own_the_last_handle_of_its_pool() {
    within(LIMIT, || {
        let pool = task_pool(0);
        let signal = pool.close_signal();
        let inside = pool.clone();
        let worker = move |_: Job<Task>| {
            let _ = &inside;
            Ok(())
        };
        let id = pool.add(worker).unwrap();
        pool.remove(id).unwrap();
        drop(pool);
        assert!(signal.wait_timeout(LIMIT));
    });
}

type Pool = Manager<u32, u32, String>;

fn echo(job: Job<u32>) -> Result<u32, String> {
    Ok(job.into_payload())
}

/// Closes or drops its pool from one of its methods.
struct Closer {
    /// Where the pool's handle comes from; taken at the first such moment.
    pool: Mutex<Option<Receiver<Pool>>>,
    at: fn(&Event) -> bool,
    returned: Sender<()>,
    way: fn(Pool),
}

impl Closer {
    fn told(&self, event: Event) {
        if !(self.at)(&event) {
            return;
        }
        let pool = self.pool.lock().take();
        if let Some(pool) = pool {
            (self.way)(next(&pool));
            self.returned.send(()).unwrap();
        }
    }
}

impl Hook for Closer {
    fn pool_state(&self, state: PoolState) {
        self.told(Event::State(state));
    }
    fn job_start(&self, job: JobId, worker: WorkerId) {
        self.told(Event::JobStart(job, worker));
    }
    fn job_finish(&self, job: JobId, worker: WorkerId, outcome: Outcome) {
        self.told(Event::JobFinish(job, worker, outcome));
    }
    fn worker_add(&self, worker: WorkerId) {
        self.told(Event::WorkerAdd(worker));
    }
    fn worker_remove(&self, worker: WorkerId) {
        self.told(Event::WorkerRemove(worker));
    }
}

/// A pool with a hook that ends it at such a moment, in such a way. The hook waits for the handle to
/// do it with, and tells when it has returned from that.
fn pool_with_closer(at: fn(&Event) -> bool, way: fn(Pool)) -> (Pool, Sender<Pool>, Receiver<()>) {
    let (hand_over, pool) = bounded(1);
    let (returned, has_returned) = bounded(1);
    let closer = Closer {
        pool: Mutex::new(Some(pool)),
        at,
        returned,
        way,
    };
    let pool = Pool::builder().hook(closer).build().unwrap();
    (pool, hand_over, has_returned)
}

/// A hook that closes its pool, in any way and from any of its methods, returns, and the pool closes.
#[test]
fn a_hook_may_close_its_own_pool() {
    let moments: [fn(&Event) -> bool; 6] = [
        |event| matches!(event, Event::WorkerAdd(_)),
        |event| matches!(event, Event::JobStart(..)),
        |event| matches!(event, Event::JobFinish(..)),
        |event| matches!(event, Event::WorkerRemove(_)),
        |event| *event == Event::State(PoolState::Draining),
        |event| *event == Event::State(PoolState::Closed),
    ];
    let ways: [fn(Pool); 4] = [
        |pool| pool.close(),
        |pool| pool.drain(),
        |pool| drop(pool.close_timeout(LIMIT)),
        |pool| drop(pool.drain_timeout(LIMIT)),
    ];
    within(LIMIT, move || {
        for (moment, at) in moments.into_iter().enumerate() {
            for way in ways {
                let (pool, hand_over, has_returned) = pool_with_closer(at, way);
                hand_over.send(pool.clone()).unwrap();
                if let Ok(worker) = pool.add(echo) {
                    let _ = pool.submit(1);
                    let _ = pool.remove(worker);
                }
                if moment >= 4 {
                    pool.close(); // these moments come only when somebody began the end
                }
                next(&has_returned);
                assert!(pool.close_signal().wait_timeout(LIMIT));
            }
        }
    });
}

/// The last handle is dropped inside a hook, on a worker's thread or the dispatcher's: the pool
/// closes.
#[test]
fn a_hook_may_drop_the_last_handle_of_its_pool() {
    let moments: [fn(&Event) -> bool; 3] = [
        |event| matches!(event, Event::JobStart(..)),
        |event| matches!(event, Event::JobFinish(..)),
        |event| matches!(event, Event::WorkerRemove(_)),
    ];
    within(LIMIT, move || {
        for (moment, at) in moments.into_iter().enumerate() {
            let (pool, hand_over, has_returned) = pool_with_closer(at, drop);
            let signal = pool.close_signal();
            let worker = pool.add(echo).unwrap();
            let handle = pool.enqueue(1).unwrap();
            if moment == 2 {
                eventually("the job is done", || handle.is_done());
                pool.remove(worker).unwrap();
            }
            assert!(!signal.is_closed());
            hand_over.send(pool).unwrap();
            next(&has_returned);
            assert!(signal.wait_timeout(LIMIT));
            assert!(handle.is_done());
        }
    });
}
