//! The [`Manager`]: the pool as its users hold it.

use std::convert::Infallible;
use std::fmt;
use std::time::{Duration, Instant};

use crate::builder::Builder;
use crate::close::{CloseSignal, Ending};
use crate::context::{self, Place};
use crate::error::{
    AddError, CloseTimeout, DetachedError, DrainTimeout, Rejected, SubmitError, UnknownWorker,
};
use crate::handle::JobHandle;
use crate::hook::{Gauge, PoolState};
use crate::runner;
use crate::shared::{Command, Shared};
use crate::stats::Stats;
use crate::submit::Submission;
use crate::sync::channel::{Receiver, Sender, bounded};
use crate::sync::{Arc, Mutex, Weak, thread};
use crate::worker::{Worker, WorkerId, WorkerInfo};

/// A pool of stateful workers, each on its own OS thread: payloads of type `P` go in, outputs of
/// type `O` or the workers' errors of type `E` come out.
///
/// Cheap to clone, to be shared between threads. Dropping the last clone closes the pool, as
/// [`close`](Self::close) does.
///
/// Jobs of one submitter and one priority begin in the order in which they were submitted. A pool without workers
/// keeps what it accepts until one is added: give jobs a deadline if that may be never.
///
/// ```
/// use worker_pool::{Job, Manager};
///
/// let pool = Manager::<String, usize>::new();
/// for _ in 0..2 {
///     pool.add(|job: Job<String>| Ok(job.payload().len()))?;
/// }
/// assert_eq!(pool.submit("hello".to_owned())?, 5);
/// pool.close();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Manager<P, O = (), E = Infallible> {
    owner: Arc<Owner<P, O, E>>,
}

/// What a pool gets that is closed after a drain took too long, to let its idle workers go.
const GRACE: Duration = Duration::from_millis(50);

/// Shared by the clones of a manager, not by the pool's own threads: when the last is dropped, the
/// pool closes.
struct Owner<P, O, E> {
    shared: Arc<Shared<P, O, E>>,
    ending: Ending,
}

impl<P, O, E> Drop for Owner<P, O, E> {
    fn drop(&mut self) {
        self.shared.close(None);
        self.ending.wait_on_drop(self.shared.place().is_some());
    }
}

impl<P, O, E> Clone for Manager<P, O, E> {
    fn clone(&self) -> Self {
        Manager {
            owner: Arc::clone(&self.owner),
        }
    }
}

impl<P, O, E> Manager<P, O, E>
where
    P: Send + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    /// A pool with the builder's defaults, and no worker yet.
    ///
    /// # Panics
    /// If the dispatcher's thread cannot be started; [`Builder::build`] returns an error instead.
    pub fn new() -> Self {
        Builder::new()
            .build()
            .expect("the dispatcher's thread can be started")
    }

    /// A builder, for a pool with other settings than the defaults.
    pub fn builder() -> Builder<P, O, E> {
        Builder::new()
    }

    /// Adds a worker, on a new thread of its own. When this returns, the hooks know of it and it
    /// takes jobs.
    ///
    /// # Errors
    /// The worker, if the pool is draining or closed, or its thread cannot be started.
    pub fn add<W>(&self, worker: W) -> Result<WorkerId, AddError<W>>
    where
        W: Worker<P, O, E> + Send + 'static,
    {
        let shared = &self.owner.shared;
        // The worker follows its thread, so that it is still here if there is none.
        let (hand_over, receive) = bounded::<W>(1);
        let start = |seat: Arc<crate::seat::Seat>| {
            let shared = Arc::clone(shared);
            let id = seat.id();
            let mut thread = thread::Builder::new().name(format!("{}-{id}", shared.thread_prefix));
            if let Some(bytes) = shared.stack_size {
                thread = thread.stack_size(bytes);
            }
            thread.spawn(move || {
                if let Ok(worker) = receive.recv() {
                    runner::run(&shared, &seat, worker);
                }
            })
        };
        let told = |id| shared.command(Command::Added(id));
        let seat = match shared.roster.add(start, told) {
            Ok(seat) => seat,
            Err(spawn) => return Err(AddError { worker, spawn }),
        };
        let id = seat.id();
        {
            // A hook that closes the pool must not wait for the worker that waits for the hook.
            let _inside = context::enter(shared.key(), Place::Adder);
            shared.hooks.each("worker_add", |hook| hook.worker_add(id));
        }
        let handed_over = hand_over.send(worker);
        debug_assert!(handed_over.is_ok(), "the thread waits for its worker");
        Ok(id)
    }

    /// Asks a worker to leave. It finishes the job in hand, takes no other, and closes; this returns
    /// at once. The hooks are told when its thread is gone.
    ///
    /// # Errors
    /// If the pool has no such worker (any more).
    pub fn remove(&self, worker: WorkerId) -> Result<(), UnknownWorker> {
        if self.owner.shared.roster.dismiss(worker) {
            Ok(())
        } else {
            Err(UnknownWorker(worker))
        }
    }

    /// The workers that have a thread, in the order in which they were added.
    pub fn workers(&self) -> Vec<WorkerInfo> {
        self.owner.shared.roster.workers()
    }

    /// A job to be submitted with a deadline or a cancel token; see [`Submission`].
    pub fn job(&self, payload: P) -> Submission<'_, P, O, E> {
        Submission::new(&self.owner.shared, payload)
    }

    /// Submits a job and blocks until its result is there, first for room in the queue if it is full.
    ///
    /// # Errors
    /// [`Rejected`](SubmitError::Rejected), with the payload, if the job did not begin: the pool
    /// closed first, or waiting would deadlock, because it is called from inside the pool's own
    /// workers and none is left to run it. [`Failed`](SubmitError::Failed) if it ran: the worker's
    /// own error, or its panic.
    pub fn submit(&self, payload: P) -> Result<O, SubmitError<P, E>> {
        self.job(payload).submit()
    }

    /// As [`submit`](Self::submit), for at most `timeout`. Also returns then if the worker is still
    /// at it; the job is told (see [`Job::is_cancelled`](crate::Job::is_cancelled)).
    ///
    /// # Errors
    /// As [`submit`](Self::submit), and deadline passed.
    pub fn submit_timeout(&self, payload: P, timeout: Duration) -> Result<O, SubmitError<P, E>> {
        self.job(payload).timeout(timeout).submit()
    }

    /// Submits a job without blocking; the handle leads to its result.
    ///
    /// # Errors
    /// The payload, if the queue is full or the pool closed.
    pub fn try_submit(&self, payload: P) -> Result<JobHandle<P, O, E>, Rejected<P>> {
        self.job(payload).try_submit()
    }

    /// Submits a job, blocking only while the queue is full; the handle leads to its result.
    ///
    /// # Errors
    /// The payload, if the pool is closed, or waiting for room would deadlock.
    pub fn enqueue(&self, payload: P) -> Result<JobHandle<P, O, E>, Rejected<P>> {
        self.job(payload).enqueue()
    }

    /// Submits a job whose success nobody asks about, blocking only while the queue is full. If it
    /// fails (worker's error, panic, cancelled, deadline passed, pool closed), `id` and the error
    /// are sent on `errors`, without ever blocking a worker: if that channel is full or has no
    /// receiver, the error is lost and counted ([`lost_errors`](Self::lost_errors)).
    ///
    /// ```
    /// use worker_pool::{Job, Manager};
    ///
    /// let pool = Manager::<u32, (), String>::new();
    /// pool.add(|job: Job<u32>| match job.into_payload() {
    ///     13 => Err("not that one".to_owned()),
    ///     _ => Ok(()),
    /// })?;
    /// let (errors, failures) = crossbeam_channel::unbounded();
    /// for number in 0..20 {
    ///     pool.detach_submit(number, u64::from(number), &errors)?;
    /// }
    /// drop(errors);
    /// pool.drain();
    /// let failed: Vec<u64> = failures.iter().map(|failure| failure.id).collect();
    /// assert_eq!(failed, [13]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The payload, if the job was not accepted; nothing is sent then.
    pub fn detach_submit(
        &self,
        payload: P,
        id: u64,
        errors: &Sender<DetachedError<E>>,
    ) -> Result<(), Rejected<P>> {
        self.job(payload).detach(id, errors)
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        &self.owner.shared.name
    }

    /// Where the pool is in its life.
    pub fn state(&self) -> PoolState {
        self.owner.shared.state()
    }

    /// Jobs that are accepted and not yet released to the workers.
    pub fn waiting(&self) -> usize {
        self.owner.shared.gate.count()
    }

    /// The most jobs that may wait.
    pub fn queue_capacity(&self) -> usize {
        self.owner.shared.gate.capacity()
    }

    /// Failures of detached jobs that found no listener.
    pub fn lost_errors(&self) -> u64 {
        self.owner.shared.books.lost_errors()
    }

    /// What became of the jobs so far.
    ///
    /// ```
    /// use worker_pool::{Job, Manager};
    ///
    /// let pool = Manager::<u32>::new();
    /// pool.add(|_: Job<u32>| Ok(()))?;
    /// pool.submit(1)?;
    /// pool.drain();
    /// let stats = pool.stats();
    /// assert_eq!((stats.accepted, stats.completed), (1, 1));
    /// assert_eq!(stats.accepted, stats.ended());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stats(&self) -> Stats {
        let shared = &self.owner.shared;
        // What has ended first: it is never more than what was accepted.
        let ended = shared.roster.ended();
        shared.books.read(ended, shared.gate.blocked() as u64)
    }

    /// From now on no job begins, but one that a worker is just taking; those that run go on. Jobs
    /// are still accepted, up to the queue's capacity. Does nothing once the pool is draining or closed.
    ///
    /// [`drain`](Self::drain) resumes the pool, since it could not end otherwise;
    /// [`close`](Self::close) answers what waits as ever.
    ///
    /// ```
    /// use worker_pool::{Job, Manager};
    ///
    /// let pool = Manager::<u32, u32>::new();
    /// pool.add(|job: Job<u32>| Ok(job.into_payload() + 1))?;
    /// pool.pause();
    /// let mut held = pool.enqueue(1)?;
    /// assert!(held.poll().is_none());
    /// pool.resume();
    /// assert_eq!(held.wait()?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pause(&self) {
        self.owner.shared.pause();
    }

    /// Ends a [`pause`](Self::pause): what waits begins, without any further submit.
    pub fn resume(&self) {
        self.owner.shared.resume();
    }

    /// Is the pool paused?
    pub fn is_paused(&self) -> bool {
        self.owner.shared.ready.is_paused()
    }

    /// Blocks until every job accepted before this call has ended and been answered, however many
    /// are submitted meanwhile. `true`; or `false`, at once, from inside the pool, where the calling
    /// job itself would be waited for.
    ///
    /// ```
    /// use worker_pool::{Job, Manager};
    ///
    /// let pool = Manager::<u32, (), String>::new();
    /// pool.add(|job: Job<u32>| Err(format!("no {}", job.payload())))?;
    /// let (errors, failures) = crossbeam_channel::unbounded();
    /// for number in 0..10 {
    ///     pool.detach_submit(number, u64::from(number), &errors)?;
    /// }
    /// pool.wait_idle();
    /// assert_eq!(failures.len(), 10); // each is answered by now
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_idle(&self) -> bool {
        self.wait_idle_until(None)
    }

    /// As [`wait_idle`](Self::wait_idle), for at most `timeout`: `false` if some job had not ended
    /// by then.
    pub fn wait_idle_timeout(&self, timeout: Duration) -> bool {
        self.wait_idle_until(Instant::now().checked_add(timeout))
    }

    fn wait_idle_until(&self, deadline: Option<Instant>) -> bool {
        let shared = &self.owner.shared;
        let settled = |generation| shared.roster.settled(generation);
        !self.is_inside() && shared.books.census.wait(deadline, settled)
    }

    /// Closes the pool: takes no more jobs or workers, answers "closed" to the jobs that have not
    /// begun, tells the running ones through their cancel tokens, and blocks until they have ended,
    /// each worker has closed, and every thread is joined. Again, or from several threads: harmless.
    ///
    /// From inside the pool (a worker, or a hook) it asks for all this and returns at once: a thread
    /// cannot wait for its own end.
    pub fn close(&self) {
        self.owner.shared.close(None);
        self.owner.ending.wait(self.is_inside(), None);
    }

    /// As [`close`](Self::close), but blocks for at most `timeout`.
    ///
    /// # Errors
    /// The workers whose threads still run. A thread cannot be killed: the pool goes on closing as
    /// they return. Dropping the pool does not wait for them again.
    pub fn close_timeout(&self, timeout: Duration) -> Result<(), CloseTimeout> {
        self.owner.shared.close(None);
        if self.owner.ending.wait(self.is_inside(), Some(timeout)) {
            return Ok(());
        }
        Err(CloseTimeout {
            running: self.owner.shared.roster.ids(),
        })
    }

    /// Takes no more jobs or workers, blocks until everything accepted has run, and then closes. If
    /// the last worker leaves meanwhile, what it left is answered "closed".
    ///
    /// From inside the pool it asks for all this and returns at once.
    pub fn drain(&self) {
        self.owner.shared.drain();
        self.owner.ending.wait(self.is_inside(), None);
    }

    /// As [`drain`](Self::drain), for at most `timeout`; then it closes hard: jobs that have not
    /// begun are answered "closed", the running ones are told through their tokens and, beyond a
    /// tenth of a second, not waited for.
    ///
    /// From inside the pool it asks for a drain and returns at once; nothing is abandoned then.
    ///
    /// # Errors
    /// How many jobs were abandoned, and which workers' threads still run.
    pub fn drain_timeout(&self, timeout: Duration) -> Result<(), DrainTimeout> {
        let shared = &self.owner.shared;
        let inside = self.is_inside();
        shared.drain();
        if self.owner.ending.wait(inside, Some(timeout)) {
            return Ok(());
        }
        let mut abandoned = 0;
        if !inside {
            let (told, refused) = bounded(1);
            shared.close(Some(told));
            // Idle workers and the dispatcher need a moment; one that hangs does not get more.
            abandoned = refused.recv_timeout(GRACE).unwrap_or(0);
            if self.owner.ending.wait(false, Some(GRACE)) && abandoned == 0 {
                return Ok(()); // it had just been done
            }
        }
        let running = shared.roster.ids();
        Err(DrainTimeout { abandoned, running })
    }

    /// A handle that does not keep the pool open: for workers, hooks and payloads that submit to
    /// their own pool. If they held a [`Manager`], the last one would never be dropped.
    pub fn downgrade(&self) -> WeakManager<P, O, E> {
        WeakManager {
            owner: Arc::downgrade(&self.owner),
        }
    }

    /// A signal of the pool's end, for any number of waiters; see [`CloseSignal`].
    pub fn close_signal(&self) -> CloseSignal {
        self.owner.ending.signal()
    }

    fn is_inside(&self) -> bool {
        self.owner.shared.place().is_some()
    }
}

impl<P, O, E> Manager<P, O, E> {
    pub(crate) fn new_with(
        shared: Arc<Shared<P, O, E>>,
        dispatcher: Mutex<Option<thread::JoinHandle<()>>>,
        ended: Receiver<Infallible>,
    ) -> Self {
        Manager {
            owner: Arc::new(Owner {
                shared,
                ending: Ending::new(dispatcher, ended),
            }),
        }
    }
}

/// A handle to a pool that does not keep it open; made by [`Manager::downgrade`].
pub struct WeakManager<P, O = (), E = Infallible> {
    owner: Weak<Owner<P, O, E>>,
}

impl<P, O, E> WeakManager<P, O, E> {
    /// The pool, unless its last [`Manager`] is gone.
    ///
    /// ```
    /// let pool = worker_pool::Manager::<u32>::new();
    /// let weak = pool.downgrade();
    /// assert!(weak.upgrade().is_some());
    /// drop(pool);
    /// assert!(weak.upgrade().is_none());
    /// ```
    pub fn upgrade(&self) -> Option<Manager<P, O, E>> {
        let owner = self.owner.upgrade()?;
        Some(Manager { owner })
    }
}

impl<P, O, E> Clone for WeakManager<P, O, E> {
    fn clone(&self) -> Self {
        WeakManager {
            owner: Weak::clone(&self.owner),
        }
    }
}

impl<P, O, E> fmt::Debug for WeakManager<P, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakManager").finish_non_exhaustive()
    }
}

impl<P, O, E> Default for Manager<P, O, E>
where
    P: Send + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    fn default() -> Self {
        Manager::new()
    }
}

impl<P, O, E> fmt::Debug for Manager<P, O, E>
where
    P: Send,
    O: Send,
    E: Send,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.owner.shared;
        f.debug_struct("Manager")
            .field("name", &shared.name)
            .field("state", &shared.state())
            .field("workers", &shared.roster.ids().len())
            .field("waiting", &shared.gate.count())
            .finish_non_exhaustive()
    }
}
