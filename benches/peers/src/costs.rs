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
    let waiting = Waiting::behind(case);
    let mut contender = C::start(case.workers, waiting.places());
    settle(case.workers);
    contender.burst(waiting.last + 1, |number| waiting.job(number));
    waiting.figures()
}

/// The handles, which the caller keeps, are counted with the jobs.
pub(crate) fn memory_with_handles<C: Contender>(case: &Case) -> Vec<Figure> {
    let waiting = Waiting::behind(case);
    let contender = C::start(case.workers, waiting.places());
    settle(case.workers);
    contender.in_order(waiting.last + 1, |number| waiting.job(number));
    waiting.figures()
}

/// Jobs that wait behind others that hold up all workers.
struct Waiting {
    held: u64,
    /// The number of the job that comes when all that are counted wait.
    last: u64,
    before: i64,
    bytes: AtomicI64,
}

impl Waiting {
    fn behind(case: &Case) -> Self {
        let held = case.workers as u64;
        Waiting {
            held,
            last: held + case.jobs,
            before: alloc_count::live(),
            bytes: AtomicI64::new(0),
        }
    }

    fn places(&self) -> usize {
        self.last as usize + 1
    }

    fn job(&self, number: u64) -> Work {
        if number < self.held {
            return Work::Hold;
        }
        if number == self.last {
            let bytes = alloc_count::live() - self.before;
            self.bytes.store(bytes, Relaxed);
            release();
        }
        Work::Add(number)
    }

    fn figures(self) -> Vec<Figure> {
        let per_job = self.bytes.into_inner() as f64 / (self.last - self.held) as f64;
        let payload = size_of::<Work>() as f64;
        let unit = "bytes per waiting job";
        vec![
            Figure::new("memory", unit, per_job),
            Figure::new("memory over the payload", unit, per_job - payload),
        ]
    }
}

pub(crate) fn allocations<C: Contender>(case: &Case) -> Vec<Figure> {
    // So many that it does not count what is allocated once, as the queue fills for the first time.
    let burst = 50 * case.jobs;
    let mut contender: C = start(case);
    contender.calls(100, Work::Add);
    let before = alloc_count::count();
    contender.calls(case.jobs, Work::Add);
    let between = alloc_count::count();
    contender.burst(burst, Work::Add);
    let after = alloc_count::count();
    // To the hundredth: what grows once in a while is nothing to a job.
    let per_job = |name, count: u64, jobs: u64| {
        let hundredths = (100 * count).div_euclid(jobs);
        Figure::new(name, "per job", hundredths as f64 / 100.0)
    };
    vec![
        per_job("allocations, waited for", between - before, case.jobs),
        per_job("allocations, burst", after - between, burst),
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
