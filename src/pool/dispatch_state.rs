//! What whoever dispatches works on, under its lock.

use crate::error::RejectReason;
use crate::policy::dispatch::{Action, Dispatch};
use crate::task::Task;

pub(crate) struct DispatchState<P, O, E> {
    pub(crate) dispatch: Dispatch<Task<P, O, E>>,
    /// Kept between rounds for its memory.
    pub(crate) actions: Vec<Action<Task<P, O, E>>>,
    /// A worker stands in, and answers these afterwards.
    pub(crate) later: Option<Vec<TurnedAway<P, O, E>>>,
    /// Jobs turned away since the pool began to close.
    pub(crate) rejected: usize,
}

/// A job to be turned away for this reason, or forgotten.
pub(crate) type TurnedAway<P, O, E> = (Task<P, O, E>, Option<RejectReason>);

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
