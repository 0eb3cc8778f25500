//! The thread of a worker, from its first line to its last: with a factory, several workers live
//! on it, one after the other.
//!
//! # States
//!
//! ```text
//!            made                 panicked or finished
//! Making ───────────▶ Serving ─────────────────────────▶ Back-off ──▶ Making …
//!    │ failed: Back-off   │ removed, or the pool ends        │ the same
//!    └────────────────────┴──────────────▶ Gone ◀────────────┘ or too many restarts
//! ```
//!
//! All are changed by the worker's thread alone; the others see them in the seat's word: `ABSENT` in
//! Making and Back-off. The hooks are told of each worker that was made, and of its end: by the
//! thread when another is to follow, by the dispatcher after it joined the thread when none is.
//!
//! # Why nobody waits for a worker that does not come
//!
//! - A dismissal during a back-off ends it; see [`Seat`]. One during Making is seen after it: a
//!   factory cannot be interrupted, so the pool's end waits for it.
//! - A job left lying by the last worker is found by the next, which looks before it sleeps; or the
//!   thread ends, and the dispatcher, told by `Command::Gone`, knows what to do with it.
//! - A draining pool whose workers are all at rest does not wait for one that is absent: it holds no
//!   job. The dispatcher looks again when a worker lies down, and (rung from here) when one becomes
//!   absent.

use crate::pool::{Starter, Told};
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::error::FactoryError;
use crate::job::id::WorkerId;
use crate::policy::restart::Restarter;
use crate::pool::roster::current::{self as context, Place};
use crate::pool::roster::record::Seat;
use crate::pool::roster::{NotAdded, Recruit};
use crate::pool::{Command, Shared};
use crate::sync::channel::bounded;
use crate::sync::thread_spawn::{Free, Joinable, Spawn};
use crate::sync::unwind as panics;
use crate::sync::{Arc, thread};
use crate::worker::Worker;
use crate::worker::run as runner;

/// Starts the thread of a worker.
pub(crate) fn spawn<'a, P, O, E>(
    spawn: &impl Spawn<'a>,
    shared: &Arc<Shared<P, O, E>>,
    seat: &Arc<Seat>,
    life: impl FnOnce(&Shared<P, O, E>, &Arc<Seat>) + Send + 'a,
) -> io::Result<Joinable>
where
    P: Send + 'a,
    O: Send + 'a,
    E: Send + 'a,
{
    let name = format!("{}-{}", shared.thread_prefix, seat.id());
    let mut thread = thread::Builder::new().name(name);
    if let Some(bytes) = shared.stack_size {
        thread = thread.stack_size(bytes);
    }
    let (shared, seat) = (Arc::clone(shared), Arc::clone(seat));
    spawn.spawn(thread, move || {
        context::enter_for_good(shared.key(), Place::Worker(seat.id()));
        #[cfg(feature = "affinity")]
        shared.pins.pin(seat.id().get());
        life(&shared, &seat);
    })
}

pub(crate) fn starter<P, O, E, W, X>(
    factory: impl Fn(WorkerId) -> Result<W, X> + Send + Sync + 'static,
) -> Starter<P, O, E>
where
    P: Send + 'static,
    O: Send + 'static,
    E: Send + 'static,
    W: Worker<P, O, E>,
    X: fmt::Display,
{
    let factory = Arc::new(factory);
    Box::new(move |shared, seat, told| {
        let factory = Arc::clone(&factory);
        let make = move |id| factory(id).map_err(|error| error.to_string());
        spawn(&Free, shared, seat, move |shared, seat| {
            renewed(shared, seat, make, told);
        })
    })
}

/// Adds a worker that a factory makes, and blocks until it is made. `None` if there are enough.
pub(crate) fn add<P, O, E, X>(
    shared: &Arc<Shared<P, O, E>>,
    recruit: Recruit,
    start: impl FnOnce(&Arc<Seat>, Told<X>) -> io::Result<Joinable>,
) -> Result<Option<WorkerId>, FactoryError<X>> {
    let (told, answer) = bounded(1);
    let entered = |id| shared.command(Command::Added(id));
    let seat = match shared
        .roster
        .add(recruit, |seat| start(seat, told), entered)
    {
        Ok(seat) => seat,
        Err(NotAdded::Enough) => return Ok(None),
        Err(NotAdded::Closed) => return Err(FactoryError::Closed),
        Err(NotAdded::Spawn(error)) => return Err(FactoryError::Spawn(error)),
    };
    let id = seat.id();
    match answer.recv().unwrap_or(Err(FactoryError::Closed)) {
        Ok(()) => Ok(Some(id)),
        Err(error) => {
            // Its thread has said so and is at its end.
            if let Some(leaver) = shared.roster.remove(id) {
                let _ = leaver.thread.join();
            }
            shared.command(Command::Gone(id));
            Err(error)
        }
    }
}

/// The same with the pool's own factory, until there are so many workers, one after the other.
/// Tells which were made, and what went wrong.
pub(crate) fn fill_up<P, O, E>(
    shared: &Arc<Shared<P, O, E>>,
    factory: &Starter<P, O, E>,
    workers: usize,
) -> (Vec<WorkerId>, Result<(), FactoryError<String>>) {
    let mut made = Vec::new();
    // No more than that, also if they leave as soon as they are made.
    while made.len() < workers {
        let start = |seat: &_, told| factory(shared, seat, Some(told));
        match add(shared, Recruit::Below(workers), start) {
            Ok(Some(id)) => made.push(id),
            Ok(None) => break,
            Err(error) => return (made, Err(error)),
        }
    }
    (made, Ok(()))
}

/// Tells the dispatcher that the thread is at its end, however it ends.
struct LastAct<'a, P, O, E>(&'a Shared<P, O, E>, &'a Seat);

impl<P, O, E> Drop for LastAct<'_, P, O, E> {
    fn drop(&mut self) {
        self.0.command(Command::Gone(self.1.id()));
    }
}

/// The life of a worker that was made elsewhere, and is not made again.
pub(crate) fn single<P, O, E, W>(shared: &Shared<P, O, E>, seat: &Arc<Seat>, worker: W)
where
    W: Worker<P, O, E>,
{
    let _last_act = LastAct(shared, seat);
    runner::run(shared, seat, worker);
    seat.dismiss();
}

/// The life of a worker that `make` makes here, and makes anew as the pool's rules allow.
///
/// If there is somebody to be `told`, the first attempt is the only one that may fail without
/// consequences: then the thread ends, and the one who was told sees to the rest.
pub(crate) fn renewed<P, O, E, W, X>(
    shared: &Shared<P, O, E>,
    seat: &Arc<Seat>,
    mut make: impl FnMut(WorkerId) -> Result<W, X>,
    mut told: Option<Told<X>>,
) where
    W: Worker<P, O, E>,
    X: fmt::Display,
{
    let id = seat.id();
    let mut last_act = told.is_none().then(|| LastAct(shared, seat));
    let mut restarter = Restarter::new(shared.restarts, id.get());
    loop {
        match attempt(&mut make, id) {
            Ok(worker) => {
                last_act.get_or_insert_with(|| LastAct(shared, seat));
                seat.take_seat();
                shared.worker_is_there(id);
                shared.hooks.each("worker_add", |hook| hook.worker_add(id));
                restarter.made(Instant::now());
                if let Some(told) = told.take() {
                    let _ = told.send(Ok(()));
                }
                runner::run(shared, seat, worker);
            }
            Err(error) => {
                if let Some(told) = told.take() {
                    panics::discard("factory", make);
                    let _ = told.send(Err(error));
                    return;
                }
                complain(id, &error);
                panics::discard("factory's error", error);
            }
        }
        if seat.is_dismissed() {
            break;
        }
        let now = Instant::now();
        let Some(pause) = restarter.next(now) else {
            log::error!("worker {id} of pool {:?} failed too often", shared.name());
            seat.dismiss();
            break;
        };
        if seat.vacate() {
            let hooks = &shared.hooks;
            hooks.each("worker_remove", |hook| hook.worker_remove(id));
        }
        if shared.gate.is_shut() {
            shared.bell.ring(); // the dispatcher waits for all to be at rest
        }
        log::debug!(
            "worker {id} of pool {:?} is made anew in {pause:?}",
            shared.name()
        );
        if seat.await_dismissal(now.checked_add(pause)) {
            break;
        }
    }
    panics::discard("factory", make);
}

fn attempt<W, X>(
    make: &mut impl FnMut(WorkerId) -> Result<W, X>,
    id: WorkerId,
) -> Result<W, FactoryError<X>> {
    match catch_unwind(AssertUnwindSafe(|| make(id))) {
        Ok(made) => made.map_err(FactoryError::Failed),
        Err(panic) => Err(FactoryError::Panicked(panics::message(panic))),
    }
}

/// Logs why a worker was not made.
fn complain<X: fmt::Display>(id: WorkerId, error: &FactoryError<X>) {
    let log = AssertUnwindSafe(|| log::error!("worker {id} could not be made: {error}"));
    if catch_unwind(log).is_err() {
        log::error!("worker {id} could not be made, and the error cannot be shown");
    }
}
