//! What the workers tell the iterator of a batch: that results are there, and how long jobs take.
//!
//! # Why the iterator misses no result
//!
//! It sets `wanted` and *then* looks at the results once more, with a fence between. A worker fills in
//! results and, at the latest when its claim ends, *then* reads `wanted`, also with a fence between.
//! So either the iterator sees the result or it is seen and called. Within a claim (four microseconds
//! of jobs, as they went so far) the worker reads `wanted` after each result without a fence; should one
//! of these jobs be unexpectedly slow, a result from just before might stay unseen behind it. So the
//! iterator looks twice, a millisecond apart and wanting the same, before it sleeps without a limit.

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
/// It waits for no result, only for [so many](Progress::notify_at) chunks to be finished.
pub(crate) const END_OF_SOME: usize = usize::MAX - 1;

#[repr(align(128))]
pub(crate) struct Progress {
    /// The place of the chunk that the iterator waits for.
    wanted: AtomicUsize,
    /// Chunks of which every input has its result.
    finished: AtomicUsize,
    /// At so many the iterator sends off more.
    low: AtomicUsize,
    /// It sleeps until it is called.
    asleep: AtomicBool,
    /// Jobs that were run, and how long they took.
    jobs: AtomicU64,
    nanos: AtomicU64,
    parker: Arc<Parker>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Progress {
            wanted: AtomicUsize::new(NOTHING),
            finished: AtomicUsize::new(0),
            low: AtomicUsize::new(usize::MAX),
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
        let first = self
            .wanted
            .compare_exchange(wanted, NOTHING, SeqCst, SeqCst);
        if first.is_ok() {
            self.parker.wake();
        }
    }

    /// The iterator waits for results of this chunk from now on. It looks once more after a fence.
    pub(crate) fn await_at(&self, place: usize) {
        self.wanted.store(place, SeqCst);
    }

    pub(crate) fn await_nothing(&self) {
        self.wanted.store(NOTHING, SeqCst);
    }

    /// Has the iterator been called since it last wanted something?
    pub(crate) fn is_notified(&self) -> bool {
        self.wanted.load(SeqCst) == NOTHING
    }

    /// The iterator sleeps until it is called, or is up again. When it sleeps, it looks after that
    /// whether there is a chunk to join: workers that begin one ask [`is_asleep`](Self::is_asleep)
    /// after they listed it.
    pub(crate) fn set_asleep(&self, asleep: bool) {
        self.asleep.store(asleep, SeqCst);
    }

    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep.load(SeqCst)
    }

    /// When so many chunks are finished, the iterator is called whatever it waits for.
    pub(crate) fn notify_at(&self, finished: usize) {
        self.low.store(finished, SeqCst);
    }

    pub(crate) fn is_low(&self) -> bool {
        self.finished() >= self.low.load(SeqCst)
    }

    pub(crate) fn chunk_finished(&self) {
        self.finished.fetch_add(1, SeqCst);
        let wanted = self.wanted.load(SeqCst);
        if wanted != NOTHING && self.is_low() {
            self.wake(wanted);
        }
    }

    /// Chunks of which every input has its result.
    pub(crate) fn finished(&self) -> usize {
        self.finished.load(SeqCst)
    }

    /// A worker ran so many jobs in so long.
    pub(crate) fn ran(&self, jobs: u64, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Relaxed);
        self.jobs.fetch_add(jobs, Relaxed);
    }

    /// Jobs run so far, and the nanoseconds that they took.
    pub(crate) fn ran_so_far(&self) -> (u64, u64) {
        (self.jobs.load(Relaxed), self.nanos.load(Relaxed))
    }
}
