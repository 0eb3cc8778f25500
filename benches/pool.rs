//! The pool beside a bare bounded crossbeam channel with as many threads: `cargo bench --bench pool`.
//!
//! Contenders take turns in one process, several runs each; medians and their ratio are printed.
//! `-- --smoke` runs each once with few jobs, to see that nothing breaks.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use worker_pool::{Job, JobBuilder, Manager, Meter};

mod alloc_count;

const CAPACITY: usize = 1024;

fn main() {
    let smoke = std::env::args().any(|arg| arg == "--smoke" || arg == "--test");
    let scale = if smoke { 100 } else { 1 };
    let runs = if smoke { 1 } else { 9 };
    println!("medians of {runs} interleaved runs, ns per job (min–max)");
    for workers in [2, 16, 1000] {
        let jobs = 100_000 / scale;
        compare(
            &format!("round trip, {workers} idle workers"),
            runs,
            || pool_round_trip(workers, jobs),
            || bare_round_trip(workers, jobs),
        );
    }
    let jobs = 1_000_000 / scale;
    compare(
        "detached, 2 workers",
        runs,
        || pool_detached(2, jobs),
        || bare_detached(2, jobs),
    );
    let jobs = 25_000 / scale;
    compare(
        "8 blocking submitters, 2 workers",
        runs,
        || pool_submitters(2, 8, jobs),
        || bare_submitters(2, 8, jobs),
    );
    extras("extras, detached", runs, |extra| {
        detached(extra, 2, 1_000_000 / scale)
    });
    extras("extras, 8 blocking submitters", runs, |extra| {
        submitters(extra, 2, 8, 25_000 / scale)
    });
    allocations();
    idle_cpu(if smoke { 1 } else { 5 });
}

fn compare(what: &str, runs: usize, mut ours: impl FnMut() -> f64, mut bare: impl FnMut() -> f64) {
    if !is_wanted(what) {
        return;
    }
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        a.push(ours());
        b.push(bare());
    }
    let (ours, ours_text) = summary(a);
    let (bare, bare_text) = summary(b);
    println!(
        "{what:<34} pool {ours_text:<26} bare channel {bare_text:<26} ratio {:.2}",
        ours / bare
    );
}

/// `cargo bench --bench pool -- detached` runs what has the word in its name.
fn is_wanted(what: &str) -> bool {
    let mut words = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    words.next().is_none_or(|word| what.contains(&word))
}

/// What a pool or a job can have beyond the plain one.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Extra {
    None,
    Meter,
    Timings,
    Deadline,
}

/// The price of each extra, beside a pool without.
fn extras(what: &str, runs: usize, run: impl Fn(Extra) -> f64) {
    if !is_wanted(what) {
        return;
    }
    let all = [Extra::None, Extra::Meter, Extra::Timings, Extra::Deadline];
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..runs {
        for (extra, times) in all.iter().zip(&mut times) {
            times.push(run(*extra));
        }
    }
    let mut plain = 0.0;
    for (extra, times) in all.iter().zip(times) {
        let (median, text) = summary(times);
        if *extra == Extra::None {
            plain = median;
        }
        let name = format!("{what}: {extra:?}").to_lowercase();
        println!("{name:<42} {text:<26} {:+.0}", median - plain);
    }
}

fn summary(mut runs: Vec<f64>) -> (f64, String) {
    runs.sort_by(f64::total_cmp);
    let median = runs[runs.len() / 2];
    let text = format!("{median:.0} ({:.0}–{:.0})", runs[0], runs[runs.len() - 1]);
    (median, text)
}

fn per_job(start: Instant, jobs: u64) -> f64 {
    start.elapsed().as_nanos() as f64 / jobs as f64
}

fn pool(workers: usize) -> Manager<u64, u64> {
    pool_with(Extra::None, workers)
}

fn pool_with(extra: Extra, workers: usize) -> Manager<u64, u64> {
    let builder = Manager::builder()
        .queue_capacity(CAPACITY)
        .timings(extra == Extra::Timings);
    let builder = match extra {
        Extra::Meter => builder.hook(Meter::new()),
        _ => builder,
    };
    let pool = builder.build().expect("build");
    for _ in 0..workers {
        pool.add(|job: Job<u64>| Ok(job.into_payload() + 1))
            .expect("add");
    }
    pool
}

fn pool_round_trip(workers: usize, jobs: u64) -> f64 {
    let pool = pool(workers);
    pool.submit(0).expect("submit");
    let start = Instant::now();
    for job in 0..jobs {
        assert_eq!(pool.submit(job).expect("submit"), job + 1);
    }
    per_job(start, jobs)
}

/// A deadline that is too far to be missed.
fn job(pool: &Manager<u64, u64>, extra: Extra, job: u64) -> JobBuilder<'_, u64, u64, Infallible> {
    match extra {
        Extra::Deadline => pool.job(job).timeout(Duration::from_secs(3600)),
        _ => pool.job(job),
    }
}

fn pool_detached(workers: usize, jobs: u64) -> f64 {
    detached(Extra::None, workers, jobs)
}

fn detached(extra: Extra, workers: usize, jobs: u64) -> f64 {
    let pool = pool_with(extra, workers);
    let (errors, _failures) = bounded(1);
    let start = Instant::now();
    for number in 0..jobs {
        let job = job(&pool, extra, number);
        job.detach(number, &errors).expect("detach");
    }
    pool.drain();
    let time = per_job(start, jobs);
    assert_eq!(pool.stats().completed, jobs);
    time
}

fn pool_submitters(workers: usize, threads: usize, jobs: u64) -> f64 {
    submitters(Extra::None, workers, threads, jobs)
}

fn submitters(extra: Extra, workers: usize, submitters: usize, jobs: u64) -> f64 {
    let pool = &pool_with(extra, workers);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..submitters {
            scope.spawn(move || {
                for number in 0..jobs {
                    let answer = job(pool, extra, number).submit();
                    assert_eq!(answer.expect("submit"), number + 1);
                }
            });
        }
    });
    per_job(start, jobs * submitters as u64)
}

/// What the pool is measured against: threads that receive from one bounded channel, and a bounded
/// reply channel per submitter.
type Call = (u64, Option<Sender<u64>>);

struct Bare {
    jobs: Sender<Call>,
    threads: Vec<thread::JoinHandle<()>>,
    done: Arc<AtomicU64>,
}

impl Bare {
    fn new(workers: usize) -> Self {
        let (jobs, queue): (Sender<Call>, Receiver<Call>) = bounded(CAPACITY);
        let done = Arc::new(AtomicU64::new(0));
        let threads = (0..workers)
            .map(|_| {
                let queue = queue.clone();
                let done = Arc::clone(&done);
                thread::spawn(move || {
                    let mut mine = 0;
                    for (job, reply) in queue {
                        match reply {
                            Some(reply) => reply.send(job + 1).expect("reply"),
                            None => mine += std::hint::black_box(job + 1).min(1),
                        }
                    }
                    done.fetch_add(mine, Relaxed);
                })
            })
            .collect();
        Bare {
            jobs,
            threads,
            done,
        }
    }

    fn finish(self) -> u64 {
        drop(self.jobs);
        for thread in self.threads {
            thread.join().expect("join");
        }
        self.done.load(Relaxed)
    }
}

fn bare_round_trip(workers: usize, jobs: u64) -> f64 {
    let bare = Bare::new(workers);
    let (reply, replies) = bounded(1);
    bare.jobs.send((0, Some(reply.clone()))).expect("send");
    replies.recv().expect("reply");
    let start = Instant::now();
    for job in 0..jobs {
        bare.jobs.send((job, Some(reply.clone()))).expect("send");
        assert_eq!(replies.recv().expect("reply"), job + 1);
    }
    let time = per_job(start, jobs);
    bare.finish();
    time
}

fn bare_detached(workers: usize, jobs: u64) -> f64 {
    let bare = Bare::new(workers);
    let start = Instant::now();
    for job in 0..jobs {
        bare.jobs.send((job, None)).expect("send");
    }
    assert_eq!(bare.finish(), jobs);
    per_job(start, jobs)
}

fn bare_submitters(workers: usize, submitters: usize, jobs: u64) -> f64 {
    let bare = Bare::new(workers);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..submitters {
            scope.spawn(|| {
                let (reply, replies) = bounded(1);
                for job in 0..jobs {
                    bare.jobs.send((job, Some(reply.clone()))).expect("send");
                    assert_eq!(replies.recv().expect("reply"), job + 1);
                }
            });
        }
    });
    let time = per_job(start, jobs * submitters as u64);
    bare.finish();
    time
}

fn allocations() {
    let pool = pool(2);
    let (errors, _failures) = bounded(1);
    let count = |jobs: u64, run: &dyn Fn(u64)| {
        (0..jobs).for_each(run); // lazily made things are made, and the queue was full
        let before = alloc_count::count();
        (0..jobs).for_each(run);
        (alloc_count::count() - before) as f64 / jobs as f64
    };
    let submit = count(10_000, &|job| {
        pool.submit(job).expect("submit");
    });
    let handle = count(10_000, &|job| {
        pool.enqueue(job).expect("enqueue").wait().expect("wait");
    });
    // So many that it does not count what is allocated as the queue is fuller than ever before.
    let detached = count(1_000_000, &|job| {
        pool.detach_submit(job, job, &errors).expect("detach");
    });
    println!("allocations per job: submit {submit:.2}, handle {handle:.2}, detached {detached:.2}");
    assert!(submit <= 2.0 && handle <= 2.0 && detached <= 2.0);
}

/// An idle pool of 100 workers must not use the processor at all.
fn idle_cpu(seconds: u64) {
    let Some(_) = cpu_ticks() else {
        println!("idle pool: no /proc/self/stat here");
        return;
    };
    let pool = pool(100);
    pool.submit(1).expect("submit");
    // The last worker to look gives up within microseconds; wait for the counter to stand still.
    let settled = (0..100).any(|_| {
        let before = cpu_ticks();
        thread::sleep(Duration::from_millis(50));
        before == cpu_ticks()
    });
    assert!(settled, "an idle pool never comes to rest");
    let before = cpu_ticks().expect("ticks");
    thread::sleep(Duration::from_secs(seconds));
    let used = cpu_ticks().expect("ticks") - before;
    println!("idle pool of 100 workers: {used} clock ticks of CPU in {seconds} s");
    assert_eq!(used, 0, "an idle pool must sleep");
}

/// User and system time of this process, in clock ticks.
fn cpu_ticks() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}
