//! What a pool tells about itself.

use crate::hook::{PoolState, PoolStatus};
use crate::manager::Manager;
use crate::stats::Stats;

impl<P, O, E> Manager<P, O, E>
where
    P: Send,
    O: Send,
    E: Send,
{
    #[cfg(test)]
    pub(crate) fn pool(&self) -> &crate::pool::Pool<P, O, E> {
        &self.owner.pool
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        self.owner.pool.name()
    }

    /// Where the pool is in its life.
    pub fn state(&self) -> PoolState {
        self.owner.pool.gauge.state()
    }

    /// Jobs that are accepted and not yet released to the workers. A chunk of a batch counts as one.
    pub fn waiting(&self) -> usize {
        self.owner.pool.admission.count()
    }

    /// The most jobs that may wait.
    pub fn queue_capacity(&self) -> usize {
        self.owner.pool.admission.capacity()
    }

    /// Failures of detached jobs that found no listener.
    pub fn lost_errors(&self) -> u64 {
        self.owner.pool.counters.lost_errors()
    }

    /// Workers that run a job, also those that leave after it.
    pub(crate) fn busy(&self) -> usize {
        self.owner.pool.roster.busy()
    }

    /// How many jobs there were so far, accepted or not.
    pub(crate) fn submissions(&self) -> u64 {
        self.owner.pool.counters.in_flight.counted()
    }

    /// What became of the jobs so far, and what the pool is doing. Asks each worker, so it is made
    /// for once a second, not for each job; with [`timings`](crate::Builder::timings) it also adds
    /// up their histograms, which takes some microseconds per worker.
    ///
    /// ```
    /// use worker_pool::{Job, Manager};
    ///
    /// let pool = Manager::<u32>::new();
    /// pool.add(|_: Job<u32>| Ok(()))?;
    /// pool.submit(1)?;
    /// pool.drain();
    /// let stats = pool.stats();
    /// assert_eq!((stats.accepted, stats.completed), (1, 1));
    /// assert_eq!(stats.accepted, stats.ended());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stats(&self) -> Stats {
        let pool = &self.owner.pool;
        // What has ended first: it is never more than what was accepted.
        let work = pool.roster.work();
        pool.counters
            .read(work, pool.admission.count(), pool.admission.undecided())
    }
}
