//! The reaper's thread: whatever runs a user's code for the pool itself. It joins the threads of workers
//! that ended, calls their hooks, drops what rejected jobs leave behind, and writes log lines. So the
//! dispatcher never waits for a user's code, and the slowest of it delays only the pool's end.
//!
//! Cleanups are done in the order in which they come. The dispatcher sends [`Cleanup::End`] as its last
//! act: by then every worker is gone, and no further cleanup can come.

use crate::hook::PoolState;
use crate::job::id::WorkerId;
use crate::policy::deadlock::Role;
use crate::pool::roster::current;
use crate::pool::{Cleanup, Pool};
use crate::sync::channel::Receiver;
use crate::sync::log;
use crate::sync::unwind as panics;
use crate::sync::{Arc, user_channel};

/// Dropped as the reaper's last act: then callers that wait for the pool's end see their channel
/// disconnected.
pub(crate) type End = user_channel::Sender<std::convert::Infallible>;

/// The reaper's thread.
pub(crate) fn run<P, O, E>(
    pool: Arc<Pool<P, O, E>>,
    cleanups: Receiver<Cleanup<P, O, E>>,
    end: End,
) {
    current::enter_for_good(pool.key(), Role::Dispatcher);
    // The pool holds a sender, so the channel stays connected.
    while let Ok(cleanup) = cleanups.recv() {
        match cleanup {
            Cleanup::Worker(id) => reap(&pool, id),
            Cleanup::Drop(task) => panics::discard("job", task),
            Cleanup::Announce(state) => announce(&pool, state),
            Cleanup::Log(level, line) => log::write(level, &line),
            Cleanup::End => break,
        }
    }
    log::debug!("pool {:?} is closed", pool.name());
    announce(&pool, PoolState::Closed);
    drop(pool);
    drop(end);
}

fn announce<P, O, E>(pool: &Pool<P, O, E>, state: PoolState) {
    pool.hooks.each("pool_state", |hook| hook.pool_state(state));
}

/// Joins the thread of a worker that has ended, takes the worker off the roster, and tells the hooks.
fn reap<P, O, E>(pool: &Pool<P, O, E>, id: WorkerId) {
    if let Some(thread) = pool.roster.take_thread(id)
        && let Err(panic) = thread.join()
    {
        let message = panics::message(panic);
        log::error!("worker {id}: thread panicked: {message}");
    }
    // No job waits for it any more. A hook may wait for a job.
    pool.roster.waits.worker_gone(id);
    let Some(was_made) = pool.roster.was_made(id) else {
        return; // the caller that wanted to add it has taken it off
    };
    if was_made {
        let hooks = &pool.hooks;
        hooks.each("worker_remove", |hook| hook.worker_remove(id));
    }
    // After the hooks: once a worker is off the list, they know of it.
    pool.roster.remove(id);
    // Not before the hooks: one of them may add a worker in its place.
    pool.worker_is_gone();
    pool.signal.notify();
    log::debug!("worker {id} has left pool {:?}", pool.name());
}
