//! What the workers take from: a channel of released jobs, a channel of urgent ones, and a side
//! list of jobs that left a channel and did not begin.
//!
//! # How released jobs are swept
//!
//! A worker takes from the channel of released jobs without a lock, as long as `special` is zero. Such
//! a job may have a deadline or a token, and lie there for long: in a pause, behind long jobs, or
//! without workers. To look at it, a sweep moves all released jobs to the side list, which goes before
//! the channel and is taken from under its lock only. No job may overtake those that are moved, so:
//!
//! 1. [`hold`](RunQueue::hold) makes `special` nonzero. A worker that looks from then on takes under the
//!    lock.
//! 2. A millisecond later, or more, the dispatcher sees each worker run a job, sleep, or be away. So
//!    none is between a look at `special` from before the hold and its take.
//! 3. [`sweep_released`](RunQueue::sweep_released) moves the jobs under the lock, and the hold ends.

use std::collections::VecDeque;

use crate::policy::prefetch::MAX_LIMIT;
use crate::sync::channel::{Receiver, Sender, TryRecvError, TrySendError, bounded, unbounded};
use crate::sync::{
    AtomicU64, AtomicUsize, Mutex,
    Ordering::{Relaxed, SeqCst},
};

/// From this limit on, jobs are so short that submitters may fill the channel to its bound: that is
/// some milliseconds of work at most.
const LARGE_LIMIT: usize = MAX_LIMIT / 8;

/// No worker takes a job any more.
const SHUT: u64 = 1 << 62;
/// No worker takes a job for now.
const PAUSED: u64 = 1 << 63;
/// One urgent job. The queue lets fewer than 2^32 in.
const URGENT: u64 = 1;
/// One job on the side list that is not urgent: released, or the rest of a chunk.
const RETURNED: u64 = 1 << 32;
/// Workers take under the lock.
const HELD: u64 = 1 << 61;

const FLAGS: u64 = SHUT | PAUSED | HELD;

/// Every worker takes from here, so no job waits behind a busy worker.
pub(crate) struct RunQueue<T> {
    /// What the dispatcher released, and what submitters handed off.
    released: (Sender<T>, Receiver<T>),
    /// Jobs of high priority, straight from their submitters. The queue counts them as waiting, so
    /// its capacity bounds this channel too. They are taken only under the lock of `side`, so that
    /// a sweep is one step for the workers.
    urgent: (Sender<T>, Receiver<T>),
    side: Mutex<SideList<T>>,
    special: Special,
    taken: KnownTaken,
    /// Released jobs of which a sweep may find that they are dead.
    expiring: AtomicUsize,
}

/// A job in the run queue.
pub(crate) trait Queued {
    /// May it die while it is released, without that anybody waits for it?
    fn may_expire(&self) -> bool;
}

/// Jobs that left their channel and did not begin.
struct SideList<T> {
    /// Urgent ones that a sweep left: they go before those in the channel.
    swept: VecDeque<T>,
    /// Rests of chunks that workers gave back, and released jobs that a sweep left: they go after
    /// the urgent ones and before all others.
    returned: VecDeque<T>,
}

/// Read for each job and hardly ever written, so on a cache line of its own, with the limit.
#[repr(align(128))]
struct Special {
    /// Flags, and how many jobs are urgent or were given back. Usually zero.
    word: AtomicU64,
    /// How many jobs the dispatcher wants released at a time.
    limit: AtomicUsize,
}

/// All jobs that were accepted up to this number are known to be out of `released`, which is first
/// in, first out. A job that was accepted and is not yet released may be overlooked. Only
/// submitters write it, and any of them may set it back: then less is known.
#[derive(Default)]
#[repr(align(128))]
struct KnownTaken(AtomicU64);

/// A job that was taken, and whether the queue still counts it as waiting.
pub(crate) struct Popped<T> {
    pub(crate) job: T,
    pub(crate) waited: bool,
}

impl<T: Queued> RunQueue<T> {
    pub(crate) fn new() -> Self {
        RunQueue {
            released: bounded(MAX_LIMIT),
            urgent: unbounded(),
            side: Mutex::new(SideList {
                swept: VecDeque::new(),
                returned: VecDeque::new(),
            }),
            special: Special {
                word: AtomicU64::new(0),
                limit: AtomicUsize::new(0),
            },
            taken: KnownTaken::default(),
            expiring: AtomicUsize::new(0),
        }
    }

    /// The next job for a worker, if there is nothing but what was released. It is what
    /// [`pop`](Self::pop) would return, moved no more often than needed.
    #[inline]
    pub(crate) fn pop_usual(&self) -> Result<T, TryRecvError> {
        if !self.is_usual() {
            return Err(TryRecvError::Empty);
        }
        let job = self.released.1.try_recv()?;
        self.left(&job);
        Ok(job)
    }

    /// The job has left the channel of released jobs for good.
    #[inline]
    fn left(&self, job: &T) {
        if job.may_expire() {
            self.expiring.fetch_sub(1, SeqCst);
        }
    }

    /// The next job for a worker: an urgent one before the others, unless it is the others' turn.
    pub(crate) fn pop(&self, others_first: bool) -> Option<Popped<T>> {
        if self.is_usual() {
            let job = self.pop_usual().ok()?;
            return Some(Popped { job, waited: false });
        }
        self.pop_special(others_first)
    }

    fn pop_special(&self, others_first: bool) -> Option<Popped<T>> {
        if self.special.word.load(SeqCst) & (SHUT | PAUSED) != 0 {
            return None;
        }
        let aged = others_first.then(|| self.pop_other()).flatten();
        aged.or_else(|| self.drain_one())
    }

    /// The next job, to be answered without a worker. Also when shut or paused.
    pub(crate) fn drain_one(&self) -> Option<Popped<T>> {
        self.pop_urgent().or_else(|| self.pop_other())
    }

    fn pop_urgent(&self) -> Option<Popped<T>> {
        let job = {
            let mut side = self.side.lock();
            let swept = side.swept.pop_front();
            swept.or_else(|| self.urgent.1.try_recv().ok())?
        };
        self.special.word.fetch_sub(URGENT, SeqCst);
        Some(Popped { job, waited: true })
    }

    fn pop_other(&self) -> Option<Popped<T>> {
        let mut side = self.side.lock();
        let job = match side.returned.pop_front() {
            Some(job) => {
                self.special.word.fetch_sub(RETURNED, SeqCst);
                job
            }
            // Under the lock, so that it does not overtake a job that a sweep moves.
            None => self.released.1.try_recv().ok()?,
        };
        drop(side);
        self.left(&job);
        Some(Popped { job, waited: false })
    }

    /// May released jobs die unnoticed?
    pub(crate) fn has_expiring(&self) -> bool {
        self.expiring.load(SeqCst) > 0
    }

    /// From now on workers take under the lock, until the next sweep or [`release`](Self::release).
    pub(crate) fn hold(&self) {
        self.special.word.fetch_or(HELD, SeqCst);
    }

    pub(crate) fn release(&self) {
        self.special.word.fetch_and(!HELD, SeqCst);
    }

    /// Moves the released jobs to the side list, and takes the dead ones out. Only when no worker
    /// takes without the lock; see above. The caller wakes a worker afterwards.
    pub(crate) fn sweep_released(&self, mut is_dead: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut dead = Vec::new();
        let mut side = self.side.lock();
        // Counted first: a worker that goes to sleep meanwhile sees them here or there.
        let moved = self.released.1.len();
        self.special.word.fetch_add(moved as u64 * RETURNED, SeqCst);
        let returned = std::mem::take(&mut side.returned);
        let counted = (returned.len() + moved) as u64;
        for job in returned
            .into_iter()
            .chain(self.released.1.try_iter().take(moved))
        {
            if is_dead(&job) {
                self.left(&job);
                dead.push(job);
            } else {
                side.returned.push_back(job);
            }
        }
        let gone = counted - side.returned.len() as u64;
        self.special.word.fetch_sub(gone * RETURNED, SeqCst);
        drop(side);
        self.release();
        dead
    }

    /// Takes the dead jobs out of the urgent ones that wait.
    pub(crate) fn sweep_urgent(&self, mut is_dead: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut dead = Vec::new();
        let mut side = self.side.lock();
        let swept = std::mem::take(&mut side.swept);
        for job in swept.into_iter().chain(self.urgent.1.try_iter()) {
            if is_dead(&job) {
                dead.push(job);
            } else {
                side.swept.push_back(job);
            }
        }
        drop(side);
        self.special
            .word
            .fetch_sub(dead.len() as u64 * URGENT, SeqCst);
        dead
    }

    /// Releases a job. Returns it if the channel is full.
    #[inline]
    pub(crate) fn push(&self, job: T) -> Result<(), T> {
        if job.may_expire() {
            self.expiring.fetch_add(1, SeqCst);
        }
        match self.released.0.try_send(job) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                self.left(&job);
                Err(job)
            }
        }
    }

    /// Adds an urgent job, which the queue has let in.
    pub(crate) fn push_urgent(&self, job: T) {
        // Counted first, so that the count is never below the number of jobs there.
        self.special.word.fetch_add(URGENT, SeqCst);
        let sent = self.urgent.0.send(job);
        debug_assert!(sent.is_ok(), "both ends are here");
    }

    /// Takes back what is left of a chunk that a worker leaves: it began before all that is here.
    pub(crate) fn push_back_unrun(&self, job: T) {
        self.special.word.fetch_add(RETURNED, SeqCst);
        self.side.lock().returned.push_front(job);
    }

    /// Is there a job that a worker may take?
    pub(crate) fn has_work(&self) -> bool {
        let special = self.special.word.load(SeqCst);
        special & (SHUT | PAUSED) == 0 && (special & !HELD != 0 || !self.released.1.is_empty())
    }

    /// Do workers take no job, for now or for good?
    pub(crate) fn is_held(&self) -> bool {
        self.special.word.load(SeqCst) & (SHUT | PAUSED) != 0
    }

    /// Is it shut for good?
    pub(crate) fn is_shut(&self) -> bool {
        self.special.word.load(SeqCst) & SHUT != 0
    }

    /// Do urgent jobs wait?
    #[inline]
    pub(crate) fn is_urgent(&self) -> bool {
        !self.special.word.load(SeqCst).is_multiple_of(RETURNED)
    }

    /// Is there nothing but what was released?
    #[inline]
    pub(crate) fn is_usual(&self) -> bool {
        self.special.word.load(SeqCst) == 0
    }

    /// Jobs that were released or handed off, and that no worker has taken.
    pub(crate) fn released(&self) -> usize {
        let special = self.special.word.load(SeqCst) & !FLAGS;
        self.released.1.len() + (special / RETURNED) as usize
    }

    /// Jobs that workers may take, or could take if the queue were not paused or shut.
    pub(crate) fn len(&self) -> usize {
        let special = self.special.word.load(SeqCst) & !FLAGS;
        self.released.1.len() + (special % RETURNED + special / RETURNED) as usize
    }

    /// From now on, workers take nothing.
    pub(crate) fn shut(&self) {
        self.special.word.fetch_or(SHUT, SeqCst);
    }

    /// Until [`resume`](Self::resume), workers take nothing.
    pub(crate) fn pause(&self) {
        self.special.word.fetch_or(PAUSED, SeqCst);
    }

    pub(crate) fn resume(&self) {
        self.special.word.fetch_and(!PAUSED, SeqCst);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.special.word.load(SeqCst) & PAUSED != 0
    }

    /// How many jobs the dispatcher wants released at a time.
    pub(crate) fn limit(&self) -> usize {
        self.special.limit.load(Relaxed)
    }

    pub(crate) fn set_limit(&self, limit: usize) {
        self.special.limit.store(limit, Relaxed);
    }

    /// Is there room to hand off one more job, if `counted` jobs are accepted with this one?
    /// Several submitters may find the same room at the same time, so one more job per submitter
    /// may get in.
    #[inline]
    pub(crate) fn has_room(&self, counted: u64) -> bool {
        let limit = self.limit();
        // If the limit is large, the channel's own bound is enough. To ask the channel, a submitter
        // reads what the workers write for each job, which costs a tenth of a round trip's time,
        // and a quarter of a detached job's.
        limit >= LARGE_LIMIT
            || self.before_last(counted) < limit as u64
            || self.count(counted) < limit
    }

    /// At most this many jobs are released, as far as is known, besides the last of `counted`.
    #[inline]
    fn before_last(&self, counted: u64) -> u64 {
        (counted - 1).saturating_sub(self.taken.0.load(Relaxed))
    }

    /// How many jobs are released, now that the last of `counted` jobs is. Asks the channel only if
    /// there may be others.
    pub(crate) fn after_last(&self, counted: u64) -> usize {
        match self.before_last(counted) {
            0 => 1,
            _ => self.count(counted + 1),
        }
    }

    /// How many jobs are released, according to the channel. Notes which ones must be taken.
    fn count(&self, counted: u64) -> usize {
        let released = self.released.1.len();
        self.note_taken((counted - 1).saturating_sub(released as u64));
        released
    }

    /// The job of this number was taken: a submitter has its result.
    #[inline]
    pub(crate) fn note_taken(&self, number: u64) {
        if self.taken.0.load(Relaxed) < number {
            self.taken.0.store(number, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Queued for u64 {
        fn may_expire(&self) -> bool {
            *self >= 100
        }
    }

    #[test]
    fn there_is_room_for_as_many_as_the_limit() {
        let queue = RunQueue::<u64>::new();
        assert!(!queue.has_room(1), "no limit, no room");
        queue.set_limit(2);
        let mut counted = 0;
        let mut submit = || {
            counted += 1;
            let room = queue.has_room(counted);
            if room {
                queue.push(counted).expect("a place");
            }
            room
        };
        assert_eq!([submit(), submit(), submit()], [true, true, false]);
        // With and without the submitter's knowledge.
        assert_eq!(queue.pop_usual(), Ok(1));
        assert_eq!([submit(), submit()], [true, false]);
        assert_eq!(queue.pop_usual(), Ok(2));
        queue.note_taken(2);
        assert_eq!([submit(), submit()], [true, false]);
    }

    #[test]
    fn what_was_taken_is_not_counted_as_released() {
        let queue = RunQueue::<u64>::new();
        queue.set_limit(4);
        queue.push(1).expect("a place");
        assert_eq!(queue.after_last(1), 1);
        queue.push(2).expect("a place");
        assert_eq!(queue.after_last(2), 2);
        assert_eq!(queue.pop_usual(), Ok(1));
        queue.push(3).expect("a place");
        assert_eq!(queue.after_last(3), 2);
        assert_eq!((queue.pop_usual(), queue.pop_usual()), (Ok(2), Ok(3)));
        assert_eq!(queue.after_last(3), 0, "it is gone already");
        assert_eq!(queue.before_last(4), 0, "and that is known");
    }

    #[test]
    fn a_submitter_with_a_result_does_not_ask_the_channel() {
        let queue = RunQueue::<u64>::new();
        queue.set_limit(1);
        assert!(queue.has_room(1));
        queue.push(1).expect("a place"); // and nobody takes it
        queue.note_taken(1);
        assert!(queue.has_room(2), "it is believed");
        queue.note_taken(0);
        assert!(queue.has_room(2), "older news change nothing");
        assert!(!queue.has_room(3));
    }
}
