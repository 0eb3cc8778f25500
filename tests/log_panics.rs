//! A log backend that panics on every record, and whose panics panic once more when they are dropped.
//! Alone in its process, because a process has one logger.

mod common;
#[path = "common/more.rs"]
mod more;

use std::panic::panic_any;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use common::{LIMIT, next, threads_named, within};
use crossbeam_channel::{bounded, unbounded};
use log::{LevelFilter, Log, Metadata, Record};
use more::{SHORT, answer, boom, restartable, task, tasks};
use worker_pool::{Hook, Job, JobId, Manager, Meter, Outcome, Restarts, WorkerId};

/// How many records were asked for, by level.
static RECORDS: [AtomicUsize; 6] = [const { AtomicUsize::new(0) }; 6];

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the payload of a panic panics as it is dropped");
    }
}

struct Backend;

impl Log for Backend {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &Record<'_>) {
        RECORDS[record.level() as usize].fetch_add(1, SeqCst);
        panic_any(Bomb);
    }
    fn flush(&self) {}
}

struct BadHook;

impl Hook for BadHook {
    fn job_start(&self, _: JobId, _: WorkerId) {
        panic_any(Bomb);
    }
    fn job_finish(&self, _: JobId, _: WorkerId, _: Outcome) {
        panic_any(Bomb);
    }
    fn worker_remove(&self, _: WorkerId) {
        panic_any(Bomb);
    }
}

/// Every job has its answer, and the pool its end, whatever the log backend does.
#[test]
fn a_log_backend_that_panics_costs_no_job_and_no_thread() {
    static BACKEND: Backend = Backend;
    std::panic::set_hook(Box::new(|_| {})); // there are many
    log::set_logger(&BACKEND).expect("there is no other logger");
    log::set_max_level(LevelFilter::Trace);
    within(LIMIT, || {
        let pause = Duration::from_millis(1);
        let often = Restarts::without_limit().back_off(pause, pause);
        let pool = tasks()
            .name("logs")
            .hook(Meter::new())
            .hook(BadHook)
            .restarts(often)
            .build()
            .unwrap();
        restartable(&pool, 2);
        let (errors, failures) = unbounded();
        for round in 0..30 {
            assert_eq!(pool.submit(answer(round)).unwrap(), round);
            let failed = pool.submit(task(|_| Err("no".to_owned()))).unwrap_err();
            assert_eq!(failed.into_worker_error().as_deref(), Some("no"));
            let panicked = pool.submit(boom()).unwrap_err();
            assert_eq!(panicked.panic_message(), Some("boom"));
            pool.detach_submit(boom(), round, &errors).unwrap();
            assert_eq!(next(&failures).id, round);
            // Nobody hears of this one, which is logged.
            let (deaf, _) = bounded(0);
            pool.detach_submit(boom(), round, &deaf).unwrap();
            let batch = pool.map((0..5).map(|number| if number == 2 { boom() } else { answer(1) }));
            assert_eq!(batch.filter(Result::is_ok).count(), 4);
        }
        assert!(pool.wait_idle());
        let stats = pool.stats();
        assert_eq!(stats.accepted, stats.ended());
        assert_eq!(
            (stats.completed, stats.failed, stats.panicked),
            (150, 30, 120)
        );
        assert_eq!(stats.total, 2, "both workers were made anew each time");
        pool.close();
    });
    within(LIMIT, || {
        // A worker that cannot be made again, and one that says no more than that in its own panic.
        let pool = Manager::<u32>::builder()
            .name("logs")
            .restarts(Restarts::at_most(2).back_off(SHORT, SHORT))
            .build()
            .unwrap();
        let mut made = 0;
        pool.add_factory(move |_| {
            made += 1;
            match made {
                1 => Ok(|_: Job<u32>| -> Result<(), _> { panic_any(Bomb) }),
                2 => panic_any(Bomb),
                _ => Err("never again"),
            }
        })
        .unwrap();
        assert!(pool.submit(1).unwrap_err().panic_message().is_some());
        pool.drain();
    });
    assert_eq!(threads_named("logs"), 0);
    let records = RECORDS.each_ref().map(|records| records.load(SeqCst));
    for (level, records) in records.iter().enumerate().skip(1) {
        let silent = level == log::Level::Info as usize; // the pool has nothing to say there
        assert!(silent || *records > 0, "level {level} was tried");
    }
}
