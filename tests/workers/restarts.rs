//! Workers that are made anew: after a panic, and after they said that they are finished.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Event, LIMIT, Latch, Recorder, eventually, next, stress, within};
use crate::more::{
    self, add_workers, answer, at_latch, boom, jitter, restartable, run_task, task, tasks,
};
use crossbeam_channel::{Sender, unbounded};
use worker_pool::{Job, Manager, Meter, Outcome, Restarts, Worker, WorkerHandle};

const HOUR: Duration = Duration::from_secs(3600);

/// As many as it takes, with hardly a pause.
fn at_once() -> Restarts {
    let pause = Duration::from_millis(1);
    Restarts::without_limit().back_off(pause, pause)
}

/// Every worker panics, and as many come back: the next jobs run all at once.
#[test]
fn all_panic_and_all_come_back() {
    within(LIMIT, || {
        let (meter, recorder) = (Meter::new(), Recorder::new());
        let builder = tasks().restarts(at_once()).hook(meter.clone());
        let pool = builder.hook(recorder.clone()).build().unwrap();
        let workers = restartable(&pool, 4);
        let latch = Latch::new();
        for round in 1..=3 {
            let bombs: Vec<_> = (0..4)
                .map(|_| {
                    let door = latch.door();
                    let bomb = task(move |_| {
                        door.pass(worker_pool::JobId::new(0));
                        panic!("boom")
                    });
                    pool.enqueue(bomb).unwrap()
                })
                .collect();
            latch.wait_for(4);
            latch.release(4);
            for bomb in bombs {
                assert_eq!(bomb.wait().unwrap_err().panic_message(), Some("boom"));
            }
            let handles: Vec<_> = (0..4)
                .map(|n| pool.enqueue(at_latch(&latch, n)).unwrap())
                .collect();
            latch.wait_for(4); // at the same time: four serve
            assert_eq!((meter.snapshot().busy, meter.snapshot().total), (4, 4));
            let mut ids: Vec<_> = pool.workers().iter().map(|one| one.id).collect();
            ids.sort();
            assert_eq!(ids, workers, "the same ids");
            latch.release(4);
            for (n, handle) in (0..).zip(handles) {
                assert_eq!(handle.wait().unwrap(), n);
            }
            let calls = recorder.calls();
            assert_eq!(
                (calls.worker_add, calls.worker_remove),
                (4 + 4 * round, 4 * round)
            );
        }
        pool.close();
        assert_eq!(recorder.calls().worker_remove, 16);
    });
}

/// The last worker panics while jobs wait and submitters block for room: all are served by the next.
#[test]
fn those_who_wait_are_served_by_the_next_worker() {
    let rounds = stress(100);
    within(LIMIT, move || {
        for round in 0..rounds {
            let builder = tasks().queue_capacity(2).restarts(at_once());
            let pool = builder.build().unwrap();
            restartable(&pool, 1);
            thread::scope(|scope| {
                for submitter in 0..6 {
                    let pool = &pool;
                    scope.spawn(move || {
                        jitter(round + submitter);
                        if submitter % 2 == 0 {
                            let error = pool.submit(boom()).unwrap_err();
                            assert_eq!(error.panic_message(), Some("boom"));
                        } else {
                            assert_eq!(pool.submit(answer(1)).unwrap(), 1);
                        }
                    });
                }
            });
            let stats = pool.stats();
            assert_eq!((stats.completed, stats.panicked), (3, 3));
        }
    });
}

/// Beyond the limit the worker is gone for good, and its factory is not called again.
#[test]
fn too_many_restarts_end_the_worker() {
    within(LIMIT, || {
        let (meter, recorder) = (Meter::new(), Recorder::new());
        let limit = Restarts::at_most(2)
            .within(HOUR)
            .back_off(more::SHORT, more::SHORT);
        let builder = tasks().restarts(limit).hook(meter.clone());
        let pool = builder.hook(recorder.clone()).build().unwrap();
        let made = Arc::new(AtomicU32::new(0));
        let counts = Arc::clone(&made);
        let id = pool.add_factory(move |_| {
            counts.fetch_add(1, SeqCst);
            Ok::<_, String>(run_task)
        });
        let id = id.unwrap();
        for _ in 0..3 {
            let error = pool.submit(boom()).unwrap_err();
            assert_eq!(error.panic_message(), Some("boom"));
        }
        for _ in 0..3 {
            recorder.wait_for(|event| *event == Event::WorkerRemove(id));
        }
        assert_eq!(made.load(SeqCst), 3);
        assert!(pool.workers().is_empty());
        assert_eq!(meter.snapshot().total, 0);
        assert_eq!(pool.remove(id).unwrap_err().0, id);
        // The pool keeps what it accepts until somebody is added.
        let waits = pool.enqueue(answer(7)).unwrap();
        add_workers(&pool, 1);
        assert_eq!(waits.wait().unwrap(), 7);
    });
}

/// A factory that fails, or panics, at a restart is called as often as the limit allows and no more,
/// with a pause before each call.
#[test]
fn a_factory_that_fails_at_a_restart_is_not_called_in_a_spin() {
    within(LIMIT, || {
        for panics in [false, true] {
            let (meter, recorder) = (Meter::new(), Recorder::new());
            let pause = Duration::from_millis(20);
            let limit = Restarts::at_most(4).within(HOUR).back_off(pause, pause);
            let builder = tasks().restarts(limit).hook(meter.clone());
            let pool = builder.hook(recorder.clone()).build().unwrap();
            let (call, calls) = unbounded();
            let id = pool.add_factory(move |_| {
                call.send(Instant::now()).unwrap();
                match call.len() {
                    1 => Ok(run_task),
                    _ if panics => panic!("no more"),
                    _ => Err("no more"),
                }
            });
            let id = id.unwrap();
            let begin = Instant::now();
            pool.submit(boom()).unwrap_err();
            recorder.wait_for(|event| *event == Event::WorkerRemove(id));
            eventually("the worker has given up", || pool.workers().is_empty());
            let calls: Vec<_> = calls.try_iter().collect();
            assert_eq!(calls.len(), 5, "the first, and four restarts");
            // Half of each pause is certain.
            assert!(calls[4] - begin >= 4 * pause / 2);
            assert!(
                calls
                    .windows(2)
                    .skip(1)
                    .all(|two| two[1] - two[0] >= pause / 2)
            );
            assert_eq!(
                (recorder.calls().worker_add, recorder.calls().worker_remove),
                (1, 1)
            );
            assert_eq!(meter.snapshot().total, 0);
            pool.drain();
            assert_eq!(recorder.calls().worker_remove, 1, "told once");
        }
    });
}

/// Hands out its handle at its start; a job tells it apart from its successors.
struct Numbered {
    number: u32,
    handles: Sender<WorkerHandle>,
}

impl Worker<(), u32, String> for Numbered {
    fn start(&mut self, handle: &WorkerHandle) {
        self.handles.send(handle.clone()).unwrap();
    }
    fn run(&mut self, _: Job<()>) -> Result<u32, String> {
        Ok(self.number)
    }
}

/// `finish` renews a worker; a handle of the old one does nothing to the new one.
#[test]
fn a_handle_does_not_outlive_its_worker() {
    within(LIMIT, || {
        let recorder = Recorder::new();
        let builder = Manager::<(), u32, String>::builder().restarts(at_once());
        let pool = builder.hook(recorder.clone()).build().unwrap();
        let (handles, handed_out) = unbounded();
        let mut number = 0;
        let id = pool.add_factory(move |_| {
            number += 1;
            let handles = handles.clone();
            Ok::<_, String>(Numbered { number, handles })
        });
        let id = id.unwrap();
        assert_eq!(pool.submit(()), Ok(1));
        let first = next(&handed_out);
        assert!(!first.is_finishing());
        first.finish();
        assert!(first.is_finishing());
        recorder.wait_for(|event| *event == Event::WorkerRemove(id));
        let second = next(&handed_out);
        assert_eq!((first.id(), second.id()), (id, id));
        first.finish();
        first.finish();
        assert!(first.is_finishing() && !second.is_finishing());
        for _ in 0..10 {
            assert_eq!(pool.submit(()), Ok(2), "the second serves on");
        }
        assert_eq!(recorder.calls().worker_add, 2);
        second.finish();
        let third = next(&handed_out);
        assert_eq!(pool.submit(()), Ok(3));
        pool.remove(id).unwrap();
        assert!(third.is_finishing());
        eventually("a removal is final", || pool.workers().is_empty());
        // The hooks are told after the worker is off the list.
        eventually("each end is told", || recorder.calls().worker_remove == 3);
        assert_eq!(recorder.calls().worker_add, 3);
    });
}

/// Whoever hears of a panic finds the worker on its way out.
#[test]
fn a_worker_that_panicked_is_finishing_before_its_caller_knows() {
    struct Fragile(Sender<WorkerHandle>);
    impl Worker<(), (), String> for Fragile {
        fn start(&mut self, handle: &WorkerHandle) {
            self.0.send(handle.clone()).unwrap();
        }
        fn run(&mut self, _: Job<()>) -> Result<(), String> {
            panic!("boom")
        }
    }
    let rounds = stress(200) as u32;
    within(LIMIT, move || {
        let builder = Manager::<(), (), String>::builder().restarts(at_once());
        let pool = builder.build().unwrap();
        let (handles, handed_out) = unbounded();
        pool.add_factory(move |_| Ok::<_, String>(Fragile(handles.clone())))
            .unwrap();
        for _ in 0..rounds {
            let handle = next(&handed_out);
            pool.submit(()).unwrap_err();
            assert!(handle.is_finishing());
        }
    });
}

/// A worker that panics in `start` is made anew like one that panics in `run`.
#[test]
fn a_worker_that_panics_at_its_start_is_made_anew() {
    struct Hesitant {
        ready: bool,
    }
    impl Worker<(), (), String> for Hesitant {
        fn start(&mut self, _: &WorkerHandle) {
            assert!(self.ready, "not yet");
        }
        fn run(&mut self, _: Job<()>) -> Result<(), String> {
            Ok(())
        }
    }
    within(LIMIT, || {
        let recorder = Recorder::new();
        let builder = Manager::<(), (), String>::builder().restarts(at_once());
        let pool = builder.hook(recorder.clone()).build().unwrap();
        let mut attempts = 0;
        pool.add_factory(move |_| {
            attempts += 1;
            Ok::<_, String>(Hesitant {
                ready: attempts > 3,
            })
        })
        .unwrap();
        pool.submit(()).unwrap();
        assert_eq!(
            (recorder.calls().worker_add, recorder.calls().worker_remove),
            (4, 3)
        );
    });
}

/// A worker that waits for a job of its own pool is served by another that is in a back-off: that is
/// Throughout panics, restarts, removals and jobs, `busy ≤ total` in every snapshot; at the end hooks
/// have come in pairs.
#[test]
fn counters_stay_true_while_workers_come_back() {
    let rounds = stress(400);
    within(LIMIT, move || {
        let (meter, recorder) = (Meter::new(), Recorder::new());
        let builder = tasks().restarts(at_once()).hook(meter.clone());
        let pool = builder.hook(recorder.clone()).build().unwrap();
        restartable(&pool, 3);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                while !done.load(SeqCst) {
                    let now = meter.snapshot();
                    assert!(now.busy <= now.total && now.total <= 5, "{now}");
                }
            });
            let submitters = [0, 1].map(|submitter| {
                let pool = &pool;
                scope.spawn(move || {
                    for round in 0..rounds {
                        if round % 3 == submitter {
                            pool.submit(boom()).unwrap_err();
                        } else {
                            pool.submit(answer(1)).unwrap();
                        }
                    }
                })
            });
            for round in 0..rounds / 10 {
                let id = restartable(&pool, 1)[0];
                jitter(round);
                pool.remove(id).unwrap();
                eventually("it is gone", || {
                    pool.workers().iter().all(|one| one.id != id)
                });
            }
            submitters.into_iter().for_each(|one| one.join().unwrap());
            done.store(true, SeqCst);
            watcher.join().unwrap();
        });
        pool.drain();
        let (mut there, mut working) = (Vec::new(), Vec::new());
        for event in recorder.events().try_iter() {
            match event {
                Event::WorkerAdd(id) => {
                    assert!(!there.contains(&id), "added twice");
                    there.push(id);
                }
                Event::WorkerRemove(id) => {
                    let place = there.iter().position(|one| *one == id);
                    there.remove(place.expect("added before"));
                    assert!(!working.contains(&id), "removed while it works");
                }
                Event::JobStart(_, id) => {
                    assert!(there.contains(&id));
                    working.push(id);
                }
                Event::JobFinish(_, id, outcome) => {
                    assert_ne!(outcome, Outcome::Failed);
                    let place = working.iter().position(|one| *one == id);
                    working.remove(place.expect("it began"));
                }
                Event::State(_) => {}
            }
        }
        assert!(there.is_empty() && working.is_empty());
        let now = meter.snapshot();
        assert_eq!((now.busy, now.total), (0, 0));
        let stats = pool.stats();
        assert_eq!(stats.accepted, stats.ended());
    });
}
