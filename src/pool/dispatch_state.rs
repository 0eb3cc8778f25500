//! What the dispatcher, or a worker that helps it, works on. Under one lock.

use crate::error::RejectReason;
use crate::policy::dispatch::{Action, Dispatch};
use crate::task::Task;

pub(crate) struct DispatchState<P, O, E> {
    pub(crate) dispatch: Dispatch<Task<P, O, E>>,
    /// Kept between rounds for its memory.
    pub(crate) actions: Vec<Action<Task<P, O, E>>>,
    /// `Some` while a worker helps: it answers these jobs after it has released the lock.
    pub(crate) later: Option<Vec<RejectedTask<P, O, E>>>,
    /// Jobs rejected because the pool closes.
    pub(crate) rejected: usize,
}

/// A job to be rejected for this reason or, without a reason, discarded.
pub(crate) type RejectedTask<P, O, E> = (Task<P, O, E>, Option<RejectReason>);

impl<P, O, E> DispatchState<P, O, E> {
    pub(crate) fn new() -> Self {
        DispatchState {
            dispatch: Dispatch::new(),
            actions: Vec::new(),
            later: None,
            rejected: 0,
        }
    }
}
