//! A chunk: some consecutive inputs of a batch that travel as one job, and the slots for their
//! payloads and results.
//!
//! # States of an input
//!
//! ```text
//! free ──claim──▶ claimed ──next──▶ started ──put──▶ full ──take──▶ taken
//!   ▲               │                                 ▲
//!   └───give back───┘       free ──reject──▶ started ─┘
//! ```
//!
//! The lock of `claims` guards which inputs are free, so each is claimed by one thread at a time: by a
//! worker that is going to run it, or by a thread that rejects it. The claimant alone touches the
//! input's payload and stores its result. A result that is stored belongs to the reader, and there is
//! one reader. So neither payload nor result needs a lock of its own: with one, a tiny job took 47 ns
//! instead of 12, side by side. Payload and result lie in the same slot, one after the other: half as
//! many cache lines pass between the threads.
//!
//! Workers claim a few inputs at a time: as many as run in four microseconds, by the measured time of
//! the batch's earlier jobs, and at most [`MAX_CLAIM`]. All other inputs are free for any idle worker.
//!
//! All of the library's unsafe code is in this file: the slots, and the chunk that knows what is in
//! them.

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

/// The most inputs that a worker claims at a time.
const MAX_CLAIM: usize = 256;
/// How long the inputs of a claim are to take.
const CLAIM_NANOS: u64 = 4_000;

/// What a chunk's inputs have in common.
pub(crate) struct ChunkHeader {
    /// The number of the first input's job; the others follow.
    pub(crate) number: u64,
    pub(crate) header: Header,
    pub(crate) token: Option<CancelToken>,
    /// The chunk's place in the batch, from 1 on.
    pub(crate) place: usize,
    /// How long the batch's jobs took so far, in nanoseconds each. `None` while that is unknown.
    pub(crate) pace: Option<u64>,
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
    /// The remaining results are not wanted.
    halted: AtomicBool,
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
            halted: AtomicBool::new(false),
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

    /// The remaining results are not wanted: workers begin no further input.
    pub(crate) fn halt(&self) {
        self.halted.store(true, SeqCst);
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.halted.load(SeqCst)
    }

    /// Claims the next inputs for this worker.
    pub(crate) fn claim(&self, worker: WorkerId) -> Option<Claim<'_, P, O, E>> {
        let most = match self.header.pace {
            Some(nanos) => (CLAIM_NANOS / nanos.max(1)).clamp(1, MAX_CLAIM as u64) as usize,
            None => 1,
        };
        let mut claims = self.claims.lock();
        let range = claims.take(most)?;
        self.left.store(self.left() - range.len(), SeqCst);
        match claims.last.iter_mut().find(|(other, _)| *other == worker) {
            Some((_, last)) => *last = range.clone(),
            None => claims.last.push((worker, range.clone())),
        }
        drop(claims);
        Some(Claim::new(self, range))
    }

    /// The worker that claimed this input last.
    pub(crate) fn holder(&self, index: usize) -> Option<WorkerId> {
        let claims = self.claims.lock();
        let mut last = claims.last.iter();
        let found = last.find(|(_, range)| range.contains(&index));
        found.map(|(worker, _)| *worker)
    }

    /// Rejects the free inputs. Returns how many there were.
    pub(crate) fn reject(&self, reason: RejectReason, counters: Option<&Counters>) -> usize {
        let free = {
            let mut claims = self.claims.lock();
            self.left.store(0, SeqCst);
            std::mem::take(&mut claims.free)
        };
        let mut rejected = 0;
        for range in free.into_iter().rev() {
            let mut claim = Claim::new(self, range);
            while !claim.is_empty() {
                let payload = claim.next();
                // Counted before the caller can know.
                counters
                    .iter()
                    .for_each(|counters| counters.rejected(reason));
                claim.put(Err(Box::new(RejectedError { payload, reason }.into())));
                rejected += 1;
            }
        }
        if let Some(counters) = counters {
            counters
                .in_flight
                .ended_unworked(self.header.header.epoch(), rejected as u64);
        }
        rejected
    }

    /// Takes the payloads back out of a chunk that was not accepted.
    pub(crate) fn take_payloads(&self) -> Load<P, O, E> {
        let mut claims = self.claims.lock();
        let free = std::iter::from_fn(|| claims.take(usize::MAX)).flatten();
        let mut load = Load::default();
        free.for_each(|index| load.push(self.payload(index)));
        self.left.store(0, SeqCst);
        load
    }

    /// Takes the payload of an input that the caller has claimed. Called once for each.
    fn payload(&self, index: usize) -> P {
        // SAFETY: private, and called once for each input of a range that was taken out of `free`.
        // An input is in `free` once, and goes back there only if its payload is still here.
        #[allow(unsafe_code)]
        unsafe {
            ManuallyDrop::take(&mut (*self.slots[index].get()).payload)
        }
    }

    /// Stores the result of an input that was started.
    fn fill(&self, index: usize, result: Outcome<P, O, E>) {
        // SAFETY: private; a claim calls it once for each input, after it took the payload, so the
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

/// Inputs that one thread is about to run or to reject, one after the other. When the claim is
/// dropped, the inputs that it did not start are free again.
pub(crate) struct Claim<'a, P, O, E> {
    chunk: &'a Chunk<P, O, E>,
    range: Range<usize>,
    /// The input before `range` was started, and has no result yet.
    started: bool,
    /// How many inputs got their result from this claim.
    ended: usize,
}

impl<'a, P, O, E> Claim<'a, P, O, E> {
    fn new(chunk: &'a Chunk<P, O, E>, range: Range<usize>) -> Self {
        Claim {
            chunk,
            range,
            started: false,
            ended: 0,
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.range.len()
    }

    /// Starts the next input: takes its payload. [`put`](Self::put) then stores its result.
    ///
    /// Not an `Option`: a payload with a niche would be taken apart and put together again, and could
    /// not be read before the stores of earlier results had left the core.
    ///
    /// # Panics
    /// If the claim is empty.
    #[inline]
    pub(crate) fn next(&mut self) -> P {
        debug_assert!(!self.started, "the one before has no result");
        let index = self.range.next().expect("an input is left");
        self.started = true;
        self.chunk.payload(index)
    }

    /// The job of the input that was started last.
    #[inline]
    pub(crate) fn job(&self) -> JobId {
        JobId::new(self.chunk.header.number + self.range.start as u64 - 1)
    }

    /// Stores the result of the input that was started last.
    #[inline]
    pub(crate) fn put(&mut self, result: Outcome<P, O, E>) {
        assert!(self.started, "no input was started");
        self.started = false;
        self.ended += 1;
        self.chunk.fill(self.range.start - 1, result);
    }
}

impl<P, O, E> Drop for Claim<'_, P, O, E> {
    fn drop(&mut self) {
        let chunk = self.chunk;
        if !self.range.is_empty() {
            let mut claims = chunk.claims.lock();
            claims.free.push(self.range.clone());
            chunk.left.store(chunk.left() + self.range.len(), SeqCst);
        }
        let before = chunk.unfinished.fetch_sub(self.ended, SeqCst);
        if before == self.ended && before > 0 {
            chunk.progress.chunk_finished();
        }
        // Between storing the results and reading what the iterator waits for.
        fence(SeqCst);
        chunk.progress.notify(chunk.header.place);
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
