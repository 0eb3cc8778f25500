//! One line for each news: for scripts, logs and pipes.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::View;
use crate::args::Args;
use crate::client::{News, SILENT, Update};
use crate::json::quoted;

pub(crate) struct Lines {
    pools: Vec<String>,
    json: bool,
    start: Instant,
}

impl Lines {
    pub(crate) fn plain(args: &Args) -> Self {
        Lines {
            pools: args.pools.clone(),
            json: false,
            start: Instant::now(),
        }
    }

    pub(crate) fn json(args: &Args) -> Self {
        Lines {
            json: true,
            ..Lines::plain(args)
        }
    }

    fn text(&self, update: &Update) -> String {
        let pool = &self.pools[update.pool];
        let seconds = self.start.elapsed().as_secs_f64();
        match &update.news {
            News::Snapshot(seen) => format!("{seconds:8.1} s  {pool}  {seen}"),
            News::Silent => format!("{seconds:8.1} s  {pool}  {SILENT}"),
            News::Gone(gone) => {
                let then = if gone.for_good { "" } else { ", trying again" };
                format!("{seconds:8.1} s  {pool}  gone: {}{then}", gone.why)
            }
        }
    }

    fn object(&self, update: &Update) -> String {
        let mut line = format!("{{\"address\":{}", quoted(&self.pools[update.pool]));
        let seen = match &update.news {
            News::Snapshot(seen) => Some(seen),
            News::Silent | News::Gone(_) => None,
        };
        let time = seen.map_or_else(SystemTime::now, |seen| seen.time);
        let _ = write!(line, ",\"time\":{:.3}", unix(time));
        if let News::Gone(gone) = &update.news {
            let _ = write!(line, ",\"error\":{}", quoted(&gone.why));
        } else {
            for (name, value) in [
                ("utilization", number(seen.map(|seen| seen.utilization))),
                ("busy", number(seen.and_then(|seen| seen.busy))),
                ("total", number(seen.and_then(|seen| seen.total))),
                ("waiting", number(seen.and_then(|seen| seen.waiting))),
            ] {
                let _ = write!(line, ",\"{name}\":{value}");
            }
        }
        line.push('}');
        line
    }
}

impl View for Lines {
    fn show(&mut self, update: &Update) -> io::Result<()> {
        let line = if self.json {
            self.object(update)
        } else {
            self.text(update)
        };
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()
    }
}

fn unix(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

fn number(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "null".to_owned(), |value| value.to_string())
}
