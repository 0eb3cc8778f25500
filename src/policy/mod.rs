//! Decisions, without thread, lock or clock.

pub(crate) mod deadlock;
pub(crate) mod dispatch;
pub(crate) mod elastic;
pub(crate) mod prefetch;
pub(crate) mod restart;
pub(crate) mod retry;

/// What happens to the jobs of a pool whose last worker is gone for good: it was removed, finished
/// or panicked, and is not restarted; see [`Builder::no_workers`](crate::Builder::no_workers).
///
/// ```
/// use worker_pool::{Job, Manager, NoWorkers};
///
/// let pool = Manager::<u32, u32>::builder()
///     .no_workers(NoWorkers::Reject)
///     .build()?;
/// let only = pool.add(|job: Job<u32>| Ok(job.into_payload() + 1))?;
/// assert_eq!(pool.submit(1)?, 2);
/// pool.remove(only)?;
/// while let Ok(lucky) = pool.submit(1) { assert_eq!(lucky, 2) } // until it is gone
/// let error = pool.submit(1).unwrap_err();
/// assert!(error.is_no_workers());
/// assert_eq!(error.into_payload(), Some(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum NoWorkers {
    /// Jobs wait until a worker is added, and submitters block when the queue is full.
    #[default]
    Wait,
    /// Waiting jobs of every priority are rejected with
    /// [`RejectReason::NoWorkers`](crate::RejectReason::NoWorkers), and so are those of submitters
    /// that wait for room. Until a worker is added, every later job is rejected as well.
    ///
    /// This happens after the last worker's thread has been joined and the hooks have been told. A
    /// hook that adds a worker in [`worker_remove`](crate::Hook::worker_remove) prevents it. A
    /// worker in a back-off is not gone. A pool that has not had a worker yet waits for its first.
    /// A pool that drains or closes says "closed" instead.
    Reject,
}
