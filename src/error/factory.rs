//! What can go wrong as a worker is made by its factory.

use std::fmt;

/// A factory's worker was not added. No thread is left of it, no hook was told, and the counters are
/// as before.
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
