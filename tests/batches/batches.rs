//! `map`, `map_unordered`, `for_each` and `try_for_each`: one result per input, in the promised order,
//! whatever happens to it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::common::{LIMIT, Latch, eventually, next, stress, within};
use crate::doubling::{Pool, counted, double, pool};
use crossbeam_channel::unbounded;
use worker_pool::{
    BatchError, CancelToken, Failure, Job, Manager, RejectReason, SubmitError, WorkerHandle,
};

/// Inputs that know their number.
fn numbers(inputs: u64) -> Vec<u64> {
    (0..inputs).collect()
}

#[track_caller]
fn reason<P, E: std::fmt::Debug>(result: Result<u64, SubmitError<P, E>>) -> (P, RejectReason) {
    match result {
        Err(SubmitError::Rejected(rejected)) => (rejected.payload, rejected.reason),
        Err(SubmitError::Failed(error)) => panic!("it did not begin, but: {error:?}"),
        Ok(output) => panic!("it did not begin, but: {output}"),
    }
}

#[test]
fn map_yields_in_the_order_of_the_inputs() {
    within(LIMIT, || {
        for workers in [1, 2, 5] {
            let pool = pool(workers);
            for inputs in [0, 1, 2, 3, 100, 20_000] {
                let outputs: Vec<_> = pool.map(0..inputs).map(Result::unwrap).collect();
                assert!(outputs.iter().copied().eq((0..inputs).map(|n| n * 2)));
            }
        }
    });
}

/// A worker that is finished after some jobs, or panics in the last.
struct Leaving {
    left: u64,
    panics: bool,
    me: Option<WorkerHandle>,
}

impl worker_pool::Worker<u64, u64, String> for Leaving {
    fn start(&mut self, handle: &WorkerHandle) {
        self.me = Some(handle.clone());
    }
    fn run(&mut self, job: Job<u64>) -> Result<u64, String> {
        self.left -= 1;
        if self.left == 0 {
            assert!(!self.panics, "the last job");
            self.me.as_ref().inspect(|me| me.finish());
        }
        double(job)
    }
}

/// While workers are added, removed, finish and panic between two jobs of a chunk.
#[test]
fn each_input_has_its_result_while_workers_come_and_go() {
    let rounds = stress(8) as u64;
    within(3 * LIMIT, move || {
        for round in 0..rounds {
            let pool = pool(1);
            let over = Arc::new(AtomicBool::new(false));
            let (done, changing) = (Arc::clone(&over), pool.clone());
            let changer = thread::spawn(move || {
                for n in 0.. {
                    if done.load(SeqCst) {
                        return;
                    }
                    let leaving = Leaving {
                        left: 1 + n * 37 % 200,
                        panics: n % 3 == 0,
                        me: None,
                    };
                    changing.add(leaving).unwrap();
                    let id = changing.add(double).unwrap();
                    thread::yield_now();
                    changing.remove(id).unwrap();
                }
            });
            let inputs = 6_000;
            let right = |n, result: Result<u64, SubmitError<u64, String>>| match result {
                Ok(output) => assert_eq!(output, n * 2),
                Err(SubmitError::Failed(error)) => {
                    assert!(matches!(error.cause, Failure::Panicked(_)), "{error:?}");
                }
                Err(SubmitError::Rejected(rejected)) => panic!("{:?}", rejected.reason),
            };
            if round % 2 == 0 {
                let results = pool.map(0..inputs);
                let count = (0..).zip(results).map(|(n, result)| right(n, result));
                assert_eq!(count.count() as u64, inputs);
            } else {
                let mut seen = HashSet::new();
                pool.for_each(0..inputs, |index, result| {
                    assert!(seen.insert(index));
                    right(index as u64, result);
                });
                assert_eq!(seen.len() as u64, inputs);
            }
            over.store(true, SeqCst);
            changer.join().unwrap();
            pool.close();
            let stats = pool.stats();
            assert_eq!((stats.accepted, stats.ended()), (inputs, inputs), "{stats}");
        }
    });
}

#[test]
fn map_unordered_yields_as_the_jobs_finish() {
    within(LIMIT, || {
        let pool = Pool::new();
        let latch = Latch::new();
        for _ in 0..2 {
            let door = latch.door();
            pool.add(move |job: Job<u64>| {
                if *job.payload() == 5_000 {
                    door.pass(job.id());
                }
                double(job)
            })
            .unwrap();
        }
        let mut results = pool.map_unordered(numbers(20_000));
        let mut seen = HashSet::new();
        // All but the slow one, and those that its worker had claimed with it.
        for (index, result) in results.by_ref().take(20_000 - 64) {
            assert_eq!(result, Ok(index as u64 * 2));
            assert!(index != 5_000 && seen.insert(index));
        }
        assert_eq!(results.len(), 64);
        latch.open();
        assert_eq!(
            results.by_ref().filter(|(n, _)| seen.insert(*n)).count(),
            64
        );
        assert!(results.next().is_none() && results.next().is_none());
    });
}

#[test]
fn errors_and_panics_are_results_like_others() {
    within(LIMIT, || {
        let pool = Pool::new();
        for _ in 0..40 {
            pool.add(|job: Job<u64>| match *job.payload() {
                n if n % 1_000 == 17 => panic!("{n} is bad"),
                n if n % 100 == 3 => Err(format!("{n} is odd")),
                n => Ok(n),
            })
            .unwrap();
        }
        let mut next_id = None;
        for (n, result) in (0..20_000).zip(pool.map(0..20_000)) {
            match result {
                Ok(output) => assert_eq!(output, n),
                Err(SubmitError::Failed(error)) => {
                    let cause = match n % 1_000 {
                        17 => Failure::Panicked(format!("{n} is bad")),
                        _ => Failure::Worker(format!("{n} is odd")),
                    };
                    assert_eq!(error.cause, cause);
                    assert!(error.worker.is_some());
                    let (id, index) = next_id.unwrap_or((error.job.get(), n));
                    assert_eq!(error.job.get() - id, n - index);
                    next_id = Some((id, index));
                }
                Err(SubmitError::Rejected(rejected)) => panic!("{:?}", rejected.reason),
            }
        }
        let stats = pool.stats();
        assert_eq!((stats.panicked, stats.failed), (20, 200));
        eventually("those that panicked have left", || {
            pool.workers().len() == 20
        });
    });
}

#[test]
fn a_batch_waits_for_workers_to_be_added() {
    within(LIMIT, || {
        let pool = pool(0);
        let results = pool.map(0..1_000);
        let consumer = thread::spawn(move || results.map(Result::unwrap).count());
        eventually("it was sent off", || pool.waiting() > 0);
        pool.add(double).unwrap();
        assert_eq!(consumer.join().unwrap(), 1_000);
    });
}

#[test]
fn a_cancelled_batch_answers_every_input() {
    within(LIMIT, || {
        let pool = Pool::new();
        let latch = Latch::new();
        pool.add(latch.worker()).unwrap();
        let token = CancelToken::new();
        let mut results = pool.batch().cancel_token(&token).map(0..5_000);
        let canceller = {
            let token = token.clone();
            let consumer = thread::spawn(move || (results.next(), results));
            let job = latch.wait_for_one();
            token.cancel();
            let (first, results) = consumer.join().unwrap();
            let Some(Err(SubmitError::Failed(error))) = first else {
                panic!("{first:?}")
            };
            assert_eq!((error.job, error.cause), (job, Failure::Cancelled));
            assert!(error.worker.is_some());
            results
        };
        for (n, result) in (1..5_000).zip(canceller) {
            assert_eq!(reason(result), (n, RejectReason::Cancelled));
        }
        latch.open();
        assert!(pool.wait_idle());
        let stats = pool.stats();
        assert_eq!(stats.accepted, stats.ended(), "{stats}");
        assert_eq!(stats.completed, 1);
    });
}

#[test]
fn a_batch_answers_every_input_at_its_deadline() {
    within(LIMIT, || {
        let pool = Pool::new();
        let latch = Latch::new();
        pool.add(latch.worker()).unwrap();
        let batch = pool.batch().timeout(Duration::from_millis(30));
        let results: Vec<_> = batch.map_unordered(0..100).collect();
        assert_eq!(results.len(), 100);
        let indices: HashSet<_> = results.iter().map(|(index, _)| *index).collect();
        assert_eq!(indices.len(), 100);
        for (index, result) in results {
            match result {
                Err(SubmitError::Failed(error)) => assert_eq!(error.cause, Failure::DeadlinePassed),
                result => assert_eq!(reason(result), (index as u64, RejectReason::DeadlinePassed)),
            }
        }
        latch.open();
        // One that is far in the past begins nothing.
        let mut late = pool.batch().timeout(Duration::ZERO).map(numbers(3));
        assert_eq!(late.len(), 3);
        assert_eq!(
            late.next().map(reason),
            Some((0, RejectReason::DeadlinePassed))
        );
    });
}

#[test]
fn a_batch_in_its_own_pool_needs_another_worker() {
    /// Runs batches of the numbers below its payload, in its own pool.
    fn nested(pool: &Pool) -> impl FnMut(Job<u64>) -> Result<u64, String> + Send + use<> {
        let pool = pool.downgrade();
        move |job| {
            let pool = pool.upgrade().ok_or("closed")?;
            let mut sum = 1;
            for result in pool.map(0..*job.payload()) {
                sum += result.map_err(|error| error.to_string())?;
            }
            Ok(sum)
        }
    }
    within(LIMIT, || {
        let pool = Pool::new();
        pool.add(nested(&pool)).unwrap();
        let one = pool.submit(3);
        let Err(SubmitError::Failed(error)) = one else {
            panic!("{one:?}")
        };
        let Failure::Worker(text) = error.cause else {
            panic!("{error:?}")
        };
        assert_eq!(
            text,
            SubmitError::<u64, String>::from(worker_pool::RejectedError {
                payload: 0,
                reason: RejectReason::WouldDeadlock
            })
            .to_string()
        );
        assert_eq!(pool.submit(0), Ok(1), "it serves on");
        pool.add(nested(&pool)).unwrap();
        // f(n) = 1 + f(0) + … + f(n - 1): two levels need two workers.
        assert_eq!(pool.submit(1), Ok(2));
    });
}

#[test]
fn a_closed_pool_gives_the_payloads_back() {
    within(LIMIT, || {
        let pool = pool(1);
        let mut before = pool.map(0..100);
        assert_eq!(before.next(), Some(Ok(0)));
        drop(pool);
        // Those that had been sent off may have been run.
        let rest: Vec<_> = before.collect();
        assert_eq!(rest.len(), 99);
        for (n, result) in (1..).zip(rest) {
            if result != Ok(n * 2) {
                assert_eq!(reason(result), (n, RejectReason::Closed));
            }
        }
        let pool = self::pool(1);
        pool.close();
        for (index, result) in pool.map_unordered(10..20) {
            assert_eq!(reason(result), (index as u64 + 10, RejectReason::Closed));
        }
    });
}

#[test]
fn for_each_and_try_for_each() {
    within(LIMIT, || {
        let pool = pool(2);
        let mut sum = 0;
        pool.for_each(0..1_000, |index, result| {
            assert_eq!(result, Ok(index as u64 * 2));
            sum += index;
        });
        assert_eq!(sum, 499_500);
        let mut sum = 0;
        let all = pool.try_for_each(0..1_000, |index, output| sum += output - index as u64);
        assert_eq!((all.map_err(|error| error.index), sum), (Ok(()), 499_500));
        pool.try_for_each(None, |_, _| unreachable!()).unwrap();
    });
}

/// At the first error those that have not begun are cancelled, and those that run see their token.
#[test]
fn try_for_each_stops_at_the_first_error() {
    within(LIMIT, || {
        let pool = Pool::new();
        let (begun, begins) = unbounded();
        let (seen, sees) = unbounded();
        let (inputs, read) = counted(100_000);
        for _ in 0..2 {
            let (begun, begins, seen) = (begun.clone(), begins.clone(), seen.clone());
            let read = Arc::clone(&read);
            pool.add(move |job: Job<u64>| {
                if *job.payload() == 1 {
                    next(&begins);
                    eventually("all have enough", || read.load(SeqCst) == 4);
                    return Err("the second".to_owned());
                }
                let _ = begun.send(());
                let _ = seen.send(job.cancel_token().wait_timeout(2 * LIMIT));
                Ok(0)
            })
            .unwrap();
        }
        let error = pool.try_for_each(inputs, |_, _| {}).unwrap_err();
        assert_eq!(error.index, 1);
        assert!(
            matches!(&error.error, SubmitError::Failed(failed) if failed.cause == Failure::Worker("the second".to_owned()))
        );
        assert_eq!(error.to_string(), format!("input 1: {}", error.error));
        let _: &BatchError<u64, String> = &error;
        assert!(next(&sees), "the running job saw its token");
        assert!(pool.wait_idle());
        let stats = pool.stats();
        assert_eq!((stats.accepted, read.load(SeqCst)), (4, 4));
        assert_eq!(stats.accepted, stats.ended(), "{stats}");
        assert_eq!(stats.failed, 1, "{stats}");
        assert!(stats.cancelled > 0, "{stats}");
    });
}

#[test]
fn payloads_and_outputs_of_any_size() {
    within(LIMIT, || {
        let units = Manager::<(), ()>::new();
        units.add(|_: Job<()>| Ok(())).unwrap();
        assert_eq!(
            units.map(vec![(); 10_000]).filter(Result::is_ok).count(),
            10_000
        );
        type Large = [u64; 1_024];
        let large = Manager::<Large, Large>::new();
        large
            .add(|job: Job<Large>| Ok(job.payload().map(|n| n + 1)))
            .unwrap();
        for (n, output) in large.map((0..300).map(|n| [n; 1_024])).enumerate() {
            assert_eq!(output.unwrap(), [n as u64 + 1; 1_024]);
        }
    });
}

/// Also with few inputs for each.
#[test]
fn a_thousand_workers_share_a_batch() {
    within(2 * LIMIT, || {
        let pool = Pool::builder().stack_size(128 << 10).build().unwrap();
        for _ in 0..1_000 {
            pool.add(double).unwrap();
        }
        for inputs in [10, 1_500, 20_000] {
            let sum: u64 = pool.map(0..inputs).map(Result::unwrap).sum();
            assert_eq!(sum, inputs * (inputs - 1));
            let all = pool
                .map_unordered(0..inputs)
                .map(|(_, result)| result.unwrap());
            assert_eq!(all.sum::<u64>(), inputs * (inputs - 1));
        }
        pool.close();
    });
}
