//! Submitting jobs: [`JobBuilder`], which all ways to submit a job go through. [`admit`] lets the
//! job in, and [`wait`] waits for room and for the result.

pub(crate) mod admit;
pub(crate) mod handle;
pub(crate) mod wait;

use std::fmt;
use std::time::{Duration, Instant};

use crate::error::{DetachedError, RejectReason, RejectedError, SubmitError};
use crate::job::Priority;
use crate::job::cancel::CancelToken;
use crate::job::id::JobId;
use crate::policy::retry::Retry;
use crate::pool::Pool;
use crate::submit::admit::WaitForRoom;
use crate::submit::handle::JobHandle;
use crate::sync::Arc;
use crate::sync::time;
use crate::sync::user_channel::Sender;
use crate::task::header::Header;
use crate::task::oneshot::{Oneshot, Responder};
use crate::task::retry::RetryState;
use crate::task::{Body, Detached, Task, TaskOptions};

/// What a submitter keeps of a job that was accepted.
type Sent<P, O, E> = (JobId, Arc<Oneshot<P, O, E>>);

/// A job that is about to be submitted, made by [`Manager::job`](crate::Manager::job). First set
/// its options, then call one of the methods that submit it.
///
/// ```
/// use std::time::Duration;
/// use worker_pool::{CancelToken, Job, Manager};
///
/// let pool = Manager::<u32, u32>::new();
/// pool.add(|job: Job<u32>| Ok(job.into_payload() + 1))?;
/// let all = CancelToken::new();
/// let answer = pool.job(1).timeout(Duration::from_secs(60)).cancel_token(&all).submit()?;
/// assert_eq!(answer, 2);
/// all.cancel();
/// let error = pool.job(1).cancel_token(&all).submit().unwrap_err();
/// assert!(error.is_cancelled());
/// assert_eq!(error.into_payload(), Some(1)); // it never began
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing is submitted until `submit`, `enqueue`, `detach` or one of their `try_` variants is called"]
pub struct JobBuilder<'a, P, O, E> {
    pool: &'a Arc<Pool<P, O, E>>,
    payload: P,
    token: Option<CancelToken>,
    deadline: Option<Instant>,
    priority: Priority,
    retry_state: Option<Box<RetryState<P>>>,
}

impl<'a, P, O, E> JobBuilder<'a, P, O, E> {
    pub(crate) fn new(pool: &'a Arc<Pool<P, O, E>>, payload: P) -> Self {
        JobBuilder {
            pool,
            payload,
            token: None,
            deadline: None,
            priority: Priority::Normal,
            retry_state: None,
        }
    }

    /// Gives up at this moment. A job that has not begun by then never will. A caller that blocks
    /// returns then, even if the worker still runs the job. Of several deadlines, the earliest
    /// counts.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(self.deadline.map_or(deadline, |old| old.min(deadline)));
        self
    }

    /// Sets a deadline this long from now. A deadline that overflows is no deadline.
    pub fn timeout(self, timeout: Duration) -> Self {
        match time::now().checked_add(timeout) {
            Some(deadline) => self.deadline(deadline),
            None => self,
        }
    }

    /// Gives up when this token fires. The job's own token fires with it.
    pub fn cancel_token(mut self, token: &CancelToken) -> Self {
        self.token = Some(token.clone());
        self
    }

    /// Sets how important the job is among those that wait. Within one priority, jobs begin in the
    /// order in which they were accepted.
    ///
    /// At most two lower-priority jobs per worker, of those accepted earlier, can run before a high
    /// job: the one that the worker runs, and one whose turn it is. To prevent starvation, one in
    /// 32 jobs that a worker takes is of lower priority, and one in 32 jobs that the dispatcher
    /// releases is a low one, if there are any. At most two low jobs per worker can run before a
    /// normal job: one that runs, and one that is released.
    ///
    /// ```
    /// use worker_pool::{Job, Manager, Priority};
    ///
    /// let pool = Manager::<&str, usize>::new();
    /// pool.add(|job: Job<&str>| Ok(job.payload().len()))?;
    /// let urgent = pool.job("now").priority(Priority::High).submit()?;
    /// assert_eq!(urgent, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// If the worker returns an error, the job is attempted again, by any worker. The caller gets
    /// the result of the last attempt only. The payload is cloned before each attempt but the last.
    ///
    /// During its back-off, the job has no place in the queue. Then it goes to the end of the queue
    /// of its priority, even if the queue is full: it was accepted before. While it waits, the job
    /// can end as any other waiting job does: it is cancelled, or late, or the pool closes. Then
    /// the error ([`JobError`](crate::JobError)) says so, and
    /// [`attempts`](crate::JobError::attempts) tells how many attempts there were. (The last
    /// attempt's own error is dropped, and so is the payload: the job began.) Once the job's token
    /// has fired or the pool is closing, an attempt that fails is the last. Draining and
    /// [`wait_idle`](crate::Manager::wait_idle) wait for all attempts.
    ///
    /// Hooks see each attempt. [`Stats`](crate::Stats) count the job once, and its further attempts
    /// in `retried`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use worker_pool::{Job, Manager, Retry};
    ///
    /// let pool = Manager::<&str, u32, String>::new();
    /// pool.add(|job: Job<&str>| match job.attempt() {
    ///     1 => Err("the line was busy".to_owned()),
    ///     attempt => Ok(attempt),
    /// })?;
    /// let wait = Duration::from_millis(1);
    /// let retry = Retry::max_retries(3).backoff(wait, 10 * wait).jitter();
    /// assert_eq!(pool.job("call").retry(retry).submit()?, 2);
    /// assert_eq!(pool.stats().retried, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn retry(mut self, retry: Retry) -> Self
    where
        P: Clone,
    {
        self.retry_state = Some(Box::new(RetryState::new(retry, P::clone)));
        self
    }

    /// Submits the job, and blocks until it has its result, its token fires, its deadline passes,
    /// or the pool closes before the job began.
    ///
    /// # Errors
    /// See [`Manager::submit`](crate::Manager::submit).
    pub fn submit(self) -> Result<O, SubmitError<P, E>> {
        let token = self.token();
        let pool = self.pool;
        let (id, oneshot) = self.send(token.clone(), Wait::ForRoom, false)?;
        let reply = pool.await_reply(id, &oneshot, token.as_ref(), None);
        reply.expect("without a time limit there is a reply")
    }

    /// Submits the job, and returns a handle to it. Blocks only while the queue is full.
    ///
    /// # Errors
    /// The payload, and why the job was not accepted: closed, no workers, cancelled, deadline
    /// passed, or (in a worker of this same pool) would deadlock.
    pub fn enqueue(self) -> Result<JobHandle<P, O, E>, RejectedError<P>> {
        self.into_handle(Wait::ForRoom)
    }

    /// Submits the job, and returns a handle to it. Never blocks.
    ///
    /// # Errors
    /// The payload, and why the job was not accepted: full, or a reason of
    /// [`enqueue`](Self::enqueue).
    pub fn try_enqueue(self) -> Result<JobHandle<P, O, E>, RejectedError<P>> {
        self.into_handle(Wait::Not)
    }

    /// Submits the job. Only a failure is reported, on `errors`. Blocks only while the queue is
    /// full. See [`Manager::detach_submit`](crate::Manager::detach_submit).
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue). A job that is not accepted sends nothing.
    pub fn detach(
        self,
        id: u64,
        errors: &Sender<DetachedError<E>>,
    ) -> Result<(), RejectedError<P>> {
        self.send_detached(Some(id), errors, Wait::ForRoom)
    }

    /// As [`detach`](Self::detach), but never blocks.
    ///
    /// # Errors
    /// As [`try_enqueue`](Self::try_enqueue). A job that is not accepted sends nothing.
    pub fn try_detach(
        self,
        id: u64,
        errors: &Sender<DetachedError<E>>,
    ) -> Result<(), RejectedError<P>> {
        self.send_detached(Some(id), errors, Wait::Not)
    }

    /// As [`detach`](Self::detach). The job's id is the number that the pool gives it.
    pub(crate) fn detach_numbered(
        self,
        errors: &Sender<DetachedError<E>>,
    ) -> Result<(), RejectedError<P>> {
        self.send_detached(None, errors, Wait::ForRoom)
    }

    /// One token for both the caller's token and the deadline.
    fn token(&self) -> Option<CancelToken> {
        match (&self.token, self.deadline) {
            (None, None) => None,
            (Some(token), None) => Some(token.clone()),
            (None, Some(at)) => Some(CancelToken::with_deadline(at)),
            (Some(token), Some(at)) => Some(token.child_with_deadline(at)),
        }
    }

    fn into_handle(self, wait: Wait) -> Result<JobHandle<P, O, E>, RejectedError<P>> {
        // The job's own token, so that the handle can cancel this one job. A job without the
        // caller's token, deadline and retries gets one when somebody asks for it.
        let token = match (&self.token, self.deadline) {
            (None, None) => self.retry_state.is_some().then(CancelToken::new),
            (None, Some(at)) => Some(CancelToken::with_deadline(at)),
            (Some(token), None) => Some(token.child()),
            (Some(token), Some(at)) => Some(token.child_with_deadline(at)),
        };
        let pool = Arc::clone(self.pool);
        let (_, oneshot) = self.send(token, wait, true)?;
        Ok(JobHandle {
            oneshot,
            pool,
            taken: false,
        })
    }

    fn send(
        self,
        token: Option<CancelToken>,
        wait: Wait,
        has_handle: bool,
    ) -> Result<Sent<P, O, E>, RejectedError<P>> {
        let payload = reject_if_fired(token.as_ref(), self.payload)?;
        let (number, epoch) = self.pool.counters.in_flight.count_in();
        let id = JobId::new(number);
        let cancellable = self.token.is_some() || self.retry_state.is_some();
        let header = Header::new(number, epoch, cancellable, self.priority);
        let oneshot = Arc::new(Oneshot::new(
            number,
            header,
            payload,
            token.clone(),
            has_handle,
        ));
        let task = if cancellable {
            let options = TaskOptions {
                id,
                header,
                token: None,
                retry_state: self.retry_state,
            };
            Task::full(options, Body::Awaited(Responder(Arc::clone(&oneshot))))
        } else {
            Task::awaited(Arc::clone(&oneshot))
        };
        self.pool.accept(task, wait.with_token(token.as_ref()))?;
        Ok((id, oneshot))
    }

    fn send_detached(
        self,
        id: Option<u64>,
        errors: &Sender<DetachedError<E>>,
        wait: Wait,
    ) -> Result<(), RejectedError<P>> {
        let token = self.token();
        let payload = reject_if_fired(token.as_ref(), self.payload)?;
        let (number, epoch) = self.pool.counters.in_flight.count_in();
        let id = JobId::new(id.unwrap_or(number));
        let cancellable = self.token.is_some() || self.retry_state.is_some();
        let header = Header::new(number, epoch, cancellable, self.priority);
        let task = if cancellable || token.is_some() {
            let options = TaskOptions {
                id,
                header,
                token: token.clone(),
                retry_state: self.retry_state,
            };
            let errors = errors.clone();
            Task::full(options, Body::Detached(Detached { payload, errors }))
        } else {
            let empty = self.pool.free_list.take();
            Task::detached(empty, id, header, payload, errors.clone())
        };
        self.pool.accept(task, wait.with_token(token.as_ref()))
    }
}

/// A job that is cancelled or late when it is submitted is not queued.
fn reject_if_fired<P>(token: Option<&CancelToken>, payload: P) -> Result<P, RejectedError<P>> {
    match token.and_then(CancelToken::fired_by) {
        None => Ok(payload),
        Some(fired) => Err(RejectedError {
            payload,
            reason: RejectReason::from(fired),
        }),
    }
}

/// Does a submitter wait for room?
#[derive(Clone, Copy)]
enum Wait {
    ForRoom,
    Not,
}

impl Wait {
    fn with_token(self, token: Option<&CancelToken>) -> WaitForRoom<'_> {
        match self {
            Wait::ForRoom => WaitForRoom::Until(token),
            Wait::Not => WaitForRoom::None,
        }
    }
}

impl<P, O, E> fmt::Debug for JobBuilder<'_, P, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobBuilder")
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
