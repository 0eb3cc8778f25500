//! What the contenders are given to do, the same for all.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// A job: 16 bytes.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// The empty job: adds one.
    Add(u64),
    /// So many rounds of arithmetic.
    Spin(u64),
    /// Arithmetic whose begin and end are written into the log, under this number.
    Logged { number: u32, rounds: u32 },
    /// Waits until [`release`] is called.
    Hold,
}

impl Work {
    pub(crate) fn run(self) -> u64 {
        match self {
            Work::Add(number) => black_box(number) + 1,
            Work::Spin(rounds) => arithmetic(rounds),
            Work::Logged { number, rounds } => {
                let log = LOG.get().expect("the log is opened before the first job");
                log.begun[number as usize].store(log.now(), Relaxed);
                let result = arithmetic(rounds.into());
                log.ended[number as usize].store(log.now(), Relaxed);
                result
            }
            Work::Hold => {
                let mut released = RELEASED.0.lock().expect("released");
                while !*released {
                    released = RELEASED.1.wait(released).expect("released");
                }
                0
            }
        }
    }
}

/// A random number's steps. Each needs the one before, and no compiler can make one of two.
fn arithmetic(rounds: u64) -> u64 {
    let mut value = black_box(rounds | 1);
    for _ in 0..rounds {
        value ^= value << 13;
        value ^= value >> 7;
        value ^= value << 17;
    }
    black_box(value)
}

/// How many rounds take a microsecond here while all cores work: the best of many short trials, for
/// in the others something else had the processor.
pub(crate) fn rounds_per_microsecond() -> f64 {
    /// Long enough for a processor to come to its full speed.
    const TRIED: Duration = Duration::from_millis(300);
    const ROUNDS: u64 = 10_000;
    let trials = || {
        let begin = Instant::now();
        let mut best = Duration::MAX;
        while begin.elapsed() < TRIED {
            let start = Instant::now();
            arithmetic(ROUNDS);
            best = best.min(start.elapsed());
        }
        best
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let best = thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(trials)).collect();
        let bests = threads.into_iter().map(|it| it.join().expect("join"));
        bests.min().expect("a core")
    });
    ROUNDS as f64 * 1e3 / best.as_nanos() as f64
}

static RELEASED: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

/// Lets the jobs go that hold.
pub(crate) fn release() {
    *RELEASED.0.lock().expect("released") = true;
    RELEASED.1.notify_all();
}

static LOG: OnceLock<Log> = OnceLock::new();

/// When the logged jobs began and ended, in nanoseconds since the log was opened.
pub(crate) struct Log {
    opened: Instant,
    pub(crate) begun: Vec<AtomicU64>,
    pub(crate) ended: Vec<AtomicU64>,
}

impl Log {
    /// Opens the process's log, for so many jobs. Once.
    pub(crate) fn open(jobs: u64) -> &'static Log {
        let zeros = || (0..jobs).map(|_| AtomicU64::new(0)).collect();
        let (begun, ended) = (zeros(), zeros());
        LOG.get_or_init(|| Log {
            opened: Instant::now(),
            begun,
            ended,
        })
    }

    pub(crate) fn now(&self) -> u64 {
        self.opened.elapsed().as_nanos() as u64
    }

    pub(crate) fn sleep_until(&self, due: u64) {
        let early = due.saturating_sub(self.now());
        if early > 0 {
            thread::sleep(Duration::from_nanos(early));
        }
    }
}
