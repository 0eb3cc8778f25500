//! Pools that borrow: [`scope`], and the pools that are built in it.

use std::fmt;
use std::ops::Deref;

use crate::error::{AddError, BuildError};
use crate::job::id::WorkerId;
use crate::manager::builder::Builder;
use crate::manager::{Manager, OnDrop};
use crate::pool::lifecycle::Close;
use crate::sync::{Mutex, Weak, thread};
use crate::worker::Worker;

/// Calls `body` with a scope. Payloads, outputs, errors and workers of the pools that are built in it
/// may borrow whatever outlives this call.
///
/// When `body` returns or panics, its pools are closed, as by [`Manager::close`]. `scope` then blocks
/// until their workers have finished their current jobs and closed, and every thread is joined. This
/// holds whatever became of the handles, even if one was leaked or moved out of `body`. Call
/// [`drain`](Manager::drain) in `body` if every accepted job is to run.
///
/// Dropping the last handle to such a pool closes it but, unlike with a [`Manager`], does not wait.
/// Everything that `body` owns is dropped before `scope` waits for anything, so a job may wait for a
/// channel whose sender `body` owns.
///
/// Hooks cannot borrow.
///
/// ```
/// use worker_pool::{Job, Worker};
///
/// /// Adds up borrowed numbers in a borrowed total.
/// struct Adder<'a> { total: &'a mut u64 }
///
/// impl<'a> Worker<&'a [u64], u64, String> for Adder<'a> {
///     fn run(&mut self, job: Job<&'a [u64]>) -> Result<u64, String> {
///         let sum: u64 = job.payload().iter().sum();
///         *self.total += sum;
///         Ok(sum)
///     }
/// }
///
/// let numbers: Vec<u64> = (1..=100).collect();
/// let mut totals = [0, 0];
/// worker_pool::scope(|scope| {
///     let pool = scope.pool().unwrap();
///     for total in &mut totals {
///         pool.add(Adder { total }).unwrap();
///     }
///     assert_eq!(pool.submit(&numbers[..50]).unwrap(), 1275);
///     let rest = pool.enqueue(&numbers[50..]).unwrap();
///     pool.drain();
///     assert_eq!(rest.wait().unwrap(), 3775);
/// });
/// assert_eq!(totals[0] + totals[1], 5050);
/// ```
///
/// Errors return workers and payloads, and so borrow what these borrow. They do not fit in a
/// `Box<dyn Error>`; only their text does.
///
/// Borrowed values must outlive the scope:
///
/// ```compile_fail,E0597
/// worker_pool::scope(|scope| {
///     let pool = scope.pool::<&str, usize, ()>().unwrap();
///     pool.add(|job: worker_pool::Job<&str>| Ok(job.payload().len())).unwrap();
///     let text = String::from("dropped before the pool's threads are joined");
///     let length = pool.submit(&text);
/// });
/// ```
///
/// # Panics
/// If `body` panics, once every thread is joined.
pub fn scope<'env, T>(body: impl for<'scope> FnOnce(&Scope<'scope, 'env>) -> T) -> T {
    thread::scope(|threads| {
        let scope = Scope {
            threads,
            pools: Mutex::default(),
        };
        // The scope is dropped before the threads are waited for, also if the body panics.
        body(&scope)
    })
}

/// Builds pools that may borrow; see [`scope`].
pub struct Scope<'scope, 'env: 'scope> {
    threads: &'scope thread::Scope<'scope, 'env>,
    /// These are closed when the scope is dropped, even if a handle to one is left.
    pools: Mutex<Vec<Weak<dyn Close + Send + Sync + 'scope>>>,
}

impl<'scope, 'env> Scope<'scope, 'env> {
    /// Starts a pool with the default settings and no workers.
    ///
    /// # Errors
    /// If the dispatcher's thread cannot be started.
    pub fn pool<P, O, E>(&self) -> Result<ScopedManager<'scope, 'env, P, O, E>, BuildError>
    where
        P: Send + 'scope,
        O: Send + 'scope,
        E: Send + 'scope,
    {
        self.build(Manager::builder())
    }

    /// Starts a pool with the settings of this builder.
    ///
    /// ```
    /// use worker_pool::{Job, Manager};
    ///
    /// let mut lines = ["one".to_owned(), "two".to_owned()];
    /// worker_pool::scope(|scope| {
    ///     let pool = scope.build(Manager::builder().name("shout")).unwrap();
    ///     pool.add(|job: Job<&mut String>| Ok(job.into_payload().make_ascii_uppercase())).unwrap();
    ///     let (errors, failures) = crossbeam_channel::bounded::<worker_pool::DetachedError<()>>(2);
    ///     for line in &mut lines {
    ///         pool.detach_submit(line, 0, &errors).unwrap();
    ///     }
    ///     pool.drain();
    ///     assert!(failures.is_empty());
    /// });
    /// assert_eq!(lines, ["ONE", "TWO"]);
    /// ```
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn build<P, O, E>(
        &self,
        builder: Builder<P, O, E>,
    ) -> Result<ScopedManager<'scope, 'env, P, O, E>, BuildError>
    where
        P: Send + 'scope,
        O: Send + 'scope,
        E: Send + 'scope,
    {
        let builder = builder.on_drop(OnDrop::AskToClose);
        let manager = builder.build_with(&self.threads)?;
        let mut pools = self.pools.lock();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(manager.closer());
        drop(pools);
        Ok(ScopedManager {
            manager,
            threads: self.threads,
        })
    }
}

impl Drop for Scope<'_, '_> {
    fn drop(&mut self) {
        for pool in self.pools.get_mut().drain(..) {
            if let Some(pool) = pool.upgrade() {
                pool.ask_to_close();
            }
        }
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

/// A [`Manager`] whose pool lives no longer than a [`scope`], and so may borrow; made by
/// [`Scope::pool`] and [`Scope::build`].
///
/// It has every method of a `Manager`; only [`add`](Self::add) is its own. It is cheap to clone and
/// can be shared between threads.
pub struct ScopedManager<'scope, 'env: 'scope, P, O, E> {
    manager: Manager<P, O, E>,
    threads: &'scope thread::Scope<'scope, 'env>,
}

impl<'scope, P, O, E> ScopedManager<'scope, '_, P, O, E>
where
    P: Send + 'scope,
    O: Send + 'scope,
    E: Send + 'scope,
{
    /// Adds a worker that may borrow, on a new thread of its own; see [`Manager::add`]. The hooks hear
    /// of its end a moment before its thread is gone.
    ///
    /// # Errors
    /// The worker, if the pool is draining or closed, or its thread cannot be started.
    pub fn add<W>(&self, worker: W) -> Result<WorkerId, AddError<W>>
    where
        W: Worker<P, O, E> + Send + 'scope,
    {
        self.manager.add_with(&self.threads, worker)
    }
}

impl<P, O, E> Deref for ScopedManager<'_, '_, P, O, E> {
    type Target = Manager<P, O, E>;

    fn deref(&self) -> &Manager<P, O, E> {
        &self.manager
    }
}

impl<P, O, E> Clone for ScopedManager<'_, '_, P, O, E> {
    fn clone(&self) -> Self {
        ScopedManager {
            manager: self.manager.clone(),
            threads: self.threads,
        }
    }
}

impl<P, O, E> fmt::Debug for ScopedManager<'_, '_, P, O, E>
where
    P: Send,
    O: Send,
    E: Send,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.manager.fmt(f)
    }
}
