//! Pools that make their workers themselves: how many they begin with, and how many they shall have.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread;

use crate::common::{Event, LIMIT, Latch, Recorder, eventually, stress, threads_named, within};
use crate::more::{self, Task, add_workers, answer, at_latch, jitter, run_task, task, tasks};
use worker_pool::{
    BuildError, Builder, FactoryError, Hook, Meter, ResizeError, Restarts, WeakManager, WorkerId,
    WorkerState,
};

/// A builder of pools that make their own workers.
fn self_made() -> Builder<Task, u64, String> {
    tasks().factory(|_| Ok::<_, String>(run_task))
}

/// A pool begins with the workers that it was asked for; they need not be `Send`, and come back.
#[test]
fn a_pool_begins_with_its_workers() {
    within(LIMIT, || {
        let recorder = Recorder::new();
        let soon = Restarts::default().back_off(more::SHORT, more::SHORT);
        let builder = tasks().restarts(soon).hook(recorder.clone());
        let builder = builder.factory(|id| {
            let homebody = Rc::new(id);
            Ok::<_, String>(move |job| {
                let _ = &homebody;
                run_task(job)
            })
        });
        let pool = builder.workers(3).build().unwrap();
        assert_eq!(recorder.calls().worker_add, 3, "when `build` returns");
        let ids: Vec<_> = pool.workers().iter().map(|one| one.id.get()).collect();
        assert_eq!(ids, [1, 2, 3]);
        let latch = Latch::new();
        pool.submit(task(|_| panic!("boom"))).unwrap_err();
        recorder.wait_for(|event| matches!(event, Event::WorkerRemove(_)));
        let handles: Vec<_> = (0..3)
            .map(|n| pool.enqueue(at_latch(&latch, n)).unwrap())
            .collect();
        latch.wait_for(3); // at the same time: three serve
        latch.open();
        for (n, handle) in (0..).zip(handles) {
            assert_eq!(handle.wait().unwrap(), n);
        }
    });
}

/// The n-th worker cannot be made: those before it are closed, and no thread is left.
#[test]
fn a_factory_that_fails_for_one_fails_the_build() {
    within(LIMIT, || {
        for panics in [false, true] {
            let (meter, recorder) = (Meter::new(), Recorder::new());
            let alive = Arc::new(AtomicUsize::new(0));
            struct Alive(Arc<AtomicUsize>);
            impl Drop for Alive {
                fn drop(&mut self) {
                    self.0.fetch_sub(1, SeqCst);
                }
            }
            let lives = Arc::clone(&alive);
            let builder = tasks().thread_name_prefix("unborn").hook(meter.clone());
            let builder = builder.hook(recorder.clone()).factory(move |id| {
                match id.get() {
                    1..=3 => {}
                    _ if panics => panic!("no fourth"),
                    _ => return Err("no fourth"),
                }
                lives.fetch_add(1, SeqCst);
                let life = Alive(Arc::clone(&lives));
                Ok(move |job| {
                    let _ = &life;
                    run_task(job)
                })
            });
            match builder.workers(5).build().unwrap_err() {
                BuildError::Worker(FactoryError::Failed(text)) if !panics => {
                    assert_eq!(text, "no fourth");
                }
                BuildError::Worker(FactoryError::Panicked(text)) if panics => {
                    assert_eq!(text, "no fourth");
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(alive.load(SeqCst), 0, "closed and dropped");
            let calls = recorder.calls();
            assert_eq!(
                (calls.worker_add, calls.worker_remove, calls.closed),
                (3, 3, 1)
            );
            assert_eq!(meter.snapshot().total, 0);
            eventually("no thread is left", || threads_named("unborn") == 0);
        }
    });
}

/// Workers without a factory are an error, from `build` and from `resize`.
#[test]
fn a_size_needs_a_factory() {
    let error = tasks().workers(1).build().unwrap_err();
    assert!(matches!(error, BuildError::NoFactory));
    let pool = tasks().workers(0).build().unwrap();
    assert!(matches!(pool.resize(1), Err(ResizeError::NoFactory)));
    pool.close();
    let pool = self_made().workers(1).build().unwrap();
    pool.close();
    match pool.resize(2) {
        Err(ResizeError::Incomplete {
            made,
            error: FactoryError::Closed,
        }) => assert_eq!(made, []),
        other => panic!("{other:?}"),
    }
}

/// Growing returns when the new workers serve; shrinking asks idle ones to leave and lets the busy
/// ones be.
#[test]
fn a_pool_grows_and_shrinks_around_its_busy_workers() {
    within(LIMIT, || {
        let (meter, recorder, latch) = (Meter::new(), Recorder::new(), Latch::new());
        let builder = self_made().workers(1).hook(meter.clone());
        let pool = builder.hook(recorder.clone()).build().unwrap();
        pool.resize(4).unwrap();
        assert_eq!(meter.snapshot().total, 4, "when `resize` returns");
        let held: Vec<_> = (0..2)
            .map(|n| pool.enqueue(at_latch(&latch, n)).unwrap())
            .collect();
        latch.wait_for(2);
        let busy = |state| {
            let workers = pool.workers();
            let ids = workers.iter().filter(|one| one.state == state);
            ids.map(|one| one.id).collect::<Vec<_>>()
        };
        let working = busy(WorkerState::Busy);
        pool.resize(2).unwrap();
        for _ in 0..2 {
            recorder.wait_for(|event| matches!(event, Event::WorkerRemove(_)));
        }
        assert_eq!(busy(WorkerState::Busy), working, "the idle ones left");
        // Of the busy ones, the newest leaves; after its job.
        pool.resize(1).unwrap();
        assert_eq!(busy(WorkerState::Leaving), [working[1]]);
        assert_eq!(meter.snapshot().total, 2);
        // Those on their way out do not count any more.
        pool.resize(3).unwrap();
        assert_eq!(meter.snapshot().total, 4);
        latch.open();
        for (n, handle) in (0..).zip(held) {
            assert_eq!(handle.wait().unwrap(), n);
        }
        recorder.wait_for(|event| *event == Event::WorkerRemove(working[1]));
        assert_eq!(meter.snapshot().total, 3);
        // Workers that came by other means count as well.
        add_workers(&pool, 2);
        pool.resize(4).unwrap();
        eventually("one has left", || meter.snapshot().total == 4);
        pool.resize(0).unwrap();
        eventually("all have left", || meter.snapshot().total == 0);
    });
}

/// A factory that fails halfway: the error names those that were made, and they serve.
#[test]
fn a_resize_that_fails_keeps_what_it_made() {
    within(LIMIT, || {
        let built = AtomicU32::new(0);
        let builder = tasks().factory(move |_| match built.fetch_add(1, SeqCst) {
            0..3 => Ok(run_task),
            _ => Err("out of memory"),
        });
        let pool = builder.workers(1).build().unwrap();
        match pool.resize(10).unwrap_err() {
            ResizeError::Incomplete { made, error } => {
                assert_eq!(made, [WorkerId::new(2), WorkerId::new(3)]);
                assert!(matches!(error, FactoryError::Failed(text) if text == "out of memory"));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(pool.workers().len(), 3);
        assert_eq!(pool.submit(answer(1)).unwrap(), 1);
    });
}

/// Sends each worker away as soon as it has come.
#[derive(Clone)]
struct Unwelcoming(Arc<OnceLock<WeakManager<Task, u64, String>>>, Recorder);

impl Hook for Unwelcoming {
    fn worker_add(&self, worker: WorkerId) {
        self.1.worker_add(worker);
        let pool = self.0.get().and_then(WeakManager::upgrade);
        pool.expect("it lives").remove(worker).unwrap();
    }
}

/// Workers that leave as soon as they are made do not keep `resize` for ever.
#[test]
fn workers_that_will_not_stay_are_not_made_without_end() {
    within(LIMIT, || {
        let unwelcoming = Unwelcoming(Arc::default(), Recorder::new());
        let pool = self_made().hook(unwelcoming.clone()).build().unwrap();
        assert!(unwelcoming.0.set(pool.downgrade()).is_ok());
        pool.resize(5).unwrap();
        assert_eq!(unwelcoming.1.calls().worker_add, 5);
        eventually("all are gone", || pool.workers().is_empty());
    });
}

/// Resized up and down while jobs flow, by two at once: every job is answered, and the last word
/// holds.
#[test]
fn resizing_under_load_loses_nothing() {
    let rounds = stress(150);
    within(LIMIT, move || {
        let (meter, recorder) = (Meter::new(), Recorder::new());
        let builder = self_made().workers(2).queue_capacity(8).hook(meter.clone());
        let pool = builder.hook(recorder.clone()).build().unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let submitters = [0, 1].map(|_| {
                scope.spawn(|| {
                    let mut jobs = 0;
                    while !stop.load(SeqCst) {
                        let handles: Vec<_> =
                            (0..6).map(|n| pool.enqueue(answer(n)).unwrap()).collect();
                        for (n, handle) in (0..).zip(handles) {
                            assert_eq!(handle.wait().unwrap(), n);
                        }
                        jobs += 6;
                    }
                    jobs
                })
            });
            let resizers = [1, 5].map(|size| {
                let pool = &pool;
                scope.spawn(move || {
                    for round in 0..rounds {
                        jitter(round);
                        pool.resize(size + round % 3).unwrap();
                    }
                })
            });
            resizers.into_iter().for_each(|one| one.join().unwrap());
            stop.store(true, SeqCst);
            let jobs: u64 = submitters.into_iter().map(|one| one.join().unwrap()).sum();
            assert_eq!(pool.stats().completed, jobs);
        });
        pool.resize(3).unwrap();
        eventually("the last word holds", || pool.workers().len() == 3);
        // Hooks are told after the list.
        eventually("the meter knows", || meter.snapshot().total == 3);
        pool.drain();
        assert_eq!(recorder.calls().worker_add, recorder.calls().worker_remove);
    });
}
