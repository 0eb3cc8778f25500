//! What a pool's handles, dispatcher and workers share, and the two ways in for a job.

pub(crate) mod dispatch_state;
pub(crate) mod gauge;
pub(crate) mod no_workers;
pub(crate) mod queue;
pub(crate) mod roster;
pub(crate) mod signal;

use crate::error::FactoryError;
use crate::error::Reason;
use crate::hook::Hooks;
use crate::job::Priority;
use crate::job::cancel::{CancelToken, earliest};
use crate::job::id::JobId;
use crate::policy::NoWorkers;
use crate::policy::dispatch::Fated;
use crate::policy::elastic::Elastic;
use crate::policy::prefetch::{MANY, UNATTENDED, is_low};
use crate::policy::restart::Restarts;
use crate::pool::dispatch_state::Desk;
use crate::pool::gauge::PoolGauge;
use crate::pool::queue::run_queue::Ready;
use crate::pool::queue::{Gate, Refusal, Way};
use crate::pool::roster::current::{self as context, Place};
use crate::pool::roster::record::Seat;
use crate::pool::roster::sleep::Crew;
use crate::pool::roster::{Blocked, Roster};
use crate::pool::signal::Bell;
use crate::stats::counters::Books;
use crate::sync::backoff::Spin;
use crate::sync::channel::{Receiver, Sender};
use crate::sync::park::{Parker, Wake};
use crate::sync::thread_spawn::Joinable;
use crate::sync::unwind as panics;
use crate::sync::{Arc, Mutex, Ordering::SeqCst, fence};
use crate::task::chunk::shared::Open;
use crate::task::free_list::Blanks;
use crate::task::oneshot::{GivenUp, Reply, Slot};
use crate::task::{Form, Ticket, cause_of};
use crate::{JobError, Rejected, SubmitError};
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

/// How long a submitter waits for room.
pub(crate) enum Patience<'a> {
    /// Not at all.
    None,
    /// Until there is room, the token fires, or the pool closes.
    Until(Option<&'a CancelToken>),
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

    /// Accepts a job, as [`admit`](Self::admit) does.
    ///
    /// # Errors
    /// The payload and why it was not accepted.
    pub(crate) fn accept(
        &self,
        ticket: Ticket<P, O, E>,
        patience: Patience<'_>,
    ) -> Result<(), Rejected<P>> {
        self.admit(ticket, patience).map_err(|(ticket, reason)| {
            let payload = ticket.into_payload(&self.books);
            let payload = payload.expect("nobody else has seen the job");
            Rejected { payload, reason }
        })
    }

    /// Lets a job in: straight to the workers if nothing waits and there is room there, else into
    /// the job channel.
    ///
    /// # Errors
    /// The job and why it was not accepted.
    pub(crate) fn admit(
        &self,
        ticket: Ticket<P, O, E>,
        patience: Patience<'_>,
    ) -> Result<(), (Ticket<P, O, E>, Reason)> {
        let ticket = match self.short_way(ticket) {
            Ok(()) => return Ok(()),
            Err(ticket) => ticket,
        };
        match (self.gate.enter(), patience) {
            (Ok(_), _) => {
                self.enqueue(ticket);
                Ok(())
            }
            (Err(Refusal::Full), Patience::Until(token)) => self.admit_later(ticket, token),
            (Err(refusal), _) => Err((ticket, refusal.into())),
        }
    }

    /// The queue is full: as [`admit`](Self::admit), as soon as there is room.
    fn admit_later(
        &self,
        ticket: Ticket<P, O, E>,
        token: Option<&CancelToken>,
    ) -> Result<(), (Ticket<P, O, E>, Reason)> {
        let mut waiting = Some(ticket);
        // A submitter that was woken finds the short way mostly open again.
        let enter = || match waiting.take().map(|ticket| self.short_way(ticket)) {
            Some(Err(ticket)) => {
                waiting = Some(ticket);
                self.gate.enter()
            }
            _ => Ok(Way::Short),
        };
        let refused = self.wait_for_room(enter, token).err();
        match (waiting, refused) {
            (None, _) => Ok(()),
            (Some(ticket), None) => {
                self.enqueue(ticket);
                Ok(())
            }
            (Some(ticket), Some(reason)) => Err((ticket, reason)),
        }
    }

    /// The gate has let the job in: it waits in the channel of its priority. No send blocks, since
    /// the gate lets no more in than there is room for.
    fn enqueue(&self, mut ticket: Ticket<P, O, E>) {
        ticket.begin_wait(&self.books);
        let token = ticket.be_watched(&self.bell);
        match ticket.priority() {
            Priority::High => {
                self.ready.put_urgent(ticket);
                fence(SeqCst);
                self.crew.wake_one();
                if self.gate.turns_away() {
                    self.came_too_late();
                }
            }
            priority => {
                let channel = match priority {
                    Priority::Low => &self.low_jobs.0,
                    _ => &self.jobs.0,
                };
                let sent = channel.send(ticket);
                debug_assert!(sent.is_ok(), "the pool holds both ends");
                self.bell.job_arrived(|| {
                    let few = || is_low(self.ready.released(), self.ready.depth());
                    priority == Priority::Low || self.gate.turns_away() || few()
                });
            }
        }
        self.watch_size();
        self.mind(token);
    }

    /// After the job with this token is there: whoever looks for dead jobs from now on finds it.
    fn mind(&self, token: Option<CancelToken>) {
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

    /// Nothing waits, and the released jobs are few: a normal job goes straight to
    /// the workers. Since it goes only when nothing waits, a submitter's jobs keep their order.
    #[inline]
    fn short_way(&self, mut ticket: Ticket<P, O, E>) -> Result<(), Ticket<P, O, E>> {
        // A low job has no need to hurry, an urgent one has a lane of its own.
        let normal = ticket.priority() == Priority::Normal;
        let counted = self.books.census.counted();
        if !(normal && self.gate.wide_open() && self.ready.has_room(counted)) {
            return Err(ticket);
        }
        ticket.begin_wait(&self.books);
        self.ready.put(ticket).inspect_err(|ticket| {
            ticket.end_wait(&self.books);
        })?;
        fence(SeqCst);
        self.crew
            .wake_for(|| self.ready.after_last(counted) / self.one_workers());
        if self.gate.turns_away() {
            self.came_too_late();
        }
        self.watch_size();
        Ok(())
    }

    /// So many ready jobs are worth a worker's while: of short ones, those who are awake soon have some.
    fn one_workers(&self) -> usize {
        if self.ready.depth() < MANY {
            1
        } else {
            UNATTENDED
        }
    }

    /// A job was accepted. A sequentially consistent step lies between that and this call.
    #[inline]
    fn watch_size(&self) {
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

    /// The pool closed, or lost its last worker, after a submitter's look at the gate. Either the
    /// dispatcher clears away the released jobs after this one came, or the submitter sees the flag
    /// and comes here.
    #[cold]
    fn came_too_late(&self) {
        if self.gate.is_closing() {
            self.refuse_released();
        }
        self.bell.ring();
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

    fn wait_for_room(
        &self,
        enter: impl FnMut() -> Result<Way, Refusal>,
        token: Option<&CancelToken>,
    ) -> Result<(), Reason> {
        let parker = Parker::current();
        let deadline = token.and_then(CancelToken::deadline);
        let blocked = match self.place() {
            None => None,
            Some(Place::Dispatcher) => return Err(Reason::WouldDeadlock),
            Some(Place::Worker(me)) => Some(self.roster.block(me, &parker, deadline)),
            Some(Place::Adder) => None,
        };
        let _watch = token.map(|token| token.watch(Arc::clone(&parker) as Arc<dyn Wake>));
        if self.bell.has_given_up() {
            self.bell.ask_sweep(); // their places are wanted now
        }
        // Whether a worker waits in vain is judged by its being called for the first place.
        let patient = blocked.is_none();
        let waited = self.gate.wait_in_line(&parker, patient, enter, |patience| {
            if let Some(fired) = token.and_then(CancelToken::fired_by) {
                return Err(fired.into());
            }
            if self.park(&parker, blocked.as_ref(), earliest(deadline, patience)) {
                return Err(Reason::WouldDeadlock);
            }
            match token.and_then(CancelToken::fired_by) {
                Some(fired) => Err(fired.into()),
                None => Ok(()),
            }
        });
        waited.map(|_| ())
    }

    /// Blocks for a job's result: until it is there, `token` fires, or `until` passes (then `None`).
    pub(crate) fn await_reply(
        &self,
        id: JobId,
        slot: &Slot<P, O, E>,
        token: Option<&CancelToken>,
        until: Option<Instant>,
    ) -> Option<Reply<P, O, E>> {
        if self.place() == Some(Place::Dispatcher) {
            return self.await_on_dispatcher(id, slot, until);
        }
        let mut spin = Spin::of_caller();
        loop {
            if !spin.is_early()
                && let Some(reply) = slot.take()
            {
                spin.found();
                if reply.is_ok() {
                    self.ready.know_out(id.get());
                }
                return Some(reply);
            }
            if !spin.turn() {
                break;
            }
        }
        let parker = Parker::current();
        let deadline = earliest(until, token.and_then(CancelToken::deadline));
        let blocked = match self.place() {
            // Who only looks for a while does not wait in vain.
            Some(Place::Worker(me)) if until.is_none() => {
                Some(self.roster.block(me, &parker, deadline))
            }
            _ => None,
        };
        slot.wake_when_settled(&parker);
        let _watch = token.map(|token| token.watch(Arc::clone(&parker) as Arc<dyn Wake>));
        loop {
            if let Some(reply) = slot.take() {
                return Some(reply);
            }
            if let Some(fired) = token.and_then(CancelToken::fired_by) {
                return Some(self.give_up(id, slot, fired.into()));
            }
            if until.is_some_and(|at| Instant::now() >= at) {
                return None;
            }
            if self.park(&parker, blocked.as_ref(), deadline) {
                match slot.give_up(true) {
                    GivenUp::Running(_) => blocked.iter().for_each(Blocked::cannot_withdraw),
                    given_up => return Some(self.given_up(id, given_up, Reason::WouldDeadlock)),
                }
            }
        }
    }

    /// The dispatcher itself asks, in a hook or a destructor: it takes what is there, and never
    /// waits, since without it the pool stands still.
    fn await_on_dispatcher(
        &self,
        id: JobId,
        slot: &Slot<P, O, E>,
        until: Option<Instant>,
    ) -> Option<Reply<P, O, E>> {
        match slot.take() {
            None if until.is_some() => None,
            None => Some(self.give_up(id, slot, Reason::WouldDeadlock)),
            reply => reply,
        }
    }

    /// Parks the calling thread. If it is a worker of this pool, and all wait in vain, it is told to
    /// withdraw.
    pub(crate) fn park(
        &self,
        parker: &Parker,
        blocked: Option<&Blocked<'_>>,
        until: Option<Instant>,
    ) -> bool {
        match blocked {
            Some(me) => me.park(until, || self.bell.ring()),
            None => {
                parker.park(until);
                false
            }
        }
    }

    /// The caller gives up on a job, begun or not.
    pub(crate) fn give_up(
        &self,
        id: JobId,
        slot: &Slot<P, O, E>,
        reason: Reason,
    ) -> Reply<P, O, E> {
        self.given_up(id, slot.give_up(false), reason)
    }

    fn given_up(&self, id: JobId, given_up: GivenUp<P, O, E>, reason: Reason) -> Reply<P, O, E> {
        match given_up {
            GivenUp::Unstarted(payload) => {
                self.books.refused(reason);
                self.place_to_free();
                Err(Rejected { payload, reason }.into())
            }
            GivenUp::BetweenTries(payload, last) => {
                self.books.refused(reason);
                self.bell.ask_sweep();
                if reason == Reason::WouldDeadlock {
                    return Err(Rejected { payload, reason }.into());
                }
                panics::discard("payload", payload);
                let error = JobError::new(id, Some(last), cause_of(reason));
                Err(SubmitError::Failed(error))
            }
            GivenUp::Running(this) => {
                let error = JobError::new(id, Some(this), cause_of(reason));
                Err(SubmitError::Failed(error))
            }
            GivenUp::Settled(reply) => reply,
            GivenUp::Taken => unreachable!("a reply is taken once"),
        }
    }

    /// A caller took back a job that may still wait: its place is to be freed.
    pub(crate) fn place_to_free(&self) {
        let waiting = self.gate.count();
        let wanted = waiting >= self.gate.capacity() || self.gate.blocked() > 0;
        self.bell.job_given_up(waiting, wanted);
    }

    /// Running jobs go on, none begins. A pool on its way out is not held up.
    pub(crate) fn pause(&self) {
        self.gate.pause();
        self.ready.pause();
        if self.gate.is_shut() {
            self.resume();
        }
    }

    pub(crate) fn resume(&self) {
        self.ready.resume();
        self.gate.resume();
        fence(SeqCst);
        if self.has_work() {
            self.crew.wake_one();
        }
        self.look_at_size();
    }

    /// No new jobs and no new workers, from this call on.
    pub(crate) fn drain(&self) {
        self.roster.close();
        let first = self.gate.drain();
        self.resume();
        if first {
            self.command(Command::Drain);
        }
    }

    /// As [`drain`](Self::drain); and no job begins any more, and the running ones are told.
    pub(crate) fn close(&self, told: Option<Sender<usize>>) {
        self.roster.close();
        self.ready.shut();
        let first = self.gate.close();
        if first || told.is_some() {
            self.command(Command::Close(told));
        }
        self.closing.cancel();
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
