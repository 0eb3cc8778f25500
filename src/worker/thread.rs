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
//! All are changed by the worker's thread alone; the others see them in the record's word: `RESTARTING` in
//! Making and Back-off. The hooks are told of each worker that was made, and of its end: by the
//! thread when another is to follow, by the dispatcher after it joined the thread when none is.
//!
//! # Why nobody waits for a worker that does not come
//!
//! - A dismissal during a back-off ends it; see [`WorkerRecord`]. One during Making is seen after it: a
//!   factory cannot be interrupted, so the pool's end waits for it.
//! - A job left lying by the last worker is found by the next, which looks before it sleeps; or the
//!   thread ends, and the dispatcher, told by `Command::Gone`, knows what to do with it.
//! - A draining pool whose workers are all at rest does not wait for one that is absent: it holds no
//!   job. The dispatcher looks again when a worker lies down, and (rung from here) when one becomes
//!   absent.

use crate::pool::{StartReply, WorkerFactory};
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::error::FactoryError;
use crate::job::id::WorkerId;
use crate::policy::restart::Restarter;
use crate::pool::roster::current::{self, ThreadRole};
use crate::pool::roster::record::WorkerRecord;
use crate::pool::roster::{AddKind, NotAdded};
use crate::pool::{Command, Pool};
use crate::sync::channel::bounded;
use crate::sync::thread_spawn::{Free, Joinable, Spawn};
use crate::sync::unwind as panics;
use crate::sync::{Arc, thread};
use crate::worker::Worker;
use crate::worker::run as runner;

/// Starts the thread of a worker.
pub(crate) fn spawn<'a, P, O, E>(
    spawn: &impl Spawn<'a>,
    pool: &Arc<Pool<P, O, E>>,
    record: &Arc<WorkerRecord>,
    life: impl FnOnce(&Pool<P, O, E>, &Arc<WorkerRecord>) + Send + 'a,
) -> io::Result<Joinable>
where
    P: Send + 'a,
    O: Send + 'a,
    E: Send + 'a,
{
    let name = format!("{}-{}", pool.thread_prefix, record.id());
    let mut thread = thread::Builder::new().name(name);
    if let Some(bytes) = pool.stack_size {
        thread = thread.stack_size(bytes);
    }
    let (pool, record) = (Arc::clone(pool), Arc::clone(record));
    spawn.spawn(thread, move || {
        current::enter_for_good(pool.key(), ThreadRole::Worker(record.id()));
        #[cfg(feature = "affinity")]
        pool.pins.pin(record.id().get());
        life(&pool, &record);
    })
}

pub(crate) fn worker_factory<P, O, E, W, X>(
    factory: impl Fn(WorkerId) -> Result<W, X> + Send + Sync + 'static,
) -> WorkerFactory<P, O, E>
where
    P: Send + 'static,
    O: Send + 'static,
    E: Send + 'static,
    W: Worker<P, O, E>,
    X: fmt::Display,
{
    let factory = Arc::new(factory);
    Box::new(move |pool, record, reply| {
        let factory = Arc::clone(&factory);
        let make = move |id| factory(id).map_err(|error| error.to_string());
        spawn(&Free, pool, record, move |pool, record| {
            supervise(pool, record, make, reply);
        })
    })
}

/// Adds a worker that a factory makes, and blocks until it is made. `None` if there are enough.
pub(crate) fn add<P, O, E, X>(
    pool: &Arc<Pool<P, O, E>>,
    recruit: AddKind,
    start: impl FnOnce(&Arc<WorkerRecord>, StartReply<X>) -> io::Result<Joinable>,
) -> Result<Option<WorkerId>, FactoryError<X>> {
    let (reply, answer) = bounded(1);
    let entered = |id| pool.command(Command::Added(id));
    let record = match pool
        .roster
        .add(recruit, |record| start(record, reply), entered)
    {
        Ok(record) => record,
        Err(NotAdded::Enough) => return Ok(None),
        Err(NotAdded::Closed) => return Err(FactoryError::Closed),
        Err(NotAdded::Spawn(error)) => return Err(FactoryError::Spawn(error)),
    };
    let id = record.id();
    match answer.recv().unwrap_or(Err(FactoryError::Closed)) {
        Ok(()) => Ok(Some(id)),
        Err(error) => {
            // Its thread has said so and is at its end.
            if let Some(leaver) = pool.roster.remove(id) {
                let _ = leaver.thread.join();
            }
            pool.command(Command::Gone(id));
            Err(error)
        }
    }
}

/// The same with the pool's own factory, until there are so many workers, one after the other.
/// Tells which were made, and what went wrong.
pub(crate) fn fill_up<P, O, E>(
    pool: &Arc<Pool<P, O, E>>,
    factory: &WorkerFactory<P, O, E>,
    workers: usize,
) -> (Vec<WorkerId>, Result<(), FactoryError<String>>) {
    let mut made = Vec::new();
    // No more than that, also if they leave as soon as they are made.
    while made.len() < workers {
        let start = |record: &_, reply| factory(pool, record, Some(reply));
        match add(pool, AddKind::Below(workers), start) {
            Ok(Some(id)) => made.push(id),
            Ok(None) => break,
            Err(error) => return (made, Err(error)),
        }
    }
    (made, Ok(()))
}

/// Tells the dispatcher that the thread is at its end, however it ends.
struct ExitGuard<'a, P, O, E>(&'a Pool<P, O, E>, &'a WorkerRecord);

impl<P, O, E> Drop for ExitGuard<'_, P, O, E> {
    fn drop(&mut self) {
        self.0.command(Command::Gone(self.1.id()));
    }
}

/// The life of a worker that was made elsewhere, and is not made again.
pub(crate) fn run_once<P, O, E, W>(pool: &Pool<P, O, E>, record: &Arc<WorkerRecord>, worker: W)
where
    W: Worker<P, O, E>,
{
    let _last_act = ExitGuard(pool, record);
    runner::run(pool, record, worker);
    record.stop();
}

/// The life of a worker that `make` makes here, and makes anew as the pool's rules allow.
///
/// If there is somebody to be `told`, the first attempt is the only one that may fail without
/// consequences: then the thread ends, and the one who was told sees to the rest.
pub(crate) fn supervise<P, O, E, W, X>(
    pool: &Pool<P, O, E>,
    record: &Arc<WorkerRecord>,
    mut make: impl FnMut(WorkerId) -> Result<W, X>,
    mut reply: Option<StartReply<X>>,
) where
    W: Worker<P, O, E>,
    X: fmt::Display,
{
    let id = record.id();
    let mut exit_guard = reply.is_none().then(|| ExitGuard(pool, record));
    let mut restarter = Restarter::new(pool.restarts, id.get());
    loop {
        match attempt(&mut make, id) {
            Ok(worker) => {
                exit_guard.get_or_insert_with(|| ExitGuard(pool, record));
                record.started();
                pool.worker_made(id);
                pool.hooks.each("worker_add", |hook| hook.worker_add(id));
                restarter.made(Instant::now());
                if let Some(reply) = reply.take() {
                    let _ = reply.send(Ok(()));
                }
                runner::run(pool, record, worker);
            }
            Err(error) => {
                if let Some(reply) = reply.take() {
                    panics::discard("factory", make);
                    let _ = reply.send(Err(error));
                    return;
                }
                complain(id, &error);
                panics::discard("factory's error", error);
            }
        }
        if record.is_stopped() {
            break;
        }
        let now = Instant::now();
        let Some(pause) = restarter.next(now) else {
            log::error!("worker {id} of pool {:?} failed too often", pool.name());
            record.stop();
            break;
        };
        if record.restarting() {
            let hooks = &pool.hooks;
            hooks.each("worker_remove", |hook| hook.worker_remove(id));
        }
        if pool.admission.is_shut() {
            pool.signal.notify(); // the dispatcher waits for all to be at rest
        }
        log::debug!(
            "worker {id} of pool {:?} is made anew in {pause:?}",
            pool.name()
        );
        if record.await_stop(now.checked_add(pause)) {
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
