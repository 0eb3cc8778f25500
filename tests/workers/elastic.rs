//! Elastic pools: as many workers as the load wants, within bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use crate::common::{Event, LIMIT, Latch, Recorder, eventually, threads_asleep, within};
use crate::more::{Task, answer, at_latch, run_task, task, tasks};
use worker_pool::{BuildError, Builder, Elastic, Meter, NoWorkers, Priority, Restarts};

/// Long enough to be a wait, and seldom reached by a job that need not wait.
const SOON: Duration = Duration::from_millis(30);
const HOUR: Duration = Duration::from_secs(3600);

fn self_made() -> Builder<Task, u64, String> {
    tasks().factory(|_| Ok::<_, String>(run_task))
}

/// Grows soon, and does not shrink while a test looks.
fn growing(least: usize, most: usize) -> Elastic {
    Elastic::between(least, most)
        .grow_after(SOON)
        .shrink_after(HOUR)
}

/// One worker after the other comes for jobs that wait, up to the most; all run at once.
#[test]
fn a_pool_grows_for_jobs_that_wait_up_to_the_most() {
    within(LIMIT, || {
        for priority in [Priority::Low, Priority::Normal, Priority::High] {
            let (meter, recorder, latch) = (Meter::new(), Recorder::new(), Latch::new());
            let builder = self_made().elastic(growing(1, 4)).hook(meter.clone());
            let pool = builder.hook(recorder.clone()).build().unwrap();
            assert_eq!(meter.snapshot().total, 1, "it begins with the least");
            let held: Vec<_> = (0..6)
                .map(|n| {
                    pool.job(at_latch(&latch, n))
                        .priority(priority)
                        .enqueue()
                        .unwrap()
                })
                .collect();
            latch.wait_for(4); // at the same time
            assert_eq!(meter.snapshot().total, 4);
            // Two more wait for longer than it takes to grow.
            assert!(latch.arrivals() == 0 && !pool.close_signal().wait_timeout(5 * SOON));
            assert_eq!(pool.workers().len(), 4, "never above the most");
            latch.open();
            for (n, handle) in (0..).zip(held) {
                assert_eq!(handle.wait().unwrap(), n);
            }
            assert_eq!(recorder.calls().worker_add, 4);
        }
    });
}

/// A job that was released, and waits behind a long one where no dispatcher sees it, makes the pool
/// grow as well.
#[test]
fn a_single_job_behind_a_long_one_is_seen() {
    within(LIMIT, || {
        let latch = Latch::new();
        let pool = self_made().elastic(growing(1, 2)).build().unwrap();
        assert_eq!(pool.submit(answer(1)).unwrap(), 1);
        // Long enough for the dispatcher to stop its timers, here and below.
        assert!(!pool.close_signal().wait_timeout(3 * SOON));
        let held = pool.enqueue(at_latch(&latch, 1)).unwrap();
        latch.wait_for_one();
        assert!(!pool.close_signal().wait_timeout(3 * SOON));
        assert_eq!(pool.submit(answer(2)).unwrap(), 2);
        assert_eq!(pool.workers().len(), 2);
        latch.open();
        assert_eq!(held.wait().unwrap(), 1);
    });
}

/// From nothing to as many as needed, and back to nothing; and again.
#[test]
fn a_pool_may_shrink_to_nothing_and_come_back() {
    within(LIMIT, || {
        let (meter, recorder) = (Meter::new(), Recorder::new());
        let elastic = Elastic::between(0, 3).grow_after(SOON).shrink_after(SOON);
        let builder = self_made().elastic(elastic).hook(meter.clone());
        let pool = builder.hook(recorder.clone()).build().unwrap();
        for round in 1..=2 {
            assert!(pool.workers().is_empty());
            assert_eq!(pool.submit(answer(1)).unwrap(), 1);
            recorder.wait_for(|event| matches!(event, Event::WorkerRemove(_)));
            eventually("nobody is left", || meter.snapshot().total == 0);
            eventually("nor on the roster", || pool.workers().is_empty());
            let calls = recorder.calls();
            assert!(calls.worker_add >= round && calls.worker_add == calls.worker_remove);
        }
    });
}

/// Idle workers leave one by one, down to the least; those that work stay.
#[test]
fn a_pool_shrinks_to_the_least_around_its_busy_workers() {
    within(LIMIT, || {
        let (recorder, latch) = (Recorder::new(), Latch::new());
        let elastic = Elastic::between(2, 6).grow_after(HOUR).shrink_after(SOON);
        let builder = self_made()
            .workers(6)
            .elastic(elastic)
            .hook(recorder.clone());
        let pool = builder.build().unwrap();
        let held: Vec<_> = (0..4)
            .map(|n| pool.enqueue(at_latch(&latch, n)).unwrap())
            .collect();
        latch.wait_for(4);
        for _ in 0..2 {
            recorder.wait_for(|event| matches!(event, Event::WorkerRemove(_)));
        }
        assert!(!pool.close_signal().wait_timeout(5 * SOON));
        assert_eq!(recorder.calls().worker_remove, 2, "four work");
        latch.open();
        for (n, handle) in (0..).zip(held) {
            assert_eq!(handle.wait().unwrap(), n);
        }
        for _ in 0..2 {
            recorder.wait_for(|event| matches!(event, Event::WorkerRemove(_)));
        }
        assert!(!pool.close_signal().wait_timeout(5 * SOON));
        assert_eq!(recorder.calls().worker_remove, 4, "two are the least");
        assert_eq!(pool.submit(answer(1)).unwrap(), 1);
    });
}

/// Jobs that wait inside the pool's own workers make it grow, where a fixed pool would say that they
/// wait in vain. At the most, it says so as well.
#[test]
fn jobs_that_wait_for_their_own_pool_make_it_grow() {
    within(LIMIT, || {
        let pool = self_made().elastic(growing(1, 3)).build().unwrap();
        let weak = pool.downgrade();
        fn nest(pool: worker_pool::WeakManager<Task, u64, String>, depth: u64) -> Task {
            task(move |_| match depth {
                1 => Ok(1),
                _ => {
                    let inner = nest(pool.clone(), depth - 1);
                    let pool = pool.upgrade().expect("it lives");
                    let inner = pool.submit(inner).map_err(|error| error.to_string())?;
                    Ok(inner + 1)
                }
            })
        }
        assert_eq!(pool.submit(nest(weak.clone(), 3)).unwrap(), 3);
        assert_eq!(pool.workers().len(), 3);
        let error = pool.submit(nest(weak, 4)).unwrap_err();
        let text = error.into_worker_error().expect("the inner one's error");
        assert!(text.contains("deadlock"), "{text}");
    });
}

/// While the pool is paused it does not grow for what waits; afterwards it does.
#[test]
fn a_paused_pool_keeps_its_size() {
    within(LIMIT, || {
        let latch = Latch::new();
        let pool = self_made().elastic(growing(1, 2)).build().unwrap();
        pool.pause();
        let held: Vec<_> = (0..2)
            .map(|n| pool.enqueue(at_latch(&latch, n)).unwrap())
            .collect();
        assert!(!pool.close_signal().wait_timeout(5 * SOON));
        assert_eq!(pool.workers().len(), 1);
        pool.resume();
        latch.wait_for(2);
        latch.open();
        for (n, handle) in (0..).zip(held) {
            assert_eq!(handle.wait().unwrap(), n);
        }
    });
}

/// A factory that fails as the pool grows is tried again with a back-off, and then for the next wait;
/// never in a spin, and the pool closes meanwhile.
#[test]
fn growing_with_a_factory_that_fails_does_not_spin() {
    within(LIMIT, || {
        let calls = Arc::new(AtomicU32::new(0));
        let (counts, latch) = (Arc::clone(&calls), Latch::new());
        let recorder = Recorder::new();
        let builder = tasks().factory(move |_| match counts.fetch_add(1, SeqCst) {
            0 => Ok(run_task),
            _ => Err("no more"),
        });
        let restarts = Restarts::at_most(3).within(4 * SOON).back_off(SOON, SOON);
        let builder = builder.elastic(growing(1, 5)).restarts(restarts);
        let builder = builder.hook(recorder.clone());
        let pool = builder.build().unwrap();
        let held = pool.enqueue(at_latch(&latch, 1)).unwrap();
        latch.wait_for_one();
        let waits = pool.enqueue(answer(2)).unwrap();
        let begin = std::time::Instant::now();
        eventually("it was tried again, and then anew", || {
            calls.load(SeqCst) >= 17
        });
        let made = calls.load(SeqCst) - 1;
        // Of four attempts, three come after a back-off, and one after a job waited.
        let periods = begin.elapsed().as_millis() / (SOON / 2).as_millis();
        assert!(
            u128::from(made) <= periods + 2,
            "{made} attempts in {periods} half periods"
        );
        latch.open();
        assert_eq!(held.wait().unwrap(), 1);
        assert_eq!(waits.wait().unwrap(), 2);
        pool.close();
        let calls = recorder.calls();
        assert_eq!((calls.worker_add, calls.worker_remove), (1, 1));
    });
}

/// An idle elastic pool of its least size has no timer: its dispatcher sleeps until it is called.
#[test]
fn an_idle_pool_of_the_least_size_sleeps() {
    within(LIMIT, || {
        let elastic = Elastic::between(1, 4).grow_after(SOON).shrink_after(SOON);
        let builder = self_made().elastic(elastic).thread_name_prefix("calm");
        let pool = builder.build().unwrap();
        pool.submit(answer(1)).unwrap();
        let switches = || {
            let tasks = std::fs::read_dir("/proc/self/task").expect("Linux lists threads");
            let ours = tasks.flatten().filter(|one| {
                let name = std::fs::read_to_string(one.path().join("comm"));
                name.is_ok_and(|name| name.starts_with("calm"))
            });
            let status = ours.map(|one| std::fs::read_to_string(one.path().join("status")));
            let lines: Vec<_> = status
                .map(|text| {
                    let text = text.expect("the pool's threads live");
                    let lines = text.lines().filter(|line| line.contains("ctxt_switches"));
                    lines.map(str::to_owned).collect::<Vec<_>>()
                })
                .collect();
            assert_eq!(lines.len(), 3, "a dispatcher, a reaper and a worker");
            lines
        };
        // The last timers run out. Then nothing wakes: over many periods no thread runs at all.
        eventually("nothing runs for ten periods", || {
            let before = switches();
            pool.close_signal().wait_timeout(10 * SOON);
            before == switches() && threads_asleep("calm") == 2
        });
    });
}

/// Bounds that make no sense are an error, and no thread was started.
#[test]
fn senseless_bounds_are_an_error() {
    let name = "no-sense";
    let build =
        |builder: Builder<Task, u64, String>| builder.thread_name_prefix(name).build().unwrap_err();
    let between = Elastic::between;
    for (least, most) in [(2, 1), (0, 0), (1, 0)] {
        match build(self_made().elastic(between(least, most))) {
            BuildError::Elastic { least: l, most: m } => assert_eq!((l, m), (least, most)),
            other => panic!("{other:?}"),
        }
    }
    let error = build(self_made().workers(3).elastic(between(1, 2)));
    assert!(matches!(error, BuildError::Elastic { least: 1, most: 2 }));
    let builder = self_made().no_workers(NoWorkers::Reject);
    let error = build(builder.elastic(between(0, 2)));
    assert!(matches!(error, BuildError::Elastic { least: 0, most: 2 }));
    let error = build(tasks().elastic(between(1, 2)));
    assert!(matches!(error, BuildError::NoFactory));
    assert_eq!(crate::common::threads_named(name), 0);
}
