//! Holding a pool up, and ending it.

use std::time::{Duration, Instant};

use crate::error::{CloseTimeoutError, DrainTimeoutError};
use crate::manager::Manager;
use crate::sync::channel::bounded;

/// What a pool gets that is closed after a drain took too long, to let its idle workers go.
const GRACE: Duration = Duration::from_millis(50);

impl<P, O, E> Manager<P, O, E>
where
    P: Send,
    O: Send,
    E: Send,
{
    /// From now on no job begins, but one that a worker is just taking; those that run go on. Jobs
    /// are still accepted, up to the queue's capacity. Does nothing once the pool is draining or closed.
    ///
    /// [`drain`](Self::drain) resumes the pool, since it could not end otherwise;
    /// [`close`](Self::close) answers what waits as ever.
    ///
    /// ```
    /// use worker_pool::{Job, Manager};
    ///
    /// let pool = Manager::<u32, u32>::new();
    /// pool.add(|job: Job<u32>| Ok(job.into_payload() + 1))?;
    /// pool.pause();
    /// let mut held = pool.enqueue(1)?;
    /// assert!(held.try_wait().is_none());
    /// pool.resume();
    /// assert_eq!(held.wait()?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pause(&self) {
        self.owner.pool.pause();
    }

    /// Ends a [`pause`](Self::pause): what waits begins, without any further submit.
    pub fn resume(&self) {
        self.owner.pool.resume();
    }

    /// Is the pool paused?
    pub fn is_paused(&self) -> bool {
        self.owner.pool.run_queue.is_paused()
    }

    /// Blocks until every job accepted before this call has ended and been answered, however many
    /// are submitted meanwhile. `true`; or `false`, at once, from inside the pool, where the calling
    /// job itself would be waited for.
    ///
    /// ```
    /// use worker_pool::{Job, Manager};
    ///
    /// let pool = Manager::<u32, (), String>::new();
    /// pool.add(|job: Job<u32>| Err(format!("no {}", job.payload())))?;
    /// let (errors, failures) = crossbeam_channel::unbounded();
    /// for number in 0..10 {
    ///     pool.detach_submit(number, u64::from(number), &errors)?;
    /// }
    /// pool.wait_idle();
    /// assert_eq!(failures.len(), 10); // each is answered by now
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_idle(&self) -> bool {
        self.wait_idle_until(None)
    }

    /// As [`wait_idle`](Self::wait_idle), for at most `timeout`: `false` if some job had not ended
    /// by then.
    pub fn wait_idle_timeout(&self, timeout: Duration) -> bool {
        self.wait_idle_until(Instant::now().checked_add(timeout))
    }

    fn wait_idle_until(&self, deadline: Option<Instant>) -> bool {
        let pool = &self.owner.pool;
        let settled = |epoch| pool.roster.settled(epoch);
        !self.is_inside() && pool.counters.in_flight.wait(deadline, settled)
    }

    /// Closes the pool: takes no more jobs or workers, answers "closed" to the jobs that have not
    /// begun, tells the running ones through their cancel tokens, and blocks until they have ended,
    /// each worker has closed, and every thread is joined. RetryState, or from several threads: harmless.
    ///
    /// From inside the pool (a worker, or a hook) it asks for all this and returns at once: a thread
    /// cannot wait for its own end.
    pub fn close(&self) {
        self.owner.pool.close(None);
        self.owner.ending.wait(self.is_inside(), None);
    }

    /// As [`close`](Self::close), but blocks for at most `timeout`.
    ///
    /// # Errors
    /// The workers whose threads still run. A thread cannot be killed: the pool goes on closing as
    /// they return. Dropping the pool does not wait for them again.
    pub fn close_timeout(&self, timeout: Duration) -> Result<(), CloseTimeoutError> {
        self.owner.pool.close(None);
        if self.owner.ending.wait(self.is_inside(), Some(timeout)) {
            return Ok(());
        }
        Err(CloseTimeoutError {
            running: self.owner.pool.roster.ids(),
        })
    }

    /// Takes no more jobs or workers, blocks until everything accepted has run, and then closes. If
    /// the last worker leaves meanwhile, what it left is answered "closed".
    ///
    /// From inside the pool it asks for all this and returns at once.
    pub fn drain(&self) {
        self.owner.pool.drain();
        self.owner.ending.wait(self.is_inside(), None);
    }

    /// As [`drain`](Self::drain), for at most `timeout`; then it closes hard: jobs that have not
    /// begun are answered "closed", the running ones are told through their tokens and, beyond a
    /// tenth of a second, not waited for.
    ///
    /// From inside the pool it asks for a drain and returns at once; nothing is abandoned then.
    ///
    /// # Errors
    /// How many jobs were abandoned, and which workers' threads still run.
    pub fn drain_timeout(&self, timeout: Duration) -> Result<(), DrainTimeoutError> {
        let pool = &self.owner.pool;
        let inside = self.is_inside();
        pool.drain();
        if self.owner.ending.wait(inside, Some(timeout)) {
            return Ok(());
        }
        let mut abandoned = 0;
        if !inside {
            let (told, rejected) = bounded(1);
            pool.close(Some(told));
            // Idle workers and the dispatcher need a moment; one that hangs does not get more.
            abandoned = rejected.recv_timeout(GRACE).unwrap_or(0);
            if self.owner.ending.wait(false, Some(GRACE)) && abandoned == 0 {
                return Ok(()); // it had just been done
            }
        }
        let running = pool.roster.ids();
        Err(DrainTimeoutError { abandoned, running })
    }
}
