//! Counts lines and words of every file below some paths, as `wc` does, and how often each word is
//! there, on a pool of workers.
//!
//! ```sh
//! cargo run --release --example words -- --top 20 src tests
//! ```
//!
//! # How it works
//!
//! ```text
//! walk ──▶ map_unordered ──▶ workers     a buffer and a vocabulary each, kept from file to file
//!              ▲                │  │
//!   tally ◀────┴───── counts ───┘  └──▶ table     takes a vocabulary as its worker ends
//! ```
//!
//! The main thread folds the counts as they come; meanwhile the batch reads on in the walk, no
//! further ahead than it must. So memory does not grow with the number of files, only with that of
//! different words.
//!
//! The workers are made by a factory, on their own threads. One that panics hands over the words of
//! the files before, is made anew, and the batch goes on with the next file; what `--fail-on` is for.
//! A path on standard input becomes a job of high priority, which comes between two jobs of the batch.

mod args;
#[path = "../common/argument.rs"]
mod argument;
mod ask;
#[path = "../checksum/problem.rs"]
mod problem;
mod screen;
mod tally;
mod text;
mod vocabulary;
#[path = "../checksum/walk.rs"]
mod walk;
mod worker;
#[path = "../common/workers.rs"]
mod workers;

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use indicatif::ProgressIterator;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use worker_pool::{Manager, Restarts};

use args::{Command, Options};
use ask::Answers;
use problem::{Name, Problem};
use screen::Screen;
use tally::Tally;
use text::Count;
use vocabulary::Table;
use walk::Walk;
use worker::{Counter, Task};

/// The pause before a worker is made anew. It was the file's fault, not that of something which
/// needs time to recover.
const PAUSE: Duration = Duration::from_millis(1);

/// The exit status of a command line that cannot be obeyed.
const BAD_USAGE: u8 = 2;
/// The exit status of a program that a signal ended.
const INTERRUPTED: u8 = 128 + SIGINT as u8;
/// What a shell reports for `wc` when the reader of its output has gone: 128 + SIGPIPE.
const NO_READER: u8 = 141;

type Pool = Manager<Task, Count, Problem>;

fn main() -> ExitCode {
    let options = match args::parse(env::args_os().skip(1)) {
        Ok(Command::Count(options)) => options,
        Ok(Command::Help) => return ExitCode::from(print(args::USAGE)),
        Ok(Command::Version) => {
            let version = concat!("words (worker-pool-manager) ", env!("CARGO_PKG_VERSION"));
            return ExitCode::from(print(&format!("{version}\n")));
        }
        Err(error) => {
            let _ = write!(io::stderr(), "words: {error}\n{}", args::USAGE);
            return ExitCode::from(BAD_USAGE);
        }
    };
    match run(options) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            let _ = writeln!(io::stderr(), "words: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes to standard output; returns the exit status.
fn print(text: &str) -> u8 {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => 0,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => NO_READER,
        Err(error) => {
            let _ = writeln!(io::stderr(), "words: cannot write the output: {error}");
            1
        }
    }
}

/// Counts and prints; returns the exit status.
fn run(options: Options) -> Result<u8, Box<dyn Error>> {
    let stop = stop_on_signals()?;
    let screen = Screen::new();
    screen.show_panics();
    let table = Arc::new(Table::default());
    let made = Arc::new(AtomicUsize::new(0));
    let factory = {
        let (table, made, fail_on) = (Arc::clone(&table), Arc::clone(&made), options.fail_on);
        move |_| {
            made.fetch_add(1, Relaxed);
            Ok::<_, Infallible>(Counter::new(Arc::clone(&table), fail_on.clone()))
        }
    };
    let pool = Pool::builder()
        .name("words")
        .factory(factory)
        .workers(options.workers)
        .restarts(Restarts::without_limit().back_off(PAUSE, PAUSE))
        .timings(true)
        .build()?;
    screen.follow(&pool, options.stats)?;
    let ask = options.ask || io::stdin().is_terminal();
    let answers = ask.then(|| Answers::start(&pool, &screen)).transpose()?;
    let with_stats = options.stats || screen.has_bar();

    let tally = count_all(&pool, Walk::new(options.paths, Arc::clone(&stop)), &screen);
    // The workers hand over their words as they end.
    pool.drain();
    if let Some(answers) = answers {
        answers.finish();
    }
    if with_stats {
        let stats = pool.stats().to_string();
        stats.lines().for_each(|line| screen.say(&line));
    }
    let restarts = made.load(Relaxed) - options.workers;
    name_the_panicked(&tally, restarts, &screen);

    let top = table.top(options.top);
    let printed = print(&match options.json {
        true => tally.json(&top),
        false => tally.text(&top),
    });
    Ok(match () {
        () if printed > 0 => printed,
        () if stop.load(Relaxed) => INTERRUPTED,
        () if tally.left_out() > 0 => 1,
        () => 0,
    })
}

/// Counts all that the walk finds.
fn count_all(pool: &Pool, walk: Walk, screen: &Screen) -> Tally {
    let mut tally = Tally::default();
    let mut unreadable = 0;
    // A job that panicked keeps its payload: here is which file it was.
    let under_way = RefCell::new(HashMap::<usize, Arc<Path>>::new());
    let found = walk.filter_map(|found| {
        found
            .inspect_err(|problem| {
                unreadable += 1;
                screen.say(problem);
            })
            .ok()
    });
    let tasks = found.enumerate().map(|(index, path)| {
        let path: Arc<Path> = path.into();
        under_way.borrow_mut().insert(index, Arc::clone(&path));
        Task { path, tabled: true }
    });
    for (index, result) in pool.map_unordered(tasks).progress_with(screen.bar()) {
        let path = under_way.borrow_mut().remove(&index);
        let path = path.expect("each task has one result");
        match result {
            Ok(count) => tally.counted(count),
            Err(error) => {
                let panicked = error.panic_message().is_some();
                screen.say(&worker::problem(&path, error));
                match panicked {
                    true => tally.panicked(path),
                    false => tally.unreadable += 1,
                }
            }
        }
    }
    tally.unreadable += unreadable;
    tally
}

fn name_the_panicked(tally: &Tally, restarts: usize, screen: &Screen) {
    if tally.panicked == 0 {
        return;
    }
    screen.say(&format_args!(
        "files at which a worker panicked: {} (workers made anew: {restarts})",
        tally.panicked
    ));
    for path in &tally.named {
        screen.say(&format_args!("  {}", Name(path)));
    }
    let more = tally.panicked - tally.named.len() as u64;
    if more > 0 {
        screen.say(&format_args!("  and {more} more, as said above"));
    }
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
