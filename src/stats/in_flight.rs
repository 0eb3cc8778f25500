//! Waiting until everything accepted so far has ended, while more keeps coming.
//!
//! # Generations
//!
//! Every job belongs to one of two generations. One word holds the number of jobs accepted and, in
//! its top bit, the present generation, so that a job gets both in one step. Whoever waits turns the
//! generation over: from the step that does so, it knows how many jobs the old one has, and new ones
//! do not join it. It waits until as many of the old one have ended. Waiters take turns, so the
//! generation that becomes the present one has no job left.
//!
//! # Why no waiter is forgotten
//!
//! It sets `wanted` and *then* counts. A worker notes that a job has ended, *then* takes its next one
//! (or finds none), and *then*, unless that one is of the same generation, reads `wanted`; between
//! lies a sequentially consistent step. So either the waiter counts the job, or the worker sees that
//! it is wanted and calls. Only the last of a run of jobs calls, so waiting costs the workers
//! nothing to speak of.

use std::time::Instant;

use crate::sync::{AtomicU8, AtomicU64, Condvar, Mutex, Ordering::SeqCst, fence};

const TURN: u64 = 1 << 63;

/// Which of two a job belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Generation {
    Even,
    Odd,
}

impl Generation {
    fn other(self) -> Self {
        match self {
            Generation::Even => Generation::Odd,
            Generation::Odd => Generation::Even,
        }
    }
}

/// A counter per generation.
pub(crate) type PerGeneration = [AtomicU64; 2];

#[derive(Default)]
#[repr(align(128))]
struct Line<T>(T);

/// How many jobs were accepted, and who waits for them.
#[derive(Default)]
pub(crate) struct Census {
    /// Written for each job.
    accepted: Line<AtomicU64>,
    /// The generation that is waited for, plus one; or zero. Read for each job.
    wanted: Line<AtomicU8>,
    /// Ended without a worker: turned away, or taken back.
    unworked: Line<PerGeneration>,
    /// Guards the way from `wanted` to the wait.
    bell: Mutex<()>,
    change: Condvar,
    /// The waiter whose turn it is; what the generations before this one add up to.
    turn: Mutex<Turn>,
}

#[derive(Default)]
struct Turn {
    /// Jobs that each generation had when it was last turned over.
    total: [u64; 2],
    /// Accepted when the present generation began.
    start: u64,
}

impl Census {
    /// Counts a job in: its number, from 1 on, and its generation.
    #[inline]
    pub(crate) fn count_in(&self) -> (u64, Generation) {
        self.count_in_many(1)
    }

    /// The same for so many with consecutive numbers: the number of the first.
    #[inline]
    pub(crate) fn count_in_many(&self, jobs: u64) -> (u64, Generation) {
        let before = self.accepted.0.fetch_add(jobs, SeqCst);
        let generation = generation(before);
        ((before & !TURN) + 1, generation)
    }

    /// Jobs counted in so far.
    pub(crate) fn counted(&self) -> u64 {
        self.accepted.0.load(SeqCst) & !TURN
    }

    /// Jobs ended that no worker ran.
    pub(crate) fn ended_unworked(&self, generation: Generation, jobs: u64) {
        self.unworked.0[generation as usize].fetch_add(jobs, SeqCst);
        self.call_if_wanted(generation);
    }

    /// For those who noted that the last job of this generation that they know of has ended, after
    /// a sequentially consistent step.
    #[inline]
    pub(crate) fn call_if_wanted(&self, generation: Generation) {
        if self.wanted.0.load(SeqCst) == generation as u8 + 1 {
            self.call();
        }
    }

    #[cold]
    fn call(&self) {
        drop(self.bell.lock());
        self.change.notify_all();
    }

    /// Blocks until every job counted in before this call has ended, or the deadline passes. Have
    /// they? `worked` tells how many of a generation workers have ended.
    pub(crate) fn wait(
        &self,
        deadline: Option<Instant>,
        worked: impl Fn(Generation) -> u64,
    ) -> bool {
        let mut turn = match deadline {
            None => self.turn.lock(),
            Some(at) => match self.turn.try_lock_until(at) {
                Some(turn) => turn,
                None => return false,
            },
        };
        let ended = |generation: Generation, all: u64| {
            let unworked = &self.unworked.0[generation as usize];
            self.wait_until(deadline, generation, || {
                worked(generation) + unworked.load(SeqCst) >= all
            })
        };
        // One that a waiter before this one gave up on.
        let other = generation(self.accepted.0.load(SeqCst)).other();
        if !ended(other, turn.total[other as usize]) {
            return false;
        }
        let before = self.accepted.0.fetch_xor(TURN, SeqCst);
        let (old, accepted) = (generation(before), before & !TURN);
        turn.total[old as usize] += accepted - turn.start;
        turn.start = accepted;
        ended(old, turn.total[old as usize])
    }

    fn wait_until(
        &self,
        deadline: Option<Instant>,
        generation: Generation,
        done: impl Fn() -> bool,
    ) -> bool {
        let mut bell = self.bell.lock();
        self.wanted.0.store(generation as u8 + 1, SeqCst);
        fence(SeqCst);
        let in_time = loop {
            if done() {
                break true;
            }
            match deadline {
                None => self.change.wait(&mut bell),
                Some(at) => {
                    if self.change.wait_until(&mut bell, at).timed_out() {
                        break done();
                    }
                }
            }
        };
        self.wanted.0.store(0, SeqCst);
        in_time
    }
}

fn generation(word: u64) -> Generation {
    if word & TURN == 0 {
        Generation::Even
    } else {
        Generation::Odd
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn those_who_come_after_the_call_are_not_waited_for() {
        let census = Census::default();
        let worked: PerGeneration = Default::default();
        let count = |generation: Generation| worked[generation as usize].load(SeqCst);
        let end = |generation: Generation| worked[generation as usize].fetch_add(1, SeqCst);
        let soon = || Instant::now().checked_add(Duration::from_millis(1));
        let first = census.count_in();
        assert_eq!(first, (1, Generation::Even));
        assert!(!census.wait(soon(), count), "the first job has not ended");
        let second = census.count_in();
        assert_eq!(second, (2, Generation::Odd));
        assert!(!census.wait(soon(), count), "still not");
        end(first.1);
        assert!(!census.wait(soon(), count), "the second has not ended");
        end(second.1);
        assert!(census.wait(soon(), count));
        let third = census.count_in();
        census.ended_unworked(third.1, 1);
        assert!(census.wait(soon(), count));
        assert_eq!(census.counted(), 3);
    }
}
