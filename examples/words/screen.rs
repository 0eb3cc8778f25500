//! Standard error: problems and answers, a progress bar if it is a terminal, lines with the pool's
//! numbers if they are asked for.

use std::any::Any;
use std::fmt;
use std::io::{self, Write};
use std::panic;
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use worker_pool::Stats;

use crate::Pool;

/// How often the progress bar moves.
const BEAT: Duration = Duration::from_millis(100);

/// How often there is a line with the pool's numbers.
const NEWS: Duration = Duration::from_secs(1);

/// May be cloned and used on any thread: what is said comes out line by line, and not across the bar.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    bar: ProgressBar,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let style = ProgressStyle::with_template("{spinner} {human_pos} files; {wide_msg}")
            .expect("the template is a constant");
        // It hides itself where standard error is no terminal.
        let bar = ProgressBar::new_spinner().with_style(style);
        Screen {
            bar: bar.with_finish(ProgressFinish::AndClear),
        }
    }

    /// For `indicatif`'s `progress_with`.
    pub(crate) fn bar(&self) -> ProgressBar {
        self.bar.clone()
    }

    /// Is there a bar to be seen?
    pub(crate) fn has_bar(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// One line. If standard error is closed, there is nobody left to complain to.
    pub(crate) fn say(&self, message: &impl fmt::Display) {
        self.bar.suspend(|| {
            // In one piece, so that no other thread's comes between.
            let line = format!("words: {message}\n");
            let _ = io::stderr().write_all(line.as_bytes());
        });
    }

    /// A panic is one line as well, from now on.
    pub(crate) fn show_panics(&self) {
        let screen = self.clone();
        panic::set_hook(Box::new(move |panic| {
            let thread = thread::current();
            let thread = thread.name().unwrap_or("a thread");
            let message = message(panic.payload()).unwrap_or("?");
            match panic.location() {
                Some(place) => screen.say(&format_args!("{thread} panicked at {place}: {message}")),
                None => screen.say(&format_args!("{thread} panicked: {message}")),
            }
        }));
    }

    /// Shows the pool's numbers until it is closed: beside the bar, or as `lines`.
    pub(crate) fn follow(&self, pool: &Pool, lines: bool) -> io::Result<()> {
        if !self.has_bar() && !lines {
            return Ok(());
        }
        let (screen, closed) = (self.clone(), pool.close_signal());
        let pool = pool.downgrade();
        let beat = if self.has_bar() { BEAT } else { NEWS };
        let follow = move || {
            while !closed.wait_timeout(beat) {
                let Some(stats) = pool.upgrade().map(|pool| pool.stats()) else {
                    return;
                };
                if screen.has_bar() {
                    screen.bar.set_message(first_line(&stats));
                    screen.bar.tick();
                } else {
                    screen.say(&first_line(&stats));
                }
            }
        };
        let thread = thread::Builder::new().name("news".to_owned());
        thread.spawn(follow)?;
        Ok(())
    }
}

/// What a panic says, if it is text.
fn message(payload: &dyn Any) -> Option<&str> {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
}

/// Without the times, of which it takes many jobs to say something.
fn first_line(stats: &Stats) -> String {
    let text = stats.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}
