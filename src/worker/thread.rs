//! The thread of a worker, from its start to its exit. A worker that has a factory may be
//! restarted: then several workers live on the thread, one after the other.
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
//! Only the worker's thread changes the state. Other threads see it in the record's word:
//! `RESTARTING` is set in Making and Back-off. The hooks are told of each worker that was made, and
//! of its end. If another worker is to follow, the thread tells them of the end. If none is, the
//! reaper does, after it has joined the thread.
//!
//! # Why nobody waits for a worker that does not come
//!
//! - A stop during a back-off ends the back-off; see [`WorkerRecord`]. A stop during Making is seen
//!   after it: a factory cannot be interrupted, so the pool's end waits for it.
//! - A job that the last worker left behind is found by the next one, which looks before it sleeps.
//!   If there is no next one, the thread ends, and the reaper takes the worker off the roster. The
//!   dispatcher sees that there, and decides what becomes of the job.
//! - A draining pool whose workers all sleep does not wait for one that is restarting: it holds no
//!   job. The dispatcher looks again when a worker goes to sleep, and is notified from here when
//!   one begins to restart.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::FactoryError;
use crate::job::id::WorkerId;
use crate::policy::deadlock::{Role, Wait};
use crate::policy::restart::Restarter;
use crate::pool::roster::current;
use crate::pool::roster::record::WorkerRecord;
use crate::pool::roster::{AddKind, NotAdded};
use crate::pool::waits::{self, NoMessage};
use crate::pool::{Cleanup, Pool, StartReply, WorkerFactory};
use crate::sync::channel::bounded;
use crate::sync::log;
use crate::sync::thread_spawn::{Free, Joinable, Spawn};
use crate::sync::time;
use crate::sync::unwind::{self as panics, Contained};
use crate::sync::{Arc, thread};
use crate::worker::Worker;
use crate::worker::run::run_worker;

/// Starts the thread of a worker, which then calls `body`.
pub(crate) fn spawn<'a, P, O, E>(
    spawn: &impl Spawn<'a>,
    pool: &Arc<Pool<P, O, E>>,
    record: &Arc<WorkerRecord>,
    body: impl FnOnce(&Pool<P, O, E>, &Arc<WorkerRecord>) + Send + 'a,
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
        current::enter_for_good(pool.key(), Role::Worker(record.id().get()));
        pool.roster.await_entry();
        #[cfg(feature = "affinity")]
        pool.pins.pin(record.id().get());
        body(&pool, &record);
    })
}

/// The pool's own factory: each call starts a thread on which `factory` makes a worker.
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
    let factory = Arc::new(Contained::new("factory", factory));
    Box::new(move |pool, record, reply| {
        let factory = Arc::clone(&factory);
        let make = move |id| factory(id).map_err(|error| error.to_string());
        spawn(&Free, pool, record, move |pool, record| {
            supervise(pool, record, Contained::new("factory", make), reply);
        })
    })
}

/// Adds a worker that a factory makes, and blocks until it is made. Returns `None` if there are
/// enough workers.
pub(crate) fn add<P, O, E, X>(
    pool: &Arc<Pool<P, O, E>>,
    kind: AddKind,
    start: impl FnOnce(&Arc<WorkerRecord>, StartReply<X>) -> io::Result<Joinable>,
) -> Result<Option<WorkerId>, FactoryError<X>> {
    if pool.thread_role() == Some(Role::Departed) {
        return Err(FactoryError::WouldDeadlock); // the reaper joins this thread meanwhile
    }
    // Whoever sends learns whether the answer was taken.
    let (reply, answer) = bounded(0);
    let record = match pool.roster.add(kind, |record| start(record, reply), || {}) {
        Ok(record) => record,
        Err(NotAdded::Enough) => return Ok(None),
        Err(NotAdded::Closed) => return Err(FactoryError::Closed),
        Err(NotAdded::Spawn(error)) => return Err(FactoryError::Spawn(error)),
    };
    pool.signal.notify();
    let id = record.id();
    match waits::receive(Wait::Worker(pool.key(), id.get()), &answer, None) {
        Ok(Ok(())) => Ok(Some(id)),
        Err(NoMessage::WouldDeadlock) => {
            pool.roster.stop(id); // as soon as its factory returns
            Err(FactoryError::WouldDeadlock)
        }
        Err(_) => Err(FactoryError::Closed),
        Ok(Err(error)) => {
            // The thread sent this as its last act, so the join does not block for long.
            if let Some(thread) = pool.roster.take_thread(id) {
                panics::discard("panic payload", thread.join());
            }
            pool.roster.remove(id);
            pool.signal.notify();
            Err(error)
        }
    }
}

/// Adds workers by the pool's own factory, one after the other, until there are this many. Returns
/// those that were made, and the first error.
pub(crate) fn fill_up<P, O, E>(
    pool: &Arc<Pool<P, O, E>>,
    factory: &WorkerFactory<P, O, E>,
    workers: usize,
) -> (Vec<WorkerId>, Result<(), FactoryError<String>>) {
    let mut made = Vec::new();
    // Makes no more than this many, even if they leave as soon as they are made.
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

/// When dropped, tells the reaper that the thread is at its end, however it ends.
struct ExitGuard<'a, P, O, E>(&'a Pool<P, O, E>, &'a WorkerRecord);

impl<P, O, E> Drop for ExitGuard<'_, P, O, E> {
    fn drop(&mut self) {
        current::depart();
        self.0.clean_up(Cleanup::Worker(self.1.id()));
    }
}

/// A thread's body: runs a worker that was made elsewhere and is not restarted.
pub(crate) fn run_once<P, O, E, W>(pool: &Pool<P, O, E>, record: &Arc<WorkerRecord>, worker: W)
where
    W: Worker<P, O, E>,
{
    let _exit_guard = ExitGuard(pool, record);
    run_worker(pool, record, worker);
    record.stop();
}

/// A thread's body: makes a worker by `make`, runs it, and restarts it as often as the pool's rules
/// allow.
///
/// With a `reply`, a caller waits for the first worker. If that one cannot be made, the error goes to
/// the caller and the thread ends, without a retry and without an [`ExitGuard`]: the caller takes the
/// worker off the roster. If the caller has given up, the thread leaves as any other.
pub(crate) fn supervise<P, O, E, W, X>(
    pool: &Pool<P, O, E>,
    record: &Arc<WorkerRecord>,
    mut make: Contained<impl FnMut(WorkerId) -> Result<W, X>>,
    mut reply: Option<StartReply<X>>,
) where
    W: Worker<P, O, E>,
    X: fmt::Display,
{
    let id = record.id();
    let mut exit_guard = reply.is_none().then(|| ExitGuard(pool, record));
    let mut restarter = Restarter::new(pool.restarts, id.get());
    loop {
        match make_worker(&mut *make, id) {
            Ok(worker) => {
                exit_guard.get_or_insert_with(|| ExitGuard(pool, record));
                record.started();
                pool.worker_made(id);
                pool.hooks.each("worker_add", |hook| hook.worker_add(id));
                restarter.made(time::now());
                if let Some(reply) = reply.take() {
                    let _ = reply.send(Ok(()));
                }
                run_worker(pool, record, worker);
            }
            Err(error) => {
                if let Some(reply) = reply.take() {
                    drop(make); // before the caller knows
                    current::depart();
                    if let Err(unheard) = reply.send(Err(error)) {
                        drop(ExitGuard(pool, record));
                        panics::discard("factory's error", unheard);
                    }
                    return;
                }
                log_failure(id, &error);
                panics::discard("factory's error", error);
            }
        }
        if record.is_stopped() {
            break;
        }
        let now = time::now();
        let Some(pause) = restarter.next(now) else {
            record.stop();
            log::error!("worker {id} of pool {:?} failed too often", pool.name());
            break;
        };
        if record.restarting() {
            let hooks = &pool.hooks;
            hooks.each("worker_remove", |hook| hook.worker_remove(id));
        }
        if pool.admission.is_shut() {
            pool.signal.notify(); // the dispatcher waits until every serving worker sleeps
        }
        log::debug!(
            "worker {id} of pool {:?} restarts in {pause:?}",
            pool.name()
        );
        if record.await_stop(now.checked_add(pause)) {
            break;
        }
    }
}

/// Calls the factory, and contains its panic.
fn make_worker<W, X>(
    make: &mut impl FnMut(WorkerId) -> Result<W, X>,
    id: WorkerId,
) -> Result<W, FactoryError<X>> {
    match catch_unwind(AssertUnwindSafe(|| make(id))) {
        Ok(made) => made.map_err(FactoryError::Failed),
        Err(panic) => Err(FactoryError::Panicked(panics::message(panic))),
    }
}

/// Logs why a worker was not made. To show the error may panic: that is contained, too.
fn log_failure<X: fmt::Display>(id: WorkerId, error: &FactoryError<X>) {
    match catch_unwind(AssertUnwindSafe(|| error.to_string())) {
        Ok(text) => log::error!("worker {id} could not be made: {text}"),
        Err(panic) => {
            panics::discard("panic payload", panic);
            log::error!("worker {id} could not be made, and the error cannot be shown");
        }
    }
}
