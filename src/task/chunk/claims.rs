//! Which inputs of a chunk are free, and which each worker holds.

use std::ops::Range;

use crate::error::RejectReason;
use crate::job::id::WorkerId;
use crate::sync::{
    Arc, AtomicU64,
    Ordering::{AcqRel, Acquire, Release},
};

pub(super) struct Claims {
    /// Inputs that are not claimed, the first ones at the end.
    pub(super) free: Vec<Range<usize>>,
    /// The last claim of each worker.
    holders: Vec<Holder>,
    /// The chunk was rejected for this reason. From then on nothing is free, and no claim has a rest.
    pub(super) rejected: Option<RejectReason>,
}

/// A worker and the inputs that it claimed last, less those that it gave back.
struct Holder {
    worker: WorkerId,
    range: Range<usize>,
    rest: Arc<Rest>,
}

impl Claims {
    pub(super) fn of_all(inputs: usize) -> Self {
        let all = 0..inputs;
        Claims {
            free: vec![all],
            holders: Vec::new(),
            rejected: None,
        }
    }

    /// Takes the next free inputs, at most this many.
    pub(super) fn take(&mut self, most: usize) -> Option<Range<usize>> {
        let first = self.free.last_mut()?;
        let end = first.end.min(first.start.saturating_add(most));
        let taken = first.start..end;
        first.start = end;
        if first.start == first.end {
            self.free.pop();
        }
        Some(taken)
    }

    /// Notes that a worker, whose claim before has ended, holds these inputs. Returns its place among
    /// the holders.
    pub(super) fn hold(&mut self, worker: WorkerId, range: Range<usize>) -> (usize, Arc<Rest>) {
        let known = self.holders.iter().position(|one| one.worker == worker);
        let at = known.unwrap_or_else(|| {
            self.holders.push(Holder {
                worker,
                range: 0..0,
                rest: Arc::default(),
            });
            self.holders.len() - 1
        });
        let holder = &mut self.holders[at];
        holder.rest.set(&range);
        holder.range = range;
        (at, Arc::clone(&holder.rest))
    }

    /// The worker that holds this input, or did until it ended.
    pub(super) fn holder(&self, index: usize) -> Option<WorkerId> {
        let mut holders = self.holders.iter();
        let found = holders.find(|one| one.range.contains(&index));
        found.map(|one| one.worker)
    }

    /// A holder gives back the inputs that it took and did not begin, and the rest of its claim.
    /// Returns how many these are.
    pub(super) fn give_back(&mut self, at: usize, taken: Range<usize>) -> usize {
        let holder = &mut self.holders[at];
        let rest = holder.rest.revoke();
        // The rest follows what was taken.
        let free = match (taken.is_empty(), rest.is_empty()) {
            (true, _) => rest,
            (_, true) => taken,
            _ => taken.start..rest.end,
        };
        if !free.is_empty() {
            holder.range.end = free.start;
            self.free.push(free.clone());
        }
        free.len()
    }

    /// Rejects the chunk: returns all that no worker has taken.
    pub(super) fn reject(&mut self, reason: RejectReason) -> Vec<Range<usize>> {
        self.rejected.get_or_insert(reason);
        let mut ranges = std::mem::take(&mut self.free);
        let rests = self.holders.iter().map(|one| one.rest.revoke());
        ranges.extend(rests.filter(|rest| !rest.is_empty()));
        ranges
    }
}

/// The inputs of a claim that its worker has not taken: the first in the upper half of the word, the end
/// in the lower one.
///
/// It has a cache line of its own, which stays with its worker.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Rest(AtomicU64);

impl Rest {
    /// Called under the lock of the claims, and only by the worker.
    fn set(&self, range: &Range<usize>) {
        let word = (range.start as u64) << 32 | range.end as u64;
        self.0.store(word, Release);
    }

    /// Takes the next inputs, at most this many. Only the worker does.
    #[inline]
    pub(super) fn take(&self, most: usize) -> Range<usize> {
        // Past the end, the word is as good as empty.
        let rest = unpack(self.0.fetch_add((most as u64) << 32, AcqRel));
        rest.start..rest.end.min(rest.start + most)
    }

    /// Takes all that is left. Called under the lock of the claims, so the claim is still the one that
    /// is meant.
    pub(super) fn revoke(&self) -> Range<usize> {
        unpack(self.0.swap(0, AcqRel))
    }

    /// Can no input be taken any more?
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        unpack(self.0.load(Acquire)).is_empty()
    }
}

fn unpack(word: u64) -> Range<usize> {
    let (start, end) = ((word >> 32) as usize, (word & u64::from(u32::MAX)) as usize);
    start.min(end)..end
}
