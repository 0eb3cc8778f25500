//! How long things took: a histogram of durations.

use std::fmt;
use std::time::Duration;

use crate::stats::human_duration::HumanDuration;

/// Two significant digits. A bucket is at most a hundredth of its value wide, and each doubling of the
/// longest duration costs a kilobyte.
const DIGITS: u8 = 2;

/// How many durations of each length there were; see [`Stats::wait_times`](crate::Stats::wait_times).
///
/// Durations from a nanosecond on are kept to one part in a hundred. [`count`](Self::count) and
/// [`mean`](Self::mean) are exact, and so is [`max`](Self::max), except after
/// [`Stats::since`](crate::Stats::since).
///
/// ```
/// use worker_pool::{Job, Manager};
///
/// let pool = Manager::<u32>::builder().timings(true).build()?;
/// pool.add(|_: Job<u32>| Ok(()))?;
/// pool.submit(1)?;
/// pool.drain();
/// let ran = pool.stats().run_times.expect("timings are on");
/// assert_eq!(ran.count(), 1);
/// assert!(ran.quantile(0.5) <= ran.max());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct Histogram {
    counts: hdrhistogram::Histogram<u64>,
    /// The sum of all durations.
    nanos: u128,
    longest: u64,
}

impl Eq for Histogram {}

impl Default for Histogram {
    /// A histogram without durations.
    fn default() -> Self {
        let counts = hdrhistogram::Histogram::new(DIGITS);
        Histogram {
            counts: counts.expect("this precision is allowed"),
            nanos: 0,
            longest: 0,
        }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, nanos: u64) {
        let recorded = self.counts.record(nanos);
        debug_assert!(recorded.is_ok(), "it grows as needed");
        self.nanos += u128::from(nanos);
        self.longest = self.longest.max(nanos);
    }

    pub(crate) fn add(&mut self, other: &Histogram) {
        let added = self.counts.add(&other.counts);
        debug_assert!(added.is_ok(), "it grows as needed");
        self.nanos += other.nanos;
        self.longest = self.longest.max(other.longest);
    }

    /// Without the durations of an earlier state of the same histogram.
    pub(crate) fn without(mut self, earlier: &Histogram) -> Self {
        if self.counts.subtract(&earlier.counts).is_ok() {
            self.nanos = self.nanos.saturating_sub(earlier.nanos);
        }
        self
    }

    /// How many durations it holds.
    pub fn count(&self) -> u64 {
        self.counts.len()
    }

    /// The duration that this part of all durations does not exceed: the median for 0.5, the longest
    /// for 1. Zero if there are none. A `part` outside of 0 to 1 counts as the nearer end.
    pub fn quantile(&self, part: f64) -> Duration {
        let nanos = self.counts.value_at_quantile(part);
        Duration::from_nanos(nanos.min(self.longest))
    }

    /// The mean; zero if there are no durations.
    pub fn mean(&self) -> Duration {
        let mean = self.nanos / u128::from(self.count().max(1));
        Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX))
    }

    /// The longest duration; zero if there are none.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.counts.max().min(self.longest))
    }
}

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, p99, max] =
            [self.quantile(0.5), self.quantile(0.99), self.max()].map(HumanDuration);
        write!(f, "median {median}, 99 % within {p99}, longest {max}")
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count())
            .field("mean", &self.mean())
            .field("median", &self.quantile(0.5))
            .field("max", &self.max())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram_of(nanos: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        nanos.into_iter().for_each(|one| histogram.record(one));
        histogram
    }

    /// Within a hundredth.
    #[track_caller]
    fn assert_near(actual: Duration, expected: u64) {
        let off = actual.as_nanos().abs_diff(u128::from(expected));
        assert!(
            off * 100 <= u128::from(expected),
            "{actual:?}, not {expected} ns"
        );
    }

    #[test]
    fn quantiles_of_known_durations() {
        let histogram = histogram_of((1..=1000).map(|micros| micros * 1000));
        assert_eq!(histogram.count(), 1000);
        assert_near(histogram.quantile(0.5), 500_000);
        assert_near(histogram.quantile(0.99), 990_000);
        assert_near(histogram.quantile(0.0), 1000);
        assert_eq!(histogram.quantile(1.0), Duration::from_millis(1));
        assert_eq!(histogram.max(), Duration::from_millis(1));
        assert_eq!(histogram.mean(), Duration::from_nanos(500_500));
    }

    #[test]
    fn from_a_nanosecond_to_centuries() {
        let histogram = histogram_of([1, 3_600_000_000_000, u64::MAX]);
        assert_eq!(histogram.quantile(0.1), Duration::from_nanos(1));
        assert_near(histogram.quantile(0.5), 3_600_000_000_000);
        assert_eq!(histogram.max(), Duration::from_nanos(u64::MAX));
    }

    #[test]
    fn a_histogram_without_durations_says_zero() {
        let empty = Histogram::default();
        let all = [empty.quantile(0.5), empty.mean(), empty.max()];
        assert_eq!((all, empty.count()), ([Duration::ZERO; 3], 0));
    }

    #[test]
    fn added_and_taken_away() {
        let early = histogram_of([10, 20]);
        let mut all = early.clone();
        all.add(&histogram_of([30, 1_000_000]));
        assert_eq!(all.count(), 4);
        assert_eq!(all.max(), Duration::from_millis(1));
        let late = all.without(&early);
        assert_eq!(late.count(), 2);
        assert_eq!(late.quantile(0.5), Duration::from_nanos(30));
        assert_eq!(late.mean(), Duration::from_nanos(500_015));
        // Of an earlier state, only the buckets are known: the maximum comes from what is left of them.
        let none = histogram_of([5]).without(&histogram_of([5]));
        assert_eq!((none.count(), none.max()), (0, Duration::ZERO));
    }

    #[test]
    fn is_shown_in_units_that_suit_a_person() {
        let histogram = histogram_of([1_500_000; 3]);
        let text = "median 1.5 ms, 99 % within 1.5 ms, longest 1.5 ms";
        assert_eq!(histogram.to_string(), text);
    }
}
