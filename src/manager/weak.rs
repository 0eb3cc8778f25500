//! A handle that does not keep its pool open.

use std::convert::Infallible;
use std::fmt;

use crate::manager::{Manager, Owner};
use crate::sync::Weak;

/// A handle to a pool that does not keep it open; made by [`Manager::downgrade`].
pub struct WeakManager<P, O = (), E = Infallible> {
    pub(super) owner: Weak<Owner<P, O, E>>,
}

impl<P, O, E> WeakManager<P, O, E> {
    /// Returns a handle that keeps the pool open, unless the last [`Manager`] is gone.
    ///
    /// ```
    /// let pool = worker_pool::Manager::<u32>::new();
    /// let weak = pool.downgrade();
    /// assert!(weak.upgrade().is_some());
    /// drop(pool);
    /// assert!(weak.upgrade().is_none());
    /// ```
    pub fn upgrade(&self) -> Option<Manager<P, O, E>> {
        let owner = self.owner.upgrade()?;
        Some(Manager { owner })
    }
}

impl<P, O, E> Clone for WeakManager<P, O, E> {
    fn clone(&self) -> Self {
        WeakManager {
            owner: Weak::clone(&self.owner),
        }
    }
}

impl<P, O, E> fmt::Debug for WeakManager<P, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakManager").finish_non_exhaustive()
    }
}
