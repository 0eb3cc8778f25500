//! Threads, with the interface of the standard library's.

use std::io;

pub(crate) use shuttle::thread::{JoinHandle, Result, Scope, ScopedJoinHandle, scope, yield_now};
pub(crate) use std::thread::available_parallelism;

pub(crate) struct Builder(shuttle::thread::Builder);

impl Builder {
    pub(crate) fn new() -> Self {
        Builder(shuttle::thread::Builder::new())
    }

    pub(crate) fn name(self, name: String) -> Self {
        Builder(self.0.name(name))
    }

    /// Threads of a model have stacks that the run sets.
    pub(crate) fn stack_size(self, _: usize) -> Self {
        self
    }

    pub(crate) fn spawn<T: Send + 'static>(
        self,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        self.0.spawn(body)
    }

    pub(crate) fn spawn_scoped<'scope, T: Send + 'scope>(
        self,
        scope: &'scope Scope<'scope, '_>,
        body: impl FnOnce() -> T + Send + 'scope,
    ) -> io::Result<ScopedJoinHandle<'scope, T>> {
        Ok(scope.spawn(body))
    }
}
