//! Error senders of detached jobs that succeeded, dropped many at a time.
//!
//! Each detached job holds a clone of its caller's sender. If every clone were dropped with its
//! job, the channel's count of senders would move from core to core with every job, which took
//! longer than all the rest of a short one.
//!
//! Nobody can tell the difference. Senders are kept only while jobs of the same channel follow one
//! another, and each of those jobs keeps the channel open itself.

use crate::error::DetachedError;
use crate::sync::unwind as panics;
use crate::sync::user_channel::Sender;

/// The most senders that are kept.
const MAX_SENDERS: usize = 64;

/// Senders to one channel.
pub(crate) struct SenderCache<E>(Vec<Sender<DetachedError<E>>>);

impl<E> SenderCache<E> {
    pub(crate) fn new() -> Self {
        SenderCache(Vec::with_capacity(MAX_SENDERS))
    }

    /// A job is about to begin, which holds this sender, if any. Drops the senders to another
    /// channel.
    #[inline]
    pub(crate) fn drop_others(&mut self, next: Option<&Sender<DetachedError<E>>>) {
        if let Some(kept) = self.0.first()
            && !next.is_some_and(|next| next.same_channel(kept))
        {
            self.drop_all();
        }
    }

    /// Keeps the sender of a job that has ended.
    #[inline]
    pub(crate) fn keep(&mut self, sender: Sender<DetachedError<E>>) {
        if self.0.len() == MAX_SENDERS {
            self.drop_all();
        }
        self.0.push(sender);
    }

    /// The worker has nothing to do, or ends.
    pub(crate) fn drop_all(&mut self) {
        for sender in self.0.drain(..) {
            // The last sender drops what is left in the channel.
            panics::discard("sender", sender);
        }
    }
}

impl<E> Drop for SenderCache<E> {
    fn drop(&mut self) {
        self.drop_all();
    }
}
