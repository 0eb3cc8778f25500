//! The elastic pool's hands: looks for the [`Sizing`], and does what it decides.
//!
//! # Why no job goes unseen
//!
//! While the dispatcher has no mark, and could set one, it is to be *rung*: it clears the bell's `watching` and
//! *then* looks once more whether a job was accepted; a submitter puts its job in and *then* reads
//! `watching` (sequentially consistent, with fences). So either the dispatcher sees the job, or the
//! submitter sees that it is to ring. While `watching` is set, a submitter pays one load: the
//! dispatcher has a timer, or no worker may be added and it looks again when that changes.

use std::time::Instant;

use crate::policy::elastic::{Decision, Look, Sizing};
use crate::pool::roster::{NotAdded, Recruit};
use crate::pool::{Command, Shared};
use crate::sync::{Arc, Ordering::SeqCst, fence};

pub(crate) struct Stretch {
    sizing: Option<Sizing>,
    /// What the bell's `watching` was at the last look.
    watching: bool,
}

impl Stretch {
    pub(crate) fn new<P, O, E>(shared: &Shared<P, O, E>) -> Self {
        Stretch {
            sizing: shared.elastic.map(Sizing::new),
            watching: false,
        }
    }

    /// When the dispatcher shall look again, if nothing happens before.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        self.sizing.as_ref().and_then(Sizing::next_look)
    }

    /// Another worker would come if jobs waited long enough.
    pub(crate) fn can_grow(&self) -> bool {
        self.sizing.as_ref().is_some_and(Sizing::can_grow)
    }

    /// Looks, if it is time, a submitter has rung, or there is `news` of the workers.
    pub(crate) fn turn<P, O, E>(&mut self, shared: &Arc<Shared<P, O, E>>, news: bool) {
        let Some(sizing) = &mut self.sizing else {
            return;
        };
        if shared.gate.is_shut() {
            self.sizing = None;
            return;
        }
        let rung = !self.watching && shared.bell.is_watching();
        let due = || sizing.next_look().is_some_and(|at| Instant::now() >= at);
        if !(news || rung || due()) {
            return;
        }
        loop {
            if look(shared, sizing) == Decision::Grow {
                continue; // it is being made, or else there is a mark for the next attempt
            }
            if !sizing.is_calm() {
                shared.bell.set_watching(true);
                break;
            }
            shared.bell.set_watching(false);
            fence(SeqCst);
            if shared.books.accepted() == sizing.seen() {
                break;
            }
        }
        self.watching = shared.bell.is_watching();
    }
}

fn look<P, O, E>(shared: &Arc<Shared<P, O, E>>, sizing: &mut Sizing) -> Decision {
    let (workers, making) = shared.roster.staying();
    let waiting = (shared.gate.count() + shared.ready.released()) as u64;
    let window = sizing.window();
    let decision = sizing.look(Look {
        now: Instant::now(),
        waiting,
        accepted: shared.books.accepted(),
        workers,
        making,
        slept: shared.crew.least_asleep(),
        paused: shared.ready.is_paused(),
    });
    if sizing.window() != window {
        shared.crew.count_asleep_anew();
    }
    match decision {
        Decision::Stay => {}
        Decision::Grow => grow(shared),
        Decision::Shrink => {
            if let Some(id) = shared.crew.longest_asleep() {
                log::debug!("pool {:?} shrinks by worker {id}", shared.name());
                shared.roster.dismiss(id);
            }
        }
    }
    decision
}

/// The new worker is made on its own thread, and says so itself.
fn grow<P, O, E>(shared: &Arc<Shared<P, O, E>>) {
    let (Some(factory), Some(elastic)) = (&shared.factory, &shared.elastic) else {
        return;
    };
    let start = |seat: &_| factory(shared, seat, None);
    let entered = |id| shared.command(Command::Added(id));
    match shared
        .roster
        .add(Recruit::Below(elastic.most), start, entered)
    {
        Ok(seat) => log::debug!("pool {:?} grows by worker {}", shared.name(), seat.id()),
        Err(NotAdded::Spawn(error)) => log::error!("pool {:?} cannot grow: {error}", shared.name()),
        Err(NotAdded::Closed | NotAdded::Enough) => {}
    }
}
