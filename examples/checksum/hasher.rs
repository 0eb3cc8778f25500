//! The worker: hashes one file after the other with the same hasher and the same buffer.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use sha2::{Digest, Sha256};
use worker_pool::{Job, Worker};

use crate::lines;
use crate::problem::Problem;
use crate::tally::Tally;

/// Large enough to make system calls cheap, small enough to stay in a core's own cache.
const BUFFER: usize = 128 * 1024;

/// Hashes files. Its job is a path, its output the finished line.
#[derive(Debug)]
pub(crate) struct Hasher {
    sha256: Sha256,
    buffer: Box<[u8]>,
    tally: Arc<Tally>,
}

impl Hasher {
    pub(crate) fn new(tally: Arc<Tally>) -> Self {
        Hasher {
            sha256: Sha256::new(),
            buffer: vec![0; BUFFER].into(),
            tally,
        }
    }

    fn hash(&mut self, job: &Job<PathBuf>) -> io::Result<Vec<u8>> {
        // The file before this one may have broken off half-way.
        self.sha256.reset();
        let mut file = File::open(job.payload())?;
        loop {
            match file.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(length) => {
                    self.sha256.update(&self.buffer[..length]);
                    self.tally.read(length);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if job.is_cancelled() {
                return Err(io::Error::other("the pool is closing"));
            }
        }
        Ok(lines::checksum(
            &self.sha256.finalize_reset(),
            job.payload(),
        ))
    }
}

impl Worker<PathBuf, Vec<u8>, Problem> for Hasher {
    fn run(&mut self, job: Job<PathBuf>) -> Result<Vec<u8>, Problem> {
        let started = Instant::now();
        let result = self.hash(&job);
        self.tally.worked(started.elapsed(), result.is_ok());
        result.map_err(|error| Problem {
            path: job.into_payload(),
            error,
        })
    }
}
