//! What one worker measures, in pools with timings.

use crate::job::id::JobId;
use crate::stats::clock::Stamp;
#[cfg(feature = "histograms")]
use crate::stats::histogram::Histogram;
use crate::sync::Mutex;

/// One worker's. The worker locks it at the start and the end of each job, and others lock it to read.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct RunTimer(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// The job that the worker runs now, and since when.
    running: Option<(JobId, Stamp)>,
    times: Times,
}

/// How long jobs waited and ran.
#[derive(Default, Clone)]
pub(crate) struct Times {
    #[cfg(feature = "histograms")]
    pub(crate) waited: Histogram,
    #[cfg(feature = "histograms")]
    pub(crate) ran: Histogram,
}

impl RunTimer {
    /// A job begins `now` that has waited since `accepted`.
    pub(crate) fn begin(&self, job: JobId, accepted: Stamp, now: Stamp) {
        let mut inner = self.0.lock();
        inner.running = Some((job, now));
        inner.times.waited(now.saturating_sub(accepted));
    }

    /// The job that began last has ended.
    pub(crate) fn end(&self, now: Stamp) {
        let mut inner = self.0.lock();
        if let Some((_, start)) = inner.running.take() {
            inner.times.ran(now.saturating_sub(start));
        }
    }

    /// The job that the worker runs now, and since when.
    pub(crate) fn running(&self) -> Option<(JobId, Stamp)> {
        self.0.lock().running
    }

    /// Adds what was measured so far to `sum`.
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
