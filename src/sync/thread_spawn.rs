//! The two ways to start a thread: free, or within a scope, where it may borrow.

use std::convert::Infallible;
use std::io;

use crate::sync::channel::{Receiver, bounded};
use crate::sync::thread::{self, JoinHandle};

/// A way to start a thread that lives no longer than `'a`.
pub(crate) trait Spawn<'a> {
    /// # Errors
    /// What the system said.
    fn spawn(
        &self,
        settings: thread::Builder,
        body: impl FnOnce() + Send + 'a,
    ) -> io::Result<Joinable>;
}

/// A thread that borrows nothing.
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
        let (end, ended) = bounded(0);
        settings.spawn_scoped(self, move || {
            body();
            drop(end);
        })?;
        Ok(Joinable::Scoped(ended))
    }
}

/// A thread whose end can be waited for.
pub(crate) enum Joinable {
    Free(JoinHandle<()>),
    /// Disconnected by the thread's last act; its scope joins the rest of it.
    Scoped(Receiver<Infallible>),
}

impl Joinable {
    /// Blocks until the thread has ended.
    ///
    /// # Errors
    /// Its panic.
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
