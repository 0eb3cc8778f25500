//! What a pool tells its hooks about itself: the part of it that knows nothing of payloads, so that
//! a hook may keep it whatever these borrow.

use crate::hook::{Gauge, PoolState};
use crate::pool::queue::Gate;
use crate::pool::roster::Roster;
use crate::sync::Arc;

/// Owned by the pool alone: hooks have a `Weak` to it.
pub(crate) struct PoolGauge {
    pub(crate) name: String,
    pub(crate) gate: Arc<Gate>,
    pub(crate) roster: Arc<Roster>,
}

impl Gauge for PoolGauge {
    fn name(&self) -> &str {
        &self.name
    }
    fn waiting(&self) -> usize {
        self.gate.count()
    }
    fn queue_capacity(&self) -> usize {
        self.gate.capacity()
    }
    fn finished(&self) -> u64 {
        self.roster.finished()
    }
    fn state(&self) -> PoolState {
        if self.gate.is_stopped() {
            PoolState::Closed
        } else if self.gate.is_shut() {
            PoolState::Draining
        } else {
            PoolState::Running
        }
    }
}
