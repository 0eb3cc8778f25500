//! What the dispatcher, or a worker that helps it, works on. Under one lock.

use crate::error::RejectReason;
use crate::policy::dispatch::{Action, Dispatch};
use crate::task::Task;

pub(crate) struct DispatchState<P, O, E> {
    pub(crate) dispatch: Dispatch<Task<P, O, E>>,
    /// Kept between rounds for its memory.
    pub(crate) actions: Vec<Action<Task<P, O, E>>>,
    /// Jobs that the policy rejected. Whoever holds the lock answers them once it has released it.
    pub(crate) later: Vec<RejectedTask<P, O, E>>,
}

/// A job to be rejected for this reason or, without a reason, discarded.
pub(crate) type RejectedTask<P, O, E> = (Task<P, O, E>, Option<RejectReason>);

impl<P, O, E> DispatchState<P, O, E> {
    pub(crate) fn new() -> Self {
        DispatchState {
            dispatch: Dispatch::new(),
            actions: Vec::new(),
            later: Vec::new(),
        }
    }
}
