//! A detached job: its payload, and where its failure goes.

use crate::error::{DetachedError, JobError, RejectReason, cause_of};
use crate::job::id::{Attempt, JobId};
use crate::stats::counters::Counters;
use crate::sync::unwind as panics;
use crate::sync::user_channel::Sender;
use crate::task::header::Header;

/// A detached job's payload and error sender.
pub(crate) struct Detached<P, E> {
    pub(crate) payload: P,
    pub(crate) errors: Sender<DetachedError<E>>,
}

/// What a plain detached job travels in. Its box is recycled; see
/// [`FreeList`](crate::task::free_list::FreeList).
pub(crate) struct DetachedTask<P, E> {
    pub(crate) id: JobId,
    pub(crate) header: Header,
    /// `None` in an empty box, and once the job is answered.
    detached: Option<Detached<P, E>>,
}

impl<P, E> Default for DetachedTask<P, E> {
    /// An empty one.
    fn default() -> Self {
        DetachedTask {
            id: JobId::new(0),
            header: Header::from_bits(0),
            detached: None,
        }
    }
}

impl<P, E> DetachedTask<P, E> {
    /// Puts a job into an empty box.
    #[inline]
    pub(super) fn fill(&mut self, id: JobId, header: Header, detached: Detached<P, E>) {
        self.id = id;
        self.header = header;
        let before = self.detached.replace(detached);
        debug_assert!(before.is_none(), "the box was empty");
        std::mem::forget(before); // a drop would look whether there is something to drop
    }

    /// What a worker needs to begin the job. From now on, the taker owes the answer.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Detached<P, E>> {
        self.detached.take()
    }

    /// Leaves what is to be dropped in its place.
    pub(super) fn reject(&mut self, reason: RejectReason, counters: Option<&Counters>) {
        if let Some(detached) = &self.detached {
            detached.reject(self.id, None, reason, counters);
        }
        self.header = Header::ANSWERED;
    }

    /// The job needs no answer.
    pub(super) fn withdraw(&mut self) {
        self.header = Header::ANSWERED;
    }
}

impl<P, E> Drop for DetachedTask<P, E> {
    #[inline]
    fn drop(&mut self) {
        if self.detached.is_some() {
            if self.header != Header::ANSWERED {
                self.reject(RejectReason::Closed, None);
            }
            panics::discard("job", self.detached.take());
        }
    }
}

impl<P, E> Detached<P, E> {
    /// Rejects the job, once. `last` is the attempt that ended last, if there was one.
    pub(super) fn reject(
        &self,
        id: JobId,
        last: Option<Attempt>,
        reason: RejectReason,
        counters: Option<&Counters>,
    ) {
        // Counted before the caller can know.
        counters
            .iter()
            .for_each(|counters| counters.rejected(reason));
        let error = JobError::new(id, last, cause_of(reason));
        report(id, error, &self.errors, counters);
    }
}

/// Sends a detached job's failure, if the caller still listens and has room for it.
pub(crate) fn report<E>(
    id: JobId,
    error: JobError<E>,
    errors: &Sender<DetachedError<E>>,
    counters: Option<&Counters>,
) {
    let lost = errors.try_send(DetachedError {
        id: id.get(),
        error,
    });
    if let Err(lost) = lost {
        panics::discard("worker error", lost);
        if let Some(counters) = counters {
            counters.lost_error(id);
        }
    }
}
