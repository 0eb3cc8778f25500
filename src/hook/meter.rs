//! The meter: a [`Hook`] that counts busy and total workers, and gives subscribers the newest value.
//!
//! # Why no change is missed
//!
//! Busy and total of the same workers are in one atomic word, so no snapshot can show one without the
//! other. There are several such words, each for some of the workers and on a cache line of its own.
//! One word for all workers cost thirty nanoseconds a job, of the two hundred that a detached job
//! takes. A snapshot adds the words up while no worker is added or removed, so total is exact. In each
//! word busy is at most total, so the same is true of the sums. (Jobs begin and end meanwhile: busy is
//! the sum of what each word held when it was read.)
//!
//! A subscriber that is about to wait takes the lock, sets `armed`, and *then* reads the words. A
//! thread that counts changes a word and *then* reads `armed`. All of this is sequentially consistent.
//! So either the subscriber sees the change and does not wait, or the thread that counts sees `armed`
//! and wakes it. While no subscriber waits, counting takes one read-modify-write, and one load of a
//! word that rarely changes.

use std::fmt;
use std::time::{Duration, Instant};

use crate::hook::{Hook, PoolState, PoolStatus};
use crate::job::Outcome;
use crate::job::id::{JobId, WorkerId};
use crate::sync::log;
use crate::sync::time;
use crate::sync::{Arc, AtomicBool, AtomicU8, AtomicU64, Condvar, Mutex, Ordering::SeqCst, Weak};

/// One busy worker, in the low half of a packed word.
const BUSY: u64 = 1;
/// One worker, in the high half of a packed word.
const TOTAL: u64 = 1 << 32;

/// How busy a pool was at one moment. `busy ≤ total` always holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Workers that are running a job.
    pub busy: u32,
    /// Workers that have a thread, without those that their factory is just making or restarting.
    pub total: u32,
    /// Jobs accepted and not yet released to the workers.
    pub waiting: u64,
    /// The most jobs that may wait.
    pub queue_capacity: u64,
    /// Jobs run to their end so far, whatever their outcome.
    pub finished: u64,
    /// The state of the pool's life.
    pub state: PoolState,
}

impl Snapshot {
    /// `busy / total`, from 0 to 1. Without workers it is 1, since no job can run.
    ///
    /// ```
    /// let meter = worker_pool::Meter::new();
    /// assert_eq!(meter.snapshot().utilization(), 1.0); // no pool, no workers
    /// ```
    pub fn utilization(&self) -> f32 {
        if self.total == 0 {
            1.0
        } else {
            self.busy as f32 / self.total as f32
        }
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} workers busy, {} jobs waiting, {}",
            self.busy, self.total, self.waiting, self.state
        )
    }
}

/// Counts the busy and total workers of the pool that it is hooked into. Cheap to clone; all clones
/// are the same meter.
///
/// Counting costs tens of nanoseconds per job and never waits for a subscriber. One meter may be
/// hooked into several pools. It then shows their sums, and the state of the least advanced one.
///
/// ```
/// use worker_pool::{Job, Manager, Meter};
///
/// let meter = Meter::new();
/// let pool = Manager::<u32, u32>::builder().hook(meter.clone()).build()?;
/// pool.add(|job: Job<u32>| Ok(job.into_payload() + 1))?;
/// assert_eq!(pool.submit(1)?, 2);
/// let now = meter.snapshot();
/// assert_eq!((now.busy, now.total), (0, 1)); // once you have the result, the counters include it
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Meter {
    owner: Arc<Owner>,
}

/// Owned by the clones of a meter, but not by its subscriptions: when the last clone is dropped, the
/// streams end.
struct Owner {
    inner: Arc<Inner>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.inner.orphaned.store(true, SeqCst);
        self.inner.notify();
    }
}

/// How many words there are to count in.
const WORDS: usize = 16;

/// `total << 32 | busy` of the workers that count here.
#[derive(Default)]
#[repr(align(128))]
struct Word(AtomicU64);

struct Inner {
    /// Each worker counts in one of them.
    words: [Word; WORDS],
    /// Held while a worker is added or removed, and while the words are added up. Protects no data.
    total_lock: Mutex<()>,
    /// The [`PoolState`] of the least advanced pool.
    state: AtomicU8,
    /// A subscriber waits, or is about to.
    armed: AtomicBool,
    /// Every `Meter` is gone.
    orphaned: AtomicBool,
    pools: Mutex<Vec<Weak<dyn PoolStatus>>>,
    /// Held by a subscriber from before it sets `armed` until it waits. Protects no data.
    wait_lock: Mutex<()>,
    change: Condvar,
}

impl Default for Meter {
    fn default() -> Self {
        Meter::new()
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meter").field(&self.snapshot()).finish()
    }
}

impl Meter {
    /// A meter that is not yet hooked into a pool: no workers, state `Running`.
    pub fn new() -> Self {
        let inner = Arc::new(Inner {
            words: Default::default(),
            total_lock: Mutex::new(()),
            state: AtomicU8::new(PoolState::Running as u8),
            armed: AtomicBool::new(false),
            orphaned: AtomicBool::new(false),
            pools: Mutex::new(Vec::new()),
            wait_lock: Mutex::new(()),
            change: Condvar::new(),
        });
        Meter {
            owner: Arc::new(Owner { inner }),
        }
    }

    /// The present counters.
    pub fn snapshot(&self) -> Snapshot {
        self.owner.inner.snapshot()
    }

    /// A stream of snapshots. It yields the present one first, and then the newest after each change
    /// of busy, total or state (not of waiting jobs). A subscriber that reads slowly misses
    /// intermediate values, never the last one.
    pub fn subscribe(&self) -> Subscription {
        Subscription {
            inner: Arc::clone(&self.owner.inner),
            seen: None,
        }
    }
}

impl Inner {
    fn word_of(&self, worker: WorkerId) -> &AtomicU64 {
        &self.words[worker.get() as usize % WORDS].0
    }

    /// `total << 32 | busy` of all workers.
    fn sum(&self) -> u64 {
        let _total_lock = self.total_lock.lock();
        self.words.iter().map(|word| word.0.load(SeqCst)).sum()
    }

    fn add(&self, amount: u64, worker: WorkerId) {
        let before = self.word_of(worker).fetch_add(amount, SeqCst);
        debug_assert!(
            amount != BUSY || before as u32 != u32::MAX,
            "the busy counter overflowed"
        );
    }

    fn sub(&self, amount: u64, worker: WorkerId) {
        let before = self.word_of(worker).fetch_sub(amount, SeqCst);
        debug_assert!(
            before as u32 as u64 <= before >> 32,
            "more workers busy than there are"
        );
    }

    #[inline]
    fn notify_if_armed(&self) {
        if self.armed.load(SeqCst) && self.armed.swap(false, SeqCst) {
            self.notify();
        }
    }

    #[cold]
    fn notify(&self) {
        // A subscriber between its check and its wait holds the lock. Afterwards it waits.
        drop(self.wait_lock.lock());
        self.change.notify_all();
    }

    /// Notes the state of the least advanced pool, now that one has reached this state. This is one step,
    /// under the lock. A pool is closed before it says so here, so the last one sees all of them closed,
    /// and no other stores over it what was seen before.
    fn note_state(&self, reached: PoolState) -> PoolState {
        let pools = self.pools.lock();
        let living: Vec<_> = pools.iter().filter_map(Weak::upgrade).collect();
        let states = living.iter().map(|pool| pool.state());
        let least = states.min().unwrap_or(reached);
        self.state.store(least as u8, SeqCst);
        drop(pools);
        drop(living); // not under the lock, see `pools`
        least
    }

    /// The pools that still exist. The caller does not hold the lock while it uses them: it may drop
    /// the last reference to a pool, and then runs its destructors.
    fn pools(&self) -> Vec<Arc<dyn PoolStatus>> {
        self.pools.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn state(&self) -> PoolState {
        match self.state.load(SeqCst) {
            0 => PoolState::Running,
            1 => PoolState::Draining,
            _ => PoolState::Closed,
        }
    }

    /// What subscribers are told about: a snapshot is new if this differs.
    fn key(&self) -> (u64, PoolState) {
        // The state first: once it is `Closed`, the counters no longer change.
        let state = self.state();
        (self.sum(), state)
    }

    fn snapshot(&self) -> Snapshot {
        let (sum, state) = self.key();
        self.snapshot_of(sum, state)
    }

    fn snapshot_of(&self, sum: u64, state: PoolState) -> Snapshot {
        let mut snapshot = Snapshot {
            busy: sum as u32,
            total: (sum >> 32) as u32,
            waiting: 0,
            queue_capacity: 0,
            finished: 0,
            state,
        };
        for pool in self.pools() {
            snapshot.waiting += pool.waiting() as u64;
            snapshot.queue_capacity += pool.queue_capacity() as u64;
            snapshot.finished += pool.finished();
        }
        snapshot
    }
}

impl Hook for Meter {
    fn pool_start(&self, pool: Weak<dyn PoolStatus>) {
        let inner = &self.owner.inner;
        {
            let mut pools = inner.pools.lock();
            pools.retain(|pool| pool.strong_count() > 0);
            pools.push(pool);
            inner.state.store(PoolState::Running as u8, SeqCst);
        }
        inner.notify_if_armed();
    }
    fn pool_state(&self, state: PoolState) {
        let inner = &self.owner.inner;
        let least = inner.note_state(state);
        log::debug!("meter: a pool is {state}, all are at least {least}");
        inner.notify_if_armed();
    }
    fn job_start(&self, _: JobId, worker: WorkerId) {
        self.owner.inner.add(BUSY, worker);
        self.owner.inner.notify_if_armed();
    }
    fn job_finish(&self, _: JobId, worker: WorkerId, _: Outcome) {
        self.owner.inner.sub(BUSY, worker);
        self.owner.inner.notify_if_armed();
    }
    fn worker_add(&self, worker: WorkerId) {
        let inner = &self.owner.inner;
        {
            let _total_lock = inner.total_lock.lock();
            inner.add(TOTAL, worker);
        }
        inner.notify_if_armed();
    }
    fn worker_remove(&self, worker: WorkerId) {
        let inner = &self.owner.inner;
        {
            let _total_lock = inner.total_lock.lock();
            inner.sub(TOTAL, worker);
        }
        inner.notify_if_armed();
    }
}

/// A stream of [`Snapshot`]s, made by [`Meter::subscribe`].
///
/// It ends (with `None`) after the snapshot whose state is `Closed`, or when the last [`Meter`] is
/// dropped.
pub struct Subscription {
    inner: Arc<Inner>,
    /// What the snapshot returned last was made of.
    seen: Option<(u64, PoolState)>,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

/// Why [`Subscription::recv_timeout`] has no snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionError {
    /// Nothing changed in the given time.
    Timeout,
    /// No snapshot will follow: the pool is closed and its last snapshot was taken, or the last
    /// [`Meter`] was dropped.
    Ended,
}

impl fmt::Display for SubscriptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SubscriptionError::Timeout => "nothing changed in the given time",
            SubscriptionError::Ended => "the pool is closed: no more snapshots",
        })
    }
}

impl std::error::Error for SubscriptionError {}

impl Subscription {
    /// Blocks until busy, total or state differ from those seen last. The first call returns at once.
    /// Returns `None` if no snapshot will follow.
    pub fn recv(&mut self) -> Option<Snapshot> {
        self.wait(None).ok()
    }

    /// As [`recv`](Self::recv), but blocks for at most `timeout`.
    ///
    /// # Errors
    /// [`Timeout`](SubscriptionError::Timeout) if nothing changed, [`Ended`](SubscriptionError::Ended)
    /// if no snapshot will follow.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Snapshot, SubscriptionError> {
        self.wait(time::now().checked_add(timeout))
    }

    /// The newest snapshot, if it was not seen yet. Never blocks.
    pub fn try_recv(&mut self) -> Option<Snapshot> {
        self.note_change().then(|| self.snapshot())
    }

    /// Notes the present counters. Returns whether they differ from those noted before.
    fn note_change(&mut self) -> bool {
        let now = Some(self.inner.key());
        std::mem::replace(&mut self.seen, now) != now
    }

    /// The snapshot with the counters noted last. It asks the pools, so `wait_lock` is not held.
    fn snapshot(&self) -> Snapshot {
        let (sum, state) = self.seen.unwrap_or_else(|| self.inner.key());
        self.inner.snapshot_of(sum, state)
    }

    fn wait(&mut self, deadline: Option<Instant>) -> Result<Snapshot, SubscriptionError> {
        if !self.note_change() {
            self.wait_for_change(deadline)?;
        }
        Ok(self.snapshot())
    }

    fn wait_for_change(&mut self, deadline: Option<Instant>) -> Result<(), SubscriptionError> {
        let inner = Arc::clone(&self.inner);
        let mut guard = inner.wait_lock.lock();
        loop {
            inner.armed.store(true, SeqCst);
            if self.note_change() {
                return Ok(());
            }
            let closed = matches!(self.seen, Some((_, PoolState::Closed)));
            if closed || inner.orphaned.load(SeqCst) {
                return Err(SubscriptionError::Ended);
            }
            match deadline {
                None => inner.change.wait(&mut guard),
                Some(at) => {
                    if inner.change.wait_until(&mut guard, at).timed_out() {
                        let changed = self.note_change();
                        return changed.then_some(()).ok_or(SubscriptionError::Timeout);
                    }
                }
            }
        }
    }
}

impl Iterator for Subscription {
    type Item = Snapshot;
    fn next(&mut self) -> Option<Snapshot> {
        self.recv()
    }
}

#[cfg(all(test, worker_pool_shuttle))]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_halves_of_a_word_do_not_touch() {
        let meter = Meter::new();
        for id in 1..=3 {
            meter.worker_add(WorkerId::new(id));
        }
        meter.job_start(JobId::new(1), WorkerId::new(1));
        let seen = meter.snapshot();
        assert_eq!((seen.busy, seen.total), (1, 3));
        assert_eq!(meter.owner.inner.sum(), TOTAL * 3 + BUSY);
    }
}
