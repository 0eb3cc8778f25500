//! A pool that is kept as busy as asked.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use worker_pool::{Job, Manager, Meter};

type Pool = Manager<Duration, (), Infallible>;

/// The pool, and the threads that give it jobs: each submits one and waits for it, so as many
/// workers are busy as there are such threads.
pub(crate) struct Load {
    pool: Pool,
    job: Duration,
    wanted: Arc<AtomicUsize>,
    callers: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(
        meter: &Meter,
        workers: usize,
        job: Duration,
    ) -> Result<Load, Box<dyn Error>> {
        let pool = Pool::builder().hook(meter.clone()).build()?;
        for _ in 0..workers {
            pool.add(|job: Job<Duration>| {
                // "Works" for the time that its payload says, unless the pool closes.
                job.cancel_token().wait_timeout(*job.payload());
                Ok(())
            })
            .map_err(|error| error.to_string())?;
        }
        Ok(Load {
            pool,
            job,
            wanted: Arc::default(),
            callers: Vec::new(),
        })
    }

    /// Gives the pool this many jobs at a time from now on. More than it has workers: some wait.
    pub(crate) fn keep_busy(&mut self, jobs: usize) {
        self.wanted.store(jobs, Ordering::SeqCst);
        for number in self.callers.len()..jobs {
            let (pool, job, wanted) = (self.pool.clone(), self.job, Arc::clone(&self.wanted));
            self.callers.push(thread::spawn(move || {
                loop {
                    if number >= wanted.load(Ordering::SeqCst) {
                        thread::park();
                    } else if pool.submit(job).is_err() {
                        return; // the pool takes no more
                    }
                }
            }));
        }
        for caller in &self.callers {
            caller.thread().unpark();
        }
    }

    /// Takes no more jobs; returns when those accepted are done.
    pub(crate) fn drain(&self) {
        self.pool.drain();
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.pool.close();
        // Whoever is parked goes on, and finds the pool closed.
        self.keep_busy(self.callers.len());
        for caller in self.callers.drain(..) {
            let _ = caller.join();
        }
    }
}
