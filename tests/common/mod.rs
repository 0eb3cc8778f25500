//! What the tests share: limits, a latch that holds workers, payloads and hooks that count.
//!
//! Nothing here sleeps to let something happen: tests meet the pool's threads through channels, and
//! every wait has a limit after which the test fails instead of hanging.

// Each test binary compiles its own copy of this module and uses only a part of it.
#![allow(dead_code)]

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use parking_lot::Mutex;
use worker_pool::{Hook, Job, JobId, Outcome, PoolState, WorkerId};

/// How long a test waits for what must happen before it fails: far more than a loaded machine needs.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

/// Runs `work` on a thread of its own: its result, its panic, or a failure if it takes longer than
/// `limit` (its thread is then left behind).
#[track_caller]
pub(crate) fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, finished) = bounded(1);
    let name = thread::current().name().unwrap_or("within").to_owned();
    let builder = thread::Builder::new().name(name);
    let worker = builder
        .spawn(move || {
            let result = work();
            let _ = done.send(());
            result
        })
        .expect("a thread for the test");
    if finished.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
        panic!("not done within {limit:?}");
    }
    worker.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// The next message of a channel, which must come.
#[track_caller]
pub(crate) fn next<T>(channel: &Receiver<T>) -> T {
    match channel.recv_timeout(LIMIT) {
        Ok(message) => message,
        Err(error) => panic!("no message: {error}"),
    }
}

/// Looks again and again until `holds`: only for what no channel tells, such as the system's list of
/// threads, or a caller that is blocked by now.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < until, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// How often a stress loop runs: `n` times the factor in `WORKER_POOL_STRESS`, at least once. Unless
/// set, the factor is 1, or less if the pool makes random pauses.
pub(crate) fn stress(n: usize) -> usize {
    let usual = if cfg!(worker_pool_perturb) { 0.25 } else { 1.0 };
    let factor = std::env::var("WORKER_POOL_STRESS")
        .ok()
        .and_then(|factor| factor.parse::<f64>().ok())
        .unwrap_or(usual);
    ((n as f64 * factor) as usize).max(1)
}

/// Holds workers inside `run` until the test lets them go. When it is dropped all may pass.
pub(crate) struct Latch {
    door: Door,
    arrived: Receiver<JobId>,
    permits: Mutex<Option<Sender<()>>>,
}

/// The workers' side of a [`Latch`].
#[derive(Clone)]
pub(crate) struct Door {
    arrivals: Sender<JobId>,
    permits: Receiver<()>,
}

impl Latch {
    pub(crate) fn new() -> Self {
        let (arrivals, arrived) = unbounded();
        let (permit, permits) = unbounded();
        Latch {
            door: Door { arrivals, permits },
            arrived,
            permits: Mutex::new(Some(permit)),
        }
    }

    pub(crate) fn door(&self) -> Door {
        self.door.clone()
    }

    /// A worker that waits at the latch in each job, then returns the payload.
    pub(crate) fn worker<P, E>(&self) -> impl FnMut(Job<P>) -> Result<P, E> + Send + use<P, E> {
        let door = self.door();
        move |job| {
            door.pass(job.id());
            Ok(job.into_payload())
        }
    }

    /// Waits until one more worker has come to the latch: with which job?
    #[track_caller]
    pub(crate) fn wait_for_one(&self) -> JobId {
        next(&self.arrived)
    }

    /// Waits until so many more have come, in that order.
    #[track_caller]
    pub(crate) fn wait_for(&self, workers: usize) -> Vec<JobId> {
        (0..workers).map(|_| self.wait_for_one()).collect()
    }

    /// How many have come that no `wait_for` has told of yet.
    pub(crate) fn arrivals(&self) -> usize {
        self.arrived.len()
    }

    /// Lets so many pass, now or when they come.
    pub(crate) fn release(&self, workers: usize) {
        let permits = self.permits.lock();
        let permit = permits.as_ref().expect("the latch is not open yet");
        for _ in 0..workers {
            permit.send(()).expect("the latch holds both ends");
        }
    }

    /// Lets all pass from now on.
    pub(crate) fn open(&self) {
        self.permits.lock().take();
    }
}

impl Door {
    /// Says that a worker is here with this job, and waits until it may pass.
    pub(crate) fn pass(&self, job: JobId) {
        let _ = self.arrivals.send(job);
        // Longer than the tests wait, so that a test fails by its own assertion first.
        let passed = self.permits.recv_timeout(2 * LIMIT);
        assert_ne!(passed, Err(RecvTimeoutError::Timeout), "held for ever");
    }
}

/// Makes [`Counted`] values and knows how many live.
#[derive(Clone, Default)]
pub(crate) struct Tally(Arc<TallyCounts>);

#[derive(Default)]
struct TallyCounts {
    made: AtomicU64,
    dropped: AtomicU64,
}

/// A payload or output that counts its birth and its drop. Not `Clone`: each is one of its kind.
pub(crate) struct Counted {
    pub(crate) value: u64,
    tally: Tally,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn make(&self, value: u64) -> Counted {
        self.0.made.fetch_add(1, SeqCst);
        Counted {
            value,
            tally: self.clone(),
        }
    }

    pub(crate) fn made(&self) -> u64 {
        self.0.made.load(SeqCst)
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.0.dropped.load(SeqCst)
    }

    /// Made and not dropped. Drops first, so that it is never below zero.
    pub(crate) fn live(&self) -> u64 {
        let dropped = self.dropped();
        self.made() - dropped
    }
}

impl Counted {
    /// The tally that made it, to make an output where the payload came from.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.tally.0.dropped.fetch_add(1, SeqCst);
    }
}

impl std::fmt::Debug for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Counted").field(&self.value).finish()
    }
}

/// What a [`Recorder`] was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    State(PoolState),
    JobStart(JobId, WorkerId),
    JobFinish(JobId, WorkerId, Outcome),
    WorkerAdd(WorkerId),
    WorkerRemove(WorkerId),
}

/// How often a [`Recorder`] was called, by method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Calls {
    pub(crate) pool_start: usize,
    pub(crate) draining: usize,
    pub(crate) closed: usize,
    pub(crate) job_start: usize,
    pub(crate) job_finish: usize,
    pub(crate) worker_add: usize,
    pub(crate) worker_remove: usize,
}

/// A hook that counts its calls and passes them on as [`Event`]s. Clones share both.
#[derive(Clone)]
pub(crate) struct Recorder(Arc<Record>);

struct Record {
    pool_start: AtomicUsize,
    calls: Mutex<Calls>,
    sender: Sender<Event>,
    receiver: Receiver<Event>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = unbounded();
        Recorder(Arc::new(Record {
            pool_start: AtomicUsize::new(0),
            calls: Mutex::default(),
            sender,
            receiver,
        }))
    }

    /// The calls so far, all read at one moment.
    pub(crate) fn calls(&self) -> Calls {
        Calls {
            pool_start: self.0.pool_start.load(SeqCst),
            ..*self.0.calls.lock()
        }
    }

    /// The events that nobody has taken yet, as they come.
    pub(crate) fn events(&self) -> &Receiver<Event> {
        &self.0.receiver
    }

    /// Takes events until one fits, and returns it.
    #[track_caller]
    pub(crate) fn wait_for(&self, fits: impl Fn(&Event) -> bool) -> Event {
        loop {
            let event = next(self.events());
            if fits(&event) {
                return event;
            }
        }
    }

    fn record(&self, event: Event, count: impl FnOnce(&mut Calls)) {
        let mut calls = self.0.calls.lock();
        count(&mut calls);
        // Under the lock: events are in the order of the counts.
        let _ = self.0.sender.send(event);
    }
}

impl Hook for Recorder {
    fn pool_start(&self, _pool: std::sync::Weak<dyn worker_pool::PoolStatus>) {
        self.0.pool_start.fetch_add(1, SeqCst);
    }
    fn pool_state(&self, state: PoolState) {
        self.record(Event::State(state), |calls| match state {
            PoolState::Draining => calls.draining += 1,
            PoolState::Closed => calls.closed += 1,
            PoolState::Running => panic!("a pool does not return to running"),
        });
    }
    fn job_start(&self, job: JobId, worker: WorkerId) {
        self.record(Event::JobStart(job, worker), |calls| calls.job_start += 1);
    }
    fn job_finish(&self, job: JobId, worker: WorkerId, outcome: Outcome) {
        let event = Event::JobFinish(job, worker, outcome);
        self.record(event, |calls| calls.job_finish += 1);
    }
    fn worker_add(&self, worker: WorkerId) {
        self.record(Event::WorkerAdd(worker), |calls| calls.worker_add += 1);
    }
    fn worker_remove(&self, worker: WorkerId) {
        self.record(Event::WorkerRemove(worker), |calls| {
            calls.worker_remove += 1
        });
    }
}

/// This process's threads, as Linux lists them: other tests of the binary have theirs in it too, so
/// prefer [`threads_named`]. A thread that was joined may be listed for another moment.
pub(crate) fn thread_count() -> usize {
    entries("/proc/self/task")
}

/// This process's open files.
pub(crate) fn fd_count() -> usize {
    entries("/proc/self/fd")
}

fn entries(directory: &str) -> usize {
    std::fs::read_dir(directory)
        .expect("Linux lists what a process has")
        .count()
}

/// The threads whose name starts so (Linux keeps 15 bytes of a name), without reapers: each pool has
/// one, which has nothing to do with jobs.
pub(crate) fn threads_named(prefix: &str) -> usize {
    let names = of_threads("comm");
    let ours = names.filter(|name| name.starts_with(prefix) && !is_reaper(name.trim_end()));
    ours.count()
}

/// Those among [`threads_named`] that the system has put to sleep: blocked, or waiting for work.
pub(crate) fn threads_asleep(prefix: &str) -> usize {
    // `id (name) state …`
    of_threads("stat")
        .filter(|stat| {
            let name = stat.split_once('(').map_or("", |(_, rest)| rest);
            let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
            // The whole name, or the part before a worker's number.
            let rest = name.strip_prefix(prefix);
            let reaper = name
                .split_once(')')
                .is_some_and(|(name, _)| is_reaper(name));
            let ours = rest.is_some_and(|rest| rest.starts_with(['-', ')']));
            ours && !reaper && state.starts_with('S')
        })
        .count()
}

fn is_reaper(name: &str) -> bool {
    name.ends_with("-r")
}

/// This file of every thread but the first, which is named after the test binary: that name ends in a
/// hash, and so may begin like any other.
fn of_threads(file: &'static str) -> impl Iterator<Item = String> {
    let first = std::process::id().to_string();
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux lists a process's threads");
    tasks
        .flatten()
        .filter(move |task| task.file_name().to_str() != Some(&first))
        // One that ended meanwhile has no files any more.
        .filter_map(move |task| std::fs::read_to_string(task.path().join(file)).ok())
}
