//! One pool as its clients see it: its newest snapshot, and its recent load.

use std::time::{Duration, Instant};

use crate::grpc::stream::window::{Load, Window};
use crate::hook::meter::{Meter, Snapshot};
use crate::sync::Mutex;

/// One pool, by name.
pub(crate) struct Source {
    pub(crate) name: String,
    meter: Meter,
    /// The newest snapshot, and its version: it counts changes that clients can see.
    newest: Mutex<(u64, Snapshot)>,
    pub(crate) window: Mutex<Window>,
}

impl Source {
    pub(crate) fn new(name: String, meter: Meter, window: Duration) -> Source {
        let newest = Mutex::new((1, meter.snapshot()));
        Source {
            name,
            meter,
            newest,
            window: Mutex::new(Window::new(window)),
        }
    }

    /// Reads the meter. The lock covers reading and storing, so snapshots are stored in the order in
    /// which they were read: no stream can send an older one after a newer one.
    pub(crate) fn refresh(&self) -> (u64, Snapshot) {
        let mut newest = self.newest.lock();
        let now = self.meter.snapshot();
        let shown = |s: &Snapshot| (s.busy, s.total, s.waiting, s.state);
        if shown(&now) != shown(&newest.1) {
            newest.0 += 1;
        }
        newest.1 = now;
        *newest
    }

    /// The snapshot that was stored last.
    pub(crate) fn newest(&self) -> (u64, Snapshot) {
        *self.newest.lock()
    }

    /// Takes a sample for [`load`](Self::load).
    pub(crate) fn sample(&self) {
        let (_, snapshot) = self.refresh();
        self.window.lock().push(Instant::now(), &snapshot);
    }

    /// Mean load over the window that ends within the last `step`: many reports share one sample.
    pub(crate) fn load(&self, step: Duration) -> Load {
        if self.window.lock().is_older_than(step) {
            self.sample();
        }
        self.window.lock().load()
    }
}
