//! What has been done so far: counted by the workers, shown by the progress bar and the summary.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Counters of one run. They order nothing between threads, so all of them are relaxed.
#[derive(Debug)]
pub(crate) struct Tally {
    started: Instant,
    found: AtomicU64,
    walked: AtomicBool,
    files: AtomicU64,
    bytes: AtomicU64,
    busy_nanos: AtomicU64,
}

impl Tally {
    pub(crate) fn start() -> Self {
        Tally {
            started: Instant::now(),
            found: AtomicU64::new(0),
            walked: AtomicBool::new(false),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            busy_nanos: AtomicU64::new(0),
        }
    }

    /// The walk has come upon a file.
    pub(crate) fn found_one(&self) {
        self.found.fetch_add(1, Relaxed);
    }
    /// The walk is over.
    pub(crate) fn found_all(&self) {
        self.walked.store(true, Relaxed);
    }
    /// A part of a file was read.
    pub(crate) fn read(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }
    /// A worker was busy with a file.
    pub(crate) fn worked(&self, time: Duration, hashed: bool) {
        self.files.fetch_add(u64::from(hashed), Relaxed);
        self.busy_nanos.fetch_add(time.as_nanos() as u64, Relaxed);
    }

    /// Files found so far, and whether these are all.
    pub(crate) fn found(&self) -> (u64, bool) {
        let all = self.walked.load(Relaxed);
        (self.found.load(Relaxed), all)
    }
    pub(crate) fn files(&self) -> u64 {
        self.files.load(Relaxed)
    }
    pub(crate) fn megabytes(&self) -> f64 {
        self.bytes.load(Relaxed) as f64 / 1e6
    }
    pub(crate) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// The run in figures, if it ended now.
    pub(crate) fn summary(&self, workers: usize, unreadable: u64) -> Summary {
        let seconds = self.seconds();
        let busy = self.busy_nanos.load(Relaxed) as f64 / 1e9;
        Summary {
            files: self.files(),
            unreadable,
            megabytes: self.megabytes(),
            seconds,
            workers,
            utilisation: busy / (workers as f64 * seconds),
        }
    }
}

/// The last line of a run.
#[derive(Debug)]
pub(crate) struct Summary {
    files: u64,
    unreadable: u64,
    megabytes: f64,
    seconds: f64,
    workers: usize,
    /// The part of the run that the workers, on average, spent on files.
    utilisation: f64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count| if count == 1 { "" } else { "s" };
        write!(f, "{} file{}", self.files, plural(self.files))?;
        if self.unreadable > 0 {
            write!(f, " ({} unreadable)", self.unreadable)?;
        }
        write!(
            f,
            ", {:.1} MB in {:.3} s: {:.1} MB/s, {} worker{} {:.0} % busy",
            self.megabytes,
            self.seconds,
            self.megabytes / self.seconds,
            self.workers,
            plural(self.workers as u64),
            100.0 * self.utilisation,
        )
    }
}
