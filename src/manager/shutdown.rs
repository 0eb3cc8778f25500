//! Pausing a pool, waiting until it is idle, and ending it.

use std::time::{Duration, Instant};

use crate::error::{CloseTimeoutError, DrainTimeoutError};
use crate::manager::Manager;
use crate::manager::close::Waited;
use crate::policy::deadlock::Wait;
use crate::pool::waits::Waiting;
use crate::sync::channel::{RecvTimeoutError, bounded};
use crate::sync::park::Parker;
use crate::sync::time;

/// If a drain took too long and the pool is closed, its running jobs have this long to end.
const GRACE: Duration = Duration::from_millis(100);
/// After that close, the dispatcher has this long to answer the jobs that have not begun. It takes
/// some microseconds for each; more only if the machine, a hook or a payload's drop holds it up.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

impl<P, O, E> Manager<P, O, E>
where
    P: Send,
    O: Send,
    E: Send,
{
    /// Pauses the pool: from now on no job begins, except one that a worker is just taking. Running
    /// jobs continue, and jobs are still accepted, up to the queue's capacity. Does nothing once the
    /// pool is draining or closed.
    ///
    /// [`drain`](Self::drain) resumes the pool, since it could not end otherwise.
    /// [`close`](Self::close) answers waiting jobs as usual.
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

    /// Ends a [`pause`](Self::pause). Waiting jobs begin without a further submit.
    pub fn resume(&self) {
        self.owner.pool.resume();
    }

    /// Is the pool paused?
    pub fn is_paused(&self) -> bool {
        self.owner.pool.run_queue.is_paused()
    }

    /// Blocks until every job accepted before this call has ended and been answered, however many
    /// jobs are submitted meanwhile. Then returns `true`.
    ///
    /// From inside the pool it returns `false` at once, since it would wait for the calling job
    /// itself. It also returns `false` if this is so by some way round, over other pools.
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

    /// As [`wait_idle`](Self::wait_idle), but blocks for at most `timeout`. Returns `false` if a job
    /// has not ended by then.
    pub fn wait_idle_timeout(&self, timeout: Duration) -> bool {
        self.wait_idle_until(time::now().checked_add(timeout))
    }

    fn wait_idle_until(&self, deadline: Option<Instant>) -> bool {
        let pool = &self.owner.pool;
        if self.is_inside() {
            return false;
        }
        let settled = |epoch| pool.roster.settled(epoch);
        let parker = Parker::current();
        let waiting = Waiting::begin(Wait::Idle(pool.key()), deadline);
        let park = || match &waiting {
            Some(waiting) => waiting.park(&parker),
            None => {
                parker.park(deadline);
                false
            }
        };
        let in_flight = &pool.counters.in_flight;
        in_flight.wait(&parker, deadline, settled, park)
    }

    /// Closes the pool. It accepts no more jobs or workers, answers "closed" to jobs that have not
    /// begun, and fires the cancel tokens of the running ones. Blocks until these have ended, each
    /// worker has closed, and every thread is joined. To call it again, or from several threads, is
    /// harmless.
    ///
    /// From inside the pool (a worker or a hook) it only requests this and returns at once: a thread
    /// cannot wait for its own end. The same holds if the pool waits for the calling thread by some way
    /// round: because its worker waits for a job of the pool whose worker calls.
    pub fn close(&self) {
        self.owner.pool.close(None);
        self.owner.termination.wait(self.is_inside(), None);
    }

    /// As [`close`](Self::close), but blocks for at most `timeout`.
    ///
    /// # Errors
    /// The workers whose threads still run. A thread cannot be killed, so the pool continues to close
    /// as they return. Dropping the pool does not wait for them again.
    pub fn close_timeout(&self, timeout: Duration) -> Result<(), CloseTimeoutError> {
        self.owner.pool.close(None);
        let waited = self.owner.termination.wait(self.is_inside(), Some(timeout));
        if waited == Waited::Ended {
            return Ok(());
        }
        Err(CloseTimeoutError {
            running: self.owner.pool.roster.ids(),
        })
    }

    /// Drains the pool. It accepts no more jobs or workers, and closes once every accepted job has
    /// run. Blocks until then. If the last worker leaves meanwhile, the remaining jobs are answered
    /// "closed".
    ///
    /// From inside the pool it only requests this and returns at once.
    pub fn drain(&self) {
        self.owner.pool.drain();
        self.owner.termination.wait(self.is_inside(), None);
    }

    /// As [`drain`](Self::drain), but blocks for at most `timeout`. After that the pool closes: jobs
    /// that have not begun are answered "closed", and the cancel tokens of the running ones fire. This
    /// waits until those are answered, and then for the running jobs for another tenth of a second at
    /// most.
    ///
    /// From inside the pool it only requests a drain and returns at once, as a rule with an error: the
    /// calling worker itself still runs.
    ///
    /// # Errors
    /// How many jobs were abandoned, and the workers whose threads still run. Also when the pool has
    /// ended in time, but not all of its jobs have run: they were abandoned by a close, or when the last
    /// worker left.
    pub fn drain_timeout(&self, timeout: Duration) -> Result<(), DrainTimeoutError> {
        let pool = &self.owner.pool;
        pool.drain();
        let termination = &self.owner.termination;
        let waited = termination.wait(self.is_inside(), Some(timeout));
        let mut unanswered = 0;
        let mut closed = waited == Waited::Ended;
        if waited == Waited::TimedOut {
            let (report, rejected) = bounded(1);
            pool.close(Some(report));
            if rejected.recv_timeout(ANSWER_LIMIT) == Err(RecvTimeoutError::Timeout) {
                unanswered = pool.gauge.not_begun(); // no job begins any more
            }
            // A worker that hangs gets no more than the grace.
            closed = termination.wait(false, Some(GRACE)) == Waited::Ended;
        }
        // Counted where the jobs are answered, and read last. Without any, a pool that has closed
        // was drained, if only just.
        let abandoned = pool.counters.abandoned() + unanswered;
        let abandoned = usize::try_from(abandoned).unwrap_or(usize::MAX);
        if closed && abandoned == 0 {
            return Ok(());
        }
        let running = pool.roster.ids();
        Err(DrainTimeoutError { abandoned, running })
    }
}
