//! The ways in for a job: [`Submission`], which all forms of submit go through.

pub(crate) mod admit;
pub(crate) mod handle;
pub(crate) mod wait;

use std::fmt;
use std::time::{Duration, Instant};

use crate::error::{DetachedError, Reason, Rejected, SubmitError};
use crate::job::Priority;
use crate::job::cancel::CancelToken;
use crate::job::id::JobId;
use crate::policy::retry::Retry;
use crate::pool::Shared;
use crate::submit::admit::Patience;
use crate::submit::handle::JobHandle;
use crate::sync::Arc;
use crate::sync::channel::Sender;
use crate::task::header::Mark;
use crate::task::oneshot::{Asked, Slot};
use crate::task::retry::Again;
use crate::task::{Body, Heading, Load, Ticket};

/// A job on its way, as its submitter keeps it.
type Sent<P, O, E> = (JobId, Arc<Slot<P, O, E>>);

/// A job about to be submitted, made by [`Manager::job`](crate::Manager::job): first what it shall
/// keep to, then one of the verbs.
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
#[must_use = "nothing is submitted until one of the verbs is called"]
pub struct Submission<'a, P, O, E> {
    shared: &'a Arc<Shared<P, O, E>>,
    payload: P,
    token: Option<CancelToken>,
    deadline: Option<Instant>,
    priority: Priority,
    again: Option<Box<Again<P>>>,
}

impl<'a, P, O, E> Submission<'a, P, O, E> {
    pub(crate) fn new(shared: &'a Arc<Shared<P, O, E>>, payload: P) -> Self {
        Submission {
            shared,
            payload,
            token: None,
            deadline: None,
            priority: Priority::Normal,
            again: None,
        }
    }

    /// Gives up at this moment: a job that has not begun by then never will; a caller that blocks
    /// returns then, even if the worker does not.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(self.deadline.map_or(deadline, |old| old.min(deadline)));
        self
    }

    /// A deadline so long from now. One too far to be told is none.
    pub fn timeout(self, timeout: Duration) -> Self {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => self.deadline(deadline),
            None => self,
        }
    }

    /// Gives up when this token fires. The job sees a token that fires with it.
    pub fn cancel_token(mut self, token: &CancelToken) -> Self {
        self.token = Some(token.clone());
        self
    }

    /// How important the job is among those that wait. Within one priority the first in is the
    /// first out.
    ///
    /// A high job begins before all but at most two per worker of the lower ones accepted earlier:
    /// the one that the worker runs, and one whose turn it is. For so that nothing starves, one in
    /// 32 jobs that a worker takes is of the lower ones, and one in 32 that the dispatcher releases
    /// is a low one, if there are any. A normal job finds at most two low ones per worker before
    /// it: one that runs, and one that is released.
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

    /// If the worker returns an error, the job is tried again, by whichever worker comes to it; the
    /// caller hears of the last try only. The payload is cloned before each try but the last.
    ///
    /// It waits out its back-off without a place in the queue, and then goes to the end of the queue
    /// of its priority, also if that is full: it was accepted before. While it waits, the job can
    /// end as any other that waits. It is cancelled, or late, or the pool closes; then the error
    /// ([`JobError`](crate::JobError)) says so, and [`tries`](crate::JobError::tries) tells how many
    /// there were. (The last try's own error is dropped, and so is the payload: the job began.) Once
    /// its token has fired or the pool is closing, a try that fails is the last. Draining and
    /// [`wait_idle`](crate::Manager::wait_idle) wait for all tries.
    ///
    /// Hooks see each try; [`Stats`](crate::Stats) count the job once, and what was repeated in
    /// `retried`.
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
    /// let retry = Retry::times(3).backoff(wait, 10 * wait).jitter();
    /// assert_eq!(pool.job("call").retry(retry).submit()?, 2);
    /// assert_eq!(pool.stats().retried, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn retry(mut self, retry: Retry) -> Self
    where
        P: Clone,
    {
        self.again = Some(Box::new(Again::new(retry, P::clone)));
        self
    }

    /// Blocks until the job has its result, its token fires, its deadline passes, or the pool
    /// closes before it began.
    ///
    /// # Errors
    /// See [`Manager::submit`](crate::Manager::submit).
    pub fn submit(self) -> Result<O, SubmitError<P, E>> {
        let token = self.token();
        let shared = self.shared;
        let (id, slot) = self.send(token.clone(), Wait::ForRoom, false)?;
        let reply = shared.await_reply(id, &slot, token.as_ref(), None);
        reply.expect("without a time limit there is a reply")
    }

    /// Blocks while the queue is full, and returns a handle to the job.
    ///
    /// # Errors
    /// The payload, and why the job was not accepted: closed, cancelled, deadline passed, or (in a
    /// worker of this same pool) would deadlock.
    pub fn enqueue(self) -> Result<JobHandle<P, O, E>, Rejected<P>> {
        self.into_handle(Wait::ForRoom)
    }

    /// Returns a handle to the job. Never blocks.
    ///
    /// # Errors
    /// The payload, and why the job was not accepted: the reasons of [`enqueue`](Self::enqueue), and
    /// full.
    pub fn try_submit(self) -> Result<JobHandle<P, O, E>, Rejected<P>> {
        self.into_handle(Wait::Not)
    }

    /// Blocks while the queue is full; nothing is heard of the job but its failure, on `errors`.
    /// See [`Manager::detach_submit`](crate::Manager::detach_submit).
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue). A job that is not accepted sends nothing.
    pub fn detach(self, id: u64, errors: &Sender<DetachedError<E>>) -> Result<(), Rejected<P>> {
        self.send_detached(Some(id), errors, Wait::ForRoom)
    }

    /// As [`detach`](Self::detach), but never blocks.
    ///
    /// # Errors
    /// As [`try_submit`](Self::try_submit). A job that is not accepted sends nothing.
    pub fn try_detach(self, id: u64, errors: &Sender<DetachedError<E>>) -> Result<(), Rejected<P>> {
        self.send_detached(Some(id), errors, Wait::Not)
    }

    /// As [`detach`](Self::detach), with the number that the pool gives the job for its id.
    pub(crate) fn detach_numbered(
        self,
        errors: &Sender<DetachedError<E>>,
    ) -> Result<(), Rejected<P>> {
        self.send_detached(None, errors, Wait::ForRoom)
    }

    /// The one token that stands for both the caller's and the deadline.
    fn token(&self) -> Option<CancelToken> {
        match (&self.token, self.deadline) {
            (None, None) => None,
            (Some(token), None) => Some(token.clone()),
            (None, Some(at)) => Some(CancelToken::with_deadline(at)),
            (Some(token), Some(at)) => Some(token.child_with_deadline(at)),
        }
    }

    fn into_handle(self, wait: Wait) -> Result<JobHandle<P, O, E>, Rejected<P>> {
        // A token of the job's own, so that the handle can cancel this one job. A job that was given
        // none, and has one try, gets it when it is asked for.
        let token = match (&self.token, self.deadline) {
            (None, None) => self.again.is_some().then(CancelToken::new),
            (None, Some(at)) => Some(CancelToken::with_deadline(at)),
            (Some(token), None) => Some(token.child()),
            (Some(token), Some(at)) => Some(token.child_with_deadline(at)),
        };
        let shared = Arc::clone(self.shared);
        let (_, slot) = self.send(token, wait, true)?;
        Ok(JobHandle {
            slot,
            shared,
            taken: false,
        })
    }

    fn send(
        self,
        token: Option<CancelToken>,
        wait: Wait,
        has_handle: bool,
    ) -> Result<Sent<P, O, E>, Rejected<P>> {
        let payload = refuse_if_fired(token.as_ref(), self.payload)?;
        let (number, generation) = self.shared.books.census.count_in();
        let id = JobId::new(number);
        let cancellable = self.token.is_some() || self.again.is_some();
        let mark = Mark::new(number, generation, cancellable, self.priority);
        let slot = Arc::new(Slot::new(number, mark, payload, token.clone(), has_handle));
        let ticket = if cancellable {
            let heading = Heading {
                id,
                mark,
                token: None,
                again: self.again,
            };
            Ticket::rich(heading, Body::Awaited(Asked(Arc::clone(&slot))))
        } else {
            Ticket::awaited(Arc::clone(&slot))
        };
        self.shared.accept(ticket, wait.patience(token.as_ref()))?;
        Ok((id, slot))
    }

    fn send_detached(
        self,
        id: Option<u64>,
        errors: &Sender<DetachedError<E>>,
        wait: Wait,
    ) -> Result<(), Rejected<P>> {
        let token = self.token();
        let payload = refuse_if_fired(token.as_ref(), self.payload)?;
        let (number, generation) = self.shared.books.census.count_in();
        let id = JobId::new(id.unwrap_or(number));
        let cancellable = self.token.is_some() || self.again.is_some();
        let mark = Mark::new(number, generation, cancellable, self.priority);
        let ticket = if cancellable || token.is_some() {
            let heading = Heading {
                id,
                mark,
                token: token.clone(),
                again: self.again,
            };
            let errors = errors.clone();
            Ticket::rich(heading, Body::Detached(Load { payload, errors }))
        } else {
            let form = self.shared.blanks.take();
            Ticket::detached(form, id, mark, payload, errors.clone())
        };
        self.shared.accept(ticket, wait.patience(token.as_ref()))
    }
}

/// What is cancelled or late before it starts is not even queued.
fn refuse_if_fired<P>(token: Option<&CancelToken>, payload: P) -> Result<P, Rejected<P>> {
    match token.and_then(CancelToken::fired_by) {
        None => Ok(payload),
        Some(fired) => Err(Rejected {
            payload,
            reason: Reason::from(fired),
        }),
    }
}

#[derive(Clone, Copy)]
enum Wait {
    ForRoom,
    Not,
}

impl Wait {
    fn patience(self, token: Option<&CancelToken>) -> Patience<'_> {
        match self {
            Wait::ForRoom => Patience::Until(token),
            Wait::Not => Patience::None,
        }
    }
}

impl<P, O, E> fmt::Debug for Submission<'_, P, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submission")
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
