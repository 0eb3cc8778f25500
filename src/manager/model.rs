//! A whole small pool: every job is answered, and every thread is joined.

use crate::sync::modelled::run::check;
use crate::sync::user_channel::unbounded;
use crate::sync::{Arc, AtomicUsize, Ordering::SeqCst, thread};
use crate::{Builder, Job, Manager, Worker};

/// Counts itself while it lives.
struct Adder(Arc<AtomicUsize>);

impl Adder {
    fn new(live: &Arc<AtomicUsize>) -> Self {
        live.fetch_add(1, SeqCst);
        Adder(Arc::clone(live))
    }
}

impl Drop for Adder {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Worker<u64, u64, ()> for Adder {
    fn run(&mut self, job: Job<u64>) -> Result<u64, ()> {
        Ok(job.into_payload() + 1)
    }
}

struct Model {
    pool: Manager<u64, u64, ()>,
    live: Arc<AtomicUsize>,
}

impl Model {
    fn new(builder: Builder<u64, u64, ()>, workers: usize) -> Self {
        let pool = builder.build().expect("threads");
        let live = Arc::new(AtomicUsize::new(0));
        for _ in 0..workers {
            pool.add(Adder::new(&live)).expect("it is open");
        }
        Model { pool, live }
    }

    /// Waits for the end: nothing is left.
    fn close(self) {
        self.pool.close();
        assert_eq!(self.live.load(SeqCst), 0, "workers");
        let stats = self.pool.stats();
        let ended = stats.completed + stats.closed + stats.cancelled;
        assert_eq!((ended, stats.waiting), (stats.accepted, 0), "{stats:?}");
    }
}

fn small() -> Builder<u64, u64, ()> {
    Manager::builder().queue_capacity(2)
}

#[test]
fn blocking_submitters_get_their_results() {
    check(|| {
        let model = Model::new(small(), 2);
        thread::scope(|scope| {
            for number in 0..3 {
                let pool = &model.pool;
                scope.spawn(move || assert_eq!(pool.submit(number), Ok(number + 1)));
            }
        });
        model.close();
    });
}

#[test]
fn detached_jobs_all_run_before_the_pool_is_idle() {
    check(|| {
        let model = Model::new(small(), 2);
        let (errors, _failures) = unbounded();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for number in 0..2 {
                        let sent = model.pool.detach_submit(number, number, &errors);
                        sent.expect("it is open");
                    }
                });
            }
        });
        model.pool.wait_idle();
        assert_eq!(model.pool.stats().completed, 4);
        model.close();
    });
}

#[test]
fn a_worker_is_removed_while_jobs_come() {
    check(|| {
        let model = Model::new(small(), 1);
        let second = model.pool.add(Adder::new(&model.live)).expect("it is open");
        thread::scope(|scope| {
            for number in 0..3 {
                let pool = &model.pool;
                scope.spawn(move || assert_eq!(pool.submit(number), Ok(number + 1)));
            }
            scope.spawn(|| model.pool.remove(second));
        });
        model.close();
    });
}

#[test]
fn a_pool_is_paused_and_resumed_while_jobs_come() {
    check(|| {
        let model = Model::new(small(), 2);
        thread::scope(|scope| {
            for number in 0..2 {
                let pool = &model.pool;
                scope.spawn(move || assert_eq!(pool.submit(number), Ok(number + 1)));
            }
            scope.spawn(|| {
                model.pool.pause();
                model.pool.resume();
            });
        });
        model.close();
    });
}

#[test]
fn a_pool_closes_while_jobs_come() {
    check(|| {
        let model = Model::new(small(), 2);
        thread::scope(|scope| {
            for number in 0..3 {
                let pool = &model.pool;
                // An answer, whichever.
                scope.spawn(move || pool.submit(number).map_err(drop));
            }
            scope.spawn(|| model.pool.close());
        });
        model.close();
    });
}
