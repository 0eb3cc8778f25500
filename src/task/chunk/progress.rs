//! What the workers tell a batch's iterator: that results are there, and how long jobs take.
//!
//! # Why the iterator misses no result
//!
//! The iterator sets `wanted` and *then* looks at the results once more, with a fence between. A worker
//! stores results and *then* reads `wanted`, also with a fence between, at the latest when its claim
//! ends. So either the iterator sees the result, or the worker sees `wanted` and wakes it.
//!
//! Within a claim (four microseconds of jobs, by the time that they took so far) the worker reads
//! `wanted` after each result without a fence. If one of these jobs is unexpectedly slow, a result from
//! just before might stay unseen behind it. So the iterator looks twice, a millisecond apart and with
//! the same `wanted`, before it sleeps without a limit.

use std::time::Duration;

use crate::sync::park::{Parker, Wake};
use crate::sync::{
    Arc, AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};

/// The iterator does not wait.
const NOTHING: usize = 0;
/// It waits for a result of any chunk.
pub(crate) const ANY: usize = usize::MAX;
/// It waits for no result, only until [enough](Progress::notify_at) chunks are finished.
pub(crate) const FINISHED_CHUNKS: usize = usize::MAX - 1;

#[repr(align(128))]
pub(crate) struct Progress {
    /// What the iterator waits for: the place of a chunk, or one of the constants above.
    wanted: AtomicUsize,
    /// How many chunks have all their results.
    finished: AtomicUsize,
    /// The iterator is woken when this many chunks are finished: few are left, and it sends more.
    notify_at: AtomicUsize,
    /// The iterator sleeps until it is woken.
    asleep: AtomicBool,
    /// How many jobs were run, and how long they took.
    jobs: AtomicU64,
    nanos: AtomicU64,
    parker: Arc<Parker>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Progress {
            wanted: AtomicUsize::new(NOTHING),
            finished: AtomicUsize::new(0),
            notify_at: AtomicUsize::new(usize::MAX),
            asleep: AtomicBool::new(false),
            jobs: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
            parker: Arc::new(Parker::new()),
        }
    }

    pub(crate) fn parker(&self) -> &Arc<Parker> {
        &self.parker
    }

    /// Results of this chunk are there.
    #[inline]
    pub(crate) fn notify(&self, place: usize) {
        let wanted = self.wanted.load(SeqCst);
        if wanted != NOTHING && (wanted == ANY || wanted == place) {
            self.wake(wanted);
        }
    }

    #[cold]
    fn wake(&self, wanted: usize) {
        let taken = self
            .wanted
            .compare_exchange(wanted, NOTHING, SeqCst, SeqCst);
        if taken.is_ok() {
            self.parker.wake();
        }
    }

    /// The iterator waits for results of this chunk from now on. The caller looks at the results once
    /// more, after a fence.
    pub(crate) fn await_at(&self, place: usize) {
        self.wanted.store(place, SeqCst);
    }

    pub(crate) fn await_nothing(&self) {
        self.wanted.store(NOTHING, SeqCst);
    }

    /// Has the iterator been woken since it last wanted something?
    pub(crate) fn is_notified(&self) -> bool {
        self.wanted.load(SeqCst) == NOTHING
    }

    /// The iterator is about to sleep until it is woken, or is awake again. Before it sleeps, but after
    /// this call, it looks for shared chunks that need help. A worker that begins a chunk lists it
    /// first, and then asks [`is_asleep`](Self::is_asleep). So one of the two sees the other.
    pub(crate) fn set_asleep(&self, asleep: bool) {
        self.asleep.store(asleep, SeqCst);
    }

    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep.load(SeqCst)
    }

    /// Once this many chunks are finished, the iterator is woken, whatever it waits for.
    pub(crate) fn notify_at(&self, finished: usize) {
        self.notify_at.store(finished, SeqCst);
    }

    /// Are so many chunks finished that the iterator is to send more?
    pub(crate) fn is_low(&self) -> bool {
        self.finished() >= self.notify_at.load(SeqCst)
    }

    pub(crate) fn chunk_finished(&self) {
        self.finished.fetch_add(1, SeqCst);
        let wanted = self.wanted.load(SeqCst);
        if wanted != NOTHING && self.is_low() {
            self.wake(wanted);
        }
    }

    /// How many chunks have all their results.
    pub(crate) fn finished(&self) -> usize {
        self.finished.load(SeqCst)
    }

    /// A worker ran some jobs, which took this long together.
    pub(crate) fn ran(&self, jobs: u64, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Relaxed);
        self.jobs.fetch_add(jobs, Relaxed);
    }

    /// How many jobs were run so far, and how many nanoseconds they took.
    pub(crate) fn ran_so_far(&self) -> (u64, u64) {
        (self.jobs.load(Relaxed), self.nanos.load(Relaxed))
    }
}
