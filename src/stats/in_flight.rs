//! Waiting until everything accepted so far has ended, while more keeps coming.
//!
//! # Generations
//!
//! Every job belongs to one of two epochs. One word holds the number of jobs accepted and, in
//! its top bit, the present epoch, so that a job gets both in one step. Whoever waits turns the
//! epoch over: from the step that does so, it knows how many jobs the old one has, and new ones
//! do not join it. It waits until as many of the old one have ended. Waiters take turns, so the
//! epoch that becomes the present one has no job left. A waiter that comes while another has the turn
//! lines up, and is woken when the turn is free.
//!
//! # Why no waiter is forgotten
//!
//! It sets `wanted` and *then* counts. A worker notes that a job has ended, *then* takes its next one
//! (or finds none), and *then*, unless that one is of the same epoch, reads `wanted`; between
//! lies a sequentially consistent step. So either the waiter counts the job, or the worker sees that
//! it is wanted and calls. Only the last of a run of jobs calls, so waiting costs the workers
//! nothing to speak of.

use std::time::Instant;

use crate::sync::park::{Parker, Wake};
use crate::sync::time;
use crate::sync::{Arc, AtomicU8, AtomicU64, Mutex, Ordering::SeqCst, fence};

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
struct CachePadded<T>(T);

/// How many jobs were accepted, and who waits for them.
#[derive(Default)]
pub(crate) struct InFlight {
    /// Written for each job.
    accepted: CachePadded<AtomicU64>,
    /// The epoch that is waited for, plus one; or zero. Read for each job.
    wanted: CachePadded<AtomicU8>,
    /// Ended without a worker: turned away, or taken back.
    unworked: CachePadded<PerEpoch>,
    /// The waiter whose turn it is, while it waits.
    waiter: Mutex<Option<Arc<Parker>>>,
    turn: Mutex<Turn>,
}

/// What only the waiter changes whose turn it is.
#[derive(Default)]
struct Turn {
    taken: bool,
    /// The waiters that want the turn.
    waiters: Vec<Arc<Parker>>,
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
        if let Some(waiter) = &*self.waiter.lock() {
            waiter.wake();
        }
    }

    /// Blocks until every job counted in before this call has ended, the deadline passes, or `park` says
    /// that the caller is to withdraw. Have they ended? `worked` tells how many of an epoch workers have
    /// ended. `park` blocks until `parker` is woken, at most until the deadline.
    pub(crate) fn wait(
        &self,
        parker: &Arc<Parker>,
        deadline: Option<Instant>,
        worked: impl Fn(Epoch) -> u64,
        park: impl Fn() -> bool,
    ) -> bool {
        let gives_up = || park() || deadline.is_some_and(|at| time::now() >= at);
        if !self.take_turn(parker, gives_up) {
            return false;
        }
        let _turn = TurnGuard(self);
        let ended = |epoch: Epoch, all: u64| {
            let unworked = &self.unworked.0[epoch as usize];
            let done = || worked(epoch) + unworked.load(SeqCst) >= all;
            self.wait_until(parker, epoch, done, gives_up)
        };
        // One that a waiter before this one gave up on.
        let other = epoch(self.accepted.0.load(SeqCst)).other();
        let all = self.turn.lock().total[other as usize];
        if !ended(other, all) {
            return false;
        }
        let (old, all) = {
            let mut turn = self.turn.lock();
            let before = self.accepted.0.fetch_xor(TURN, SeqCst);
            let (old, accepted) = (epoch(before), before & !TURN);
            turn.total[old as usize] += accepted - turn.start;
            turn.start = accepted;
            (old, turn.total[old as usize])
        };
        ended(old, all)
    }

    /// Returns `false` if the caller gives up before.
    fn take_turn(&self, parker: &Arc<Parker>, gives_up: impl Fn() -> bool) -> bool {
        let others = |other: &Arc<Parker>| !Arc::ptr_eq(other, parker);
        loop {
            let mut turn = self.turn.lock();
            turn.waiters.retain(others);
            if !turn.taken {
                turn.taken = true;
                return true;
            }
            turn.waiters.push(Arc::clone(parker));
            drop(turn);
            if gives_up() {
                self.turn.lock().waiters.retain(others);
                return false;
            }
        }
    }

    fn wait_until(
        &self,
        parker: &Arc<Parker>,
        epoch: Epoch,
        done: impl Fn() -> bool,
        gives_up: impl Fn() -> bool,
    ) -> bool {
        *self.waiter.lock() = Some(Arc::clone(parker));
        self.wanted.0.store(epoch as u8 + 1, SeqCst);
        fence(SeqCst);
        let in_time = loop {
            if done() {
                break true;
            }
            if gives_up() {
                break done();
            }
        };
        self.wanted.0.store(0, SeqCst);
        *self.waiter.lock() = None;
        in_time
    }
}

/// A waiter has the turn. When it is dropped, those in line may have it.
struct TurnGuard<'a>(&'a InFlight);

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        let waiters = {
            let mut turn = self.0.turn.lock();
            turn.taken = false;
            std::mem::take(&mut turn.waiters)
        };
        waiters.iter().for_each(|parker| parker.wake());
    }
}

fn epoch(word: u64) -> Epoch {
    if word & TURN == 0 {
        Epoch::Even
    } else {
        Epoch::Odd
    }
}

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
        let parker = Arc::new(Parker::new());
        let wait = |time| {
            let deadline = Instant::now().checked_add(time);
            let park = || {
                parker.park(deadline);
                false
            };
            in_flight.wait(&parker, deadline, count, park)
        };
        let soon = Duration::from_millis(1);
        let first = in_flight.count_in();
        assert_eq!(first, (1, Epoch::Even));
        assert!(!wait(soon), "the first job has not ended");
        let second = in_flight.count_in();
        assert_eq!(second, (2, Epoch::Odd));
        assert!(!wait(soon), "still not");
        end(first.1);
        assert!(!wait(soon), "the second has not ended");
        end(second.1);
        assert!(wait(soon));
        let third = in_flight.count_in();
        in_flight.ended_unworked(third.1, 1);
        assert!(wait(soon));
        assert_eq!(in_flight.counted(), 3);
    }
}
