//! However a batch ends, every payload, output and error of it is dropped exactly once.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::common::{Counted, LIMIT, Latch, Tally, eventually, stress, within};
use worker_pool::{CancelToken, Job, Manager, Priority, WorkerHandle};

type Counting = Manager<Counted, Counted, Counted>;

/// Answers, fails, or panics, and keeps or drops the payload, by its number.
fn serve(job: Job<Counted>) -> Result<Counted, Counted> {
    let output = job.payload().tally().make(job.payload().value);
    match job.payload().value % 40 {
        0 => Err(output),
        1 => Err(job.into_payload()),
        2 => Ok(job.into_payload()),
        3 if job.payload().value % 1_000 == 3 => panic!("boom"),
        _ => Ok(output),
    }
}

/// Serves, and is finished after some jobs.
struct Leaver {
    left: u64,
    me: Option<WorkerHandle>,
}

impl worker_pool::Worker<Counted, Counted, Counted> for Leaver {
    fn start(&mut self, handle: &WorkerHandle) {
        self.me = Some(handle.clone());
    }
    fn run(&mut self, job: Job<Counted>) -> Result<Counted, Counted> {
        self.left -= 1;
        if self.left == 0 {
            self.me.as_ref().inspect(|me| me.finish());
        }
        serve(job)
    }
}

/// Runs batches in all forms, to the end or not; how many inputs they were.
fn run_batches(pool: &Counting, tally: &Tally, seed: u64) {
    let token = CancelToken::new();
    for n in seed..seed + 24 {
        let inputs = 50 + n * 997 % 3_000;
        let some = inputs as usize / 3;
        let payloads = {
            let tally = tally.clone();
            (0..inputs).map(move |value| tally.make(value))
        };
        let batch = pool.batch();
        let batch = match n % 3 {
            0 => batch.priority(Priority::High),
            1 => batch.priority(Priority::Low),
            _ => batch.buffered(40),
        };
        let late = Duration::from_micros(n * 37 % 500);
        match n % 12 {
            0 => assert_eq!(batch.map(payloads).count() as u64, inputs),
            1 => assert_eq!(batch.map_unordered(payloads).count() as u64, inputs),
            2 => drop(batch.map(payloads).nth(some)),
            3 => drop(batch.map_unordered(payloads).nth(some)),
            4 => drop(batch.try_for_each(payloads.skip(10), |_, _| {})),
            5 => assert_eq!(batch.timeout(late).map(payloads).count() as u64, inputs),
            6 => drop(batch.cancel_token(&token).map(payloads)),
            7 => {
                let own = token.child();
                let canceller = own.clone();
                thread::spawn(move || canceller.cancel());
                let results = batch.cancel_token(&own).map_unordered(payloads);
                assert_eq!(results.count() as u64, inputs);
            }
            8 => {
                let mut results = batch.map(payloads);
                results.next();
                drop(thread::spawn(move || results.nth(some)).join().unwrap());
            }
            9 => {
                let sick = payloads.inspect(|one| assert_ne!(one.value, 45, "no more"));
                let mut results = batch.map_unordered(sick);
                let mut yielded = 0;
                while let Ok(Some(_)) = catch_unwind(AssertUnwindSafe(|| results.next())) {
                    yielded += 1;
                }
                assert!(yielded <= 45);
            }
            10 => {
                let each = |index: usize, _| assert_ne!(index, 30, "enough");
                let all = || batch.for_each(payloads, each);
                assert!(catch_unwind(AssertUnwindSafe(all)).is_err());
            }
            _ => {
                let all: Vec<_> = batch.map(payloads).collect();
                assert_eq!(all.len() as u64, inputs);
            }
        }
    }
    token.cancel();
}

/// Batches of all sorts and single jobs, with workers that panic, finish and are removed, and a pool
/// that is paused, closed, drained or dropped in the midst of it.
#[test]
fn what_goes_through_a_batch_is_dropped_exactly_once() {
    let rounds = stress(24) as u64;
    within(3 * LIMIT, move || {
        for round in 0..rounds {
            let tally = Tally::new();
            let pool = Counting::builder().queue_capacity(4).build().unwrap();
            thread::scope(|scope| {
                for submitter in 0..2 {
                    let (pool, tally) = (&pool, &tally);
                    scope.spawn(move || run_batches(pool, tally, submitter * 6 + round));
                }
                let ender = pool.clone();
                scope.spawn(move || {
                    for n in 0..30 {
                        let id = ender.add(serve).ok();
                        let left = 1 + n * 211 % 3_000;
                        let _ = ender.add(Leaver { left, me: None });
                        if n % 3 == 0 {
                            id.map(|id| ender.remove(id));
                            ender.pause();
                            thread::yield_now();
                            ender.resume();
                        }
                        thread::yield_now();
                    }
                    let some = 2_000 * (round % 13);
                    let more = || ender.add(serve).is_err() || ender.stats().ended() >= some;
                    eventually("enough has run", more);
                    match round % 3 {
                        0 => ender.close(),
                        1 => drop(ender.drain_timeout(Duration::from_micros(50 * round))),
                        _ => drop(ender.close_timeout(Duration::ZERO)),
                    }
                });
            });
            assert!(pool.close_signal().wait_timeout(LIMIT));
            let stats = pool.stats();
            assert_eq!(stats.accepted, stats.ended(), "{stats}");
            drop(pool);
            assert_eq!(tally.live(), 0, "of {}", tally.made());
        }
    });
}

/// A batch whose iterator is leaked: it is run as far as it was sent off, and nothing waits for it.
#[test]
fn a_leaked_iterator_harms_nobody() {
    within(LIMIT, || {
        let tally = Tally::new();
        let pool = Counting::new();
        pool.add(serve).unwrap();
        let payloads = tally.clone();
        let mut results = pool.map((100..).map(move |value| payloads.make(value % 900 + 4)));
        results.nth(2_000);
        std::mem::forget(results);
        drop(pool.submit(tally.make(5)));
        assert!(pool.wait_idle());
        let stats = pool.stats();
        assert_eq!(stats.accepted, stats.ended(), "{stats}");
        pool.close();
    });
}

/// A value whose drop panics.
struct Bomb {
    value: u64,
    tally: Tally,
    armed: bool,
}

impl Bomb {
    /// No longer dangerous: for what the test itself drops.
    fn defuse(mut self) -> u64 {
        self.armed = false;
        self.value
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        drop(self.tally.make(self.value));
        if self.armed && !thread::panicking() {
            resume_unwind(Box::new("a bomb")); // without a word
        }
    }
}

/// Outputs and payloads that nobody takes, those that were read and not sent off, and those that the
/// pool turns away: their panics are contained, and each is dropped once.
#[test]
fn panics_of_drops_are_contained() {
    within(LIMIT, || {
        for close in [false, true] {
            let tally = Tally::new();
            let pool = Manager::<Bomb, Bomb>::new();
            let latch = Latch::new();
            for _ in 0..2 {
                let door = latch.door();
                pool.add(move |job: Job<Bomb>| {
                    if job.payload().value == 5_500 {
                        door.pass(job.id());
                    }
                    Ok(job.into_payload())
                })
                .unwrap();
            }
            let (read, counted) = (Arc::new(AtomicU64::new(0)), tally.clone());
            let count = Arc::clone(&read);
            let inputs = (0..).map(move |value| {
                assert_ne!(value, 9_000, "no more");
                count.fetch_add(1, SeqCst);
                let tally = counted.clone();
                Bomb {
                    value,
                    tally,
                    armed: true,
                }
            });
            let mut results = pool.map_unordered(inputs);
            let mut yielded = 0;
            // The held one is in the midst of them, and the input ends within a chunk.
            while let Ok(found) = catch_unwind(AssertUnwindSafe(|| results.next())) {
                yielded += 1;
                let (index, result) = found.expect("it has no end");
                let output = result.unwrap_or_else(|_| panic!("{index} was run"));
                assert_eq!(output.defuse(), index as u64);
            }
            latch.wait_for_one();
            let closer = close.then(|| {
                let pool = pool.clone();
                thread::spawn(move || pool.close())
            });
            drop(results);
            latch.open();
            assert!(pool.wait_idle());
            if !close {
                assert_eq!(pool.workers().len(), 2);
            }
            if let Some(closer) = closer {
                closer.join().unwrap();
            }
            pool.close();
            assert_eq!(read.load(SeqCst), 9_000);
            assert_eq!(tally.dropped(), 9_000, "{yielded} were yielded");
            let stats = pool.stats();
            assert_eq!(
                (stats.accepted, stats.panicked),
                (stats.ended(), 0),
                "{stats}"
            );
        }
    });
}
