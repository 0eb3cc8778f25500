//! However a batch ends, its books balance, and nothing of it begins any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::common::{Counted, LIMIT, Latch, Tally, eventually, next, stress, within};
use crossbeam_channel::{Sender, bounded};
use parking_lot::Mutex;
use worker_pool::{Failure, Hook, Job, Manager, MapUnordered, RejectReason, SubmitError, WorkerId};

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

/// While a worker is at one of its jobs: those that have not begun are cancelled and given up at once,
/// and the one that runs is not waited for.
#[test]
fn a_dropped_iterator_cancels_what_has_not_begun() {
    within(LIMIT, || {
        for ordered in [true, false] {
            let tally = Tally::new();
            let pool = Manager::<Counted, u64>::new();
            let latch = Latch::new();
            let door = latch.door();
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
            latch.wait_for_one();
            drop(stop);
            next(&drops);
            // The job in hand and what was claimed with it.
            assert!(tally.live() <= 64, "{} live", tally.live());
            latch.open();
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
            let most: Vec<_> = results.by_ref().take(20_000 - 4_980 - 64).collect();
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
