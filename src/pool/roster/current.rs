//! Which pool's thread the calling thread is, so that a call from inside never waits for itself.

use std::cell::Cell;

use crate::job::id::WorkerId;

/// Where the calling thread stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ThreadRole {
    /// A worker of this pool.
    Worker(WorkerId),
    /// The dispatcher of this pool, which calls hooks and drops payloads. It must never block for
    /// a job.
    Dispatcher,
    /// A caller of `add` of this pool, which calls hooks.
    Adder,
}

thread_local! {
    static HERE: Cell<Option<(usize, ThreadRole)>> = const { Cell::new(None) };
}

/// Marks the calling thread as inside a pool until dropped.
pub(crate) struct Inside(Option<(usize, ThreadRole)>);

/// `pool` is any number that is the pool's own while its threads live.
pub(crate) fn enter(pool: usize, place: ThreadRole) -> Inside {
    Inside(HERE.replace(Some((pool, place))))
}

/// As [`enter`], for the rest of the thread's life: also while its thread-locals are dropped, one of
/// which may hold the last handle to the pool.
pub(crate) fn enter_for_good(pool: usize, place: ThreadRole) {
    std::mem::forget(enter(pool, place));
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = HERE.try_with(|here| here.set(self.0));
    }
}

/// Is the calling thread inside this pool, and as what?
pub(crate) fn inside(pool: usize) -> Option<ThreadRole> {
    let here = HERE.try_with(Cell::get).ok().flatten();
    here.and_then(|(other, place)| (other == pool).then_some(place))
}
