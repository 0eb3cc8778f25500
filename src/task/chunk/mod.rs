//! A chunk: some consecutive inputs of a batch that travel as one job, and the places for their
//! results.
//!
//! # States of an input
//!
//! ```text
//! free ──claim──▶ claimed ──take──▶ in hand ──put──▶ full ──take──▶ taken
//!   ▲               │                                  ▲
//!   └──give back────┘      free ──refuse──▶ in hand ───┘
//! ```
//!
//! Which inputs are free stands under the lock of `claims`, so each is claimed by one at a time: by a
//! worker that is going to run it, or by whoever turns it away. Who holds the claim is the only one to
//! touch the input's payload and to fill its result; with that it is the reader's, of whom there is
//! one. So neither needs a lock of its own: with one, a tiny job took 47 ns instead of 12, side by side.
//! Payload and result lie in the same place, one after the other: half as many cache lines pass
//! between the threads.
//!
//! Workers claim a few inputs at a time: as many as they ran in four microseconds, by the measure of
//! those before, and at most [`MOST_CLAIMED`]. All others of the chunk are open to any idle worker.

pub(crate) mod claims;
pub(crate) mod progress;
pub(crate) mod shared;
pub(crate) mod taken;

use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::sync::OnceLock;

use crate::error::{RejectReason, RejectedError, SubmitError};
use crate::job::cancel::CancelToken;
use crate::job::id::JobId;
use crate::job::id::WorkerId;
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

/// What is kept for an input. Boxed errors: they are rare, and results shall lie close together.
pub(crate) type Outcome<P, O, E> = Result<O, Box<SubmitError<P, E>>>;

/// The most inputs that a worker takes along at a time.
const MOST_CLAIMED: usize = 256;
/// So long they shall last.
const CLAIM_NANOS: u64 = 4_000;

/// What is written on a chunk.
pub(crate) struct ChunkHeader {
    /// The number of the first input's job; the others follow.
    pub(crate) number: u64,
    pub(crate) header: Header,
    pub(crate) token: Option<CancelToken>,
    /// The chunk's place in the batch, from 1 on.
    pub(crate) place: usize,
    /// What the batch's jobs took so far, in nanoseconds each.
    pub(crate) pace: Option<u64>,
}

pub(crate) struct Chunk<P, O, E> {
    header: ChunkHeader,
    progress: Arc<Progress>,
    claims: Mutex<Claims>,
    /// How many inputs are free: a hint without the lock.
    left: AtomicUsize,
    /// Inputs without a result, as of the last claim that ended.
    unfinished: AtomicUsize,
    /// When its first worker came to it: the stamp of its task.
    accepted: OnceLock<Stamp>,
    /// Nobody wants the rest.
    halted: AtomicBool,
    /// The inputs' places, and which of them hold a result.
    slots: Slots<P, O, E>,
    full: Vec<AtomicBool>,
    /// Which results were taken, left behind by the reader.
    taken: OnceLock<TakenSet>,
}

// SAFETY: payloads and results move between threads and are never shared; `claims` and `full` hand
// each from one thread to the next.
#[allow(unsafe_code)]
unsafe impl<P: Send, O: Send, E: Send> Sync for Chunk<P, O, E> {}

impl<P, O, E> Chunk<P, O, E> {
    /// The chunk, and the only reader of its results.
    pub(crate) fn new(
        header: ChunkHeader,
        load: Load<P, O, E>,
        progress: Arc<Progress>,
    ) -> (Arc<Self>, Reader<P, O, E>) {
        let (slots, full) = load.into_parts();
        let len = slots.len();
        let chunk = Arc::new(Chunk {
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
        });
        let reader = Reader {
            chunk: Arc::clone(&chunk),
            all: false,
            taken: TakenSet::default(),
        };
        (chunk, reader)
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

    /// Inputs that nobody has claimed.
    pub(crate) fn left(&self) -> usize {
        self.left.load(SeqCst)
    }

    /// When it was accepted, in pools with timings. Tasks that were made since have later stamps.
    pub(crate) fn accepted(&self, stamp: Stamp) -> Stamp {
        *self.accepted.get_or_init(|| stamp)
    }

    /// Nobody wants the rest: no further one shall begin.
    pub(crate) fn halt(&self) {
        self.halted.store(true, SeqCst);
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.halted.load(SeqCst)
    }

    /// The next inputs for this worker.
    pub(crate) fn claim(&self, worker: WorkerId) -> Option<Claim<'_, P, O, E>> {
        let most = match self.header.pace {
            Some(nanos) => (CLAIM_NANOS / nanos.max(1)).clamp(1, MOST_CLAIMED as u64) as usize,
            None => 1,
        };
        let mut claims = self.claims.lock();
        let range = claims.take(most)?;
        self.left.store(self.left() - range.len(), SeqCst);
        match claims.held.iter_mut().find(|(who, _)| *who == worker) {
            Some((_, held)) => *held = range.clone(),
            None => claims.held.push((worker, range.clone())),
        }
        drop(claims);
        Some(Claim::new(self, range))
    }

    /// The worker that claimed this input last.
    pub(crate) fn holder(&self, index: usize) -> Option<WorkerId> {
        let claims = self.claims.lock();
        let held = claims.held.iter().find(|(_, held)| held.contains(&index));
        held.map(|(worker, _)| *worker)
    }

    /// Turns away what is free. How many?
    pub(crate) fn reject(&self, reason: RejectReason, counters: Option<&Counters>) -> usize {
        let all = {
            let mut claims = self.claims.lock();
            self.left.store(0, SeqCst);
            std::mem::take(&mut claims.free)
        };
        let mut rejected = 0;
        for range in all.into_iter().rev() {
            let mut claim = Claim::new(self, range);
            while !claim.is_empty() {
                let payload = claim.next();
                // Counted before its caller can know.
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

    /// Of a chunk that was not accepted: its payloads.
    pub(crate) fn take_payloads(&self) -> Load<P, O, E> {
        let mut claims = self.claims.lock();
        let all = std::iter::from_fn(|| claims.take(usize::MAX)).flatten();
        let mut load = Load::default();
        all.for_each(|index| load.push(self.payload(index)));
        self.left.store(0, SeqCst);
        load
    }

    /// The payload of an input that the caller has claimed, once.
    fn payload(&self, index: usize) -> P {
        // SAFETY: private, and called once for each input of a range that was taken out of `free`,
        // where it stands once and is put again only if its payload is still here.
        #[allow(unsafe_code)]
        unsafe {
            ManuallyDrop::take(&mut (*self.slots[index].get()).payload)
        }
    }

    /// Stores the result of an input in hand.
    fn fill(&self, index: usize, result: Outcome<P, O, E>) {
        // SAFETY: private; a claim calls it once for each input, after it took the payload, so the
        // place is empty. The reader does not look before it is said to be full.
        #[allow(unsafe_code)]
        unsafe {
            (*self.slots[index].get()).result = ManuallyDrop::new(result);
        }
        self.full[index].store(true, Release);
    }

    /// Is the result of this input there?
    fn is_full(&self, index: usize) -> bool {
        self.full[index].load(Acquire)
    }

    /// Are they all?
    fn is_finished(&self) -> bool {
        self.unfinished.load(Acquire) == 0
    }

    /// The result of an input that is full, once.
    #[inline]
    fn result(&self, index: usize) -> Outcome<P, O, E> {
        // SAFETY: private; called by the one reader, or by the drop of the last owner, which knows
        // what the reader took. The result is there, so nobody writes any more.
        #[allow(unsafe_code)]
        unsafe {
            ManuallyDrop::take(&mut (*self.slots[index].get()).result)
        }
    }
}

/// Inputs that somebody is about to run or to turn away, one after the other. Those that are left
/// when it is dropped are free again.
pub(crate) struct Claim<'a, P, O, E> {
    chunk: &'a Chunk<P, O, E>,
    range: Range<usize>,
    /// The input before the range has no result yet.
    in_hand: bool,
    ended: usize,
}

impl<'a, P, O, E> Claim<'a, P, O, E> {
    fn new(chunk: &'a Chunk<P, O, E>, range: Range<usize>) -> Self {
        Claim {
            chunk,
            range,
            in_hand: false,
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

    /// Takes the next input in hand: its payload. Its result follows by [`put`](Self::put).
    ///
    /// Not an `Option`: a payload with a niche would be taken apart and put together again, and could
    /// not be read before the stores of earlier results had left the core.
    ///
    /// # Panics
    /// If it is empty.
    #[inline]
    pub(crate) fn next(&mut self) -> P {
        debug_assert!(!self.in_hand, "the one before has no result");
        let index = self.range.next().expect("an input is left");
        self.in_hand = true;
        self.chunk.payload(index)
    }

    /// The job of the input in hand.
    #[inline]
    pub(crate) fn job(&self) -> JobId {
        JobId::new(self.chunk.header.number + self.range.start as u64 - 1)
    }

    /// The result of the input in hand.
    #[inline]
    pub(crate) fn put(&mut self, result: Outcome<P, O, E>) {
        assert!(self.in_hand, "no input is in hand");
        self.in_hand = false;
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
        // Between the results and the look at who waits.
        fence(SeqCst);
        chunk.progress.notify(chunk.header.place);
    }
}

/// The only one to take a chunk's results. It keeps to itself what it took: to mark it beside the
/// results would take their cache lines from the workers.
pub(crate) struct Reader<P, O, E> {
    chunk: Arc<Chunk<P, O, E>>,
    /// Every result is there.
    all: bool,
    taken: TakenSet,
}

impl<P, O, E> Reader<P, O, E> {
    pub(crate) fn chunk(&self) -> &Arc<Chunk<P, O, E>> {
        &self.chunk
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.chunk.full.len()
    }

    /// Is every result there, taken or not?
    #[inline]
    pub(crate) fn is_finished(&mut self) -> bool {
        self.all = self.all || self.chunk.is_finished();
        self.all
    }

    /// The memory of a chunk whose results were all taken, if nobody else looks at it any more.
    pub(crate) fn recycle(mut self) -> Option<Load<P, O, E>> {
        if self.taken.len() < self.len() {
            return None;
        }
        let chunk = Arc::get_mut(&mut self.chunk)?;
        let (slots, full) = (&mut chunk.slots, &mut chunk.full);
        Some(Load::in_place_of(
            std::mem::take(slots),
            std::mem::take(full),
        ))
    }

    /// The result of an input, if it is there and was not taken before.
    #[inline(always)]
    pub(crate) fn take(&mut self, index: usize) -> Option<Outcome<P, O, E>> {
        if !(self.all || self.chunk.is_full(index)) || !self.taken.insert(index) {
            return None;
        }
        Some(self.chunk.result(index))
    }

    /// Is it there, and was not taken before?
    pub(crate) fn is_full(&self, index: usize) -> bool {
        self.chunk.is_full(index) && !self.is_taken(index)
    }

    /// Was it taken?
    pub(crate) fn is_taken(&self, index: usize) -> bool {
        self.taken.contains(index)
    }
}

impl<P, O, E> Drop for Reader<P, O, E> {
    fn drop(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        let first = self.chunk.taken.set(taken);
        debug_assert!(first.is_ok(), "there is one reader");
    }
}

impl<P, O, E> Drop for Chunk<P, O, E> {
    fn drop(&mut self) {
        // The last owner: whatever is left was not wanted.
        for range in std::mem::take(&mut self.claims.get_mut().free) {
            for index in range {
                panics::discard("payload", self.payload(index));
            }
        }
        let Some(taken) = self.taken.take() else {
            return; // a reader that was leaked keeps what it did not take
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

/// An input's place: its payload, or later its result. Who may touch it, and which of the two is
/// there, is the chunk's knowledge.
union Slot<P, O, E> {
    payload: ManuallyDrop<P>,
    result: ManuallyDrop<Outcome<P, O, E>>,
}

/// Drops nothing by itself.
type Slots<P, O, E> = Vec<UnsafeCell<Slot<P, O, E>>>;

/// Payloads on their way into a chunk, each in its slot. A finished chunk leaves its memory to a later
/// one: new memory costs more to touch than a short job.
pub(crate) struct Load<P, O, E> {
    slots: Slots<P, O, E>,
    /// For the chunk.
    full: Vec<AtomicBool>,
}

impl<P, O, E> Load<P, O, E> {
    /// An empty one, in the memory of a chunk of which nothing is left.
    fn in_place_of(mut slots: Slots<P, O, E>, full: Vec<AtomicBool>) -> Self {
        slots.clear();
        Load { slots, full }
    }

    /// The payloads, and a `false` for each of them.
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

    /// The last payload.
    fn pop(&mut self) -> Option<P> {
        let slot = self.slots.pop()?.into_inner();
        // SAFETY: slots that are here came by `push`, and this one has just left.
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
