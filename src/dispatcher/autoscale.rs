//! The elastic pool's hands: looks for the [`Scaler`], and does what it decides.
//!
//! # Why no job goes unseen
//!
//! While the dispatcher has no mark, and could set one, it is to be *rung*: it clears the signal's `watching` and
//! *then* looks once more whether a job was accepted; a submitter puts its job in and *then* reads
//! `watching` (sequentially consistent, with fences). So either the dispatcher sees the job, or the
//! submitter sees that it is to ring. While `watching` is set, a submitter pays one load: the
//! dispatcher has a timer, or no worker may be added and it looks again when that changes.

use std::time::Instant;

use crate::policy::elastic::{Decision, Sample, Scaler};
use crate::pool::roster::{AddKind, NotAdded};
use crate::pool::{Command, Pool};
use crate::sync::{Arc, Ordering::SeqCst, fence};

pub(crate) struct Autoscaler {
    scaler: Option<Scaler>,
    /// What the signal's `watching` was at the last look.
    watching: bool,
}

impl Autoscaler {
    pub(crate) fn new<P, O, E>(pool: &Pool<P, O, E>) -> Self {
        Autoscaler {
            scaler: pool.elastic.map(Scaler::new),
            watching: false,
        }
    }

    /// When the dispatcher shall look again, if nothing happens before.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        self.scaler.as_ref().and_then(Scaler::next_look)
    }

    /// Looks, if it is time, a submitter has rung, or there is `news` of the workers.
    pub(crate) fn turn<P, O, E>(&mut self, pool: &Arc<Pool<P, O, E>>, news: bool) {
        let Some(scaler) = &mut self.scaler else {
            return;
        };
        if pool.admission.is_shut() {
            self.scaler = None;
            return;
        }
        let rung = !self.watching && pool.signal.is_watching();
        let due = || scaler.next_look().is_some_and(|at| Instant::now() >= at);
        if !(news || rung || due()) {
            return;
        }
        loop {
            if look(pool, scaler) == Decision::Grow {
                continue; // it is being made, or else there is a mark for the next attempt
            }
            if !scaler.is_calm() {
                pool.signal.set_watching(true);
                break;
            }
            pool.signal.set_watching(false);
            fence(SeqCst);
            if pool.counters.accepted() == scaler.seen() {
                break;
            }
        }
        self.watching = pool.signal.is_watching();
    }
}

fn look<P, O, E>(pool: &Arc<Pool<P, O, E>>, scaler: &mut Scaler) -> Decision {
    let (workers, making) = pool.roster.staying();
    let waiting = (pool.admission.count() + pool.run_queue.released()) as u64;
    let window = scaler.window();
    let decision = scaler.look(Sample {
        now: Instant::now(),
        waiting,
        accepted: pool.counters.accepted(),
        workers,
        making,
        slept: pool.sleep.least_asleep(),
        paused: pool.run_queue.is_paused(),
    });
    if scaler.window() != window {
        pool.sleep.reset_least_asleep();
    }
    match decision {
        Decision::Stay => {}
        Decision::Grow => grow(pool),
        Decision::Shrink => {
            if let Some(id) = pool.sleep.longest_asleep() {
                log::debug!("pool {:?} shrinks by worker {id}", pool.name());
                pool.roster.stop(id);
            }
        }
    }
    decision
}

/// The new worker is made on its own thread, and says so itself.
fn grow<P, O, E>(pool: &Arc<Pool<P, O, E>>) {
    let (Some(factory), Some(elastic)) = (&pool.factory, &pool.elastic) else {
        return;
    };
    let start = |record: &_| factory(pool, record, None);
    let entered = |id| pool.command(Command::Added(id));
    match pool
        .roster
        .add(AddKind::Below(elastic.most), start, entered)
    {
        Ok(record) => log::debug!("pool {:?} grows by worker {}", pool.name(), record.id()),
        Err(NotAdded::Spawn(error)) => log::error!("pool {:?} cannot grow: {error}", pool.name()),
        Err(NotAdded::Closed | NotAdded::Enough) => {}
    }
}
