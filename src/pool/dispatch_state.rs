//! What whoever dispatches works on, under its lock.

use crate::error::Reason;
use crate::policy::dispatch::{Action, Policy};
use crate::task::Ticket;

pub(crate) struct Desk<P, O, E> {
    pub(crate) policy: Policy<Ticket<P, O, E>>,
    /// Kept between rounds for its memory.
    pub(crate) actions: Vec<Action<Ticket<P, O, E>>>,
    /// A worker stands in, and answers these afterwards.
    pub(crate) later: Option<Vec<TurnedAway<P, O, E>>>,
    /// Jobs turned away since the pool began to close.
    pub(crate) refused: usize,
}

/// A job to be turned away for this reason, or forgotten.
pub(crate) type TurnedAway<P, O, E> = (Ticket<P, O, E>, Option<Reason>);

impl<P, O, E> Desk<P, O, E> {
    pub(crate) fn new() -> Self {
        Desk {
            policy: Policy::new(),
            actions: Vec::new(),
            later: None,
            refused: 0,
        }
    }
}
