//! Carries out what the [`Scaler`] of an elastic pool decides.
//!
//! # Why no job is missed
//!
//! A baseline counts the accepted jobs; see [`elastic`](crate::policy::elastic). While the
//! dispatcher has no baseline, and a job would make it set one, it is to be notified of the next
//! job. It clears the signal's `watching`, and *then* looks once more whether a job was accepted. A
//! submitter puts its job in, and *then* reads `watching`. Both are sequentially consistent, with
//! fences. So either the dispatcher sees the job, or the submitter sees that it has to notify the
//! dispatcher.
//!
//! While `watching` is set, a submitter pays one load. Then the dispatcher has a timer, or no
//! worker may be added, and the dispatcher looks again when that changes.

use std::time::Instant;

use crate::policy::elastic::{Decision, Sample, Scaler};
use crate::pool::Pool;
use crate::pool::roster::{AddKind, NotAdded};
use crate::sync::log;
use crate::sync::time;
use crate::sync::{Arc, Ordering::SeqCst, fence};

pub(crate) struct Autoscaler {
    scaler: Option<Scaler>,
    /// What the signal's `watching` was after the last sample.
    watching: bool,
}

impl Autoscaler {
    pub(crate) fn new<P, O, E>(pool: &Pool<P, O, E>) -> Self {
        Autoscaler {
            scaler: pool.elastic.map(Scaler::new),
            watching: false,
        }
    }

    /// When to take the next sample, if nothing happens before.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        self.scaler.as_ref().and_then(Scaler::next_look)
    }

    /// Takes a sample if it is time, if a submitter has notified the dispatcher, or if there is
    /// `news` of the workers.
    pub(crate) fn turn<P, O, E>(&mut self, pool: &Arc<Pool<P, O, E>>, news: bool) {
        let Some(scaler) = &mut self.scaler else {
            return;
        };
        if pool.admission.is_shut() {
            self.scaler = None;
            return;
        }
        let notified = !self.watching && pool.signal.is_watching();
        let due = || scaler.next_look().is_some_and(|at| time::now() >= at);
        if !(news || notified || due()) {
            return;
        }
        loop {
            if take_sample(pool, scaler) == Decision::Grow {
                continue; // the worker is being made; or it failed, and the next sample sets a baseline
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

/// Takes a sample, and does what the scaler decides.
fn take_sample<P, O, E>(pool: &Arc<Pool<P, O, E>>, scaler: &mut Scaler) -> Decision {
    let (workers, making) = pool.roster.staying();
    let waiting = (pool.admission.count() + pool.run_queue.released()) as u64;
    let window = scaler.window();
    let decision = scaler.look(Sample {
        now: time::now(),
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
                let line = || format!("pool {:?} shrinks by worker {id}", pool.name());
                pool.log_later(log::Level::Debug, line);
                pool.roster.stop(id);
            }
        }
    }
    decision
}

/// Adds a worker. It is made on its own thread, which tells the hooks.
fn grow<P, O, E>(pool: &Arc<Pool<P, O, E>>) {
    let (Some(factory), Some(elastic)) = (&pool.factory, &pool.elastic) else {
        return;
    };
    let start = |record: &_| factory(pool, record, None);
    match pool.roster.add(AddKind::Below(elastic.most), start, || {}) {
        Ok(record) => {
            // The new worker counts at once.
            pool.signal.notify();
            let id = record.id();
            let line = || format!("pool {:?} grows by worker {id}", pool.name());
            pool.log_later(log::Level::Debug, line);
        }
        Err(NotAdded::Spawn(error)) => {
            let line = || format!("pool {:?} cannot grow: {error}", pool.name());
            pool.log_later(log::Level::Error, line);
        }
        Err(NotAdded::Closed | NotAdded::Enough) => {}
    }
}
