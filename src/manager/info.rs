//! What a pool reports about itself.

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

    /// How many jobs are accepted and not yet released to the workers. A chunk of a batch counts as
    /// one job. It is never more than the jobs that have not ended.
    pub fn waiting(&self) -> usize {
        self.owner.pool.gauge.waiting()
    }

    /// How many jobs may wait.
    pub fn queue_capacity(&self) -> usize {
        self.owner.pool.admission.capacity()
    }

    /// How many failures of detached jobs were lost, because their channel was full or had no
    /// receiver.
    pub fn lost_errors(&self) -> u64 {
        self.owner.pool.counters.lost_errors()
    }

    /// How many workers run a job, including those that leave after it.
    pub(crate) fn busy(&self) -> usize {
        self.owner.pool.roster.busy()
    }

    /// How many jobs were submitted so far, accepted or not.
    pub(crate) fn submissions(&self) -> u64 {
        self.owner.pool.counters.in_flight.counted()
    }

    /// What became of the jobs so far, and what the pool is doing.
    ///
    /// This reads the counters of each worker, so call it once a second rather than for each job. With
    /// [`timings`](crate::Builder::timings) it also adds up the workers' histograms, which takes some
    /// microseconds per worker.
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
        // The ended jobs are read first, so they are never more than the accepted ones.
        let work = pool.roster.work();
        let admission = &pool.admission;
        pool.counters
            .read(work, || admission.count(), || admission.undecided())
    }
}
