//! What is measured, with how many workers and jobs, and who takes part.

use std::time::Duration;

/// What the contenders have to do.
#[derive(Clone, Copy)]
pub(crate) enum Workload {
    /// Empty jobs from one submitter, until all are done.
    Burst,
    /// An empty job, waited for.
    RoundTrip,
    /// Eight threads that wait for an empty job each.
    Submitters,
    /// The results of empty jobs, in the order of the jobs.
    InOrder,
    /// The results of empty jobs, in any order.
    AsTheyCome,
    /// Jobs of so many microseconds of arithmetic.
    Grain(u64),
    /// Short jobs, one in a thousand of them a thousand times as long.
    SkewedBurst,
    /// The same, arriving at random moments, at half of what the cores can do.
    SkewedArrivals,
    /// Equal jobs that arrive at random moments, at so many percent of what the cores can do.
    OpenLoop(u64),
    /// Bytes per waiting job that nobody waits for.
    Memory,
    /// Bytes per waiting job with a handle each.
    HandleMemory,
    /// Allocations per job.
    Allocations,
    /// Starting and ending the workers.
    Workers,
    /// Processor time of a pool that has nothing to do, watched for so long.
    Idle(Duration),
}

impl Workload {
    /// Is it made of jobs of so many microseconds?
    pub(crate) fn is_timed_work(self) -> bool {
        matches!(
            self,
            Workload::Grain(_)
                | Workload::SkewedBurst
                | Workload::SkewedArrivals
                | Workload::OpenLoop(_)
        )
    }
}

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) workload: Workload,
    pub(crate) workers: usize,
    pub(crate) jobs: u64,
    pub(crate) contenders: Vec<&'static str>,
}

/// This crate's pool, as all cases call it.
pub(crate) const POOL: &str = "pool";
/// The pool, given all jobs at once.
pub(crate) const FOR_EACH: &str = "pool for_each";

/// What a contender gets, and so which others it can be compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Jobs one by one, each submitted by a call.
    OneByOne,
    /// All jobs at once, to be divided as it likes.
    Beforehand,
}

impl Family {
    pub(crate) fn of(contender: &str) -> Self {
        match contender {
            FOR_EACH | "pool map" | "pool map_unordered" | "rayon par_iter" | "no pool" => {
                Family::Beforehand
            }
            _ => Family::OneByOne,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Family::OneByOne => "one by one",
            Family::Beforehand => "beforehand",
        }
    }
}

const POOLS: [&str; 8] = [
    POOL,
    "rayon",
    "threadpool",
    "workerpool",
    "rusty_pool",
    "threadfin",
    "bounded channel",
    "unbounded channel",
];

fn pools_and(more: &[&'static str]) -> Vec<&'static str> {
    [&POOLS, more].concat()
}

/// All cases; for a smoke test with few jobs.
pub(crate) fn all(smoke: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, workload, workers: &[usize], jobs: u64, contenders: &[_]| {
        let jobs = if smoke { (jobs / 1000).max(20) } else { jobs };
        for &workers in workers {
            // A thousand threads are slow to start: a smoke test has them once.
            if smoke && workers == 1000 && !matches!(workload, Workload::Workers) {
                continue;
            }
            cases.push(Case {
                name: format!("{name}, {workers} workers"),
                workload,
                workers,
                jobs,
                contenders: contenders.to_vec(),
            });
        }
    };
    let (few, many) = ([2, 16], [1000]);
    let with_batches = pools_and(&[FOR_EACH, "rayon par_iter"]);
    let with_split = pools_and(&[FOR_EACH, "rayon par_iter", "no pool"]);

    // With a thousand threads some take a tenth of a millisecond per job: fewer jobs for all.
    add("burst", Workload::Burst, &few, 1_000_000, &with_batches);
    add("burst", Workload::Burst, &many, 50_000, &with_batches);
    add("round trip", Workload::RoundTrip, &few, 50_000, &POOLS);
    add("round trip", Workload::RoundTrip, &many, 5_000, &POOLS);
    let eight = "8 blocking submitters";
    add(eight, Workload::Submitters, &few, 100_000, &POOLS);
    add(eight, Workload::Submitters, &many, 10_000, &POOLS);

    let handles = [
        "pool map",
        "pool handles",
        "rusty_pool",
        "threadfin",
        "rayon par_iter",
    ];
    let in_order = "results in order";
    add(in_order, Workload::InOrder, &few, 1_000_000, &handles);
    let channels = [
        "pool map_unordered",
        "threadpool",
        "workerpool",
        "bounded channel",
        "unbounded channel",
        "rayon par_iter",
    ];
    let unordered = "results as they come";
    add(unordered, Workload::AsTheyCome, &few, 1_000_000, &channels);

    for (micros, jobs) in [(1, 100_000), (10, 10_000), (100, 1_000), (10_000, 20)] {
        let name = format!("jobs of {micros} µs");
        add(&name, Workload::Grain(micros), &few, jobs, &with_split);
    }

    let skew = "skew, all at once";
    add(skew, Workload::SkewedBurst, &few, 100_000, &with_split);
    let arrivals = "skew, arriving";
    add(arrivals, Workload::SkewedArrivals, &few, 10_000, &POOLS);
    for load in [30, 70, 95] {
        let name = format!("open loop at {load} %");
        let jobs = 80 * load; // about 0.4 s on two cores
        add(&name, Workload::OpenLoop(load), &few, jobs, &POOLS);
    }

    let extras = [
        POOL,
        "pool, meter",
        "pool, timings",
        "pool, meter, timings",
        "pool, deadlines",
    ];
    add("extras, burst", Workload::Burst, &[2], 1_000_000, &extras);
    let round_trip = "extras, round trip";
    add(round_trip, Workload::RoundTrip, &[2], 50_000, &extras);

    add("memory", Workload::Memory, &[2], 1_000_000, &POOLS);
    let with_handles = ["pool handles", "rusty_pool", "threadfin"];
    let memory = "memory with handles";
    add(
        memory,
        Workload::HandleMemory,
        &[2],
        1_000_000,
        &with_handles,
    );
    add("allocations", Workload::Allocations, &[2], 20_000, &POOLS);
    add("starting and ending", Workload::Workers, &[1000], 0, &POOLS);
    let watched = Duration::from_millis(if smoke { 20 } else { 500 });
    add("idle", Workload::Idle(watched), &[100], 0, &POOLS);
    cases
}
