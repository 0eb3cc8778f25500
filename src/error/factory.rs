//! The errors of making workers by a factory.

use std::fmt;

use crate::job::id::WorkerId;

/// A factory's worker was not added. No thread is left of it, no hook was told, and the counters are
/// as before; with [`WouldDeadlock`](Self::WouldDeadlock) this holds as soon as its factory returns.
///
/// ```
/// use worker_pool::{FactoryError, Job, Manager};
///
/// let pool = Manager::<u32>::new();
/// let added = pool.add_factory(|_| {
///     let settings = std::fs::read_to_string("/no/such/file")?;
///     Ok::<_, std::io::Error>(move |_: Job<u32>| { let _ = &settings; Ok(()) })
/// });
/// assert!(matches!(added, Err(FactoryError::Failed(error)) if error.kind() == std::io::ErrorKind::NotFound));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum FactoryError<X> {
    /// The pool is draining or closed.
    Closed,
    /// The worker's thread could not be started.
    Spawn(std::io::Error),
    /// The factory returned this error.
    Failed(X),
    /// The factory panicked, with this message.
    Panicked(String),
    /// The call came from a thread of a pool, and to wait for the factory would deadlock: directly or
    /// not, the factory itself waits for that thread. The worker is not wanted any more. If it is made
    /// nevertheless, it leaves at once.
    WouldDeadlock,
}

impl<X: fmt::Display> fmt::Display for FactoryError<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FactoryError::Closed => f.write_str("the worker was not added: the pool is closed"),
            FactoryError::Spawn(error) => {
                write!(f, "the worker's thread could not be started: {error}")
            }
            FactoryError::Failed(error) => write!(f, "the worker could not be made: {error}"),
            FactoryError::Panicked(message) => {
                write!(f, "the worker's factory panicked: {message}")
            }
            FactoryError::WouldDeadlock => {
                f.write_str("waiting for the worker's factory would deadlock")
            }
        }
    }
}

impl<X: fmt::Debug + fmt::Display> std::error::Error for FactoryError<X> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            FactoryError::Spawn(error) => Some(error),
            _ => None,
        }
    }
}

/// A pool could not be resized to the requested number of workers.
///
/// ```
/// use worker_pool::{Manager, ResizeError};
///
/// let pool = Manager::<u32>::new();
/// assert!(matches!(pool.resize(2), Err(ResizeError::NoFactory)));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum ResizeError {
    /// The pool has no factory of its own; see [`Builder::factory`](crate::Builder::factory).
    NoFactory,
    /// A worker could not be made.
    Incomplete {
        /// The workers that were made before that. They stay.
        made: Vec<WorkerId>,
        /// Why the next one was not made. The factory's own error is given as text.
        error: FactoryError<String>,
    },
}

impl fmt::Display for ResizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResizeError::NoFactory => f.write_str("the pool has no factory for workers"),
            ResizeError::Incomplete { made, error } => {
                let made = made.len();
                write!(
                    f,
                    "the pool was not resized, after {made} workers were made: {error}"
                )
            }
        }
    }
}

impl std::error::Error for ResizeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ResizeError::NoFactory => None,
            ResizeError::Incomplete { error, .. } => Some(error),
        }
    }
}
