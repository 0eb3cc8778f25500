//! The view that is redrawn in place.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use worker_pool::grpc::Received;

use crate::View;
use crate::args::Args;
use crate::client::{Gone, News, SILENT, Update};
use crate::history::{COLUMN, COLUMNS, History};

/// Cells of the bar.
const BAR: usize = 20;

// What a terminal is told. Without its line wrap a window that is too narrow cuts the lines off,
// and the view keeps its height, which the way back up relies on.
const BEGIN: &str = "\x1b[?25l\x1b[?7l";
const END: &str = "\x1b[?7h\x1b[?25h";
const TO_END_OF_LINE: &str = "\x1b[K";
const TO_END_OF_SCREEN: &str = "\x1b[J";

pub(crate) struct Screen {
    names: Vec<String>,
    pools: Vec<Pool>,
    start: Instant,
    /// Lines that are on the screen.
    height: usize,
    colours: bool,
}

struct Pool {
    history: History,
    state: State,
}

enum State {
    Connecting,
    Silent,
    Seen(Received),
    Gone(Gone),
}

impl Screen {
    pub(crate) fn new(args: &Args) -> Self {
        let pools = args.pools.iter().map(|_| Pool {
            history: History::new(),
            state: State::Connecting,
        });
        Screen {
            names: args.pools.clone(),
            pools: pools.collect(),
            start: Instant::now(),
            height: 0,
            colours: std::env::var_os("NO_COLOR").is_none(),
        }
    }

    fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// Two lines for each pool: name, bar and numbers; below them the sparkline.
    fn lines(&self) -> Vec<String> {
        let width = self.names.iter().map(|name| name.chars().count()).max();
        let width = width.unwrap_or_default();
        let minutes = COLUMNS as f64 * COLUMN / 60.0;
        let mut lines = Vec::new();
        for (name, pool) in self.names.iter().zip(&self.pools) {
            let (full, empty) = pool.bar();
            lines.push(format!(
                "{}{:pad$}  {}{}  {}",
                self.paint("1", name),
                "",
                self.paint("32", &full),
                self.paint("90", &empty),
                match &pool.state {
                    State::Connecting => "connecting".to_owned(),
                    State::Silent => SILENT.to_owned(),
                    State::Seen(seen) => numbers(seen),
                    State::Gone(gone) => self.paint("31", &gone_text(gone)),
                },
                pad = width - name.chars().count(),
            ));
            let line = self.paint("36", &pool.history.line());
            lines.push(format!("{:width$}  {line} last {minutes:.0} min", ""));
        }
        lines
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours && !text.is_empty() {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

impl View for Screen {
    fn show(&mut self, update: &Update) -> io::Result<()> {
        let now = self.now();
        let pool = &mut self.pools[update.pool];
        let (known, state) = match &update.news {
            News::Snapshot(seen) => (Some(f64::from(seen.utilization)), State::Seen(*seen)),
            News::Silent => (None, State::Silent),
            News::Gone(gone) => (None, State::Gone(gone.clone())),
        };
        pool.history.set(now, known);
        pool.state = state;
        Ok(())
    }

    fn draw(&mut self) -> io::Result<()> {
        let now = self.now();
        for pool in &mut self.pools {
            pool.history.fill(now);
        }
        let mut frame = String::from(BEGIN);
        if self.height > 0 {
            let _ = write!(frame, "\r\x1b[{}A", self.height);
        }
        let lines = self.lines();
        self.height = lines.len();
        for line in lines {
            let _ = writeln!(frame, "{line}{TO_END_OF_LINE}");
        }
        // The echo of a Ctrl-C, for one.
        frame.push_str(TO_END_OF_SCREEN);
        let mut out = io::stdout().lock();
        // In one piece, or it flickers.
        out.write_all(frame.as_bytes())?;
        out.flush()
    }
}

impl Drop for Screen {
    /// Leaves the terminal as it was found, with the last view on it.
    fn drop(&mut self) {
        let _ = self.draw();
        print!("{END}");
        let _ = io::stdout().flush();
    }
}

impl Pool {
    /// Its full and its empty part.
    fn bar(&self) -> (String, String) {
        let share = match &self.state {
            State::Seen(seen) => f64::from(seen.utilization),
            _ => 0.0,
        };
        let full = (share * BAR as f64).round() as usize;
        ("█".repeat(full), "░".repeat(BAR - full))
    }
}

fn numbers(seen: &Received) -> String {
    let mut text = format!("{:3.0} %", seen.utilization * 100.0);
    if let (Some(busy), Some(total)) = (seen.busy, seen.total) {
        let _ = write!(text, "  {busy:3} of {total} busy");
    }
    if let Some(waiting) = seen.waiting {
        let _ = write!(text, "  {waiting:3} waiting");
    }
    let _ = write!(text, "  {} ago", short(seen.age()));
    text
}

fn gone_text(gone: &Gone) -> String {
    let then = if gone.for_good { "" } else { ", trying again" };
    let since = short(gone.since.elapsed());
    format!("gone for {since}{then}: {}", gone.why)
}

fn short(age: Duration) -> String {
    match age.as_secs() {
        0..10 => format!("{:.1} s", age.as_secs_f64()),
        seconds @ 10..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}
