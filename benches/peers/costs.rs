//! What a pool costs beside time: memory, allocations, threads, and rest.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::alloc_count;
use crate::cases::Case;
use crate::closed::{settle, start};
use crate::contenders::Contender;
use crate::figure::Figure;
use crate::proc;
use crate::work::{Work, release};

/// Bytes from the allocator while all workers are held up and the jobs wait. A bounded queue has room
/// for all of them, so that it can be compared.
pub(crate) fn memory<C: Contender>(case: &Case) -> Vec<Figure> {
    let held = case.workers as u64;
    let last = held + case.jobs;
    let before = alloc_count::live();
    let mut contender = C::start(case.workers, last as usize + 1);
    settle(case.workers);
    let bytes = AtomicI64::new(0);
    contender.burst(last + 1, |number| {
        if number < held {
            return Work::Hold;
        }
        if number == last {
            bytes.store(alloc_count::live() - before, Relaxed);
            release();
        }
        Work::Add(number)
    });
    let per_job = bytes.into_inner() as f64 / case.jobs as f64;
    vec![Figure::new("memory", "bytes per waiting job", per_job)]
}

pub(crate) fn allocations<C: Contender>(case: &Case) -> Vec<Figure> {
    let mut contender: C = start(case);
    contender.calls(100, Work::Add);
    let before = alloc_count::count();
    contender.calls(case.jobs, Work::Add);
    let between = alloc_count::count();
    contender.burst(case.jobs, Work::Add);
    let after = alloc_count::count();
    // To the hundredth: what grows once in a while is nothing to a job.
    let per_job = |name, count: u64| {
        let hundredths = (100 * count).div_euclid(case.jobs);
        Figure::new(name, "per job", hundredths as f64 / 100.0)
    };
    vec![
        per_job("allocations, waited for", between - before),
        per_job("allocations, burst", after - between),
    ]
}

/// Until the call that starts them returns; and from dropping the pool until all threads are gone.
pub(crate) fn workers<C: Contender>(case: &Case) -> Vec<Figure> {
    let per_worker = |name, time: Duration| {
        let micros = time.as_secs_f64() * 1e6 / case.workers as f64;
        Figure::new(name, "µs per worker", micros)
    };
    let begin = Instant::now();
    let contender = C::start(case.workers, crate::closed::QUEUE);
    let mut figures = vec![per_worker("start", begin.elapsed())];
    settle(case.workers);
    let begin = Instant::now();
    drop(contender);
    // Some pools end their threads without waiting for them.
    let limit = Duration::from_secs(30);
    while proc::threads().is_some_and(|threads| threads > 1) {
        assert!(begin.elapsed() < limit, "threads are left");
        thread::sleep(Duration::from_micros(50));
    }
    if proc::threads().is_some() {
        figures.push(per_worker("end", begin.elapsed()));
    }
    figures
}

pub(crate) fn idle<C: Contender>(case: &Case, watched: Duration) -> Vec<Figure> {
    let contender: C = start(case);
    contender.calls(100, Work::Add);
    // Some look for work for a while before they sleep.
    thread::sleep(Duration::from_millis(100));
    let before = proc::other_threads_cpu_ns();
    let begin = Instant::now();
    thread::sleep(watched);
    let used = before.zip(proc::other_threads_cpu_ns());
    let figure = |(before, after)| {
        let used = (after - before) as f64 / 1e3 / begin.elapsed().as_secs_f64();
        Figure::new("processor time", "µs per second", used)
    };
    used.map(figure).into_iter().collect()
}
