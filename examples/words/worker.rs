//! The worker: counts one file after the other with the same buffer and the same words.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use worker_pool::{Job, SubmitError, Worker};

use crate::problem::Problem;
use crate::text::{Count, Scanner};
use crate::vocabulary::{Table, Vocabulary};

/// Large enough to make system calls cheap, small enough to stay in a core's own cache.
const BUFFER: usize = 128 * 1024;

/// A file to be counted.
#[derive(Debug)]
pub(crate) struct Task {
    /// Shared with whoever has to name the file if the worker panics.
    pub(crate) path: Arc<Path>,
    /// Do its words go into the table?
    pub(crate) tabled: bool,
}

/// Counts files. It is not `Send`, so it is made on its own thread, by a factory; also anew, after
/// a panic.
#[derive(Debug)]
pub(crate) struct Counter {
    buffer: Box<[u8]>,
    scanner: Scanner,
    words: Vocabulary,
    table: Arc<Table>,
    trap: Option<Trap>,
}

impl Counter {
    /// It panics at the text `fail_on`.
    pub(crate) fn new(table: Arc<Table>, fail_on: Option<Arc<[u8]>>) -> Self {
        Counter {
            buffer: vec![0; BUFFER].into(),
            scanner: Scanner::default(),
            words: Vocabulary::default(),
            table,
            trap: fail_on.map(Trap::new),
        }
    }

    fn count(&mut self, job: &Job<Task>) -> io::Result<Count> {
        // The file before this one may have broken off half-way.
        self.scanner.reset();
        self.words.forget_file();
        self.trap.iter_mut().for_each(Trap::reset);
        let Task { path, tabled } = job.payload();
        let mut tell = |word: &[u8]| {
            if *tabled {
                self.words.note(word);
            }
        };
        let mut file = File::open(path)?;
        loop {
            let length = match file.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let piece = &self.buffer[..length];
            if let Some(trap) = &mut self.trap {
                trap.panic_if_found(piece);
            }
            self.scanner.piece(piece, &mut tell);
            if job.is_cancelled() {
                return Err(io::Error::other("the pool is closing"));
            }
        }
        let count = self.scanner.end(tell);
        self.words.keep_file();
        if self.words.is_full() {
            self.words.hand_over(&self.table);
        }
        Ok(count)
    }
}

impl Worker<Task, Count, Problem> for Counter {
    fn run(&mut self, job: Job<Task>) -> Result<Count, Problem> {
        self.count(&job).map_err(|error| Problem {
            path: job.payload().path.to_path_buf(),
            error,
        })
    }

    /// Runs after a panic as well: the words of the files before are not lost.
    fn close(&mut self) {
        self.words.hand_over(&self.table);
    }
}

/// Why the file at this path was not counted.
pub(crate) fn problem(path: &Path, error: SubmitError<Task, Problem>) -> Problem {
    let reason = match error.panic_message() {
        Some(message) => format!("the worker panicked: {message}"),
        None => error.to_string(),
    };
    error.into_worker_error().unwrap_or_else(|| Problem {
        path: path.to_path_buf(),
        error: io::Error::other(reason),
    })
}

/// `--fail-on`: finds a text, also where it lies across two pieces.
#[derive(Debug)]
struct Trap {
    text: Arc<[u8]>,
    /// The end of the previous piece, and the current one.
    seen: Vec<u8>,
}

impl Trap {
    fn new(text: Arc<[u8]>) -> Self {
        let seen = Vec::new();
        Trap { text, seen }
    }

    fn reset(&mut self) {
        self.seen.clear();
    }

    fn panic_if_found(&mut self, piece: &[u8]) {
        self.seen.extend_from_slice(piece);
        if self
            .seen
            .windows(self.text.len())
            .any(|part| part == &*self.text)
        {
            panic!("it holds \"{}\"", self.text.escape_ascii());
        }
        let past = (self.seen.len() + 1).saturating_sub(self.text.len());
        self.seen.drain(..past);
    }
}
