//! What the calling thread is to which pools, so that a call from inside a pool never waits for
//! itself.
//!
//! A thread may be a worker of one pool and, at the same time, add a worker to another. So each
//! thread has a stack of roles. Its first role is for life. It is kept apart from the others, in a
//! cell that needs no drop: also the drop of the thread's other thread-locals sees it, one of which
//! may hold the last handle to the pool.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;

use crate::policy::deadlock::{PoolKey, Role};
use crate::sync::thread_local;

thread_local! {
    static FIRST: Cell<Option<(PoolKey, Role)>> = const { Cell::new(None) };
    /// Has no memory while it is empty, so nothing leaks although it is never dropped.
    static FURTHER: ManuallyDrop<RefCell<Vec<(PoolKey, Role)>>> =
        const { ManuallyDrop::new(RefCell::new(Vec::new())) };
}

/// Marks the calling thread as inside a pool until dropped.
pub(crate) struct Inside(());

pub(crate) fn enter(pool: PoolKey, role: Role) -> Inside {
    FURTHER.with(|further| further.borrow_mut().push((pool, role)));
    Inside(())
}

/// As [`enter`], for the rest of the thread's life.
pub(crate) fn enter_for_good(pool: PoolKey, role: Role) {
    FIRST.with(|first| first.set(Some((pool, role))));
}

/// The calling thread's worker has ended.
pub(crate) fn depart() {
    FIRST.with(|first| first.set(first.get().map(|(pool, _)| (pool, Role::Departed))));
}

impl Drop for Inside {
    fn drop(&mut self) {
        FURTHER.with(|further| {
            let mut further = further.borrow_mut();
            further.pop();
            if further.is_empty() {
                *further = Vec::new();
            }
        });
    }
}

/// The calling thread's role in this pool, if it is inside.
pub(crate) fn inside(pool: PoolKey) -> Option<Role> {
    let first = FIRST.with(Cell::get).filter(|(other, _)| *other == pool);
    let role = first.or_else(|| {
        FURTHER.with(|further| {
            let further = further.borrow();
            further.iter().copied().find(|(other, _)| *other == pool)
        })
    });
    role.map(|(_, role)| role)
}

/// All roles of the calling thread.
pub(crate) fn roles() -> Vec<(PoolKey, Role)> {
    let mut roles = Vec::new();
    roles.extend(FIRST.with(Cell::get));
    FURTHER.with(|further| roles.extend_from_slice(&further.borrow()));
    roles
}
