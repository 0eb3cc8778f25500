//! How a job gets in: past the queue, or into it.

use crate::Rejected;
use crate::error::Reason;
use crate::job::Priority;
use crate::job::cancel::CancelToken;
use crate::policy::dispatch::Fated;
use crate::policy::prefetch::{MANY, UNATTENDED, is_low};
use crate::pool::Shared;
use crate::pool::queue::{Refusal, Way};
use crate::sync::{Ordering::SeqCst, fence};
use crate::task::Ticket;

/// How long a submitter waits for room.
pub(crate) enum Patience<'a> {
    /// Not at all.
    None,
    /// Until there is room, the token fires, or the pool closes.
    Until(Option<&'a CancelToken>),
}

impl<P, O, E> Shared<P, O, E> {
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
}
