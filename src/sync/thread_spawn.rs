//! The two ways to start a thread: on its own, or within a scope, where it may borrow.

use std::convert::Infallible;
use std::io;

use crate::sync::channel::{Receiver, bounded};
use crate::sync::thread::{self, JoinHandle};

/// A way to start a thread that lives no longer than `'a`.
pub(crate) trait Spawn<'a> {
    /// # Errors
    /// The system could not start the thread.
    fn spawn(
        &self,
        settings: thread::Builder,
        body: impl FnOnce() + Send + 'a,
    ) -> io::Result<Joinable>;
}

/// Starts threads that borrow nothing.
pub(crate) struct Free;

impl Spawn<'static> for Free {
    fn spawn(
        &self,
        settings: thread::Builder,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<Joinable> {
        settings.spawn(body).map(Joinable::Free)
    }
}

impl<'scope> Spawn<'scope> for &'scope thread::Scope<'scope, '_> {
    fn spawn(
        &self,
        settings: thread::Builder,
        body: impl FnOnce() + Send + 'scope,
    ) -> io::Result<Joinable> {
        let (end_guard, ended) = bounded(0);
        settings.spawn_scoped(self, move || {
            body();
            drop(end_guard);
        })?;
        Ok(Joinable::Scoped(ended))
    }
}

/// A thread that can be joined.
pub(crate) enum Joinable {
    Free(JoinHandle<()>),
    /// Disconnects when the thread's body has ended. The scope joins the thread itself.
    Scoped(Receiver<Infallible>),
}

impl Joinable {
    /// Blocks until the thread has ended; for a scoped one, until its body has.
    ///
    /// # Errors
    /// The thread's panic. A scoped thread's panic goes to its scope instead.
    pub(crate) fn join(self) -> thread::Result<()> {
        match self {
            Joinable::Free(thread) => thread.join(),
            Joinable::Scoped(ended) => {
                let _ = ended.recv();
                Ok(())
            }
        }
    }
}
