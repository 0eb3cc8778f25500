//! Prints the SHA-256 of every file below some paths, as `sha256sum` does, on a pool of workers.
//!
//! ```sh
//! cargo run --release --example checksum -- --workers 4 src tests | sha256sum --check
//! ```
//!
//! With `--serve 127.0.0.1:50051` it tells how busy the pool is to any number of gRPC clients, such
//! as the example `watch`.
//!
//! # How it works
//!
//! ```text
//! walk ──▶ enqueue ──▶ workers        a hasher and a buffer each, kept from file to file
//!   │                     │
//!   └──── handles ──▶ printer         waits for them in the order of the walk
//! ```
//!
//! One thread walks. Each file becomes a job; its handle goes to the main thread, which waits for
//! the handles one after the other, so the lines come out in the order of the walk, in whatever
//! order the jobs end. Memory stays flat however large the tree is: `enqueue` blocks while the
//! pool's queue is full, and the handles travel through a channel that is bounded as well.

mod args;
#[path = "../common/argument.rs"]
mod argument;
mod hasher;
mod lines;
mod printer;
mod problem;
#[cfg(feature = "grpc")]
mod serve;
mod tally;
mod walk;
#[path = "../common/workers.rs"]
mod workers;

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use worker_pool::{Failure, JobError, JobHandle, Manager, Meter, SubmitError};

use args::{Command, Options};
use hasher::Hasher;
use printer::{BEAT, Printer};
use problem::Problem;
use tally::Tally;
use walk::Walk;

/// Files that wait for each worker. Ctrl-C finishes these too, so there are not too many of them.
const QUEUE_PER_WORKER: usize = 16;

/// Files that wait for their turn to be printed. This deep, the other workers can hash thousands of
/// small files while one is at a huge one.
const WINDOW: usize = 16 * 1024;

/// The exit status of a command line that cannot be obeyed.
const BAD_USAGE: u8 = 2;
/// The exit status of a program that a signal ended.
const INTERRUPTED: u8 = 128 + SIGINT as u8;
/// What a shell reports for `sha256sum` when the reader of its output has gone: 128 + SIGPIPE.
const NO_READER: u8 = 141;

type Pool = Manager<PathBuf, Vec<u8>, Problem>;

/// What the printer waits for next.
enum Turn {
    File(JobHandle<PathBuf, Vec<u8>, Problem>),
    Problem(Problem),
}

fn main() -> ExitCode {
    let options = match args::parse(env::args_os().skip(1)) {
        Ok(Command::Hash(options)) => options,
        Ok(Command::Help) => return say(args::USAGE),
        Ok(Command::Version) => {
            let version = concat!("checksum (worker-pool-manager) ", env!("CARGO_PKG_VERSION"));
            return say(&format!("{version}\n"));
        }
        Err(error) => {
            let _ = write!(io::stderr(), "checksum: {error}\n{}", args::USAGE);
            return ExitCode::from(BAD_USAGE);
        }
    };
    match run(options) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            let _ = writeln!(io::stderr(), "checksum: {error}");
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Hashes and prints; returns the exit status.
fn run(options: Options) -> Result<u8, Box<dyn Error>> {
    let stop = stop_on_signals()?;
    let tally = Arc::new(Tally::start());
    let meter = Meter::new();
    let pool = Pool::builder()
        .name("checksum")
        .queue_capacity(QUEUE_PER_WORKER * options.workers)
        .hook(meter.clone())
        .build()?;
    for _ in 0..options.workers {
        pool.add(Hasher::new(Arc::clone(&tally)))
            .map_err(|refused| refused.to_string())?;
    }
    #[cfg(feature = "grpc")]
    let server = match options.serve.map(|address| serve::start(address, &meter)) {
        None => None,
        Some(Ok(server)) => Some(server),
        Some(Err(error)) => {
            let _ = writeln!(io::stderr(), "checksum: --serve: {error}");
            return Ok(BAD_USAGE);
        }
    };

    let mut printer = Printer::new(Arc::clone(&tally), meter);
    let (window, turns) = bounded(WINDOW);
    let walk = Walk::new(options.paths, Arc::clone(&stop));
    let feeder = thread::Builder::new().name("walk".to_owned()).spawn({
        let (pool, tally) = (pool.clone(), Arc::clone(&tally));
        move || {
            feed(walk, &pool, &window, &tally);
            tally.found_all();
        }
    })?;

    let printed = print(turns, &mut printer).and_then(|()| printer.finish());
    if let Err(error) = printed {
        // Nobody can read the rest: what still waits is dropped, what runs breaks off.
        stop.store(true, Relaxed);
        pool.close();
        let _ = feeder.join();
        let _ = printer.finish();
        return match error.kind() {
            io::ErrorKind::BrokenPipe => Ok(NO_READER),
            _ => Err(format!("cannot write the checksums: {error}").into()),
        };
    }
    pool.drain();
    // Its clients have heard of the end; on every other way out of here it is dropped as well.
    #[cfg(feature = "grpc")]
    drop(server);
    let whole = feeder.join().is_ok();
    printer.say(&tally.summary(options.workers, printer.unreadable()));
    Ok(match () {
        () if stop.load(Relaxed) => INTERRUPTED,
        () if printer.unreadable() > 0 || !whole => 1,
        () => 0,
    })
}

/// A flag that the first SIGINT or SIGTERM sets; the second one ends the program at once.
fn stop_on_signals() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, INTERRUPTED.into(), Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Makes a job of each file, until the walk is over or nobody wants the results any more.
fn feed(walk: Walk, pool: &Pool, window: &Sender<Turn>, tally: &Tally) {
    for found in walk {
        let turn = match found {
            Err(problem) => Turn::Problem(problem),
            Ok(path) => match pool.enqueue(path) {
                Ok(handle) => Turn::File(handle),
                Err(_closed) => return,
            },
        };
        tally.found_one();
        if window.send(turn).is_err() {
            return;
        }
    }
}

/// Prints the results in the order of the walk. Never sleeps longer than a beat, so that the
/// progress bar moves and what is ready gets out, even behind a file that takes long.
fn print(turns: Receiver<Turn>, printer: &mut Printer) -> io::Result<()> {
    loop {
        let turn = match turns.recv_timeout(BEAT) {
            Ok(turn) => turn,
            Err(RecvTimeoutError::Timeout) => {
                printer.beat()?;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        let mut handle = match turn {
            Turn::File(handle) => handle,
            Turn::Problem(problem) => {
                printer.problem(&problem)?;
                continue;
            }
        };
        let result = loop {
            match handle.wait_timeout(BEAT) {
                Some(result) => break result,
                None => printer.beat()?,
            }
        };
        match result {
            Ok(line) => printer.line(&line)?,
            Err(SubmitError::Failed(JobError {
                cause: Failure::Worker(problem),
                ..
            })) => printer.problem(&problem)?,
            Err(error) => printer.problem(&error)?,
        }
    }
}
