//! What a pool's handles, dispatcher and workers share, and the two ways in for a job.

pub(crate) mod dispatch_state;
pub(crate) mod gauge;
pub(crate) mod lifecycle;
pub(crate) mod no_workers;
pub(crate) mod queue;
pub(crate) mod roster;
pub(crate) mod signal;

use crate::error::FactoryError;
use crate::error::Reason;
use crate::hook::Hooks;
use crate::job::cancel::CancelToken;
use crate::policy::NoWorkers;
use crate::policy::dispatch::Fated;
use crate::policy::elastic::Elastic;
use crate::policy::restart::Restarts;
use crate::pool::dispatch_state::Desk;
use crate::pool::gauge::PoolGauge;
use crate::pool::queue::Gate;
use crate::pool::queue::run_queue::Ready;
use crate::pool::roster::Roster;
use crate::pool::roster::current::{self as context, Place};
use crate::pool::roster::record::Seat;
use crate::pool::roster::sleep::Crew;
use crate::pool::signal::Bell;
use crate::stats::counters::Books;
use crate::sync::channel::{Receiver, Sender};
use crate::sync::thread_spawn::Joinable;
use crate::sync::unwind as panics;
use crate::sync::{Arc, Mutex, Ordering::SeqCst};
use crate::task::chunk::shared::Open;
use crate::task::free_list::Blanks;
use crate::task::{Form, Ticket};
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
pub(crate) type Told<X> = Sender<Result<(), FactoryError<X>>>;

/// Starts the thread of a worker that the pool's own factory makes, as often as it is called.
pub(crate) type Starter<P, O, E> = Box<
    dyn Fn(&Arc<Shared<P, O, E>>, &Arc<Seat>, Option<Told<String>>) -> io::Result<Joinable>
        + Send
        + Sync,
>;

pub(crate) struct Shared<P, O, E> {
    /// What hooks see of the pool.
    pub(crate) gauge: Arc<PoolGauge>,
    pub(crate) thread_prefix: String,
    pub(crate) stack_size: Option<usize>,
    #[cfg(feature = "affinity")]
    pub(crate) pins: crate::sync::pin::Pins,
    pub(crate) hooks: Hooks,
    /// The pool's own, if it has one.
    pub(crate) factory: Option<Starter<P, O, E>>,
    pub(crate) elastic: Option<Elastic>,
    pub(crate) restarts: Restarts,
    pub(crate) no_workers: NoWorkers,
    /// The job channel: normal jobs that entered and that the dispatcher has not yet taken.
    pub(crate) jobs: BothEnds<Ticket<P, O, E>>,
    /// The same for low ones. The gate bounds both together.
    pub(crate) low_jobs: BothEnds<Ticket<P, O, E>>,
    /// Jobs to be tried again, and when.
    pub(crate) retries: BothEnds<(Ticket<P, O, E>, Instant)>,
    pub(crate) control: Sender<Command>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) ready: Ready<Ticket<P, O, E>>,
    /// What tickets are written on.
    pub(crate) blanks: Blanks<Form<P, E>>,
    /// Chunks of batches that idle workers may join in.
    pub(crate) open: Open<P, O, E>,
    pub(crate) crew: Crew,
    pub(crate) bell: Arc<Bell>,
    pub(crate) desk: Mutex<Desk<P, O, E>>,
    pub(crate) roster: Arc<Roster>,
    pub(crate) books: Books,
    /// Fires when the pool closes; the running jobs see it.
    pub(crate) closing: CancelToken,
}

impl<P, O, E> Shared<P, O, E> {
    pub(crate) fn name(&self) -> &str {
        &self.gauge.name
    }

    /// A number that is this pool's own while its threads live.
    pub(crate) fn key(&self) -> usize {
        std::ptr::from_ref(self).cast::<()>() as usize
    }

    /// Where in this pool the calling thread stands, if inside.
    pub(crate) fn place(&self) -> Option<Place> {
        context::inside(self.key())
    }

    /// After the job with this token is there: whoever looks for dead jobs from now on finds it.
    pub(crate) fn mind(&self, token: Option<CancelToken>) {
        let Some(token) = token else { return };
        if let Some(at) = token.deadline() {
            self.bell.set_alarm(at);
        }
        if token.is_cancelled() {
            self.bell.ask_sweep();
        }
    }

    /// The job was accepted before: the gate does not count it until it is time.
    pub(crate) fn try_again(&self, mut ticket: Ticket<P, O, E>, at: Instant) {
        let token = ticket.be_watched(&self.bell);
        self.books.backing_off.fetch_add(1, SeqCst);
        let sent = self.retries.0.send((ticket, at));
        debug_assert!(sent.is_ok(), "the pool holds both ends");
        self.bell.ring();
        self.mind(token);
    }

    /// A job was accepted. A sequentially consistent step lies between that and this call.
    #[inline]
    pub(crate) fn watch_size(&self) {
        if self.elastic.is_some() {
            self.bell.job_accepted();
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
        self.ready.has_work() || !(self.open.is_empty() || self.ready.is_held())
    }

    /// Turns away the jobs that were released and that no worker took, also those of chunks that
    /// workers are at. How many? Workers that begin a chunk after this see that the pool is shut.
    pub(crate) fn refuse_released(&self) -> usize {
        let mut refused = 0;
        while let Some(taken) = self.ready.drain_one() {
            refused += taken.job.refuse(Reason::Closed, &self.books);
            if taken.waited {
                self.gate.leave(1);
            }
        }
        for chunk in self.open.take_all() {
            refused += chunk.refuse(Reason::Closed, Some(&self.books));
            panics::discard("chunk", chunk);
        }
        refused
    }

    pub(crate) fn command(&self, command: Command) {
        // The dispatcher is gone only when nothing is left to be done.
        let _ = self.control.send(command);
        self.bell.ring();
    }
}

impl<P, O, E> std::fmt::Debug for Ticket<P, O, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket")
            .field("fate", &self.fate())
            .finish()
    }
}
