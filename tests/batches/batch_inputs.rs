//! How batches read their inputs: lazily, a bounded distance ahead, and never at the cost of a result
//! that is there; and what their iterators tell of themselves.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::common::{LIMIT, Latch, eventually, within};
use crate::doubling::{Pool, counted, double, pool};
use crossbeam_channel::unbounded;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressIterator};
use worker_pool::{Job, Map, MapUnordered};

/// Inputs that know their number.
fn numbers(inputs: u64) -> Vec<u64> {
    (0..inputs).collect()
}

#[test]
fn nothing_is_read_before_the_first_result_is_asked_for() {
    within(LIMIT, || {
        let pool = pool(1);
        let (inputs, read) = counted(10);
        let mut results = pool.map(inputs);
        assert_eq!((read.load(SeqCst), results.len()), (0, 10));
        assert_eq!(results.next().unwrap(), Ok(0));
        assert_eq!(results.len(), 9);
        let (inputs, read) = counted(10);
        drop(pool.map_unordered(inputs));
        assert_eq!(read.load(SeqCst), 0);
    });
}

/// However fast the workers are, never more inputs are read than the consumer took and `ahead`.
#[test]
fn inputs_are_read_a_bounded_distance_ahead() {
    within(LIMIT, || {
        let pool = pool(2);
        for ahead in [1, 2, 7, 500] {
            let (inputs, read) = counted(5_000);
            for (taken, result) in pool.batch().buffered(ahead).map(inputs).enumerate() {
                assert_eq!(result, Ok(taken as u64 * 2));
                let read = read.load(SeqCst);
                assert!(read <= taken + ahead.max(1), "{read} read, {taken} taken");
            }
            let (inputs, read) = counted(5_000);
            for (taken, _) in pool
                .batch()
                .buffered(ahead)
                .map_unordered(inputs)
                .enumerate()
            {
                let read = read.load(SeqCst);
                assert!(read <= taken + ahead.max(1), "{read} read, {taken} taken");
            }
        }
    });
}

/// With `ahead(1)` each input may depend on the result before it: a result that is there is handed out
/// before anything else is read.
#[test]
fn a_result_does_not_wait_for_the_next_input() {
    within(LIMIT, || {
        let pool = pool(2);
        for ordered in [true, false] {
            let (give, inputs) = unbounded();
            give.send(1).unwrap();
            let batch = pool.batch().buffered(1);
            let results: Box<dyn Iterator<Item = _>> = match ordered {
                true => Box::new(batch.map(inputs)),
                false => Box::new(batch.map_unordered(inputs).map(|(_, result)| result)),
            };
            let results = results.take(40);
            let mut last = 1;
            for result in results {
                last = result.unwrap();
                give.send(last).unwrap();
            }
            assert_eq!(last, 1 << 40);
        }
    });
}

/// The workers keep up with a slow input, and its results are not kept back until it ends.
#[test]
fn results_of_a_slow_input_come_while_it_goes_on() {
    within(LIMIT, || {
        let pool = pool(2);
        for ordered in [true, false] {
            let (inputs, read) = counted(60_000);
            let slow = inputs.inspect(|_| thread::sleep(Duration::from_micros(300)));
            if ordered {
                pool.map(slow).next().unwrap().unwrap();
            } else {
                pool.map_unordered(slow).next().unwrap().1.unwrap();
            }
            let read = read.load(SeqCst);
            assert!(read < 10_000, "{read} were read for the first result");
        }
    });
}

/// An input that is at first fast and then comes one by one: none is kept until there are many.
#[test]
fn a_slow_input_is_not_kept_until_there_are_many() {
    within(LIMIT, || {
        let pool = pool(1);
        let ended = Arc::new(AtomicU64::new(0));
        let (count, mut read, mut calm) = (Arc::clone(&ended), 0, 0);
        // It ends when for a while there were never many without a result.
        let inputs = std::iter::from_fn(|| {
            read += 1;
            if read > 5_000 {
                thread::sleep(Duration::from_millis(1));
                let open = read - ended.load(SeqCst);
                calm = if open < 40 { calm + 1 } else { 0 };
            }
            (calm < 70).then_some(read)
        });
        pool.for_each(inputs, |_, _| {
            count.fetch_add(1, SeqCst);
        });
    });
}

/// The first job is slow: the workers go on with the others, as far as the batch may read ahead.
#[test]
fn a_slow_first_job_does_not_keep_the_workers_from_those_after_it() {
    for capacity in [1, 1_000] {
        within(LIMIT, move || first_is_slow(capacity));
    }
    fn first_is_slow(capacity: usize) {
        let pool = Pool::builder().queue_capacity(capacity).build().unwrap();
        let latch = Latch::new();
        let ran = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            let (door, ran) = (latch.door(), Arc::clone(&ran));
            pool.add(move |job: Job<u64>| {
                if *job.payload() == 0 {
                    door.pass(job.id());
                } else {
                    ran.fetch_add(1, SeqCst);
                }
                double(job)
            })
            .unwrap();
        }
        let results = pool.batch().buffered(3_000).map(0..10_000);
        let consumer = thread::spawn(move || results.map(Result::unwrap).sum::<u64>());
        latch.wait_for_one();
        eventually("the others were run", || ran.load(SeqCst) == 2_999);
        latch.open();
        assert_eq!(consumer.join().unwrap(), 9_999 * 10_000);
    }
}

/// The panic of the input reaches the consumer, who may go on: no result is lost for it.
#[test]
fn an_input_that_panics_costs_no_result() {
    within(LIMIT, || {
        let pool = pool(2);
        for ordered in [true, false] {
            let inputs = (0..3_000u64).inspect(|n| {
                assert!(n % 100 != 50, "no input {n}");
            });
            let mut outputs = Vec::new();
            let mut panics = 0;
            let mut results: Box<dyn Iterator<Item = _>> = match ordered {
                true => Box::new(pool.map(inputs)),
                false => Box::new(pool.map_unordered(inputs).map(|(_, result)| result)),
            };
            loop {
                match catch_unwind(AssertUnwindSafe(|| results.next())) {
                    Ok(Some(result)) => outputs.push(result.unwrap()),
                    Ok(None) => break,
                    Err(_) => panics += 1,
                }
            }
            assert_eq!(panics, 30);
            if !ordered {
                outputs.sort_unstable();
            }
            let good = (0..3_000).filter(|n| n % 100 != 50).map(|n| n * 2);
            assert!(good.eq(outputs));
        }
    });
}

#[test]
fn lengths_are_known_when_those_of_the_inputs_are() {
    within(LIMIT, || {
        let pool = pool(2);
        let mut results = pool.map(numbers(3_000));
        for left in (0..3_000).rev() {
            results.next().unwrap().unwrap();
            assert_eq!(
                (results.len(), results.size_hint()),
                (left, (left, Some(left)))
            );
        }
        let mut some = pool.map_unordered((0..10).filter(|n| n % 2 == 0));
        assert_eq!(some.size_hint(), (0, Some(10)));
        some.next().unwrap().1.unwrap();
        assert_eq!(some.count(), 4);
        assert_eq!(pool.map(0..).size_hint(), (usize::MAX, None));
        // A progress bar, as it is put on other iterators.
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        let results = pool.map(numbers(2_000));
        bar.set_length(results.len() as u64);
        let outputs: Vec<_> = results.progress_with(bar.clone()).collect();
        assert_eq!(
            (outputs.len(), bar.position(), bar.length()),
            (2_000, 2_000, Some(2_000))
        );
        let quiet = pool.map_unordered(numbers(9)).progress();
        quiet.progress.set_draw_target(ProgressDrawTarget::hidden());
        assert_eq!(quiet.progress.length(), Some(9));
        assert_eq!(quiet.count(), 9);
    });
}

#[test]
fn iterators_may_be_sent_to_other_threads() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    within(LIMIT, || {
        let pool = pool(2);
        let mut ordered: Map<_, _, _, _> = is_send(pool.map(0..3_000));
        let mut any: MapUnordered<_, _, _, _> = is_send(pool.map_unordered(0..3_000));
        for n in 0..30 {
            // On another thread each time.
            (ordered, any) = thread::spawn(move || {
                for index in n * 100..(n + 1) * 100 {
                    assert_eq!(ordered.next(), Some(Ok(index * 2)));
                    any.next().unwrap().1.unwrap();
                }
                (ordered, any)
            })
            .join()
            .unwrap();
        }
        assert!(ordered.next().is_none() && any.next().is_none());
    });
}
