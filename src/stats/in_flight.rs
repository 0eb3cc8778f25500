//! Waiting until everything accepted so far has ended, while more keeps coming.
//!
//! # Generations
//!
//! Every job belongs to one of two epochs. One word holds the number of jobs accepted and, in
//! its top bit, the present epoch, so that a job gets both in one step. Whoever waits turns the
//! epoch over: from the step that does so, it knows how many jobs the old one has, and new ones
//! do not join it. It waits until as many of the old one have ended. Waiters take turns, so the
//! epoch that becomes the present one has no job left.
//!
//! # Why no waiter is forgotten
//!
//! It sets `wanted` and *then* counts. A worker notes that a job has ended, *then* takes its next one
//! (or finds none), and *then*, unless that one is of the same epoch, reads `wanted`; between
//! lies a sequentially consistent step. So either the waiter counts the job, or the worker sees that
//! it is wanted and calls. Only the last of a run of jobs calls, so waiting costs the workers
//! nothing to speak of.

use std::time::Instant;

use crate::sync::{AtomicU8, AtomicU64, Condvar, Mutex, Ordering::SeqCst, fence};

const TURN: u64 = 1 << 63;

/// Which of two a job belongs to.
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
struct Line<T>(T);

/// How many jobs were accepted, and who waits for them.
#[derive(Default)]
pub(crate) struct InFlight {
    /// Written for each job.
    accepted: Line<AtomicU64>,
    /// The epoch that is waited for, plus one; or zero. Read for each job.
    wanted: Line<AtomicU8>,
    /// Ended without a worker: turned away, or taken back.
    unworked: Line<PerEpoch>,
    /// Guards the way from `wanted` to the wait.
    signal: Mutex<()>,
    change: Condvar,
    /// The waiter whose turn it is; what the epochs before this one add up to.
    turn: Mutex<Turn>,
}

#[derive(Default)]
struct Turn {
    /// Jobs that each epoch had when it was last turned over.
    total: [u64; 2],
    /// Accepted when the present epoch began.
    start: u64,
}

impl InFlight {
    /// Counts a job in: its number, from 1 on, and its epoch.
    #[inline]
    pub(crate) fn count_in(&self) -> (u64, Epoch) {
        self.count_in_many(1)
    }

    /// The same for so many with consecutive numbers: the number of the first.
    #[inline]
    pub(crate) fn count_in_many(&self, jobs: u64) -> (u64, Epoch) {
        let before = self.accepted.0.fetch_add(jobs, SeqCst);
        let epoch = epoch(before);
        ((before & !TURN) + 1, epoch)
    }

    /// Jobs counted in so far.
    pub(crate) fn counted(&self) -> u64 {
        self.accepted.0.load(SeqCst) & !TURN
    }

    /// Jobs ended that no worker ran.
    pub(crate) fn ended_unworked(&self, epoch: Epoch, jobs: u64) {
        self.unworked.0[epoch as usize].fetch_add(jobs, SeqCst);
        self.call_if_wanted(epoch);
    }

    /// For those who noted that the last job of this epoch that they know of has ended, after
    /// a sequentially consistent step.
    #[inline]
    pub(crate) fn call_if_wanted(&self, epoch: Epoch) {
        if self.wanted.0.load(SeqCst) == epoch as u8 + 1 {
            self.call();
        }
    }

    #[cold]
    fn call(&self) {
        drop(self.signal.lock());
        self.change.notify_all();
    }

    /// Blocks until every job counted in before this call has ended, or the deadline passes. Have
    /// they? `worked` tells how many of a epoch workers have ended.
    pub(crate) fn wait(&self, deadline: Option<Instant>, worked: impl Fn(Epoch) -> u64) -> bool {
        let mut turn = match deadline {
            None => self.turn.lock(),
            Some(at) => match self.turn.try_lock_until(at) {
                Some(turn) => turn,
                None => return false,
            },
        };
        let ended = |epoch: Epoch, all: u64| {
            let unworked = &self.unworked.0[epoch as usize];
            self.wait_until(deadline, epoch, || {
                worked(epoch) + unworked.load(SeqCst) >= all
            })
        };
        // One that a waiter before this one gave up on.
        let other = epoch(self.accepted.0.load(SeqCst)).other();
        if !ended(other, turn.total[other as usize]) {
            return false;
        }
        let before = self.accepted.0.fetch_xor(TURN, SeqCst);
        let (old, accepted) = (epoch(before), before & !TURN);
        turn.total[old as usize] += accepted - turn.start;
        turn.start = accepted;
        ended(old, turn.total[old as usize])
    }

    fn wait_until(&self, deadline: Option<Instant>, epoch: Epoch, done: impl Fn() -> bool) -> bool {
        let mut signal = self.signal.lock();
        self.wanted.0.store(epoch as u8 + 1, SeqCst);
        fence(SeqCst);
        let in_time = loop {
            if done() {
                break true;
            }
            match deadline {
                None => self.change.wait(&mut signal),
                Some(at) => {
                    if self.change.wait_until(&mut signal, at).timed_out() {
                        break done();
                    }
                }
            }
        };
        self.wanted.0.store(0, SeqCst);
        in_time
    }
}

fn epoch(word: u64) -> Epoch {
    if word & TURN == 0 {
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
    fn those_who_come_after_the_call_are_not_waited_for() {
        let in_flight = InFlight::default();
        let worked: PerEpoch = Default::default();
        let count = |epoch: Epoch| worked[epoch as usize].load(SeqCst);
        let end = |epoch: Epoch| worked[epoch as usize].fetch_add(1, SeqCst);
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
