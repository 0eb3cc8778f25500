//! How a worker finds its next job.

use crate::policy::dispatch::AGE;
use crate::policy::prefetch::{MANY, UNATTENDED, is_low};
use crate::pool::Shared;
use crate::pool::queue::run_queue::Taken;
use crate::pool::roster::record::Seat;
use crate::stats::in_flight::Generation;
use crate::sync::backoff::Spin;
use crate::sync::{Arc, Ordering::SeqCst, fence};
use crate::task::free_list::Used;
use crate::task::{Form, Ticket};
use crate::worker::sender_cache::Spent;
use std::time::Instant;

/// When the released jobs are many, a worker looks at the low-water mark once in so many jobs.
const LOOK_EVERY: u32 = 8;

/// How a worker finds its next job; see [`Crew`](crate::pool::roster::sleep::Crew) for why none is left lying.
pub(crate) struct Seeker<'a, P, O, E> {
    pub(crate) shared: &'a Shared<P, O, E>,
    pub(crate) seat: &'a Arc<Seat>,
    pub(super) searching: bool,
    pub(super) taken: u32,
    /// The generation of the job that it ended last, if that is not yet told.
    pub(super) ended: Option<Generation>,
    pub(super) spent: Spent<E>,
    pub(super) used: Used<'a, Form<P, E>>,
}

impl<P, O, E> Seeker<'_, P, O, E> {
    /// Waits for the next job. `None` when the worker is to leave.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Ticket<P, O, E>> {
        if self.seat.is_leaving() {
            return None;
        }
        let Ok(ticket) = self.shared.ready.take_usual() else {
            return self.look_further();
        };
        self.took(ticket.generation(), false);
        self.stay_or_give_back(ticket)
    }

    /// As [`next`](Self::next), where the next job is not just there.
    pub(super) fn look_further(&mut self) -> Option<Ticket<P, O, E>> {
        let ready = &self.shared.ready;
        let mut spin = Spin::default();
        // That there is nothing to do is told once; searching may have begun before.
        let mut told = false;
        loop {
            if self.seat.is_leaving() {
                return None;
            }
            let others_first = self.taken.is_multiple_of(AGE);
            let taken = ready.take(others_first).or_else(|| self.join_in());
            if let Some(Taken { job, waited }) = taken {
                self.took(job.generation(), waited);
                return self.stay_or_give_back(job);
            }
            if !std::mem::replace(&mut told, true) {
                self.spent.drop_all();
                self.tell_low_water();
                self.report_ended(None);
            }
            if !self.searching {
                self.searching = self.shared.crew.try_search();
                spin = Spin::default();
            }
            if !(self.searching && spin.turn_of_searcher(self.shared.crew.outlook())) {
                self.sleep(spin.began());
                spin = Spin::default();
            }
        }
    }

    /// A job of this generation was taken, and was counted as waiting if it `waited`.
    #[inline]
    pub(super) fn took(&mut self, generation: Generation, waited: bool) {
        self.stop_search();
        self.report_ended(Some(generation));
        self.taken = self.taken.wrapping_add(1);
        if waited {
            self.shared.gate.leave(1);
        }
        self.look_after_others();
    }

    /// `None` if the worker is to leave after all.
    #[inline]
    pub(super) fn stay_or_give_back(&self, ticket: Ticket<P, O, E>) -> Option<Ticket<P, O, E>> {
        if self.seat.is_leaving() {
            self.give_back(ticket);
            return None;
        }
        Some(ticket)
    }

    /// Finished between the look and the take: the job goes back to the others.
    #[cold]
    pub(super) fn give_back(&self, ticket: Ticket<P, O, E>) {
        self.shared.ready.put_back(ticket.order(), ticket);
        fence(SeqCst);
        self.shared.crew.wake_one();
    }

    /// Nothing is ready: joins another worker that is at a chunk.
    #[inline]
    pub(super) fn join_in(&self) -> Option<Taken<Ticket<P, O, E>>> {
        let shared = self.shared;
        if shared.open.is_empty() || shared.ready.is_held() {
            return None;
        }
        let mut job = Ticket::chunk(shared.open.join()?);
        job.begin_wait(&shared.books);
        Some(Taken { job, waited: false })
    }

    /// A caller that gets its answer may submit the next job at once. It shall find this worker
    /// searching, and not wake another.
    pub(super) fn search_early(&mut self) {
        if !self.searching && !self.shared.has_work() {
            self.searching = self.shared.crew.try_search();
        }
    }

    /// Sleeps after a search that began then, if it was long.
    #[cold]
    pub(super) fn sleep(&mut self, began: Option<Instant>) {
        let shared = self.shared;
        // Called when the worker counts as asleep.
        let work = || {
            if shared.gate.is_shut() {
                shared.bell.ring(); // the dispatcher waits for all to be at rest
            }
            shared.has_work() || self.seat.is_leaving()
        };
        let now = Instant::now();
        let searching = self.searching.then_some(began.unwrap_or(now));
        shared.crew.sleep(self.seat, searching, work);
        self.searching = true;
    }

    /// No longer searches, if it did; another shall, if there are jobs.
    pub(super) fn stop_search(&mut self) {
        if std::mem::take(&mut self.searching) {
            self.shared.crew.stop_search();
            if self.shared.has_work() {
                self.shared.crew.wake_one();
            }
        }
    }

    /// Tells those who wait for a generation that a run of its jobs has ended, unless the next one is
    /// of the same. A sequentially consistent step lies between the end and this call.
    pub(super) fn report_ended(&mut self, next: Option<Generation>) {
        if let Some(ended) = self.ended.take()
            && next != Some(ended)
        {
            self.shared.books.census.call_if_wanted(ended);
        }
    }

    /// Do the dispatcher and the other workers do their part?
    pub(super) fn look_after_others(&mut self) {
        if self.shared.ready.depth() < MANY || self.taken.is_multiple_of(LOOK_EVERY) {
            self.tell_low_water();
            if self.shared.ready.released() >= UNATTENDED {
                self.shared.crew.help_search();
            }
        }
    }

    pub(super) fn tell_low_water(&self) {
        let Shared { ready, bell, .. } = self.shared;
        if bell.job_taken(|| is_low(ready.released(), ready.depth())) {
            self.shared.stand_in();
        }
    }
}
