//! A live view of one or several worker pools in the terminal.
//!
//!     cargo run --example watch -- 127.0.0.1:50051
//!
//! `--help` tells the rest. Start something to look at with `cargo run --example serve`.

mod args;
#[path = "../common/argument.rs"]
mod argument;
mod client;
mod history;
mod json;
mod lines;
mod screen;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};
use signal_hook::consts::{SIGINT, SIGTERM};

use args::Args;
use client::{Client, News, Update};

/// How often the view is redrawn, and how soon a Ctrl-C is seen.
const FRAME: Duration = Duration::from_millis(100);

/// Where the news is shown.
trait View {
    fn show(&mut self, update: &Update) -> io::Result<()>;

    /// Called every [`FRAME`], for what changes without news.
    fn draw(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn main() -> ExitCode {
    let args = match args::parse(std::env::args().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            print!("{}", args::HELP);
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            eprintln!("watch: {wrong} (--help tells what there is)");
            return ExitCode::from(2);
        }
    };
    // The core's own words, all of which the view has in its errors, would break it. There is no
    // logger, so none are written; but while logging is off, the core writes them itself.
    log::set_max_level(log::LevelFilter::Error);
    grpcio::redirect_log();
    match watch(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // `watch --json | head`: the reader has what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("watch: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Watches until the user ends it (`true`), or every pool is gone for good. With `--once`: were all
/// pools there?
fn watch(args: &Args) -> io::Result<bool> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // A second Ctrl-C ends the program at once, should the first one not do.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let mut view: Box<dyn View> = if args.json {
        Box::new(lines::Lines::json(args))
    } else if io::stdout().is_terminal() && !args.once {
        Box::new(screen::Screen::new(args))
    } else {
        Box::new(lines::Lines::plain(args))
    };

    let (tell, news) = unbounded();
    let clients: Vec<Client> = (0..args.pools.len())
        .map(|pool| Client::start(pool, args, tell.clone(), Arc::clone(&stop)))
        .collect();
    drop(tell);
    let shown = show(&news, view.as_mut(), &stop, args.once);
    stop.store(true, Ordering::SeqCst);
    drop(view);
    drop(clients); // joins them
    shown
}

fn show(
    news: &Receiver<Update>,
    view: &mut dyn View,
    stop: &AtomicBool,
    once: bool,
) -> io::Result<bool> {
    let mut all_there = true;
    let mut next_frame = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        let now = Instant::now();
        if now >= next_frame {
            view.draw()?;
            next_frame = now + FRAME;
        }
        match news.recv_deadline(next_frame) {
            Ok(update) => {
                all_there &= matches!(update.news, News::Snapshot(_));
                view.show(&update)?;
            }
            Err(RecvTimeoutError::Timeout) => {}
            // No client is left.
            Err(RecvTimeoutError::Disconnected) => return Ok(once && all_there),
        }
    }
    Ok(!once)
}
