//! Jobs that use their own pool, with a queue of one place, also by batches: every call inside has an
//! answer, and the pool closes.

use std::sync::{Arc, OnceLock};
use std::thread;

use crate::common::{LIMIT, stress, within};
use worker_pool::{Job, Manager, SubmitError, WeakManager};

/// How many levels of jobs are below it, and its random seed.
type Load = (u32, u64);
type Pool = Manager<Load, u64, String>;

/// An answer, or the error that says that waiting would deadlock.
fn count(answer: Result<u64, SubmitError<Load, String>>) -> u64 {
    answer.unwrap_or_else(|error| {
        assert!(error.is_would_deadlock(), "{error:?}");
        0
    })
}

fn nest(pool: &Pool, (level, seed): Load) -> u64 {
    if level == 0 {
        return 1;
    }
    let child = |n: u64| {
        let seed = seed.wrapping_mul(6_364_136_223_846_793_005);
        (level - 1, seed.wrapping_add(n + 1))
    };
    match (seed >> 33) % 5 {
        0 => (0..3).map(|n| count(pool.submit(child(n)))).sum(),
        1 => {
            let handles: Vec<_> = (0..3).map(|n| pool.enqueue(child(n))).collect();
            let wait = |handle: Result<worker_pool::JobHandle<_, _, _>, _>| {
                count(handle.map_err(SubmitError::from).and_then(|it| it.wait()))
            };
            handles.into_iter().map(wait).sum()
        }
        2 => pool.map((0..6).map(child)).map(count).sum(),
        // The inputs themselves come from the pool.
        3 => {
            let inputs = pool.map((0..2).map(child)).map(count);
            pool.map(inputs.map(child)).map(count).sum()
        }
        _ => {
            let results = pool.map_unordered((0..6).map(child));
            results.map(|(_, result)| count(result)).sum()
        }
    }
}

#[test]
fn nested_batches_end_however_few_the_workers_and_the_places() {
    within(2 * LIMIT, || {
        for workers in 1..=3 {
            for seed in 0..stress(20) as u64 {
                let pool = Pool::builder().queue_capacity(1).build().unwrap();
                let weak: Arc<OnceLock<WeakManager<Load, u64, String>>> = Arc::default();
                weak.set(pool.downgrade()).unwrap();
                for _ in 0..workers {
                    let weak = Arc::clone(&weak);
                    let run = move |job: Job<Load>| {
                        let pool = weak.get().and_then(WeakManager::upgrade);
                        Ok(nest(&pool.ok_or("gone")?, job.into_payload()))
                    };
                    pool.add(run).unwrap();
                }
                thread::scope(|callers| {
                    for n in 0..3 {
                        let seed = (seed * 3 + n).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                        let pool = &pool;
                        callers.spawn(move || pool.submit((3, seed)).unwrap());
                    }
                });
                let stats = pool.stats();
                pool.close();
                assert_eq!(stats.panicked, 0, "{stats}");
            }
        }
    });
}
