//! Runs the contenders of a case in turns, each run in a process of its own.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::cases::Case;
use crate::figure::Figure;
use crate::options::Options;

/// What takes longer hangs: the longest runs take seconds.
const LIMIT: Duration = Duration::from_secs(120);

/// The figures of a case, each for all contenders.
pub(crate) struct CaseResult {
    pub(crate) case: Case,
    pub(crate) rows: Vec<Row>,
    /// Contenders that crashed, hung, or counted wrongly, and how.
    pub(crate) failed: Vec<(&'static str, String)>,
}

/// One figure of one contender.
pub(crate) struct Row {
    pub(crate) contender: &'static str,
    pub(crate) figure: String,
    pub(crate) unit: String,
    /// Sorted.
    pub(crate) values: Vec<f64>,
}

impl Row {
    pub(crate) fn median(&self) -> f64 {
        self.values[self.values.len() / 2]
    }

    pub(crate) fn least(&self) -> f64 {
        self.values[0]
    }

    pub(crate) fn most(&self) -> f64 {
        self.values[self.values.len() - 1]
    }
}

pub(crate) fn run(case: Case, options: &Options, speed: f64) -> CaseResult {
    let mut rows: Vec<Row> = Vec::new();
    let mut failed: Vec<(&str, String)> = Vec::new();
    for round in 0..options.runs {
        let mut turns = case.contenders.clone();
        // Each is first once: what comes before may leave the machine warm, or hot.
        turns.rotate_left(round % case.contenders.len());
        for contender in turns {
            if failed.iter().any(|&(name, _)| name == contender) {
                continue;
            }
            match run_once(&case, contender, options.smoke, speed) {
                Ok(figures) => figures
                    .into_iter()
                    .for_each(|figure| put(&mut rows, contender, figure)),
                Err(error) => {
                    eprintln!("{}: {contender}: {error}", case.name);
                    failed.push((contender, error));
                }
            }
        }
    }
    for row in &mut rows {
        row.values.sort_by(f64::total_cmp);
    }
    let place = |row: &Row| case.contenders.iter().position(|&c| c == row.contender);
    rows.sort_by_key(place); // stable: the figures of a contender keep their order
    CaseResult { case, rows, failed }
}

fn put(rows: &mut Vec<Row>, contender: &'static str, figure: Figure) {
    let same = |row: &&mut Row| row.contender == contender && row.figure == figure.name;
    match rows.iter_mut().find(same) {
        Some(row) => row.values.push(figure.value),
        None => rows.push(Row {
            contender,
            figure: figure.name,
            unit: figure.unit,
            values: vec![figure.value],
        }),
    }
}

fn run_once(case: &Case, contender: &str, smoke: bool, speed: f64) -> Result<Vec<Figure>, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["--case", &case.name, "--contender", contender]);
    command.args(["--speed", &speed.to_string()]);
    if smoke {
        command.arg("--smoke");
    }
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut stdout = child.stdout.take().expect("it is piped");
    let (send, receive) = mpsc::channel();
    // Read elsewhere, so that waiting has a limit; polling would disturb what is measured.
    let reader = thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.read_to_string(&mut text);
        let _ = send.send(read.map(|_| text));
    });
    let text = receive.recv_timeout(LIMIT);
    if text.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    reader.join().map_err(|_| "the reader panicked")?;
    let text = text
        .map_err(|_| format!("not done after {} s", LIMIT.as_secs()))?
        .map_err(|error| error.to_string())?;
    if !status.success() {
        return Err(status.to_string());
    }
    Ok(text.lines().filter_map(Figure::read).collect())
}
