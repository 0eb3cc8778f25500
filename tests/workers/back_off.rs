//! The pause before a worker is made anew: who waits for its end, and who does not.

use std::thread;
use std::time::Duration;

use crate::common::{Event, LIMIT, Latch, Recorder, eventually, stress, within};
use crate::more::{
    self, Tasks, add_workers, answer, at_latch, boom, jitter, restartable, run_task, task, tasks,
};
use worker_pool::{Meter, Restarts, WorkerId, WorkerState};

const HOUR: Duration = Duration::from_secs(3600);

/// As many as it takes, with hardly a pause.
fn at_once() -> Restarts {
    let pause = Duration::from_millis(1);
    Restarts::without_limit().back_off(pause, pause)
}

/// The back-off is longer than any test.
fn never_soon() -> Restarts {
    Restarts::without_limit().back_off(HOUR, HOUR)
}

/// Puts the only worker of a new pool into a back-off that does not end by itself.
fn in_back_off() -> (Tasks, WorkerId, Recorder, Meter) {
    let (meter, recorder) = (Meter::new(), Recorder::new());
    let builder = tasks().restarts(never_soon()).hook(meter.clone());
    let pool = builder.hook(recorder.clone()).build().unwrap();
    let id = restartable(&pool, 1)[0];
    pool.submit(boom()).unwrap_err();
    recorder.wait_for(|event| *event == Event::WorkerRemove(id));
    assert_eq!(pool.workers()[0].state, WorkerState::Starting);
    assert_eq!(meter.snapshot().total, 0, "absent, so not counted");
    (pool, id, recorder, meter)
}

/// Close, drain, the drop of the pool and the worker's removal each end a back-off at once.
#[test]
fn nothing_waits_for_the_end_of_a_back_off() {
    within(LIMIT, || {
        let (pool, _, recorder, _) = in_back_off();
        let waits = pool.enqueue(answer(1)).unwrap();
        pool.close();
        assert!(waits.wait().unwrap_err().is_closed());
        assert_eq!(recorder.calls().worker_remove, 1);

        let (pool, _, recorder, _) = in_back_off();
        pool.drain();
        assert_eq!(recorder.calls().worker_remove, 1);

        let (pool, _, recorder, _) = in_back_off();
        let end = pool.close_signal();
        drop(pool);
        assert!(end.is_closed());
        assert_eq!(recorder.calls().worker_remove, 1);

        let (pool, id, recorder, meter) = in_back_off();
        pool.remove(id).unwrap();
        eventually("it is off the roster", || pool.workers().is_empty());
        assert_eq!(recorder.calls().worker_remove, 1);
        add_workers(&pool, 1);
        assert_eq!(pool.submit(answer(2)).unwrap(), 2);
        assert_eq!(meter.snapshot().total, 1);
    });
}

/// A drain waits out a back-off while jobs wait for the worker, and runs them.
#[test]
fn a_drain_during_a_back_off_runs_what_waits() {
    within(LIMIT, || {
        let recorder = Recorder::new();
        let soon = Restarts::default().back_off(10 * more::SHORT, 10 * more::SHORT);
        let builder = tasks().restarts(soon).hook(recorder.clone());
        let pool = builder.build().unwrap();
        let id = restartable(&pool, 1)[0];
        pool.submit(boom()).unwrap_err();
        recorder.wait_for(|event| *event == Event::WorkerRemove(id));
        let handles: Vec<_> = (0..5).map(|n| pool.enqueue(answer(n)).unwrap()).collect();
        pool.drain();
        for (n, handle) in (0..).zip(handles) {
            assert_eq!(handle.wait().unwrap(), n);
        }
        assert_eq!(recorder.calls().worker_remove, 2);
    });
}

/// A drain with one worker in a long back-off and another at rest does not wait for the back-off.
#[test]
fn a_drain_waits_for_those_who_are_there() {
    within(LIMIT, || {
        let (pool, _, recorder, _) = in_back_off();
        add_workers(&pool, 1);
        let latch = Latch::new();
        let held = pool.enqueue(at_latch(&latch, 1)).unwrap();
        latch.wait_for_one();
        let last = pool.enqueue(answer(2)).unwrap();
        thread::scope(|scope| {
            let drainer = scope.spawn(|| pool.drain());
            recorder.wait_for(|event| matches!(event, Event::State(_)));
            latch.open();
            drainer.join().unwrap();
        });
        assert_eq!(held.wait().unwrap(), 1);
        assert_eq!(last.wait().unwrap(), 2);
    });
}

/// The last worker that panics while the pool drains, and has nothing left to do, holds up nothing.
#[test]
fn a_drain_ends_with_the_panic_that_ends_its_last_job() {
    let rounds = stress(100);
    within(LIMIT, move || {
        for round in 0..rounds {
            let pool = tasks().restarts(never_soon()).build().unwrap();
            restartable(&pool, 2);
            let handle = pool.enqueue(boom()).unwrap();
            jitter(round);
            pool.drain();
            assert_eq!(handle.wait().unwrap_err().panic_message(), Some("boom"));
        }
    });
}

/// A factory that blocks at a restart is named by `close_timeout`, and close waits for it.
#[test]
fn a_factory_that_blocks_at_a_restart_is_waited_for_by_close() {
    within(LIMIT, || {
        let (latch, recorder) = (Latch::new(), Recorder::new());
        let builder = tasks().restarts(at_once()).hook(recorder.clone());
        let pool = builder.build().unwrap();
        let (door, mut first) = (latch.door(), true);
        let id = pool.add_factory(move |id| {
            if !std::mem::take(&mut first) {
                door.pass(worker_pool::JobId::new(id.get()));
            }
            Ok::<_, String>(run_task)
        });
        let id = id.unwrap();
        pool.submit(boom()).unwrap_err();
        latch.wait_for_one();
        assert_eq!(pool.workers()[0].state, WorkerState::Starting);
        assert_eq!(pool.close_timeout(more::SHORT).unwrap_err().running, [id]);
        latch.open();
        pool.close();
        assert_eq!(
            (recorder.calls().worker_add, recorder.calls().worker_remove),
            (2, 2)
        );
    });
}

/// no deadlock.
#[test]
fn waiting_for_a_worker_in_back_off_is_no_deadlock() {
    within(LIMIT, || {
        let recorder = Recorder::new();
        let soon = Restarts::default().back_off(10 * more::SHORT, 10 * more::SHORT);
        let builder = tasks().restarts(soon).hook(recorder.clone());
        let pool = builder.build().unwrap();
        add_workers(&pool, 1);
        let latch = Latch::new();
        let held = pool.enqueue(at_latch(&latch, 1)).unwrap();
        latch.wait_for_one();
        let absent = restartable(&pool, 1)[0];
        let error = more::failed(pool.submit(boom()).unwrap_err());
        assert_eq!(error.worker, Some(absent));
        recorder.wait_for(|event| *event == Event::WorkerRemove(absent));
        let inner = pool.downgrade();
        let nested = task(move |_| {
            let pool = inner.upgrade().expect("it lives");
            pool.submit(answer(5)).map_err(|error| error.to_string())
        });
        let outer = pool.enqueue(nested).unwrap();
        latch.open();
        assert_eq!(held.wait().unwrap(), 1);
        assert_eq!(outer.wait().unwrap(), 5);
    });
}
