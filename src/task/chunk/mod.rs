//! A chunk: some consecutive inputs of a batch that travel as one job, and the slots for their
//! payloads and results.
//!
//! # States of an input
//!
//! ```text
//! free ──claim──▶ claimed ──take──▶ taken ──next──▶ started ──put──▶ full ──▶ read
//!  ▲ │              │ │               │                                ▲
//!  │ └───reject─────│─┴─reject────────│────────────────────────────────┘
//!  └────give back───┴────give back────┘
//! ```
//!
//! - `free`: the lock of `claims` guards which inputs these are.
//! - `claimed`: they are the [`Rest`](claims::Rest) of a worker's claim, one word that holds the first and
//!   the end. It is set and revoked under the lock. The worker takes from it without the lock.
//! - `taken`: they are in the worker's hand. Nobody else touches them.
//!
//! Take and revoke are each one atomic step on the same word: one of them comes first, and the other
//! finds what that one left. So each input goes to one thread: to the worker that takes it, or to the
//! thread that rejects the chunk. That one alone moves the payload out and stores the result. A stored
//! result belongs to the reader, and there is one reader. So neither payload nor result needs a lock of
//! its own: with one, a tiny job took 47 ns instead of 12, side by side. Payload and result lie in the
//! same slot, one after the other: half as many cache lines pass between the threads.
//!
//! # What has begun
//!
//! A batch that gives up rejects its chunks and waits for no worker. Whatever has no result after that
//! is in some worker's hand, and answered as begun. That is true because
//!
//! - a chunk is rejected under the lock, to the last result. So nothing is on its way from one thread to
//!   another when the lock is free, and of two that reject, the second finds all done;
//! - a worker gives back what is in its hand only under the lock, and only if the chunk is not rejected.
//!   Otherwise it begins what it took. Only a panic can keep it from that: then it rejects them.
//!
//! Workers claim a few inputs at a time: as many as run in four microseconds, by the measured time of
//! the batch's earlier jobs, and at most `MAX_CLAIM`. They take one at a time, or, since the step costs
//! as much as the shortest jobs do, as many as run in `TAKE_NANOS`, at most `MAX_TAKE`. All other inputs
//! are free for any idle worker.
//!
//! All of the library's unsafe code is in this file: the slots, and the chunk that knows what is in
//! them.

pub(crate) mod claim;
pub(crate) mod claims;
pub(crate) mod progress;
pub(crate) mod reader;
pub(crate) mod shared;
pub(crate) mod taken;

use crate::sync::OnceLock;
use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::ops::Range;

use crate::error::{RejectReason, RejectedError, SubmitError};
use crate::job::cancel::CancelToken;
use crate::job::id::{JobId, WorkerId};
use crate::stats::clock::Stamp;
use crate::stats::counters::Counters;
use crate::sync::unwind as panics;
use crate::sync::{
    Arc, AtomicBool, AtomicUsize, Mutex,
    Ordering::{Acquire, Release, SeqCst},
    fence,
};
use crate::task::chunk::claims::Claims;
use crate::task::chunk::progress::Progress;
use crate::task::chunk::taken::TakenSet;
use crate::task::header::Header;

/// An input's result, as its slot keeps it. Errors are boxed: they are rare, and results are to lie
/// close together.
pub(crate) type Outcome<P, O, E> = Result<O, Box<SubmitError<P, E>>>;

/// What a chunk's inputs have in common.
pub(crate) struct ChunkHeader {
    /// The number of the first input's job; the others follow.
    pub(crate) number: u64,
    pub(crate) header: Header,
    pub(crate) token: Option<CancelToken>,
    /// The chunk's place in the batch, from 1 on.
    pub(crate) place: usize,
    /// How long the batch's jobs took so far, in nanoseconds each. `None` while that is unknown.
    pub(crate) nanos_per_job: Option<u64>,
}

pub(crate) struct Chunk<P, O, E> {
    header: ChunkHeader,
    progress: Arc<Progress>,
    claims: Mutex<Claims>,
    /// How many inputs are free, readable without the lock: a hint.
    left: AtomicUsize,
    /// How many inputs have no result, as of the last claim that ended.
    unfinished: AtomicUsize,
    /// When the chunk was accepted: the stamp of the task that its first worker took.
    accepted: OnceLock<Stamp>,
    slots: Slots<P, O, E>,
    /// Which slots hold a result, or held one until it was taken.
    full: Vec<AtomicBool>,
    /// Which results were taken. The reader leaves this behind when it is dropped.
    taken: OnceLock<TakenSet>,
}

// SAFETY: payloads and results move between threads and are never shared; `claims` and `full` pass
// each from one thread to the next.
#[allow(unsafe_code)]
unsafe impl<P: Send, O: Send, E: Send> Sync for Chunk<P, O, E> {}

impl<P, O, E> Chunk<P, O, E> {
    /// A chunk whose results one [`Reader`](reader::Reader) will take.
    fn new(header: ChunkHeader, load: Load<P, O, E>, progress: Arc<Progress>) -> Self {
        let (slots, full) = load.into_parts();
        let len = slots.len();
        Chunk {
            header,
            progress,
            claims: Mutex::new(Claims::of_all(len)),
            left: AtomicUsize::new(len),
            unfinished: AtomicUsize::new(len),
            accepted: OnceLock::new(),
            slots,
            full,
            taken: OnceLock::new(),
        }
    }

    pub(crate) fn header(&self) -> &ChunkHeader {
        &self.header
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    pub(crate) fn job(&self, index: usize) -> JobId {
        JobId::new(self.header.number + index as u64)
    }

    /// How many inputs are free.
    pub(crate) fn left(&self) -> usize {
        self.left.load(SeqCst)
    }

    /// When the chunk was accepted, in pools with timings. The first call passes the stamp of the
    /// chunk's first task; its further tasks have later stamps.
    pub(crate) fn accepted(&self, stamp: Stamp) -> Stamp {
        *self.accepted.get_or_init(|| stamp)
    }

    /// The worker that has this input in its hand, if the chunk was rejected and the input has no
    /// result.
    pub(crate) fn holder(&self, index: usize) -> Option<WorkerId> {
        self.claims.lock().holder(index)
    }

    /// Rejects the inputs that no worker has in its hand, for ever: no other is claimed or taken.
    /// Returns how many there were. Afterwards they have their results, also if another thread was the
    /// first to reject them.
    pub(crate) fn reject(&self, reason: RejectReason, counters: Option<&Counters>) -> usize {
        let mut claims = self.claims.lock();
        self.left.store(0, SeqCst);
        let ranges = claims.reject(reason);
        let rejected = ranges.iter().map(Range::len).sum();
        let inputs = ranges.into_iter().rev().flatten();
        self.fill_rejected(inputs, reason, counters); // still under the lock
        drop(claims);
        self.end_rejected(rejected, counters);
        rejected
    }

    /// A worker that cannot begin what it took rejects it, after the chunk was rejected.
    #[cold]
    fn reject_taken(&self, taken: Range<usize>, counters: Option<&Counters>) {
        let rejected = self.claims.lock().rejected;
        let (reason, jobs) = (rejected.unwrap_or(RejectReason::Closed), taken.len());
        self.fill_rejected(taken, reason, counters);
        self.end_rejected(jobs, counters);
    }

    fn fill_rejected(
        &self,
        inputs: impl Iterator<Item = usize>,
        reason: RejectReason,
        counters: Option<&Counters>,
    ) {
        for index in inputs {
            let payload = self.payload(index);
            // Counted before the caller can know.
            counters
                .iter()
                .for_each(|counters| counters.rejected(reason));
            self.fill(
                index,
                Err(Box::new(RejectedError { payload, reason }.into())),
            );
        }
    }

    fn end_rejected(&self, jobs: usize, counters: Option<&Counters>) {
        self.add_ended(jobs);
        if let Some(counters) = counters {
            let epoch = self.header.header.epoch();
            counters.in_flight.ended_unworked(epoch, jobs as u64);
        }
    }

    /// So many more inputs have their results.
    fn add_ended(&self, inputs: usize) {
        let before = self.unfinished.fetch_sub(inputs, SeqCst);
        if before == inputs && before > 0 {
            self.progress.chunk_finished();
        }
        // Between storing the results and reading what the iterator waits for.
        fence(SeqCst);
        self.progress.notify(self.header.place);
    }

    /// Takes the payload of an input that the caller has taken or rejects. Called once for each.
    fn payload(&self, index: usize) -> P {
        // SAFETY: private, and called once for each input that left `free` and `Rest` for good: it is in
        // one of them once, goes back only if its payload is still here, and goes to one thread.
        #[allow(unsafe_code)]
        unsafe {
            ManuallyDrop::take(&mut (*self.slots[index].get()).payload)
        }
    }

    /// Stores the result of an input that was started.
    fn fill(&self, index: usize, result: Outcome<P, O, E>) {
        // SAFETY: private; called once for each input, after its payload was taken, so the
        // slot is empty. The reader does not look before `full` says that the result is there.
        #[allow(unsafe_code)]
        unsafe {
            (*self.slots[index].get()).result = ManuallyDrop::new(result);
        }
        self.full[index].store(true, Release);
    }

    /// Has the result of this input been stored?
    fn is_full(&self, index: usize) -> bool {
        self.full[index].load(Acquire)
    }

    /// Have all results been stored?
    fn is_finished(&self) -> bool {
        self.unfinished.load(Acquire) == 0
    }

    /// Takes the result of an input that is full. Called once for each.
    #[inline]
    fn result(&self, index: usize) -> Outcome<P, O, E> {
        // SAFETY: private; called by the one `Reader`, or by the drop of the last owner, which knows
        // what the reader took. The result is there, so nobody writes any more.
        #[allow(unsafe_code)]
        unsafe {
            ManuallyDrop::take(&mut (*self.slots[index].get()).result)
        }
    }
}

impl<P, O, E> Drop for Chunk<P, O, E> {
    fn drop(&mut self) {
        // This was the last owner: what is left is not wanted.
        for range in std::mem::take(&mut self.claims.get_mut().free) {
            for index in range {
                panics::discard("payload", self.payload(index));
            }
        }
        let Some(taken) = self.taken.take() else {
            return; // the reader was leaked, and the results that it did not take are too
        };
        if taken.len() >= self.full.len() {
            return;
        }
        for index in 0..self.full.len() {
            if self.is_full(index) && !taken.contains(index) {
                panics::discard("result", self.result(index));
            }
        }
    }
}

/// An input's payload, or later its result. The chunk knows which of the two is there, and who may
/// touch it.
union Slot<P, O, E> {
    payload: ManuallyDrop<P>,
    result: ManuallyDrop<Outcome<P, O, E>>,
}

/// Drops nothing by itself.
type Slots<P, O, E> = Vec<UnsafeCell<Slot<P, O, E>>>;

/// Payloads on their way into a chunk, each in its slot. A finished chunk leaves its memory to a later
/// one: to touch new memory costs more than a short job.
pub(crate) struct Load<P, O, E> {
    slots: Slots<P, O, E>,
    /// Memory for the chunk's `full`.
    full: Vec<AtomicBool>,
}

impl<P, O, E> Load<P, O, E> {
    /// An empty load in the memory of a chunk of which nothing is left.
    fn in_place_of(mut slots: Slots<P, O, E>, full: Vec<AtomicBool>) -> Self {
        slots.clear();
        Load { slots, full }
    }

    /// The payloads, and a `false` for each.
    fn into_parts(mut self) -> (Slots<P, O, E>, Vec<AtomicBool>) {
        let (slots, mut full) = (
            std::mem::take(&mut self.slots),
            std::mem::take(&mut self.full),
        );
        full.clear();
        full.resize_with(slots.len(), AtomicBool::default);
        (slots, full)
    }

    pub(crate) fn reserve(&mut self, more: usize) {
        self.slots.reserve(more);
    }

    #[inline]
    pub(crate) fn push(&mut self, payload: P) {
        let payload = ManuallyDrop::new(payload);
        self.slots.push(UnsafeCell::new(Slot { payload }));
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Takes the last payload.
    fn pop(&mut self) -> Option<P> {
        let slot = self.slots.pop()?.into_inner();
        // SAFETY: every slot in here was made by `push` and holds a payload; this one was just removed.
        #[allow(unsafe_code)]
        let payload = unsafe { slot.payload };
        Some(ManuallyDrop::into_inner(payload))
    }
}

impl<P, O, E> Default for Load<P, O, E> {
    fn default() -> Self {
        Load {
            slots: Vec::new(),
            full: Vec::new(),
        }
    }
}

impl<P, O, E> Drop for Load<P, O, E> {
    fn drop(&mut self) {
        while let Some(payload) = self.pop() {
            panics::discard("payload", payload);
        }
    }
}

#[cfg(test)]
#[path = "chunk_tests.rs"]
mod tests;
