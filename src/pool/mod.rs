//! What a pool's handles, dispatcher and workers share, and the two ways in for a job.

pub(crate) mod dispatch_state;
pub(crate) mod gauge;
pub(crate) mod lifecycle;
pub(crate) mod no_workers;
pub(crate) mod queue;
pub(crate) mod roster;
pub(crate) mod signal;

use crate::error::FactoryError;
use crate::error::RejectReason;
use crate::hook::Hooks;
use crate::job::cancel::CancelToken;
use crate::policy::NoWorkers;
use crate::policy::dispatch::Schedulable;
use crate::policy::elastic::Elastic;
use crate::policy::restart::Restarts;
use crate::pool::dispatch_state::DispatchState;
use crate::pool::gauge::PoolGauge;
use crate::pool::queue::Admission;
use crate::pool::queue::run_queue::RunQueue;
use crate::pool::roster::Roster;
use crate::pool::roster::current::{self as context, ThreadRole};
use crate::pool::roster::record::WorkerRecord;
use crate::pool::roster::sleep::Sleep;
use crate::pool::signal::DispatcherSignal;
use crate::stats::counters::Counters;
use crate::sync::channel::{Receiver, Sender};
use crate::sync::thread_spawn::Joinable;
use crate::sync::unwind as panics;
use crate::sync::{Arc, Mutex, Ordering::SeqCst};
use crate::task::chunk::shared::SharedChunks;
use crate::task::free_list::FreeList;
use crate::task::{DetachedTask, Task};
use std::io;
use std::time::Instant;

/// What the dispatcher is asked to do.
pub(crate) enum Command {
    Added(crate::job::id::WorkerId),
    Gone(crate::job::id::WorkerId),
    /// To look at the pool's size.
    Look,
    Drain,
    /// The sender is told how many jobs were turned away.
    Close(Option<Sender<usize>>),
}

/// A channel that lives as long as the pool.
pub(crate) type BothEnds<T> = (Sender<T>, Receiver<T>);

/// Tells whoever adds a worker by its factory what came of it.
pub(crate) type StartReply<X> = Sender<Result<(), FactoryError<X>>>;

/// Starts the thread of a worker that the pool's own factory makes, as often as it is called.
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
    /// What hooks see of the pool.
    pub(crate) gauge: Arc<PoolGauge>,
    pub(crate) thread_prefix: String,
    pub(crate) stack_size: Option<usize>,
    #[cfg(feature = "affinity")]
    pub(crate) pins: crate::sync::pin::Pins,
    pub(crate) hooks: Hooks,
    /// The pool's own, if it has one.
    pub(crate) factory: Option<WorkerFactory<P, O, E>>,
    pub(crate) elastic: Option<Elastic>,
    pub(crate) restarts: Restarts,
    pub(crate) no_workers: NoWorkers,
    /// The job channel: normal jobs that entered and that the dispatcher has not yet taken.
    pub(crate) jobs: BothEnds<Task<P, O, E>>,
    /// The same for low ones. The queue bounds both together.
    pub(crate) low_jobs: BothEnds<Task<P, O, E>>,
    /// Jobs to be tried again, and when.
    pub(crate) retries: BothEnds<(Task<P, O, E>, Instant)>,
    pub(crate) control: Sender<Command>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) run_queue: RunQueue<Task<P, O, E>>,
    /// What tasks are written on.
    pub(crate) free_list: FreeList<DetachedTask<P, E>>,
    /// Chunks of batches that idle workers may join in.
    pub(crate) shared_chunks: SharedChunks<P, O, E>,
    pub(crate) sleep: Sleep,
    pub(crate) signal: Arc<DispatcherSignal>,
    pub(crate) state: Mutex<DispatchState<P, O, E>>,
    pub(crate) roster: Arc<Roster>,
    pub(crate) counters: Counters,
    /// Fires when the pool closes; the running jobs see it.
    pub(crate) closing: CancelToken,
}

impl<P, O, E> Pool<P, O, E> {
    pub(crate) fn name(&self) -> &str {
        &self.gauge.name
    }

    /// A number that is this pool's own while its threads live.
    pub(crate) fn key(&self) -> usize {
        std::ptr::from_ref(self).cast::<()>() as usize
    }

    /// Where in this pool the calling thread stands, if inside.
    pub(crate) fn place(&self) -> Option<ThreadRole> {
        context::inside(self.key())
    }

    /// After the job with this token is there: whoever looks for dead jobs from now on finds it.
    pub(crate) fn mind(&self, token: Option<CancelToken>) {
        let Some(token) = token else { return };
        if let Some(at) = token.deadline() {
            self.signal.set_timer(at);
        }
        if token.is_cancelled() {
            self.signal.ask_sweep();
        }
    }

    /// The job was accepted before: the queue does not count it until it is time.
    pub(crate) fn retry_later(&self, mut task: Task<P, O, E>, at: Instant) {
        let token = task.be_watched(&self.signal);
        self.counters.backing_off.fetch_add(1, SeqCst);
        let sent = self.retries.0.send((task, at));
        debug_assert!(sent.is_ok(), "the pool holds both ends");
        self.signal.notify();
        self.mind(token);
    }

    /// A job was accepted. A sequentially consistent step lies between that and this call.
    #[inline]
    pub(crate) fn watch_size(&self) {
        if self.elastic.is_some() {
            self.signal.job_accepted();
        }
    }

    /// Something changed on which the pool's size depends.
    pub(crate) fn look_at_size(&self) {
        if self.elastic.is_some() {
            self.command(Command::Look);
        }
    }

    /// Is there something that a worker may do?
    pub(crate) fn has_work(&self) -> bool {
        self.run_queue.has_work() || !(self.shared_chunks.is_empty() || self.run_queue.is_held())
    }

    /// Turns away the jobs that were released and that no worker took, also those of chunks that
    /// workers are at. How many? Workers that begin a chunk after this see that the pool is shut.
    pub(crate) fn reject_released(&self) -> usize {
        let mut rejected = 0;
        while let Some(taken) = self.run_queue.drain_one() {
            rejected += taken.job.reject(RejectReason::Closed, &self.counters);
            if taken.waited {
                self.admission.release(1);
            }
        }
        for chunk in self.shared_chunks.take_all() {
            rejected += chunk.reject(RejectReason::Closed, Some(&self.counters));
            panics::discard("chunk", chunk);
        }
        rejected
    }

    pub(crate) fn command(&self, command: Command) {
        // The dispatcher is gone only when nothing is left to be done.
        let _ = self.control.send(command);
        self.signal.notify();
    }
}

impl<P, O, E> std::fmt::Debug for Task<P, O, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task")
            .field("fate", &self.status())
            .finish()
    }
}
