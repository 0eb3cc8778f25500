//! What a pool's handles, dispatcher and workers share.

pub(crate) mod dispatch_state;
pub(crate) mod gauge;
pub(crate) mod lifecycle;
pub(crate) mod no_workers;
pub(crate) mod queue;
pub(crate) mod roster;
pub(crate) mod signal;
pub(crate) mod waits;

use std::io;
use std::time::Instant;

use crate::error::{FactoryError, RejectReason};
use crate::hook::{Hooks, PoolState};
use crate::job::cancel::CancelToken;
use crate::job::id::WorkerId;
use crate::policy::NoWorkers;
use crate::policy::deadlock::{PoolKey, Role};
use crate::policy::dispatch::Schedulable;
use crate::policy::elastic::Elastic;
use crate::policy::restart::Restarts;
use crate::pool::dispatch_state::{DispatchState, RejectedTask};
use crate::pool::gauge::PoolGauge;
use crate::pool::queue::Admission;
use crate::pool::queue::run_queue::{Queued, RunQueue};
use crate::pool::roster::Roster;
use crate::pool::roster::current;
use crate::pool::roster::record::WorkerRecord;
use crate::pool::roster::sleep::Sleep;
use crate::pool::signal::DispatcherSignal;
use crate::stats::counters::Counters;
use crate::sync::channel::{Receiver, Sender};
use crate::sync::log;
use crate::sync::thread_spawn::Joinable;
use crate::sync::{Arc, Mutex, Ordering::SeqCst};
use crate::task::chunk::shared::SharedChunks;
use crate::task::free_list::FreeList;
use crate::task::{DetachedTask, Task};

/// What the dispatcher is asked to do.
pub(crate) enum Command {
    /// Check the pool's size.
    CheckSize,
    Drain,
    /// The sender, if any, is told how many jobs were rejected.
    Close(Option<Sender<usize>>),
}

/// What the reaper is to do: all that may run a user's code.
pub(crate) enum Cleanup<P, O, E> {
    /// A worker's thread is at its end.
    Worker(WorkerId),
    /// The job is answered; what is left of it is to be dropped.
    Drop(Task<P, O, E>),
    /// Tell the hooks that the pool has come to this state.
    Announce(PoolState),
    Log(log::Level, String),
    /// No cleanup follows, and the pool is closed.
    End,
}

/// A channel that lives as long as the pool.
pub(crate) type BothEnds<T> = (Sender<T>, Receiver<T>);

/// Tells the caller that adds a worker by its factory whether it was made.
pub(crate) type StartReply<X> = Sender<Result<(), FactoryError<X>>>;

/// Each call starts the thread of a worker that the pool's own factory makes.
pub(crate) type WorkerFactory<P, O, E> = Box<
    dyn Fn(
            &Arc<Pool<P, O, E>>,
            &Arc<WorkerRecord>,
            Option<StartReply<String>>,
        ) -> io::Result<Joinable>
        + Send
        + Sync,
>;

pub(crate) struct Pool<P, O, E> {
    /// What hooks may ask.
    pub(crate) gauge: Arc<PoolGauge>,
    pub(crate) thread_prefix: String,
    pub(crate) stack_size: Option<usize>,
    #[cfg(feature = "affinity")]
    pub(crate) pins: crate::sync::pin::Pins,
    pub(crate) hooks: Hooks,
    /// The pool's own factory, if it has one.
    pub(crate) factory: Option<WorkerFactory<P, O, E>>,
    pub(crate) elastic: Option<Elastic>,
    pub(crate) restarts: Restarts,
    pub(crate) no_workers: NoWorkers,
    /// The job channel: normal jobs that were let in and that the dispatcher has not yet taken.
    pub(crate) jobs: BothEnds<Task<P, O, E>>,
    /// The same for low jobs. The queue's capacity bounds both together.
    pub(crate) low_jobs: BothEnds<Task<P, O, E>>,
    /// Jobs that get another attempt, and when.
    pub(crate) retries: BothEnds<(Task<P, O, E>, Instant)>,
    pub(crate) control: Sender<Command>,
    pub(crate) cleanups: Sender<Cleanup<P, O, E>>,
    pub(crate) admission: Arc<Admission>,
    /// Held while the pool is paused or resumed: the flags of the admission and the run queue change
    /// together, so that no job is handed off into a paused run queue.
    pub(crate) pausing: Mutex<()>,
    pub(crate) run_queue: RunQueue<Task<P, O, E>>,
    /// Boxes of detached tasks, for reuse.
    pub(crate) free_list: FreeList<DetachedTask<P, E>>,
    /// Chunks of batches with which idle workers may help.
    pub(crate) shared_chunks: SharedChunks<P, O, E>,
    pub(crate) sleep: Sleep,
    pub(crate) signal: Arc<DispatcherSignal>,
    pub(crate) state: Mutex<DispatchState<P, O, E>>,
    pub(crate) roster: Arc<Roster>,
    pub(crate) counters: Arc<Counters>,
    /// Cancelled when the pool closes. The running jobs see it.
    pub(crate) closing: CancelToken,
}

impl<P, O, E> Queued for Task<P, O, E> {
    #[inline]
    fn may_expire(&self) -> bool {
        self.is_detached_with_token()
    }
}

impl<P, O, E> Pool<P, O, E> {
    pub(crate) fn name(&self) -> &str {
        &self.gauge.name
    }

    /// A number that no other pool has.
    pub(crate) fn key(&self) -> PoolKey {
        self.roster.waits.key()
    }

    /// The calling thread's role in this pool, if it is inside.
    pub(crate) fn thread_role(&self) -> Option<Role> {
        current::inside(self.key())
    }

    /// Must the calling thread never block for a job of this pool? The dispatcher must not, since
    /// without it the pool stands still, nor a thread that the dispatcher is about to join.
    pub(crate) fn must_not_block(&self) -> bool {
        matches!(self.thread_role(), Some(Role::Dispatcher | Role::Departed))
    }

    /// Heeds the token of a job that waits. The job is in its channel before, so that a sweep from
    /// now on finds it.
    pub(crate) fn watch_expiry(&self, token: Option<CancelToken>) {
        let Some(token) = token else { return };
        if let Some(at) = token.deadline() {
            self.signal.set_timer(at);
        }
        if token.is_cancelled() {
            self.signal.ask_sweep();
        }
    }

    /// A job gets another attempt at that time. Until then the queue does not count it.
    pub(crate) fn retry_later(&self, mut task: Task<P, O, E>, at: Instant) {
        let token = task.watch_token(&self.signal);
        self.counters.backing_off.fetch_add(1, SeqCst);
        let sent = self.retries.0.send((task, at));
        debug_assert!(sent.is_ok(), "the pool holds both ends");
        self.signal.notify();
        self.watch_expiry(token);
    }

    /// A job was accepted: an elastic pool may need more workers. A sequentially consistent step
    /// lies between that and this call.
    #[inline]
    pub(crate) fn notify_autoscaler(&self) {
        if self.elastic.is_some() {
            self.signal.job_accepted();
        }
    }

    /// Something changed on which the pool's size depends: asks the dispatcher to check it.
    pub(crate) fn check_size(&self) {
        if self.elastic.is_some() {
            self.command(Command::CheckSize);
        }
    }

    /// Is there something for a worker to do?
    pub(crate) fn has_work(&self) -> bool {
        self.run_queue.has_work() || !(self.shared_chunks.is_empty() || self.run_queue.is_held())
    }

    /// Takes the jobs that were released and that no worker took, also those of chunks that workers
    /// have begun: all are to be rejected. Workers that begin a chunk after this see that the pool is
    /// shut.
    pub(crate) fn take_released(&self, reason: RejectReason) -> Vec<RejectedTask<P, O, E>> {
        let mut released = Vec::new();
        while let Some(popped) = self.run_queue.drain_one() {
            if popped.waited {
                self.admission.release(1);
            }
            released.push((popped.job, Some(reason)));
        }
        for chunk in self.shared_chunks.take_all() {
            let mut task = Task::chunk(chunk);
            task.begin_wait(&self.counters); // the rejection ends it
            released.push((task, Some(reason)));
        }
        released
    }

    /// Leaves something to the reaper.
    pub(crate) fn clean_up(&self, cleanup: Cleanup<P, O, E>) {
        // The reaper is gone only when nothing is left to do.
        let _ = self.cleanups.send(cleanup);
    }

    /// Has the reaper write a log line: a logger may be slow, or call back.
    pub(crate) fn log_later(&self, level: log::Level, line: impl FnOnce() -> String) {
        if log::is_on(level) {
            self.clean_up(Cleanup::Log(level, line()));
        }
    }

    /// Sends the dispatcher a command.
    pub(crate) fn command(&self, command: Command) {
        // The dispatcher is gone only when nothing is left to be done.
        let _ = self.control.send(command);
        self.signal.notify();
    }
}

impl<P, O, E> std::fmt::Debug for Task<P, O, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task")
            .field("status", &self.status())
            .finish()
    }
}
