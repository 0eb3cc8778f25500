//! Workloads whose jobs arrive at moments fixed beforehand, whatever became of the jobs before.
//!
//! A latency counts from the moment at which the job was to arrive. So a pool that holds up its
//! submitter, or a submitter that oversleeps, is not rewarded by jobs that come later: there is no
//! coordinated omission.

use std::sync::atomic::Ordering::Relaxed;

use hdrhistogram::Histogram;

use crate::cases::Case;
use crate::closed::{SKEW, cores, is_long, start};
use crate::contenders::Contender;
use crate::figure::Figure;
use crate::proc;
use crate::work::{Log, Work};

/// How long an equal job takes, in microseconds.
const EQUAL: u64 = 100;
/// How long a short one of the skewed jobs takes. A long one takes a thousand times as long.
const SHORT: u64 = 20;
/// What share of the cores the skewed jobs ask for, in percent.
const SKEWED_LOAD: u64 = 50;

/// Latency from the intended arrival to the end.
pub(crate) fn open_loop<C: Contender>(case: &Case, load: u64, speed: f64) -> Vec<Figure> {
    let log = Log::open(case.jobs);
    let rounds = (EQUAL as f64 * speed) as u32;
    let (due, cpu) = arrive::<C>(case, log, EQUAL as f64, load, |_| rounds);
    let latencies = log.ended.iter().map(|at| at.load(Relaxed)).zip(due);
    let mut figures = quantiles("latency", latencies);
    figures.extend(cpu);
    figures
}

/// How long the short jobs wait for their begin.
pub(crate) fn skewed<C: Contender>(case: &Case, speed: f64) -> Vec<Figure> {
    let log = Log::open(case.jobs);
    let mean = SHORT as f64 * (2.0 - 1.0 / SKEW as f64);
    let rounds = |number| {
        let micros = if is_long(number) { SHORT * SKEW } else { SHORT };
        (micros as f64 * speed) as u32
    };
    let (due, cpu) = arrive::<C>(case, log, mean, SKEWED_LOAD, rounds);
    let begun = log.begun.iter().map(|at| at.load(Relaxed)).zip(due);
    let short = begun
        .zip(0..)
        .filter(|&(_, number)| !is_long(number))
        .map(|(times, _)| times);
    let mut figures = quantiles("wait", short);
    figures.extend(cpu);
    figures
}

/// Submits each job when it is due. The moments, and the processor time that all of it took.
fn arrive<C: Contender>(
    case: &Case,
    log: &Log,
    micros: f64,
    load: u64,
    rounds: impl Fn(u64) -> u32 + Sync,
) -> (Vec<u64>, Option<Figure>) {
    let mut contender: C = start(case);
    let gap = micros * 1e3 / cores(case) as f64 * 100.0 / load as f64;
    let due = schedule(log.now() + 1_000_000, gap, case.jobs);
    let before = proc::cpu_ms();
    contender.burst(case.jobs, |number| {
        log.sleep_until(due[number as usize]);
        Work::Logged {
            number: number as u32,
            rounds: rounds(number),
        }
    });
    let all_ran = log.ended.iter().all(|at| at.load(Relaxed) > 0);
    assert!(all_ran, "the burst ended before its jobs");
    let cpu = before.zip(proc::cpu_ms()).map(|(before, after)| {
        let used = (after - before) as f64 * 1e3 / case.jobs as f64;
        Figure::new("processor time", "µs per job", used)
    });
    (due, cpu)
}

/// Random arrivals that know nothing of each other, the same in every run: nanoseconds.
fn schedule(begin: u64, mean_gap: f64, jobs: u64) -> Vec<u64> {
    let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut at = begin as f64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let uniform = ((state >> 11) + 1) as f64 / (1u64 << 53) as f64;
        at -= mean_gap * uniform.ln();
        at as u64
    };
    (0..jobs).map(|_| next()).collect()
}

fn quantiles(what: &str, times: impl Iterator<Item = (u64, u64)>) -> Vec<Figure> {
    let mut histogram = Histogram::<u64>::new(3).expect("three digits");
    for (at, due) in times {
        histogram
            .record(at.saturating_sub(due))
            .expect("it grows as needed");
    }
    let figure =
        |name: &str, ns: u64| Figure::new(&format!("{what} {name}"), "µs", ns as f64 / 1e3);
    vec![
        figure("p50", histogram.value_at_quantile(0.5)),
        figure("p99", histogram.value_at_quantile(0.99)),
        figure("p99.9", histogram.value_at_quantile(0.999)),
        figure("max", histogram.max()),
    ]
}
