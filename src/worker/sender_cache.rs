//! Error senders of detached jobs that succeeded: given up many at a time.
//!
//! Each detached job holds a clone of its caller's sender. Were it dropped with the job, the count of
//! senders would wander from core to core with every job, which took longer than all the rest of a
//! short one.
//!
//! Nobody can tell the difference: senders are kept only while jobs of the same channel follow one
//! another, and each of those holds the channel open itself.

use crate::error::DetachedError;
use crate::sync::channel::Sender;
use crate::sync::unwind as panics;

/// So many are dropped at once.
const MOST: usize = 64;

/// Senders to one channel.
pub(crate) struct SenderCache<E>(Vec<Sender<DetachedError<E>>>);

impl<E> SenderCache<E> {
    pub(crate) fn new() -> Self {
        SenderCache(Vec::with_capacity(MOST))
    }

    /// A job is about to begin that holds this sender, if any.
    #[inline]
    pub(crate) fn make_way(&mut self, errors: Option<&Sender<DetachedError<E>>>) {
        if let Some(kept) = self.0.first()
            && !errors.is_some_and(|errors| errors.same_channel(kept))
        {
            self.drop_all();
        }
    }

    /// Keeps the sender of a job that has ended.
    #[inline]
    pub(crate) fn keep(&mut self, errors: Sender<DetachedError<E>>) {
        if self.0.len() == MOST {
            self.drop_all();
        }
        self.0.push(errors);
    }

    /// The worker has nothing to do, or ends.
    pub(crate) fn drop_all(&mut self) {
        for errors in self.0.drain(..) {
            // The last sender drops what is left in the channel.
            panics::discard("sender", errors);
        }
    }
}

impl<E> Drop for SenderCache<E> {
    fn drop(&mut self) {
        self.drop_all();
    }
}
