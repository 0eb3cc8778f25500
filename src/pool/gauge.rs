//! What a pool's hooks may ask. This part of the pool knows nothing of payloads, so a hook may keep
//! it whatever the payloads borrow.

use crate::hook::{PoolState, PoolStatus};
use crate::pool::queue::Admission;
use crate::pool::roster::Roster;
use crate::sync::Arc;

/// Only the pool owns it: hooks have a `Weak` to it.
pub(crate) struct PoolGauge {
    pub(crate) name: String,
    pub(crate) admission: Arc<Admission>,
    pub(crate) roster: Arc<Roster>,
}

impl PoolStatus for PoolGauge {
    fn name(&self) -> &str {
        &self.name
    }

    fn waiting(&self) -> usize {
        self.admission.count()
    }

    fn queue_capacity(&self) -> usize {
        self.admission.capacity()
    }

    fn finished(&self) -> u64 {
        self.roster.finished()
    }

    fn state(&self) -> PoolState {
        if self.admission.is_stopped() {
            PoolState::Closed
        } else if self.admission.is_shut() {
            PoolState::Draining
        } else {
            PoolState::Running
        }
    }
}
