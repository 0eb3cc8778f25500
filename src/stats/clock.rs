//! For pools with timings: the clock, and since when each waiting job waits.
//!
//! The head of a channel cannot be looked at, so the waiting jobs are recorded here once more. A job's
//! number gives it a slot, in which its submitter puts the stamp. The thread that ends its wait flips
//! the slot's bit in a stripe of bits: there are several stripes, so submitters and workers write to
//! different cache lines, and take no lock. A slot is freed when the next job that maps to it, one lap
//! later, wants it and finds the bit flipped. If the bit is not flipped, because more jobs wait than
//! there are slots or one waits for very long, the new job goes to a list under a lock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::sync::time;
use crate::sync::{
    AtomicBool, AtomicU64, Mutex,
    Ordering::{Acquire, Relaxed, Release},
};

/// Nanoseconds since the pool was built.
pub(crate) type Stamp = u64;

/// What the task of a waiting job carries: the low bits of its stamp, and its slot.
pub(crate) type WaitKey = u64;

const SLOT_BITS: u32 = 13;
/// More than the jobs that wait in a pool of the usual capacity.
const SLOTS: usize = 1 << SLOT_BITS;
/// Stands for a slot: the job is in the list instead.
const LISTED: usize = SLOTS - 1;
/// The low bits of a stamp, which fit in a task: 39 hours. In older pools, the whole stamp is looked
/// up.
const LOW_BITS: Stamp = (1 << (60 - SLOT_BITS)) - 1;

/// One for threads that are not workers, and the others for the workers to share.
const STRIPES: usize = 16;
const WORDS: usize = SLOTS / 64;

pub(crate) struct WaitClock {
    start: Instant,
    /// The stamp of the job in each slot, or zero.
    stamps: Box<[AtomicU64]>,
    stripes: Box<[Stripe]>,
    locked: Mutex<Locked>,
    /// There are stamps that do not fit in a task.
    has_long_stamps: AtomicBool,
}

/// A bit for each slot. It flips when a job in the slot ends its wait.
#[repr(align(128))]
struct Stripe([AtomicU64; WORDS]);

/// What is under the lock.
struct Locked {
    /// The slots' bits, those of all stripes together, when the slots were last freed.
    free: [u64; WORDS],
    /// Jobs without a slot: the low bits of their stamps, their stamps, and how many have these.
    listed: BTreeMap<(u64, Stamp), usize>,
}

impl WaitClock {
    pub(crate) fn new(start: Instant) -> Self {
        let stripe = || Stripe(std::array::from_fn(|_| AtomicU64::new(0)));
        WaitClock {
            start,
            stamps: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            stripes: (0..STRIPES).map(|_| stripe()).collect(),
            locked: Mutex::new(Locked {
                free: [0; WORDS],
                listed: BTreeMap::new(),
            }),
            has_long_stamps: AtomicBool::new(false),
        }
    }

    pub(crate) fn now(&self) -> Stamp {
        let nanos = time::since(self.start).as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// The job of this number waits from now on.
    pub(crate) fn begin_wait(&self, number: u64) -> WaitKey {
        self.insert(number, self.now())
    }

    fn insert(&self, number: u64, stamp: Stamp) -> WaitKey {
        let stamp = stamp.max(1);
        if stamp > LOW_BITS && !self.has_long_stamps.load(Relaxed) {
            self.has_long_stamps.store(true, Relaxed); // before the job is in a slot or the list
        }
        let mut slot = number as usize % SLOTS;
        if slot == LISTED || !self.try_claim(slot, stamp) {
            slot = self.insert_slow(slot, stamp);
        }
        (stamp & LOW_BITS) << SLOT_BITS | slot as u64
    }

    /// Puts the stamp in the slot. Returns `false` if a job waits there, or one did and the slot was not
    /// freed yet.
    #[inline]
    fn try_claim(&self, slot: usize, stamp: Stamp) -> bool {
        let held = &self.stamps[slot];
        held.compare_exchange(0, stamp, Acquire, Relaxed).is_ok()
    }

    /// Frees the slots near this one whose jobs have ended their waits, and puts the stamp in this one
    /// or in the list.
    #[cold]
    fn insert_slow(&self, slot: usize, stamp: Stamp) -> usize {
        let mut locked = self.locked.lock();
        let word = slot / 64;
        let bits = self.bits(word);
        let mut ended = bits ^ locked.free[word];
        locked.free[word] = bits;
        while ended != 0 {
            let bit = ended.trailing_zeros() as usize;
            self.stamps[word * 64 + bit].store(0, Release);
            ended &= ended - 1;
        }
        if slot != LISTED && self.try_claim(slot, stamp) {
            return slot;
        }
        *locked.listed.entry((stamp & LOW_BITS, stamp)).or_default() += 1;
        LISTED
    }

    /// One word of bits, those of all stripes together. A slot is freed only under the lock, so between
    /// two frees each of them flips once at most.
    fn bits(&self, word: usize) -> u64 {
        let words = self
            .stripes
            .iter()
            .map(|stripe| stripe.0[word].load(Acquire));
        words.fold(0, |all, one| all ^ one)
    }

    /// A job waits no more. Returns its stamp. `worker` is the number of the calling worker, or 0 for
    /// all other threads; it selects the stripe.
    pub(crate) fn end_wait(&self, key: WaitKey, worker: u64) -> Stamp {
        let low_bits = key >> SLOT_BITS;
        let slot = key as usize % SLOTS;
        if slot == LISTED {
            return self.remove_listed(low_bits);
        }
        let stamp = if self.has_long_stamps.load(Relaxed) {
            self.stamps[slot].load(Relaxed)
        } else {
            low_bits
        };
        let stripe = match worker {
            0 => 0,
            worker => 1 + worker as usize % (STRIPES - 1),
        };
        self.stripes[stripe].0[slot / 64].fetch_xor(1 << (slot % 64), Release);
        stamp
    }

    #[cold]
    fn remove_listed(&self, low_bits: u64) -> Stamp {
        let listed = &mut self.locked.lock().listed;
        let Some((&key, count)) = listed.range_mut((low_bits, 0)..).next() else {
            debug_assert!(false, "a job ended its wait twice");
            return low_bits;
        };
        debug_assert_eq!(key.0, low_bits, "a job ended its wait twice");
        *count -= 1;
        if *count == 0 {
            listed.remove(&key);
        }
        key.1
    }

    /// For how long the oldest waiting job has waited.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        let oldest = self.oldest_stamp()?;
        // Read after the stamps, so none of them is later than this.
        Some(Duration::from_nanos(self.now().saturating_sub(oldest)))
    }

    fn oldest_stamp(&self) -> Option<Stamp> {
        let locked = self.locked.lock();
        let mut oldest = locked.oldest_listed(self.now());
        for word in 0..WORDS {
            // Read before the stamps: a job whose bit has not flipped by now waits, or is about to.
            let mut waiting = !(self.bits(word) ^ locked.free[word]);
            while waiting != 0 {
                let slot = word * 64 + waiting.trailing_zeros() as usize;
                waiting &= waiting - 1;
                match self.stamps[slot].load(Acquire) {
                    0 => {}
                    stamp => oldest = Some(oldest.map_or(stamp, |oldest| oldest.min(stamp))),
                }
            }
        }
        oldest
    }
}

impl Locked {
    /// Many jobs may be listed, so this does not look at all of them. The low bits wrap around every 39
    /// hours: a job from before the last time has higher ones than any can have now.
    fn oldest_listed(&self, now: Stamp) -> Option<Stamp> {
        let first = self.listed.first_key_value();
        let mut before_wrap = self.listed.range((now & LOW_BITS, Stamp::MAX)..);
        let both = [first, before_wrap.next()];
        both.into_iter().flatten().map(|(key, _)| key.1).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_clock() -> WaitClock {
        WaitClock::new(Instant::now())
    }

    #[test]
    fn the_oldest_that_waits_is_found() {
        let wait_clock = wait_clock();
        let stamps = [10, 30, 20, 20, 40];
        let keys: Vec<_> = (1..)
            .zip(stamps)
            .map(|(number, stamp)| wait_clock.insert(number, stamp))
            .collect();
        let mut left = Vec::new();
        for job in [2, 0, 4, 3, 1] {
            left.push(wait_clock.oldest_stamp());
            assert_eq!(wait_clock.end_wait(keys[job], job as u64), stamps[job]);
        }
        assert_eq!(left, [Some(10), Some(10), Some(20), Some(20), Some(30)]);
        assert_eq!(wait_clock.oldest_stamp(), None);
    }

    /// Several laps of the slots, by every stripe, and with one job that waits forever.
    #[test]
    fn slots_are_reused() {
        let wait_clock = wait_clock();
        let first = wait_clock.insert(5, 1);
        for number in 6..4 * SLOTS as u64 {
            let key = wait_clock.insert(number, number);
            let slot = number as usize % SLOTS;
            let listed = slot == 5 || slot == LISTED;
            assert_eq!(key as usize % SLOTS == LISTED, listed, "job {number}");
            if number % 500 == 0 {
                assert_eq!(wait_clock.oldest_stamp(), Some(1));
            }
            assert_eq!(wait_clock.end_wait(key, number % 20), number);
        }
        assert_eq!(wait_clock.end_wait(first, 3), 1);
        assert_eq!(wait_clock.oldest_stamp(), None);
    }

    #[test]
    fn more_may_wait_than_there_are_slots() {
        let wait_clock = wait_clock();
        let all = 3 * SLOTS as u64;
        let keys: Vec<_> = (1..=all)
            .map(|number| wait_clock.insert(number, number / 2))
            .collect();
        for (number, key) in (1..).zip(keys) {
            if number % 500 == 0 {
                assert_eq!(wait_clock.oldest_stamp(), Some(number / 2));
            }
            assert_eq!(wait_clock.end_wait(key, 1), (number / 2).max(1));
        }
        assert_eq!(wait_clock.oldest_stamp(), None);
        assert!(wait_clock.locked.lock().listed.is_empty());
    }

    #[test]
    fn the_oldest_in_the_list_is_found_across_a_wrap_of_the_low_bits() {
        let wait_clock = wait_clock();
        for stamp in [LOW_BITS + 5, LOW_BITS - 3, LOW_BITS + 9] {
            wait_clock.insert(LISTED as u64, stamp);
        }
        let locked = wait_clock.locked.lock();
        assert_eq!(locked.oldest_listed(LOW_BITS + 10), Some(LOW_BITS - 3));
    }

    #[test]
    fn a_stamp_may_be_longer_than_a_task_has_room_for() {
        let wait_clock = wait_clock();
        let (young, listed) = (wait_clock.insert(1, 7), wait_clock.insert(LISTED as u64, 8));
        let old = wait_clock.insert(2, 3 * LOW_BITS);
        assert_eq!(wait_clock.oldest_stamp(), Some(7));
        assert_eq!(wait_clock.end_wait(young, 1), 7);
        assert_eq!(wait_clock.end_wait(listed, 1), 8);
        assert_eq!(wait_clock.end_wait(old, 1), 3 * LOW_BITS);
        assert_eq!(wait_clock.oldest_stamp(), None);
    }
}
