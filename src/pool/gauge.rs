//! What a pool's hooks may ask. This part of the pool knows nothing of payloads, so a hook may keep
//! it whatever the payloads borrow.

use crate::hook::{PoolState, PoolStatus};
use crate::pool::queue::Admission;
use crate::pool::roster::Roster;
use crate::stats::counters::Counters;
use crate::sync::Arc;

/// Only the pool owns it: hooks have a `Weak` to it.
pub(crate) struct PoolGauge {
    pub(crate) name: String,
    pub(crate) admission: Arc<Admission>,
    pub(crate) roster: Arc<Roster>,
    pub(crate) counters: Arc<Counters>,
}

impl PoolGauge {
    /// Accepted jobs that have not ended.
    fn unfinished(&self) -> u64 {
        let finished = self.roster.finished();
        self.counters
            .unfinished(finished, || self.admission.undecided())
    }

    /// Accepted jobs that have not ended and that no worker runs.
    pub(crate) fn not_begun(&self) -> u64 {
        self.unfinished().saturating_sub(self.roster.busy() as u64)
    }
}

impl PoolStatus for PoolGauge {
    fn name(&self) -> &str {
        &self.name
    }

    fn waiting(&self) -> usize {
        if self.admission.count() == 0 {
            return 0; // as a rule
        }
        // As in `Counters::read`: what was taken back may still take a place.
        let unfinished = usize::try_from(self.unfinished()).unwrap_or(usize::MAX);
        self.admission.count().min(unfinished)
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
