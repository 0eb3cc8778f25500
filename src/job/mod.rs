//! A job as a worker sees it, its id, and how its run can end.

pub(crate) mod cancel;
pub(crate) mod id;
pub(crate) mod tokens;

use std::fmt;
use std::time::{Duration, Instant};

use crate::job::cancel::CancelToken;
use crate::job::id::JobId;
use crate::job::tokens::{JobTokens, Tokens};
use crate::sync::time;

/// How important a job is, among those that wait; see [`JobBuilder::priority`](crate::JobBuilder::priority).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// After the others, but never starved: see [`JobBuilder::priority`](crate::JobBuilder::priority).
    Low,
    /// The priority of a job for which none is set.
    #[default]
    Normal,
    /// Before all others that wait; see [`JobBuilder::priority`](crate::JobBuilder::priority).
    High,
}

/// How a worker's run of a job ended, as reported to [`Hook::job_finish`](crate::Hook::job_finish).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The worker returned an output.
    Completed,
    /// The worker returned its error.
    Failed,
    /// The worker panicked.
    Panicked,
}

/// One job, handed by value to [`Worker::run`](crate::Worker::run).
pub struct Job<P> {
    id: JobId,
    attempt: u32,
    payload: P,
    tokens: JobTokens,
}

impl<P> Job<P> {
    pub(crate) fn new(id: JobId, attempt: u32, payload: P, tokens: JobTokens) -> Self {
        Job {
            id,
            attempt,
            payload,
            tokens,
        }
    }

    fn tokens(&self) -> &Tokens {
        self.tokens.get()
    }

    /// The job's id.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Which attempt this is, from 1 on. It is more than 1 only with [`Retry`](crate::Retry).
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The payload that the submitter passed in.
    pub fn payload(&self) -> &P {
        &self.payload
    }

    /// The payload, to be changed in place.
    pub fn payload_mut(&mut self) -> &mut P {
        &mut self.payload
    }

    /// Takes the payload out and drops the rest.
    pub fn into_payload(self) -> P {
        self.payload
    }

    /// The payload, and the token to check while working on it.
    ///
    /// ```
    /// use worker_pool::{Job, Manager};
    ///
    /// let pool = Manager::<Vec<u64>, u64, String>::new();
    /// pool.add(|job: Job<Vec<u64>>| {
    ///     let (numbers, cancel) = job.into_parts();
    ///     let mut sum = 0;
    ///     for number in numbers {
    ///         if cancel.is_cancelled() {
    ///             return Err("the job was cancelled".to_owned());
    ///         }
    ///         sum += number;
    ///     }
    ///     Ok(sum)
    /// })?;
    /// assert_eq!(pool.submit(vec![1, 2, 3])?, 6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_parts(self) -> (P, CancelToken) {
        let token = self.cancel_token();
        (self.payload, token)
    }

    /// Should the worker stop? True once the submitter cancelled the job or gave up on it, its
    /// deadline passed, or the pool is closing.
    pub fn is_cancelled(&self) -> bool {
        let Tokens { job, closing } = self.tokens();
        job.as_ref().is_some_and(CancelToken::is_cancelled) || closing.is_cancelled()
    }

    /// A token that fires when [`is_cancelled`](Self::is_cancelled) becomes true. It may outlive the
    /// job, and other threads may wait on it.
    pub fn cancel_token(&self) -> CancelToken {
        let Tokens { job, closing } = self.tokens();
        match job {
            None => closing.clone(),
            Some(job) => job.child_of_both(closing),
        }
    }

    /// The job's deadline, if it has one.
    pub fn deadline(&self) -> Option<Instant> {
        let token = self.tokens().job.as_ref();
        token.and_then(CancelToken::deadline)
    }

    /// The time left until the deadline: zero once it has passed, `None` without one.
    pub fn time_left(&self) -> Option<Duration> {
        let deadline = self.deadline()?;
        Some(deadline.saturating_duration_since(time::now()))
    }
}

impl<P> fmt::Debug for Job<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.id)
            .field("deadline", &self.deadline())
            .finish_non_exhaustive()
    }
}
