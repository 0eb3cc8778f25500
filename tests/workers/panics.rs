//! Panics of workers and of what they hold: heard by the caller, harmless to everybody else.

use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use crate::common::{Event, LIMIT, Latch, Recorder, within};
use crate::more::{add_workers, answer, at_latch, failed, task, tasks};
use worker_pool::{Failure, Job, Manager, Meter, Outcome, Worker, WorkerHandle};

/// The submitter is told the panic's message, as the default panic handler would show it; the other
/// workers serve on, and workers can still be added.
#[test]
fn a_panic_reaches_its_submitter_with_its_message_and_the_pool_lives() {
    within(LIMIT, || {
        let recorder = Recorder::new();
        let pool = tasks().hook(recorder.clone()).build().unwrap();
        let mut workers = add_workers(&pool, 4);
        let text = "made up".to_owned();
        for (boom, message) in [
            (task(|_| panic!("plain")), "plain"),
            (
                task(move |_| panic!("{text} at run time")),
                "made up at run time",
            ),
            (task(|_| panic_any(42)), "a panic without a message"),
        ] {
            let error = pool.submit(boom).unwrap_err();
            assert_eq!(error.panic_message(), Some(message));
            let error = failed(error);
            assert_eq!(error.cause, Failure::Panicked(message.to_owned()));
            let by = error.worker.expect("a worker ran it");
            let place = workers.iter().position(|id| *id == by);
            workers.remove(place.expect("one that had not panicked before"));
            recorder.wait_for(|event| *event == Event::WorkerRemove(by));
            assert_eq!(pool.submit(answer(1)).unwrap(), 1);
        }
        assert_eq!(pool.workers().len(), 1);
        add_workers(&pool, 1);
        let latch = Latch::new();
        let both = [1, 2].map(|n| pool.enqueue(at_latch(&latch, n)).unwrap());
        latch.wait_for(2); // at the same time: both serve
        latch.open();
        assert_eq!(both.map(|handle| handle.wait().unwrap()), [1, 2]);
        assert_eq!(pool.stats().panicked, 3);
    });
}

/// A panic takes its worker off busy and, once its thread is gone, off total; `job_finish` is called
/// once, with the outcome.
#[test]
fn a_panic_is_one_finished_job_and_one_worker_less() {
    within(LIMIT, || {
        let (meter, recorder) = (Meter::new(), Recorder::new());
        let builder = tasks().hook(meter.clone()).hook(recorder.clone());
        let pool = builder.build().unwrap();
        let latch = Latch::new();
        let workers = add_workers(&pool, 2);
        let held = pool.enqueue(at_latch(&latch, 1)).unwrap();
        latch.wait_for_one();
        assert_eq!((meter.snapshot().busy, meter.snapshot().total), (1, 2));
        let door = latch.door();
        let handle = pool
            .enqueue(task(move |_| {
                door.pass(worker_pool::JobId::new(2));
                panic!("boom")
            }))
            .unwrap();
        let id = handle.id();
        latch.wait_for_one();
        assert_eq!((meter.snapshot().busy, meter.snapshot().total), (2, 2));
        // One of the two passes: let both, and see what they leave.
        latch.open();
        assert_eq!(failed(handle.wait().unwrap_err()).job, id);
        assert_eq!(held.wait().unwrap(), 1);
        assert_eq!(meter.snapshot().busy, 0, "settled before the answer");
        let gone = recorder.wait_for(|event| matches!(event, Event::WorkerRemove(_)));
        let Event::WorkerRemove(gone) = gone else {
            unreachable!()
        };
        assert!(workers.contains(&gone));
        assert_eq!((meter.snapshot().busy, meter.snapshot().total), (0, 1));
        let calls = recorder.calls();
        assert_eq!((calls.job_start, calls.job_finish), (2, 2));
        assert_eq!((calls.worker_add, calls.worker_remove), (2, 1));
        pool.close();
        let calls = recorder.calls();
        assert_eq!((calls.worker_add, calls.worker_remove), (2, 2));
    });
}

/// The hook is told that the job panicked, before its caller is.
#[test]
fn a_panicked_job_finishes_once_with_that_outcome() {
    within(LIMIT, || {
        let recorder = Recorder::new();
        let pool = tasks().hook(recorder.clone()).build().unwrap();
        let worker = add_workers(&pool, 1)[0];
        let error = failed(pool.submit(task(|_| panic!("boom"))).unwrap_err());
        let (job, events) = (error.job, recorder.events());
        let seen: Vec<_> = events.try_iter().take(3).collect();
        assert_eq!(seen[0], Event::WorkerAdd(worker));
        assert_eq!(seen[1], Event::JobStart(job, worker));
        assert_eq!(seen[2], Event::JobFinish(job, worker, Outcome::Panicked));
        pool.close();
        assert_eq!(recorder.calls().job_finish, 1);
    });
}

/// Panics wherever it is told to, and notes what was called.
struct Fragile {
    log: Arc<Log>,
    start: bool,
    run: bool,
    close: bool,
    drop: bool,
}

#[derive(Default)]
struct Log {
    runs: AtomicU32,
    closes: AtomicU32,
    drops: AtomicU32,
}

impl Log {
    fn counts(&self) -> [u32; 3] {
        [&self.runs, &self.closes, &self.drops].map(|count| count.load(SeqCst))
    }
}

impl Fragile {
    /// Bits: start, run, close, drop.
    fn new(places: u8) -> (Self, Arc<Log>) {
        let log = Arc::new(Log::default());
        let fragile = Fragile {
            log: Arc::clone(&log),
            start: places & 1 != 0,
            run: places & 2 != 0,
            close: places & 4 != 0,
            drop: places & 8 != 0,
        };
        (fragile, log)
    }
}

impl Worker<u32, u32, String> for Fragile {
    fn start(&mut self, _: &WorkerHandle) {
        assert!(!self.start, "start");
    }
    fn run(&mut self, job: Job<u32>) -> Result<u32, String> {
        self.log.runs.fetch_add(1, SeqCst);
        assert!(!self.run, "run");
        Ok(job.into_payload())
    }
    fn close(&mut self) {
        self.log.closes.fetch_add(1, SeqCst);
        assert!(!self.close, "close");
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        self.log.drops.fetch_add(1, SeqCst);
        assert!(!self.drop, "drop"); // an abort, if another panic were under way
    }
}

/// In `start`, in `run`, in `close`, in its drop, or in all of them: the worker closes once, is dropped
/// once and taken off the roster, and the pool serves on and closes.
#[test]
fn a_worker_that_panics_anywhere_in_its_life_leaves_cleanly() {
    within(LIMIT, || {
        for places in 1..16_u8 {
            let (meter, recorder) = (Meter::new(), Recorder::new());
            let builder = Manager::<u32, u32, String>::builder();
            let pool = builder
                .hook(meter.clone())
                .hook(recorder.clone())
                .build()
                .unwrap();
            let (fragile, log) = Fragile::new(places);
            let (start, run) = (fragile.start, fragile.run);
            let id = pool.add(fragile).unwrap();
            if !start {
                let result = pool.submit(1);
                assert_eq!(result.is_err(), run, "{places:04b}");
                if !run {
                    pool.remove(id).unwrap();
                }
            }
            recorder.wait_for(|event| *event == Event::WorkerRemove(id));
            assert_eq!(log.counts(), [u32::from(!start), 1, 1], "{places:04b}");
            assert_eq!(meter.snapshot().total, 0);
            // The same again as the pool closes, next to one that is sound.
            let (sound, log) = Fragile::new(0);
            pool.add(sound).unwrap();
            assert_eq!(pool.submit(2), Ok(2));
            pool.add(Fragile::new(places & !2).0).unwrap();
            assert_eq!(pool.submit(3), Ok(3));
            pool.close();
            assert_eq!(log.counts()[1..], [1, 1]);
            let calls = recorder.calls();
            assert_eq!(
                (calls.worker_add, calls.worker_remove, calls.closed),
                (3, 3, 1)
            );
        }
    });
}

/// A panic whose own value panics when it is dropped goes no further.
#[test]
fn a_panic_with_a_value_that_panics_in_its_drop_is_contained() {
    struct Bomb(Arc<AtomicBool>);
    impl Drop for Bomb {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
            panic!("a bomb in the panic's value");
        }
    }
    within(LIMIT, || {
        let pool = tasks().build().unwrap();
        add_workers(&pool, 2);
        let gone = Arc::new(AtomicBool::new(false));
        let bomb = Bomb(Arc::clone(&gone));
        let error = pool.submit(task(move |_| panic_any(bomb))).unwrap_err();
        assert_eq!(error.panic_message(), Some("a panic without a message"));
        assert!(gone.load(SeqCst));
        assert_eq!(pool.submit(answer(1)).unwrap(), 1);
        pool.close();
    });
}
