//! Workloads whose jobs are all there from the start, or follow each other's answers.

use std::thread;
use std::time::{Duration, Instant};

use crate::cases::Case;
use crate::contenders::Contender;
use crate::figure::Figure;
use crate::work::Work;

/// Jobs that may wait where that has a bound: this crate's default.
pub(crate) const QUEUE: usize = 1024;
const SUBMITTERS: u64 = 8;
/// One job in so many is so many times as long.
pub(crate) const SKEW: u64 = 1000;

/// A pool whose threads have all come to rest.
pub(crate) fn start<C: Contender>(case: &Case) -> C {
    let contender = C::start(case.workers, QUEUE);
    settle(case.workers);
    contender
}

/// Longer than the threads need to start and fall asleep; nothing depends on it but the noise.
pub(crate) fn settle(workers: usize) {
    thread::sleep(Duration::from_micros(5_000 + 50 * workers as u64));
}

pub(crate) fn burst<C: Contender>(case: &Case) -> Vec<Figure> {
    let mut contender: C = start(case);
    let begin = Instant::now();
    let end = contender.burst(case.jobs, Work::Add);
    vec![Figure::per_job(end - begin, case.jobs)]
}

pub(crate) fn round_trip<C: Contender>(case: &Case) -> Vec<Figure> {
    let contender: C = start(case);
    contender.calls(10, Work::Add);
    let begin = Instant::now();
    let sum = contender.calls(case.jobs, Work::Add);
    let time = Figure::per_job(begin.elapsed(), case.jobs);
    assert_eq!(sum, sum_of_results(case.jobs));
    vec![time]
}

pub(crate) fn submitters<C: Contender>(case: &Case) -> Vec<Figure> {
    let contender: C = start(case);
    let each = case.jobs / SUBMITTERS;
    let begin = Instant::now();
    thread::scope(|scope| {
        for _ in 0..SUBMITTERS {
            scope.spawn(|| assert_eq!(contender.calls(each, Work::Add), sum_of_results(each)));
        }
    });
    vec![Figure::per_job(begin.elapsed(), each * SUBMITTERS)]
}

pub(crate) fn in_order<C: Contender>(case: &Case) -> Vec<Figure> {
    let contender: C = start(case);
    let begin = Instant::now();
    let results = contender.in_order(case.jobs, Work::Add);
    let time = Figure::per_job(begin.elapsed(), case.jobs);
    assert!(results.into_iter().eq(1..=case.jobs), "a result is wrong");
    vec![time]
}

pub(crate) fn as_they_come<C: Contender>(case: &Case) -> Vec<Figure> {
    let contender: C = start(case);
    let begin = Instant::now();
    let results = contender.as_they_come(case.jobs, Work::Add);
    let time = Figure::per_job(begin.elapsed(), case.jobs);
    assert_eq!(results.len() as u64, case.jobs);
    assert_eq!(results.iter().sum::<u64>(), sum_of_results(case.jobs));
    vec![time]
}

/// Against the time that the arithmetic alone takes, shared out among the cores.
pub(crate) fn grain<C: Contender>(case: &Case, micros: u64, speed: f64) -> Vec<Figure> {
    let rounds = (micros as f64 * speed) as u64;
    let mut contender: C = start(case);
    let begin = Instant::now();
    let end = contender.burst(case.jobs, |_| Work::Spin(rounds));
    let ideal = (micros * case.jobs) as f64 / 1e6 / cores(case) as f64;
    let efficiency = 100.0 * ideal / (end - begin).as_secs_f64();
    vec![Figure::new("efficiency", Figure::EFFICIENCY, efficiency)]
}

/// Jobs of a microsecond, and some of a millisecond.
pub(crate) fn skewed_burst<C: Contender>(case: &Case, speed: f64) -> Vec<Figure> {
    let mut contender: C = start(case);
    let begin = Instant::now();
    let end = contender.burst(case.jobs, |number| {
        let micros = if is_long(number) { SKEW } else { 1 };
        Work::Spin((micros as f64 * speed) as u64)
    });
    let time = (end - begin).as_secs_f64() * 1e3;
    vec![Figure::new("time to finish", "ms", time)]
}

pub(crate) fn is_long(number: u64) -> bool {
    number % SKEW == SKEW / 2
}

/// The cores that the workers of a case can use.
pub(crate) fn cores(case: &Case) -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    cores.min(case.workers)
}

/// Each job's result is its number and one.
fn sum_of_results(jobs: u64) -> u64 {
    jobs * (jobs + 1) / 2
}
