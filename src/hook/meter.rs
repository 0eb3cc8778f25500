//! The meter: a [`Hook`] that counts busy and total workers, and tells subscribers the newest value.
//!
//! # Why no change is missed
//!
//! Busy and total of the same workers live in one atomic word, so that no snapshot can show one
//! without the other. There are several such words, each for some of the workers, on cache lines of
//! their own: one word for all cost thirty nanoseconds a job, of the two hundred that a detached one
//! takes. A snapshot adds them up, while no worker comes or goes: so total is exact, and as busy is no
//! more than total in each word, it is so in the sum. (Jobs begin and end meanwhile: busy is the sum of
//! what each word said when it was read.)
//!
//! A subscriber that is about to wait takes the lock, sets `armed`, and *then* reads the words;
//! whoever counts changes a word and *then* reads `armed` (all sequentially consistent). So either the
//! subscriber sees the change and does not wait, or the counter sees `armed` and wakes it. While
//! nobody waits, counting is one read-modify-write and one load of a word that rarely changes.

use std::fmt;
use std::time::{Duration, Instant};

use crate::hook::{Hook, PoolState, PoolStatus};
use crate::job::Outcome;
use crate::job::id::JobId;
use crate::job::id::WorkerId;
use crate::sync::time;
use crate::sync::{Arc, AtomicBool, AtomicU8, AtomicU64, Condvar, Mutex, Ordering::SeqCst, Weak};

/// One busy worker, in the low half of the packed word.
const BUSY: u64 = 1;
/// One worker, in the high half of the packed word.
const TOTAL: u64 = 1 << 32;

/// How busy a pool was at one moment. `busy ≤ total` always holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Workers that are running a job.
    pub busy: u32,
    /// Workers that have a thread; without those that are just being made (anew) by their factory.
    pub total: u32,
    /// Jobs accepted and not yet released to the workers.
    pub waiting: u64,
    /// The most jobs that may wait.
    pub queue_capacity: u64,
    /// Jobs run to their end so far, whatever their outcome.
    pub finished: u64,
    /// Where the pool is in its life.
    pub state: PoolState,
}

impl Snapshot {
    /// `busy / total`, from 0 to 1. Without workers it is 1: nothing can be taken on.
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

/// Counts busy and total workers of the pool that it is hooked into. Cheap to clone; all clones are
/// the same meter.
///
/// Counting costs tens of nanoseconds per job and never waits for a subscriber. One meter may be
/// hooked into several pools: it then shows their sums, and its state is that of the least advanced.
///
/// ```
/// use worker_pool::{Job, Manager, Meter};
///
/// let meter = Meter::new();
/// let pool = Manager::<u32, u32>::builder().hook(meter.clone()).build()?;
/// pool.add(|job: Job<u32>| Ok(job.into_payload() + 1))?;
/// assert_eq!(pool.submit(1)?, 2);
/// let now = meter.snapshot();
/// assert_eq!((now.busy, now.total), (0, 1)); // whoever holds its result sees settled counters
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Meter {
    owner: Arc<Owner>,
}

/// Pool by the clones of a meter, not by its subscriptions: the last one to go ends the stream.
struct Owner {
    subscribers: Arc<Subscribers>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.subscribers.orphaned.store(true, SeqCst);
        self.subscribers.tell();
    }
}

/// So many words to count in.
const WORDS: usize = 16;

/// `total << 32 | busy` of the workers that count here.
#[derive(Default)]
#[repr(align(128))]
struct Word(AtomicU64);

struct Subscribers {
    /// Each worker counts in one of them.
    words: [Word; WORDS],
    /// Held while a worker comes or goes, and while the words are added up; counts nothing.
    staff: Mutex<()>,
    /// The state of the least advanced pool, as a `PoolState`.
    state: AtomicU8,
    /// A subscriber waits, or is about to.
    armed: AtomicBool,
    /// Every `Meter` is gone.
    orphaned: AtomicBool,
    pools: Mutex<Vec<Weak<dyn PoolStatus>>>,
    /// Guards the way from `armed` to the wait; counts nothing.
    subscribers: Mutex<()>,
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
        let subscribers = Arc::new(Subscribers {
            words: Default::default(),
            staff: Mutex::new(()),
            state: AtomicU8::new(PoolState::Running as u8),
            armed: AtomicBool::new(false),
            orphaned: AtomicBool::new(false),
            pools: Mutex::new(Vec::new()),
            subscribers: Mutex::new(()),
            change: Condvar::new(),
        });
        Meter {
            owner: Arc::new(Owner { subscribers }),
        }
    }

    /// The counters now.
    pub fn snapshot(&self) -> Snapshot {
        self.owner.subscribers.snapshot()
    }

    /// A stream of snapshots that yields the present one first and then the newest after each
    /// change of busy, total or state (not of waiting jobs). A subscriber that reads slowly misses intermediate values, never the last one.
    pub fn subscribe(&self) -> Subscription {
        Subscription {
            subscribers: Arc::clone(&self.owner.subscribers),
            seen: None,
        }
    }
}

impl Subscribers {
    fn word_of(&self, worker: WorkerId) -> &AtomicU64 {
        &self.words[worker.get() as usize % WORDS].0
    }

    /// `total << 32 | busy` of all.
    fn word(&self) -> u64 {
        let _nobody_comes_or_goes = self.staff.lock();
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
    fn tell_if_armed(&self) {
        if self.armed.load(SeqCst) && self.armed.swap(false, SeqCst) {
            self.tell();
        }
    }

    #[cold]
    fn tell(&self) {
        // Taken and left at once: a subscriber between its check and its wait holds it.
        drop(self.subscribers.lock());
        self.change.notify_all();
    }

    /// The pools that live. Not used under the lock: whoever holds the last owner of a pool runs its
    /// destructors.
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

    fn key(&self) -> (u64, PoolState) {
        // The state first: when it says closed, the counters have come to rest.
        let state = self.state();
        (self.word(), state)
    }

    fn snapshot(&self) -> Snapshot {
        let (word, state) = self.key();
        self.fill(word, state)
    }

    fn fill(&self, word: u64, state: PoolState) -> Snapshot {
        let mut snapshot = Snapshot {
            busy: word as u32,
            total: (word >> 32) as u32,
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
        let mut pools = self.owner.subscribers.pools.lock();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(pool);
        self.owner
            .subscribers
            .state
            .store(PoolState::Running as u8, SeqCst);
    }
    fn pool_state(&self, state: PoolState) {
        let subscribers = &self.owner.subscribers;
        let states = subscribers.pools().into_iter().map(|pool| pool.state());
        let least = states.min().unwrap_or(state);
        subscribers.state.store(least as u8, SeqCst);
        log::debug!("meter: a pool is {state}, all are at least {least}");
        subscribers.tell_if_armed();
    }
    fn job_start(&self, _: JobId, worker: WorkerId) {
        self.owner.subscribers.add(BUSY, worker);
        self.owner.subscribers.tell_if_armed();
    }
    fn job_finish(&self, _: JobId, worker: WorkerId, _: Outcome) {
        self.owner.subscribers.sub(BUSY, worker);
        self.owner.subscribers.tell_if_armed();
    }
    fn worker_add(&self, worker: WorkerId) {
        let subscribers = &self.owner.subscribers;
        {
            let _staff = subscribers.staff.lock();
            subscribers.add(TOTAL, worker);
        }
        subscribers.tell_if_armed();
    }
    fn worker_remove(&self, worker: WorkerId) {
        let subscribers = &self.owner.subscribers;
        {
            let _staff = subscribers.staff.lock();
            subscribers.sub(TOTAL, worker);
        }
        subscribers.tell_if_armed();
    }
}

/// A stream of [`Snapshot`]s, made by [`Meter::subscribe`].
///
/// It ends (`None`) after the snapshot that says `Closed`, or when the last [`Meter`] is dropped.
pub struct Subscription {
    subscribers: Arc<Subscribers>,
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
    /// The pool is closed and its last snapshot was taken; nothing will follow.
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
    /// Blocks until the counters differ from those seen last; the first call returns at once.
    /// `None` when nothing will follow.
    pub fn recv(&mut self) -> Option<Snapshot> {
        self.wait(None).ok()
    }

    /// As [`recv`](Self::recv), for at most `timeout`.
    ///
    /// # Errors
    /// [`Timeout`](SubscriptionError::Timeout) when nothing changed, [`Ended`](SubscriptionError::Ended)
    /// when nothing will follow.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Snapshot, SubscriptionError> {
        self.wait(time::now().checked_add(timeout))
    }

    /// The newest snapshot if it was not seen yet. Never blocks.
    pub fn try_recv(&mut self) -> Option<Snapshot> {
        self.news().then(|| self.show())
    }

    /// Notes the counters; were they different before?
    fn news(&mut self) -> bool {
        let now = Some(self.subscribers.key());
        std::mem::replace(&mut self.seen, now) != now
    }

    /// The snapshot noted last. Asks the pools, so it is called without the subscribers' lock.
    fn show(&self) -> Snapshot {
        let (word, state) = self.seen.unwrap_or_else(|| self.subscribers.key());
        self.subscribers.fill(word, state)
    }

    fn wait(&mut self, deadline: Option<Instant>) -> Result<Snapshot, SubscriptionError> {
        if !self.news() {
            self.wait_for_news(deadline)?;
        }
        Ok(self.show())
    }

    fn wait_for_news(&mut self, deadline: Option<Instant>) -> Result<(), SubscriptionError> {
        let subscribers = Arc::clone(&self.subscribers);
        let mut guard = subscribers.subscribers.lock();
        loop {
            subscribers.armed.store(true, SeqCst);
            if self.news() {
                return Ok(());
            }
            let over = matches!(self.seen, Some((_, PoolState::Closed)));
            if over || subscribers.orphaned.load(SeqCst) {
                return Err(SubscriptionError::Ended);
            }
            match deadline {
                None => subscribers.change.wait(&mut guard),
                Some(at) => {
                    if subscribers.change.wait_until(&mut guard, at).timed_out() {
                        return self.news().then_some(()).ok_or(SubscriptionError::Timeout);
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
    fn the_words_halves_do_not_touch() {
        let meter = Meter::new();
        for id in 1..=3 {
            meter.worker_add(WorkerId::new(id));
        }
        meter.job_start(JobId::new(1), WorkerId::new(1));
        let seen = meter.snapshot();
        assert_eq!((seen.busy, seen.total), (1, 3));
        assert_eq!(meter.owner.subscribers.word(), TOTAL * 3 + BUSY);
    }
}
