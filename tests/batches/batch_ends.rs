//! However a batch ends, its books balance, nothing of it begins any more, and every payload, output
//! and error is dropped exactly once.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::common::{Counted, Gate, LIMIT, Tally, eventually, next, stress, within};
use crossbeam_channel::{Sender, bounded};
use parking_lot::Mutex;
use worker_pool::{
    CancelToken, Cause, Hook, Job, Manager, MapUnordered, Priority, Reason, SubmitError,
    WorkerHandle, WorkerId,
};

type Pool = Manager<u64, u64, String>;
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
            _ => batch.ahead(40),
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

/// Jobs that run by their number: those above a limit wait at the gate.
fn held_from(
    first: u64,
    gate: &Gate,
) -> impl FnMut(Job<u64>) -> Result<u64, String> + Send + use<> {
    let door = gate.door();
    move |job| {
        if *job.payload() >= first {
            door.pass(job.id());
        }
        Ok(job.into_payload())
    }
}

/// While a worker is at one of its jobs: those that have not begun are cancelled and given up at once,
/// and the one that runs is not waited for.
#[test]
fn a_dropped_iterator_cancels_what_has_not_begun() {
    within(LIMIT, || {
        for ordered in [true, false] {
            let tally = Tally::new();
            let pool = Manager::<Counted, u64>::new();
            let gate = Gate::new();
            let door = gate.door();
            pool.add(move |job: Job<Counted>| {
                if job.payload().value == 5_000 {
                    door.pass(job.id());
                }
                Ok(job.payload().value)
            })
            .unwrap();
            let payloads = tally.clone();
            let inputs = (0..20_000).map(move |value| payloads.make(value));
            let consumer = pool.clone();
            let (stop, stopped) = bounded::<()>(0);
            let (dropped, drops) = bounded(0);
            let consumer = thread::spawn(move || {
                let mut results: Box<dyn Iterator<Item = _>> = match ordered {
                    true => Box::new(consumer.map(inputs)),
                    false => Box::new(consumer.map_unordered(inputs).map(|(_, result)| result)),
                };
                // Those before the one that is held, less what was claimed with it.
                assert_eq!(
                    results.by_ref().take(4_980).filter(Result::is_ok).count(),
                    4_980
                );
                let _ = stopped.recv();
                drop(results);
                dropped.send(()).unwrap();
            });
            gate.wait_for_one();
            drop(stop);
            next(&drops);
            // The job in hand and what was claimed with it.
            assert!(tally.live() <= 64, "{} live", tally.live());
            gate.open();
            consumer.join().unwrap();
            assert!(pool.wait_idle());
            let stats = pool.stats();
            assert_eq!(stats.accepted, stats.ended(), "{stats}");
            assert!(stats.completed <= 5_001, "{stats}");
            pool.close();
            assert_eq!(tally.live(), 0);
        }
    });
}

/// While a worker is at one of its jobs.
#[test]
fn close_answers_the_rest_of_a_batch_at_once() {
    within(LIMIT, || {
        let pool = Pool::new();
        let gate = Gate::new();
        pool.add(held_from(5_000, &gate)).unwrap();
        let closer = pool.clone();
        let mut results = pool.map_unordered(0..20_000);
        let (mut completed, mut closed) = (0, 0);
        let mut count = |result: Result<u64, SubmitError<u64, String>>| match result {
            Ok(_) => completed += 1,
            Err(SubmitError::Rejected(rejected)) => {
                assert_eq!(rejected.reason, Reason::Closed);
                closed += 1;
            }
            Err(SubmitError::Failed(error)) => panic!("{error:?}"),
        };
        for (_, result) in results.by_ref().take(4_980) {
            count(result);
        }
        let consumer = thread::spawn(move || {
            let most: Vec<_> = results.by_ref().take(20_000 - 4_980 - 64).collect();
            (most, results)
        });
        gate.wait_for_one();
        let closer = thread::spawn(move || closer.close());
        let (most, results) = consumer.join().unwrap();
        assert_eq!(pool.workers().len(), 1, "its job still runs");
        gate.open();
        closer.join().unwrap();
        for (_, result) in most.into_iter().chain(results) {
            count(result);
        }
        assert_eq!(completed, 5_001);
        assert_eq!(closed, 20_000 - 5_001);
        let stats = pool.stats();
        assert_eq!(stats.accepted, stats.ended(), "{stats}");
        assert_eq!(stats.completed, 5_001);
    });
}

/// All that was accepted runs; what the iterator had not yet sent off is turned away.
#[test]
fn a_drain_runs_what_was_accepted_of_a_batch() {
    within(LIMIT, || {
        for workers in 1..4 {
            let pool = Pool::new();
            let gate = Gate::new();
            for _ in 0..workers {
                pool.add(held_from(3_000, &gate)).unwrap();
            }
            let mut results = pool.map_unordered(0..9_000);
            let mut all: Vec<_> = results.by_ref().take(2_000).collect();
            let consumer = thread::spawn(move || results.collect::<Vec<_>>());
            gate.wait_for_one();
            let drainer = pool.clone();
            let drainer = thread::spawn(move || drainer.drain());
            eventually("it drains", || {
                pool.state() != worker_pool::PoolState::Running
            });
            gate.open();
            drainer.join().unwrap();
            all.extend(consumer.join().unwrap());
            assert_eq!(all.len(), 9_000);
            let completed = all.iter().filter(|(_, result)| result.is_ok()).count();
            let stats = pool.stats();
            assert_eq!(
                (stats.completed, stats.closed),
                (stats.accepted, 0),
                "{stats}"
            );
            assert_eq!(stats.completed, completed as u64);
            assert!(completed > 3_000 && completed < 9_000, "{completed}");
        }
    });
}

/// Each input counts as a job of its own.
#[test]
fn a_drain_that_takes_too_long_counts_the_inputs_it_abandons() {
    within(LIMIT, || {
        let pool = Pool::new();
        let gate = Gate::new();
        pool.add(held_from(5_000, &gate)).unwrap();
        let mut results = pool.map_unordered(0..20_000);
        results.nth(4_970);
        let consumer = thread::spawn(move || results.count());
        gate.wait_for_one();
        let timeout = pool.drain_timeout(Duration::from_millis(5)).unwrap_err();
        assert_eq!(timeout.running.len(), 1);
        gate.open();
        assert_eq!(consumer.join().unwrap(), 20_000 - 4_971);
        pool.close();
        let stats = pool.stats();
        assert_eq!(stats.accepted, stats.ended(), "{stats}");
        // Some were claimed by the worker, and turned away by it.
        let counted = timeout.abandoned as u64;
        assert!(
            counted <= stats.closed && stats.closed <= counted + 64,
            "{timeout:?}, {stats}"
        );
    });
}

#[test]
fn wait_idle_waits_for_the_jobs_of_a_batch() {
    within(LIMIT, || {
        let rounds = stress(40) as u64;
        for round in 0..rounds {
            let pool = Pool::new();
            let ran = Arc::new(AtomicU64::new(0));
            for _ in 0..2 {
                let ran = Arc::clone(&ran);
                pool.add(move |job: Job<u64>| {
                    ran.fetch_add(1, SeqCst);
                    Ok(job.into_payload())
                })
                .unwrap();
            }
            let mut results = pool.map(0..10_000);
            results.nth(50 + round as usize * 31);
            let before = pool.stats().accepted;
            assert!(pool.wait_idle());
            // Nothing is sent off while nobody asks the iterator.
            assert_eq!((before, ran.load(SeqCst)), (pool.stats().accepted, before));
            let results = (results.count(), pool.wait_idle());
            assert_eq!(results, (10_000 - 51 - round as usize * 31, true));
        }
        // A job that is held, in a chunk of others.
        let pool = Pool::new();
        let gate = Gate::new();
        pool.add(held_from(999, &gate)).unwrap();
        let consumer = pool.map(0..1_000);
        let consumer = thread::spawn(move || consumer.count());
        gate.wait_for_one();
        assert!(!pool.wait_idle_timeout(Duration::from_millis(5)));
        gate.open();
        assert!(pool.wait_idle());
        assert_eq!(consumer.join().unwrap(), 1_000);
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
            let gate = Gate::new();
            for _ in 0..2 {
                let door = gate.door();
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
            gate.wait_for_one();
            let closer = close.then(|| {
                let pool = pool.clone();
                thread::spawn(move || pool.close())
            });
            drop(results);
            gate.open();
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

type Results = MapUnordered<std::ops::Range<u64>, u64, u64, String>;
type Answer = (usize, Result<u64, SubmitError<u64, String>>);

/// An iterator, and where to its answers go.
type Question = (Results, Sender<Vec<Answer>>);

/// Keeps an iterator, and asks it on the dispatcher's thread when a worker has left.
#[derive(Clone, Default)]
struct Asker(Arc<Mutex<Option<Question>>>);

impl Hook for Asker {
    fn worker_remove(&self, _worker: WorkerId) {
        if let Some((results, answers)) = self.0.lock().take() {
            answers.send(results.collect()).unwrap();
        }
    }
}

/// Without its dispatcher the pool stands still: an iterator asked there takes what there is.
#[test]
fn an_iterator_asked_on_the_dispatcher_does_not_wait() {
    within(LIMIT, || {
        let asker = Asker::default();
        let pool = Pool::builder().hook(asker.clone()).build().unwrap();
        let gate = Gate::new();
        for _ in 0..2 {
            let door = gate.door();
            pool.add(move |job: Job<u64>| {
                if *job.payload() == 0 {
                    door.pass(job.id());
                }
                Ok(job.into_payload())
            })
            .unwrap();
        }
        let mut results = pool.map_unordered(0..400);
        assert_eq!(results.next().map(|(_, result)| result.is_ok()), Some(true));
        let held = gate.wait_for_one();
        let (send, answers) = bounded(1);
        *asker.0.lock() = Some((results, send));
        pool.remove(pool.add(held_from(0, &gate)).unwrap()).unwrap();
        let answers = next(&answers);
        assert_eq!(answers.len(), 399);
        let mut turned_away = 0;
        for (index, answer) in answers {
            match answer {
                Ok(output) => assert_eq!(output, index as u64),
                Err(SubmitError::Rejected(rejected)) => {
                    assert_eq!(rejected.reason, Reason::WouldDeadlock);
                    turned_away += 1;
                }
                Err(SubmitError::Failed(error)) => {
                    assert_eq!((index, error.job, error.cause), (0, held, Cause::Closed));
                }
            }
        }
        assert!(turned_away > 300, "{turned_away}");
        gate.open();
        assert!(pool.wait_idle());
        let stats = pool.stats();
        assert_eq!(stats.accepted, stats.ended(), "{stats}");
    });
}
