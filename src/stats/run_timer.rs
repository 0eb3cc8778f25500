//! What one worker measures, in pools with timings.

use crate::job::id::JobId;
use crate::stats::clock::Stamp;
use crate::sync::Mutex;

/// Locked by its worker at the start and the end of each job, and by those who ask.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct RunTimer(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// The job in hand, and since when.
    running: Option<(JobId, Stamp)>,
    times: Times,
}

/// How long jobs waited and ran.
#[derive(Default, Clone)]
pub(crate) struct Times {
    #[cfg(feature = "histograms")]
    pub(crate) waited: crate::Histogram,
    #[cfg(feature = "histograms")]
    pub(crate) ran: crate::Histogram,
}

impl RunTimer {
    /// A job that was accepted at the first stamp begins at the second.
    pub(crate) fn begin(&self, job: JobId, accepted: Stamp, now: Stamp) {
        let mut inner = self.0.lock();
        inner.running = Some((job, now));
        inner.times.waited(now.saturating_sub(accepted));
    }

    pub(crate) fn end(&self, now: Stamp) {
        let mut inner = self.0.lock();
        if let Some((_, start)) = inner.running.take() {
            inner.times.ran(now.saturating_sub(start));
        }
    }

    pub(crate) fn running(&self) -> Option<(JobId, Stamp)> {
        self.0.lock().running
    }

    pub(crate) fn add_to(&self, sum: &mut Times) {
        sum.add(&self.0.lock().times);
    }
}

#[cfg(feature = "histograms")]
impl Times {
    fn waited(&mut self, nanos: u64) {
        self.waited.record(nanos);
    }

    fn ran(&mut self, nanos: u64) {
        self.ran.record(nanos);
    }

    fn add(&mut self, other: &Times) {
        self.waited.add(&other.waited);
        self.ran.add(&other.ran);
    }
}

#[cfg(not(feature = "histograms"))]
impl Times {
    fn waited(&mut self, _nanos: u64) {}
    fn ran(&mut self, _nanos: u64) {}
    fn add(&mut self, _other: &Times) {}
}
