//! Pins workers' threads to cores.

use core_affinity::CoreId;

use crate::sync::log;

/// The cores that this process may use. Empty if workers are not pinned.
#[derive(Default)]
pub(crate) struct Pins {
    cores: Vec<CoreId>,
}

impl Pins {
    /// To be called on a thread that is not pinned: a pinned one sees only its own core.
    pub(crate) fn new(wanted: bool) -> Self {
        if !wanted {
            return Pins::default();
        }
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        if cores.is_empty() {
            log::warn!("workers are not pinned: the system does not tell which cores there are");
        }
        Pins { cores }
    }

    /// Pins the calling thread, which is this worker's, to the core whose turn it is. Workers are
    /// numbered from 1 on.
    pub(crate) fn pin(&self, worker: u64) {
        if self.cores.is_empty() {
            return;
        }
        let core = self.cores[(worker - 1) as usize % self.cores.len()];
        if core_affinity::set_for_current(core) {
            log::debug!("worker {worker} is pinned to core {}", core.id);
        } else {
            log::warn!("worker {worker} could not be pinned to core {}", core.id);
        }
    }
}
