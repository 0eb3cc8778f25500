//! Which pool's thread the calling thread is, so that a call from inside a pool never waits for
//! itself.

use std::cell::Cell;

use crate::job::id::WorkerId;
use crate::sync::thread_local;

/// What the calling thread is to a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ThreadRole {
    /// A worker of the pool.
    Worker(WorkerId),
    /// The dispatcher of the pool, which calls hooks and drops payloads. It must never block for a
    /// job.
    Dispatcher,
    /// A caller of the pool's `add`, which calls hooks.
    Adder,
}

thread_local! {
    static CURRENT: Cell<Option<(usize, ThreadRole)>> = const { Cell::new(None) };
}

/// Marks the calling thread as inside a pool until dropped. Holds what was marked before.
pub(crate) struct Inside(Option<(usize, ThreadRole)>);

/// `pool` is a number that no other pool has while the threads of this one live.
pub(crate) fn enter(pool: usize, role: ThreadRole) -> Inside {
    Inside(CURRENT.with(|current| current.replace(Some((pool, role)))))
}

/// As [`enter`], for the rest of the thread's life. This includes the drop of its thread-locals,
/// one of which may hold the last handle to the pool.
pub(crate) fn enter_for_good(pool: usize, role: ThreadRole) {
    std::mem::forget(enter(pool, role));
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = CURRENT.try_with(|current| current.set(self.0));
    }
}

/// The calling thread's role in this pool, if it is inside.
pub(crate) fn inside(pool: usize) -> Option<ThreadRole> {
    let current = CURRENT.try_with(Cell::get).ok().flatten();
    current.and_then(|(other, role)| (other == pool).then_some(role))
}
