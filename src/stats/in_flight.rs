//! Waits until every job counted in so far has ended, while more keep coming.
//!
//! # Epochs
//!
//! Every job belongs to one of two epochs. One word holds the number of jobs counted in and, in its
//! top bit, the present epoch, so a job gets its number and its epoch in one step. A waiter switches
//! to the other epoch in one step, too. From that step it knows how many jobs the old epoch has, and
//! new jobs do not join it. Then it waits until that many jobs of the old epoch have ended. Waiters
//! take turns, and each first waits for the epoch that it is about to make the present one, so that
//! epoch has no job left.
//!
//! # Why no wake-up is lost
//!
//! A waiter sets `wanted` and *then* counts the ended jobs. A worker notes that a job has ended, *then*
//! takes its next job (or finds none), and *then* reads `wanted`, unless the next job is of the same
//! epoch. A sequentially consistent step lies between the first and the last. So either the waiter
//! counts the job, or the worker sees that its epoch is wanted and notifies the waiter. Only the last
//! of a run of jobs of one epoch does this, so waiting costs the workers hardly anything.

use std::time::Instant;

use crate::sync::{AtomicU8, AtomicU64, Condvar, Mutex, Ordering::SeqCst, fence};

/// The bit of the word that holds the present epoch.
const EPOCH: u64 = 1 << 63;

/// Which of the two epochs a job belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Epoch {
    Even,
    Odd,
}

impl Epoch {
    fn other(self) -> Self {
        match self {
            Epoch::Even => Epoch::Odd,
            Epoch::Odd => Epoch::Even,
        }
    }
}

/// A counter per epoch.
pub(crate) type PerEpoch = [AtomicU64; 2];

#[derive(Default)]
#[repr(align(128))]
struct CachePadded<T>(T);

/// How many jobs were counted in, and which epoch a thread waits for.
#[derive(Default)]
pub(crate) struct InFlight {
    /// The present epoch in the top bit, and how many jobs were counted in. Written for each job.
    word: CachePadded<AtomicU64>,
    /// The epoch that a thread waits for, plus one; or zero. Read for each job.
    wanted: CachePadded<AtomicU8>,
    /// Jobs that ended without a run: they were not accepted, rejected, or taken back.
    unrun: CachePadded<PerEpoch>,
    /// Held by the waiter from before it sets `wanted` until it waits. Protects no data.
    wait_lock: Mutex<()>,
    change: Condvar,
    /// Held by the waiter whose turn it is.
    totals: Mutex<Totals>,
}

#[derive(Default)]
struct Totals {
    /// How many jobs were ever counted into each epoch, when it last ceased to be the present one.
    jobs: [u64; 2],
    /// How many jobs were counted in when the present epoch began.
    start: u64,
}

impl InFlight {
    /// Counts a job in. Returns its number, from 1 on, and its epoch.
    #[inline]
    pub(crate) fn count_in(&self) -> (u64, Epoch) {
        self.count_in_many(1)
    }

    /// The same for several jobs, which get consecutive numbers. Returns the number of the first.
    #[inline]
    pub(crate) fn count_in_many(&self, jobs: u64) -> (u64, Epoch) {
        let before = self.word.0.fetch_add(jobs, SeqCst);
        (count_of(before) + 1, epoch_of(before))
    }

    /// Jobs counted in so far.
    pub(crate) fn counted(&self) -> u64 {
        count_of(self.word.0.load(SeqCst))
    }

    /// Jobs of this epoch ended without a run.
    pub(crate) fn ended_unworked(&self, epoch: Epoch, jobs: u64) {
        self.unrun.0[epoch as usize].fetch_add(jobs, SeqCst);
        self.call_if_wanted(epoch);
    }

    /// Wakes the thread that waits for this epoch, if one does. The caller noted before that jobs of the
    /// epoch have ended, and a sequentially consistent step lies between that and this call.
    #[inline]
    pub(crate) fn call_if_wanted(&self, epoch: Epoch) {
        if self.wanted.0.load(SeqCst) == epoch as u8 + 1 {
            self.notify();
        }
    }

    #[cold]
    fn notify(&self) {
        drop(self.wait_lock.lock()); // until the waiter waits
        self.change.notify_all();
    }

    /// Blocks until every job counted in before this call has ended, or the deadline passes. Returns
    /// whether they have ended. `run` tells how many jobs of an epoch were run and answered.
    pub(crate) fn wait(&self, deadline: Option<Instant>, run: impl Fn(Epoch) -> u64) -> bool {
        let mut totals = match deadline {
            None => self.totals.lock(),
            Some(at) => match self.totals.try_lock_until(at) {
                Some(totals) => totals,
                None => return false,
            },
        };
        let wait_for = |epoch: Epoch, jobs: u64| {
            let unrun = &self.unrun.0[epoch as usize];
            self.wait_until(deadline, epoch, || run(epoch) + unrun.load(SeqCst) >= jobs)
        };
        // The other epoch still has jobs if an earlier waiter's deadline passed.
        let other = epoch_of(self.word.0.load(SeqCst)).other();
        if !wait_for(other, totals.jobs[other as usize]) {
            return false;
        }
        let before = self.word.0.fetch_xor(EPOCH, SeqCst);
        let (old, counted) = (epoch_of(before), count_of(before));
        totals.jobs[old as usize] += counted - totals.start;
        totals.start = counted;
        wait_for(old, totals.jobs[old as usize])
    }

    fn wait_until(&self, deadline: Option<Instant>, epoch: Epoch, done: impl Fn() -> bool) -> bool {
        let mut guard = self.wait_lock.lock();
        self.wanted.0.store(epoch as u8 + 1, SeqCst);
        fence(SeqCst);
        let in_time = loop {
            if done() {
                break true;
            }
            match deadline {
                None => self.change.wait(&mut guard),
                Some(at) => {
                    if self.change.wait_until(&mut guard, at).timed_out() {
                        break done();
                    }
                }
            }
        };
        self.wanted.0.store(0, SeqCst);
        in_time
    }
}

fn count_of(word: u64) -> u64 {
    word & !EPOCH
}

fn epoch_of(word: u64) -> Epoch {
    if word & EPOCH == 0 {
        Epoch::Even
    } else {
        Epoch::Odd
    }
}

#[cfg(all(test, worker_pool_shuttle))]
mod model;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn jobs_counted_in_after_the_call_are_not_waited_for() {
        let in_flight = InFlight::default();
        let run: PerEpoch = Default::default();
        let count = |epoch: Epoch| run[epoch as usize].load(SeqCst);
        let end = |epoch: Epoch| run[epoch as usize].fetch_add(1, SeqCst);
        let soon = || Instant::now().checked_add(Duration::from_millis(1));
        let first = in_flight.count_in();
        assert_eq!(first, (1, Epoch::Even));
        assert!(
            !in_flight.wait(soon(), count),
            "the first job has not ended"
        );
        let second = in_flight.count_in();
        assert_eq!(second, (2, Epoch::Odd));
        assert!(!in_flight.wait(soon(), count), "still not");
        end(first.1);
        assert!(!in_flight.wait(soon(), count), "the second has not ended");
        end(second.1);
        assert!(in_flight.wait(soon(), count));
        let third = in_flight.count_in();
        in_flight.ended_unworked(third.1, 1);
        assert!(in_flight.wait(soon(), count));
        assert_eq!(in_flight.counted(), 3);
    }
}
