//! The jobs that are released to the workers: the ready channel, and the jobs that came back.

use std::collections::VecDeque;

use crate::sync::channel::{Receiver, Sender, TrySendError, bounded};
use crate::sync::{
    AtomicUsize, Mutex,
    Ordering::{Relaxed, SeqCst},
};

/// The most jobs that are ever released ahead of the workers.
pub(crate) const MAX_DEPTH: usize = 4096;

/// No worker takes a job any more.
const SHUT: usize = 1 << 32;

/// Released jobs. Every worker takes from here, so no job waits behind a busy worker.
pub(crate) struct Ready<T> {
    sender: Sender<T>,
    receiver: Receiver<T>,
    /// Zero on the usual way; else how many jobs came back, and the flag `SHUT`.
    special: Special,
    /// Jobs that a worker on its way out had taken and not begun; they go before all others.
    returned: Mutex<VecDeque<T>>,
}

/// Read for each job and hardly ever written, so on a line of its own, with the depth.
#[repr(align(128))]
struct Special {
    word: AtomicUsize,
    /// How many jobs the dispatcher wants released at a time.
    depth: AtomicUsize,
}

impl<T> Ready<T> {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = bounded(MAX_DEPTH);
        Ready {
            sender,
            receiver,
            special: Special {
                word: AtomicUsize::new(0),
                depth: AtomicUsize::new(0),
            },
            returned: Mutex::default(),
        }
    }

    /// The next job for a worker.
    #[inline]
    pub(crate) fn take(&self) -> Option<T> {
        if self.special.word.load(SeqCst) != 0 {
            return self.take_special();
        }
        self.receiver.try_recv().ok()
    }

    #[cold]
    fn take_special(&self) -> Option<T> {
        if self.special.word.load(SeqCst) & SHUT != 0 {
            return None;
        }
        self.drain_one()
    }

    /// The next job for whoever answers it in place of a worker, also when shut.
    pub(crate) fn drain_one(&self) -> Option<T> {
        let returned = {
            let mut returned = self.returned.lock();
            let job = returned.pop_front();
            if job.is_some() {
                self.special.word.fetch_sub(1, SeqCst);
            }
            job
        };
        returned.or_else(|| self.receiver.try_recv().ok())
    }

    /// Releases a job; gives it back if there is no room at all.
    pub(crate) fn put(&self, job: T) -> Result<(), T> {
        match self.sender.try_send(job) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => Err(job),
        }
    }

    /// A worker had taken this job and may not begin it.
    pub(crate) fn put_back(&self, job: T) {
        let mut returned = self.returned.lock();
        returned.push_back(job);
        self.special.word.fetch_add(1, SeqCst);
    }

    /// Is there a job that a worker may take?
    pub(crate) fn has_work(&self) -> bool {
        let special = self.special.word.load(SeqCst);
        special & SHUT == 0 && (special != 0 || !self.receiver.is_empty())
    }

    /// Released jobs, whether or not they may be taken.
    pub(crate) fn len(&self) -> usize {
        self.receiver.len() + (self.special.word.load(SeqCst) & (SHUT - 1))
    }

    /// From now on workers take nothing.
    pub(crate) fn shut(&self) {
        self.special.word.fetch_or(SHUT, SeqCst);
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
        // When deep, the channel's own bound is enough, and asking it is not free.
        depth >= MAX_DEPTH || self.receiver.len() < depth
    }
}
