//! One pool as its clients see it: the newest snapshot, and the load of late.

use std::time::{Duration, Instant};

use crate::grpc::stream::window::{Load, Window};
use crate::hook::meter::{Meter, Snapshot};
use crate::sync::Mutex;

/// One pool, by name.
pub(crate) struct Source {
    pub(crate) name: String,
    meter: Meter,
    /// The newest snapshot, and how often it has changed in what clients see.
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

    /// Asks the meter. Whoever asks, the answers form one order: the lock spans asking and noting,
    /// so no stream can be shown an older snapshot after a newer one.
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

    /// What was noted last.
    pub(crate) fn newest(&self) -> (u64, Snapshot) {
        *self.newest.lock()
    }

    /// Notes a sample for [`load`](Self::load).
    pub(crate) fn sample(&self) {
        let (_, snapshot) = self.refresh();
        self.window.lock().push(Instant::now(), &snapshot);
    }

    /// Mean load over the window that ends about now: many reports share one sample.
    pub(crate) fn load(&self, step: Duration) -> Load {
        if self.window.lock().is_older_than(step) {
            self.sample();
        }
        self.window.lock().load()
    }
}
