//! However a batch ends, its counters balance, and nothing of it begins any more.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::common::{Counted, LIMIT, Latch, Tally, eventually, next, stress, within};
use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use worker_pool::{
    CancelToken, Failure, Hook, Job, Manager, MapUnordered, RejectReason, SubmitError, WorkerId,
};

type Pool = Manager<u64, u64, String>;

/// Jobs that run by their number: those above a limit wait at the latch.
fn held_from(
    first: u64,
    latch: &Latch,
) -> impl FnMut(Job<u64>) -> Result<u64, String> + Send + use<> {
    let door = latch.door();
    move |job| {
        if *job.payload() >= first {
            door.pass(job.id());
        }
        Ok(job.into_payload())
    }
}

/// The most jobs that one worker has begun and not ended.
const IN_HAND: usize = 5;

/// The batch gives up while a worker is at a job and has claimed more: it waits for no worker. Only what
/// is in the worker's hand is answered as begun, and is begun.
#[test]
fn what_did_not_begin_gives_its_payload_back() {
    within(LIMIT, || {
        for n in 0..16 {
            let (at, cancelled) = (5_000 + n, n % 2 == 0);
            let (pool, latch, token) = (Pool::new(), Latch::new(), CancelToken::new());
            pool.add(held_from(at, &latch)).unwrap();
            let batch = pool.batch();
            let batch = match cancelled {
                true => batch.cancel_token(&token),
                false => batch.timeout(Duration::from_millis(100)),
            };
            let (reason, cause) = match cancelled {
                true => (RejectReason::Cancelled, Failure::Cancelled),
                false => (RejectReason::DeadlinePassed, Failure::DeadlinePassed),
            };
            let results = batch.map_unordered(0..20_000);
            let consumer = thread::spawn(move || results.collect::<Vec<_>>());
            if cancelled {
                latch.wait_for_one();
                token.cancel();
            }
            let (mut completed, mut begun, mut seen) = (0, Vec::new(), HashSet::new());
            for (index, result) in consumer.join().unwrap() {
                assert!(seen.insert(index));
                match result {
                    Ok(_) => completed += 1,
                    Err(SubmitError::Rejected(rejected)) => {
                        assert_eq!((rejected.payload, rejected.reason), (index as u64, reason));
                    }
                    Err(SubmitError::Failed(error)) => {
                        assert_eq!((error.attempts, &error.cause), (1, &cause));
                        assert!(error.worker.is_some());
                        begun.push(index as u64);
                    }
                }
            }
            assert_eq!(seen.len(), 20_000);
            assert!(begun.len() <= IN_HAND, "{at}: {begun:?}");
            assert!(begun.contains(&at) || !cancelled, "{at}: {begun:?}");
            latch.open();
            assert!(pool.wait_idle());
            let stats = pool.stats();
            assert_eq!(stats.accepted, stats.ended(), "{stats}");
            assert_eq!(stats.completed, completed + begun.len() as u64, "{stats}");
        }
    });
}

/// How a consumer leaves its batch.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Leave {
    Drops,
    /// It drops the iterator too, but after its input has panicked.
    DropsAfterPanic,
    CallbackPanics,
}

/// Takes so many results, waits for the word, and drops the iterator.
fn leave<T>(mut results: impl Iterator<Item = T>, mut enough: usize, stopped: &Receiver<()>) {
    while enough > 0 {
        if let Ok(result) = catch_unwind(AssertUnwindSafe(|| results.next())) {
            assert!(result.is_some());
            enough -= 1;
        }
    }
    let _ = stopped.recv();
}

/// While a worker is at one of its jobs: those that have not begun are cancelled and dropped at once,
/// and the one that runs is not waited for.
#[test]
fn a_batch_that_is_left_early_cancels_what_has_not_begun() {
    within(LIMIT, || {
        let ways = [Leave::Drops, Leave::DropsAfterPanic, Leave::CallbackPanics];
        for (n, how) in (0..12).zip(ways.into_iter().cycle()) {
            let tally = Tally::new();
            let pool = Manager::<Counted, u64>::new();
            let latch = Latch::new();
            let door = latch.door();
            pool.add(move |job: Job<Counted>| {
                if job.payload().value == 5_000 + n {
                    door.pass(job.id());
                }
                Ok(job.payload().value)
            })
            .unwrap();
            let (stop, stopped) = bounded::<()>(0);
            let payloads = tally.clone();
            let inputs = (0..20_000).map(move |value| {
                if how == Leave::DropsAfterPanic && value == 4_000 + n {
                    resume_unwind(Box::new("not this one"));
                }
                payloads.make(value)
            });
            let consumer = pool.clone();
            let (left, lefts) = bounded(0);
            let consumer = thread::spawn(move || {
                // Those before the one that is held, less what was claimed with it.
                let enough = 4_960;
                let mut yielded = 0;
                let run = || match how {
                    Leave::CallbackPanics => consumer.for_each(inputs, |_, _| {
                        yielded += 1;
                        if yielded == enough {
                            let _ = stopped.recv();
                            resume_unwind(Box::new("enough"));
                        }
                    }),
                    _ if n % 2 == 0 => leave(consumer.map(inputs), enough, &stopped),
                    _ => leave(consumer.map_unordered(inputs), enough, &stopped),
                };
                let panicked = catch_unwind(AssertUnwindSafe(run)).is_err();
                assert_eq!(panicked, how == Leave::CallbackPanics);
                left.send(()).unwrap();
            });
            latch.wait_for_one();
            drop(stop);
            next(&lefts);
            assert!(tally.live() <= IN_HAND as u64, "{how:?}: {}", tally.live());
            latch.open();
            consumer.join().unwrap();
            assert!(pool.wait_idle());
            let stats = pool.stats();
            assert_eq!(stats.accepted, stats.ended(), "{stats}");
            let most = 5_000 + n + IN_HAND as u64;
            assert!(stats.completed <= most, "{stats}");
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
        let latch = Latch::new();
        pool.add(held_from(5_000, &latch)).unwrap();
        let closer = pool.clone();
        let mut results = pool.map_unordered(0..20_000);
        let (mut completed, mut closed) = (0, 0);
        let mut count = |result: Result<u64, SubmitError<u64, String>>| match result {
            Ok(_) => completed += 1,
            Err(SubmitError::Rejected(rejected)) => {
                assert_eq!(rejected.reason, RejectReason::Closed);
                closed += 1;
            }
            Err(SubmitError::Failed(error)) => panic!("{error:?}"),
        };
        for (_, result) in results.by_ref().take(4_980) {
            count(result);
        }
        let consumer = thread::spawn(move || {
            let most: Vec<_> = results.by_ref().take(20_000 - 4_980 - IN_HAND).collect();
            (most, results)
        });
        latch.wait_for_one();
        let closer = thread::spawn(move || closer.close());
        let (most, results) = consumer.join().unwrap();
        assert_eq!(pool.workers().len(), 1, "its job still runs");
        latch.open();
        closer.join().unwrap();
        for (_, result) in most.into_iter().chain(results) {
            count(result);
        }
        assert!(completed > 5_000 && completed <= 5_000 + IN_HAND);
        assert_eq!(closed, 20_000 - completed);
        let stats = pool.stats();
        assert_eq!(stats.accepted, stats.ended(), "{stats}");
        assert_eq!(stats.completed, completed as u64);
    });
}

/// All that was accepted runs; what the iterator had not yet sent off is turned away.
#[test]
fn a_drain_runs_what_was_accepted_of_a_batch() {
    within(LIMIT, || {
        for workers in 1..4 {
            let pool = Pool::new();
            let latch = Latch::new();
            for _ in 0..workers {
                pool.add(held_from(3_000, &latch)).unwrap();
            }
            let mut results = pool.map_unordered(0..9_000);
            let mut all: Vec<_> = results.by_ref().take(2_000).collect();
            let consumer = thread::spawn(move || results.collect::<Vec<_>>());
            latch.wait_for_one();
            let drainer = pool.clone();
            let drainer = thread::spawn(move || drainer.drain());
            eventually("it drains", || {
                pool.state() != worker_pool::PoolState::Running
            });
            latch.open();
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
        let latch = Latch::new();
        pool.add(held_from(5_000, &latch)).unwrap();
        let mut results = pool.map_unordered(0..20_000);
        results.nth(4_970);
        let consumer = thread::spawn(move || results.count());
        latch.wait_for_one();
        let timeout = pool.drain_timeout(Duration::from_millis(5)).unwrap_err();
        assert_eq!(timeout.running.len(), 1);
        latch.open();
        assert_eq!(consumer.join().unwrap(), 20_000 - 4_971);
        pool.close();
        let stats = pool.stats();
        assert_eq!(stats.accepted, stats.ended(), "{stats}");
        // Also those that the worker had claimed.
        assert_eq!(timeout.abandoned as u64, stats.closed, "{stats}");
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
        let latch = Latch::new();
        pool.add(held_from(999, &latch)).unwrap();
        let consumer = pool.map(0..1_000);
        let consumer = thread::spawn(move || consumer.count());
        latch.wait_for_one();
        assert!(!pool.wait_idle_timeout(Duration::from_millis(5)));
        latch.open();
        assert!(pool.wait_idle());
        assert_eq!(consumer.join().unwrap(), 1_000);
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
        let latch = Latch::new();
        for _ in 0..2 {
            let door = latch.door();
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
        let held = latch.wait_for_one();
        let (send, answers) = bounded(1);
        *asker.0.lock() = Some((results, send));
        pool.remove(pool.add(held_from(0, &latch)).unwrap())
            .unwrap();
        let answers = next(&answers);
        assert_eq!(answers.len(), 399);
        let mut turned_away = 0;
        for (index, answer) in answers {
            match answer {
                Ok(output) => assert_eq!(output, index as u64),
                Err(SubmitError::Rejected(rejected)) => {
                    assert_eq!(rejected.reason, RejectReason::WouldDeadlock);
                    turned_away += 1;
                }
                Err(SubmitError::Failed(error)) => {
                    assert_eq!(
                        (index, error.job, error.cause),
                        (0, held, Failure::WouldDeadlock)
                    );
                }
            }
        }
        assert!(turned_away > 300, "{turned_away}");
        latch.open();
        assert!(pool.wait_idle());
        let stats = pool.stats();
        assert_eq!(stats.accepted, stats.ended(), "{stats}");
    });
}
