//! The output: checksums to standard output, problems and progress to standard error.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use worker_pool::Meter;

use crate::tally::Tally;

/// How long a finished line may wait for company, and how often the progress bar moves.
pub(crate) const BEAT: Duration = Duration::from_millis(100);

/// Lines are written together, up to about this many bytes.
const FULL: usize = 64 * 1024;

/// Writes what it is told in the order in which it is told.
#[derive(Debug)]
pub(crate) struct Printer {
    lines: Vec<u8>,
    last_beat: Instant,
    unreadable: u64,
    tally: Arc<Tally>,
    meter: Meter,
    bar: Option<ProgressBar>,
}

impl Printer {
    pub(crate) fn new(tally: Arc<Tally>, meter: Meter) -> Self {
        Printer {
            lines: Vec::with_capacity(FULL + 4096),
            last_beat: Instant::now(),
            unreadable: 0,
            tally,
            meter,
            bar: io::stderr().is_terminal().then(bar),
        }
    }

    /// How many problems there were.
    pub(crate) fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// Takes the line of one file.
    pub(crate) fn line(&mut self, line: &[u8]) -> io::Result<()> {
        self.lines.extend_from_slice(line);
        if self.lines.len() >= FULL {
            self.flush()?;
        }
        if self.last_beat.elapsed() >= BEAT {
            self.beat()?;
        }
        Ok(())
    }

    /// Says on standard error what could not be read.
    pub(crate) fn problem(&mut self, problem: &impl fmt::Display) -> io::Result<()> {
        self.unreadable += 1;
        self.flush()?;
        self.say(problem);
        Ok(())
    }

    /// Shows how far things are. Call it at least every [`BEAT`].
    pub(crate) fn beat(&mut self) -> io::Result<()> {
        self.flush()?;
        self.last_beat = Instant::now();
        if let Some(bar) = &self.bar {
            let (found, all) = self.tally.found();
            let workers = self.meter.snapshot();
            bar.set_length(found);
            bar.set_position(self.tally.files() + self.unreadable);
            bar.set_message(format!(
                "{} files, {:.1} MB, {:.0} MB/s, {} of {} workers busy",
                if all { "" } else { "+" },
                self.tally.megabytes(),
                self.tally.megabytes() / self.tally.seconds(),
                workers.busy,
                workers.total,
            ));
            bar.tick();
        }
        Ok(())
    }

    /// Writes the lines that are left and takes the progress bar away.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        let written = self.flush();
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        written
    }

    /// One line on standard error. If that is closed, there is nobody left to complain to.
    pub(crate) fn say(&self, message: &impl fmt::Display) {
        self.beside_the_bar(|| {
            let _ = writeln!(io::stderr(), "checksum: {message}");
        });
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let written = self.beside_the_bar(|| {
            let mut out = io::stdout().lock();
            out.write_all(&self.lines)?;
            out.flush()
        });
        self.lines.clear();
        written
    }

    /// Lines and bar may share one terminal: takes the bar away while something is written.
    fn beside_the_bar<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:24} {pos}/{len}{wide_msg}")
        .expect("the template is a constant");
    ProgressBar::new(0).with_style(style)
}
