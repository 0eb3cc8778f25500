//! What the workers take from: the ready channel, the lane of urgent jobs, and jobs that came back.

use std::collections::VecDeque;

use crate::sync::channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use crate::sync::{
    AtomicU64, AtomicUsize, Mutex,
    Ordering::{Relaxed, SeqCst},
};

/// The most jobs that are ever released ahead of the workers.
pub(crate) const MAX_DEPTH: usize = 4096;

/// From this depth on, jobs are so short that submitters fill the channel to its bound: some
/// milliseconds of work at most.
const DEEP: usize = MAX_DEPTH / 8;

/// No worker takes a job any more.
const SHUT: u64 = 1 << 40;
/// No worker takes a job for now.
const PAUSED: u64 = 1 << 41;
/// The lower bits: how many jobs are urgent or came back.
const COUNT: u64 = SHUT - 1;

/// Every worker takes from here, so no job waits behind a busy worker.
pub(crate) struct Ready<T> {
    /// What the dispatcher released, and what took the short way.
    released: (Sender<T>, Receiver<T>),
    /// Jobs of high priority, straight from their submitters. The gate counts them as waiting, so
    /// it bounds this channel too.
    urgent: (Sender<T>, Receiver<T>),
    /// Jobs that a worker on its way out had taken and not begun, and urgent ones that were looked
    /// through; they go before all others. Whoever takes an urgent job holds this lock, so that
    /// looking through them is one step for the workers.
    front: Mutex<VecDeque<Front<T>>>,
    special: Special,
}

/// Read for each job and hardly ever written, so on a line of its own, with the depth.
#[repr(align(128))]
struct Special {
    /// Zero on the usual way; else flags, and how many jobs are urgent or came back.
    word: AtomicU64,
    /// How many jobs the dispatcher wants released at a time.
    depth: AtomicUsize,
}

/// A job that goes before all others, with its place in the order.
struct Front<T> {
    number: u64,
    taken: Taken<T>,
}

/// A job that was taken, and whether the gate still counts it as waiting.
pub(crate) struct Taken<T> {
    pub(crate) job: T,
    pub(crate) waited: bool,
}

impl<T> Ready<T> {
    pub(crate) fn new() -> Self {
        Ready {
            released: bounded(MAX_DEPTH),
            urgent: unbounded(),
            front: Mutex::default(),
            special: Special {
                word: AtomicU64::new(0),
                depth: AtomicUsize::new(0),
            },
        }
    }

    /// The next job for a worker: the urgent before the others, unless it is the others' turn.
    #[inline]
    pub(crate) fn take(&self, others_first: bool) -> Option<Taken<T>> {
        if self.special.word.load(SeqCst) != 0 {
            return self.take_special(others_first);
        }
        self.take_released()
    }

    fn take_released(&self) -> Option<Taken<T>> {
        let job = self.released.1.try_recv().ok()?;
        Some(Taken { job, waited: false })
    }

    #[cold]
    fn take_special(&self, others_first: bool) -> Option<Taken<T>> {
        if self.special.word.load(SeqCst) & (SHUT | PAUSED) != 0 {
            return None;
        }
        let aged = others_first.then(|| self.take_released()).flatten();
        aged.or_else(|| self.drain_one())
    }

    /// The next job for whoever answers it in place of a worker, also when shut or paused.
    pub(crate) fn drain_one(&self) -> Option<Taken<T>> {
        let special = {
            let mut front = self.front.lock();
            match front.pop_front() {
                Some(first) => Some(first.taken),
                None => self.take_urgent(),
            }
        };
        if special.is_some() {
            self.special.word.fetch_sub(1, SeqCst);
        }
        special.or_else(|| self.take_released())
    }

    fn take_urgent(&self) -> Option<Taken<T>> {
        let job = self.urgent.1.try_recv().ok()?;
        Some(Taken { job, waited: true })
    }

    /// Takes the dead ones out of the urgent jobs that wait. `number` is asked of those that live.
    pub(crate) fn sweep_urgent(
        &self,
        is_dead: impl Fn(&T) -> bool,
        mut number: impl FnMut(&T) -> u64,
    ) -> Vec<T> {
        let mut dead = Vec::new();
        let mut front = self.front.lock();
        let seen = std::mem::take(&mut *front);
        let urgent = std::iter::from_fn(|| self.take_urgent());
        // The ones from before are older than those of the lane.
        for taken in seen.into_iter().map(|one| one.taken).chain(urgent) {
            if taken.waited && is_dead(&taken.job) {
                dead.push(taken.job);
            } else {
                let number = number(&taken.job);
                front.push_back(Front { number, taken });
            }
        }
        drop(front);
        self.special.word.fetch_sub(dead.len() as u64, SeqCst);
        dead
    }

    /// Releases a job; gives it back if there is no room at all.
    pub(crate) fn put(&self, job: T) -> Result<(), T> {
        match self.released.0.try_send(job) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => Err(job),
        }
    }

    /// An urgent job, which the gate has let in.
    pub(crate) fn put_urgent(&self, job: T) {
        // Counted first, so that the count never falls below what is there.
        self.special.word.fetch_add(1, SeqCst);
        let sent = self.urgent.0.send(job);
        debug_assert!(sent.is_ok(), "both ends are here");
    }

    /// A worker had taken this job and may not begin it. Several come back in the order of their
    /// numbers.
    pub(crate) fn put_back(&self, number: u64, job: T) {
        self.special.word.fetch_add(1, SeqCst);
        let mut front = self.front.lock();
        let before = |other: &Front<T>| other.number <= number;
        let place = front.partition_point(before);
        let taken = Taken { job, waited: false };
        front.insert(place, Front { number, taken });
    }

    /// Is there a job that a worker may take?
    pub(crate) fn has_work(&self) -> bool {
        let special = self.special.word.load(SeqCst);
        special & (SHUT | PAUSED) == 0 && (special != 0 || !self.released.1.is_empty())
    }

    /// Jobs that the dispatcher or the short way put in, and that no worker has taken.
    pub(crate) fn released(&self) -> usize {
        self.released.1.len()
    }

    /// Jobs that a worker may take or could, were it not for a pause.
    pub(crate) fn len(&self) -> usize {
        self.released.1.len() + (self.special.word.load(SeqCst) & COUNT) as usize
    }

    /// From now on workers take nothing.
    pub(crate) fn shut(&self) {
        self.special.word.fetch_or(SHUT, SeqCst);
    }

    /// Until [`resume`](Self::resume) workers take nothing.
    pub(crate) fn pause(&self) {
        self.special.word.fetch_or(PAUSED, SeqCst);
    }

    pub(crate) fn resume(&self) {
        self.special.word.fetch_and(!PAUSED, SeqCst);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.special.word.load(SeqCst) & PAUSED != 0
    }

    pub(crate) fn depth(&self) -> usize {
        self.special.depth.load(Relaxed)
    }

    pub(crate) fn set_depth(&self, depth: usize) {
        self.special.depth.store(depth, Relaxed);
    }

    /// Is there room for one more on the short way?
    pub(crate) fn has_room(&self) -> bool {
        let depth = self.depth();
        // When deep, the channel's own bound is enough: to ask it, submitters would read what the
        // workers write for each job, which cost a quarter of a detached job's time.
        depth >= DEEP || self.released.1.len() < depth
    }
}
