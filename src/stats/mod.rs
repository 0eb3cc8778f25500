//! The numbers of a pool, as its users read them.

pub(crate) mod clock;
pub(crate) mod counters;
#[cfg(feature = "histograms")]
pub(crate) mod histogram;
pub(crate) mod human_duration;
pub(crate) mod in_flight;
pub(crate) mod run_timer;

use std::fmt;
use std::time::Duration;

use crate::job::id::{JobId, WorkerId};
#[cfg(feature = "histograms")]
use crate::stats::histogram::Histogram;
use crate::stats::human_duration::HumanDuration;

/// What became of a pool's jobs since it was built, and what it is doing; see
/// [`Manager::stats`](crate::Manager::stats).
///
/// While jobs are under way the numbers are read one after the other, in an order in which they never
/// contradict one another: in every reading `ended() + waiting` is at most `accepted`, the sum of
/// `completed`, `failed`, `panicked` and `retried` is at most `started`, and `busy` is at most `total`.
/// (That is not so for the differences that [`since`](Stats::since) tells.) At rest the counters balance:
/// `accepted` is the sum of the six outcomes `completed`, `failed`, `panicked`, `cancelled`,
/// `expired` and `closed`, and `started` that of the first three and `retried`.
///
/// As text it is one line for a log, or two with timings. Zeros that say nothing are left out.
///
/// ```
/// use worker_pool::{Job, Manager};
///
/// let pool = Manager::<u32, u32, String>::new();
/// pool.add(|job: Job<u32>| match job.into_payload() {
///     0 => Err("nothing to do".to_owned()),
///     number => Ok(number),
/// })?;
/// (0..3).for_each(|number| drop(pool.submit(number)));
/// let text = pool.stats().to_string();
/// assert!(text.starts_with("3 jobs accepted: 2 completed, 1 failed; 0 of 1 workers busy"), "{text}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Jobs that the pool accepted.
    pub accepted: u64,
    /// Runs that a worker began. A job with retries may have several.
    pub started: u64,
    /// Jobs that a worker ran to an output.
    pub completed: u64,
    /// Jobs for which a worker returned its error.
    pub failed: u64,
    /// Jobs in which a worker panicked.
    pub panicked: u64,
    /// Runs that failed or panicked, and after which another attempt was to follow. The job itself is
    /// counted above or below once it has ended.
    pub retried: u64,
    /// Jobs that a cancel token or handle withdrew before they began, or between two attempts.
    pub cancelled: u64,
    /// Jobs whose deadline passed before they began, or between two attempts.
    pub expired: u64,
    /// Jobs that were rejected before they began, or between two attempts, because the pool closed or
    /// its last worker was gone (see [`NoWorkers::Reject`](crate::NoWorkers::Reject)).
    pub closed: u64,
    /// Failures of detached jobs whose channel had no receiver. Each is also counted above.
    pub lost_errors: u64,
    /// Jobs that are accepted and not yet released to the workers; a chunk of a batch is one. A job
    /// that was taken back takes its place until it is swept away, but this is never more than the jobs
    /// that have not ended.
    pub waiting: u64,
    /// Jobs that wait until their next attempt is due. They are not among `waiting`.
    pub backing_off: u64,
    /// Workers that run a job.
    pub busy: u64,
    /// Workers that have a thread; never less than `busy`.
    pub total: u64,
    /// The time since the pool was built; after [`since`](Self::since), the time between the two.
    pub elapsed: Duration,
    /// For how long the oldest job has waited that no worker has begun, released or not. A job that its
    /// caller withdrew counts until its place is freed. `None` if no job waits, or without
    /// [`timings`](crate::Builder::timings).
    pub oldest_waiting: Option<Duration>,
    /// The job that has been running for longest. `None` if no job runs, or without
    /// [`timings`](crate::Builder::timings).
    pub longest_running: Option<RunningJob>,
    /// How long the jobs that began had waited, since they were accepted, or since their next attempt
    /// was due. `None` without [`timings`](crate::Builder::timings).
    #[cfg(feature = "histograms")]
    pub wait_times: Option<Histogram>,
    /// How long the ended runs took, `job_start` hooks included. `None` without
    /// [`timings`](crate::Builder::timings).
    #[cfg(feature = "histograms")]
    pub run_times: Option<Histogram>,
}

/// A job that a worker runs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunningJob {
    /// The job.
    pub job: JobId,
    /// The worker that runs it.
    pub worker: WorkerId,
    /// For how long it has been running.
    pub time: Duration,
}

impl Stats {
    /// Jobs that have ended.
    pub fn ended(&self) -> u64 {
        self.completed + self.failed + self.panicked + self.cancelled + self.expired + self.closed
    }

    /// What was counted after `earlier`, which is of the same pool. Counters, times and `elapsed` are
    /// differences. What describes one moment (`waiting`, `backing_off`, `busy`, `total`, the oldest
    /// and the longest job) is as in `self`.
    ///
    /// ```
    /// use worker_pool::{Job, Manager};
    ///
    /// let pool = Manager::<u32>::new();
    /// pool.add(|_: Job<u32>| Ok(()))?;
    /// let before = pool.stats();
    /// (0..5).try_for_each(|number| pool.submit(number))?;
    /// let lately = pool.stats().since(&before);
    /// assert_eq!(lately.completed, 5);
    /// let per_second = lately.completed as f64 / lately.elapsed.as_secs_f64();
    /// # assert!(per_second > 0.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "this returns the difference, and changes neither of the two"]
    pub fn since(&self, earlier: &Stats) -> Stats {
        let mut lately = self.clone();
        let counters: [fn(&mut Stats) -> &mut u64; 10] = [
            |stats| &mut stats.accepted,
            |stats| &mut stats.started,
            |stats| &mut stats.completed,
            |stats| &mut stats.failed,
            |stats| &mut stats.panicked,
            |stats| &mut stats.retried,
            |stats| &mut stats.cancelled,
            |stats| &mut stats.expired,
            |stats| &mut stats.closed,
            |stats| &mut stats.lost_errors,
        ];
        let mut before = earlier.clone();
        for counter in counters {
            let early = *counter(&mut before);
            let late = counter(&mut lately);
            *late = late.saturating_sub(early);
        }
        lately.elapsed = lately.elapsed.saturating_sub(earlier.elapsed);
        #[cfg(feature = "histograms")]
        for (late, early) in [
            (&mut lately.wait_times, before.wait_times),
            (&mut lately.run_times, before.run_times),
        ] {
            if let Some(early) = early {
                *late = late.take().map(|late| late.without(&early));
            }
        }
        lately
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} jobs accepted", self.accepted)?;
        let counts = [
            (self.completed, "completed"),
            (self.failed, "failed"),
            (self.panicked, "panicked"),
            (self.cancelled, "cancelled"),
            (self.expired, "expired"),
            (self.closed, "closed"),
            (self.retried, "tries repeated"),
            (self.lost_errors, "errors lost"),
        ];
        let mut separator = ": ";
        for (count, what) in counts.iter().filter(|(count, _)| *count > 0) {
            write!(f, "{separator}{count} {what}")?;
            separator = ", ";
        }
        write!(f, "; {} of {} workers busy", self.busy, self.total)?;
        if self.waiting > 0 {
            write!(f, ", {} jobs waiting", self.waiting)?;
        }
        if self.backing_off > 0 {
            write!(f, ", {} to be tried again", self.backing_off)?;
        }
        if let Some(oldest) = self.oldest_waiting {
            write!(f, ", the oldest job waits for {}", HumanDuration(oldest))?;
        }
        if let Some(longest) = &self.longest_running {
            let RunningJob { job, worker, time } = longest;
            let time = HumanDuration(*time);
            write!(
                f,
                ", the longest runs for {time} (job {job}, worker {worker})"
            )?;
        }
        write!(f, "; in {}", HumanDuration(self.elapsed))?;
        #[cfg(feature = "histograms")]
        if let (Some(waited), Some(ran)) = (&self.wait_times, &self.run_times)
            && waited.count() > 0
        {
            write!(f, "\nwaited: {waited}")?;
            if ran.count() > 0 {
                write!(f, "; ran: {ran}")?;
            }
        }
        Ok(())
    }
}
