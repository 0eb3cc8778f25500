//! A client that follows a server's capacity stream. Blocking, without async.

mod address;
mod builder;
mod error;
mod pump;
mod session;

use std::fmt;
use std::iter::FusedIterator;
use std::time::{Duration, Instant, SystemTime};

pub use builder::{Backoff, ClientBuilder};
pub use error::{ClientError, RecvError};

/// A snapshot of a server's pool, and when it came.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Received {
    /// Busy workers divided by all workers, from 0 to 1.
    pub utilization: f32,
    /// Workers that are running a job; `None` from a server that tells only the utilisation, as the
    /// Go package's does.
    pub busy: Option<u32>,
    /// Workers that have a thread. `Some(0)` is a pool without workers; `None` as for `busy`.
    pub total: Option<u32>,
    /// Jobs that wait for a worker; `None` as for `busy`.
    pub waiting: Option<u64>,
    /// When it was received, for measuring its age.
    pub at: Instant,
    /// When it was received, by this machine's clock, for showing and storing.
    pub time: SystemTime,
}

impl Received {
    /// Time since it was received.
    pub fn age(&self) -> Duration {
        self.at.elapsed()
    }
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} % busy", self.utilization * 100.0)?;
        if let (Some(busy), Some(total)) = (self.busy, self.total) {
            write!(f, ", {busy} of {total} workers")?;
        }
        if let Some(waiting) = self.waiting {
            write!(f, ", {waiting} jobs waiting")?;
        }
        Ok(())
    }
}

/// A connection that was lost and is being made again.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Outage {
    /// When the connection was lost.
    pub since: Instant,
    /// How often it failed since, counting the loss itself.
    pub failures: u32,
    /// What happened last; `None` when the server ended the stream cleanly.
    pub error: Option<ClientError>,
}

/// Follows the capacity of one server, as an iterator of [`Received`] snapshots.
///
/// ```no_run
/// use worker_pool::grpc::{Backoff, CapacityClient};
///
/// let client = CapacityClient::builder("127.0.0.1:50051")
///     .reconnect(Backoff::default())
///     .connect()?;
/// for snapshot in client {
///     let snapshot = snapshot?;
///     println!("{snapshot}");
/// }
/// # Ok::<(), worker_pool::grpc::ClientError>(())
/// ```
///
/// # What the iterator yields
/// The newest snapshot that it has not yielded yet, and it blocks while there is none. Whoever reads
/// slowly misses values in between, never the last one. Without
/// [`reconnect`](ClientBuilder::reconnect) it ends when the server ends the stream, or yields one
/// error when the connection is lost and then ends. With it, losses are bridged in silence (ask
/// [`outage`](CapacityClient::outage)), and the error comes only if the client gives up.
///
/// # Threads
/// A client has two threads: one of its own that reads, and one of grpcio's. Dropping it cancels
/// the call and joins them, within milliseconds.
///
/// It never goes through an HTTP proxy.
pub struct CapacityClient {
    address: String,
    pump: pump::Pump,
}

impl CapacityClient {
    /// Connects to `host:port` in plain text, without a token. Blocks, at most for 5 seconds.
    ///
    /// # Errors
    /// See [`ClientBuilder::connect`].
    pub fn connect(address: impl Into<String>) -> Result<Self, ClientError> {
        CapacityClient::builder(address).connect()
    }

    /// For TLS, tokens, timeouts and reconnecting. The address is `host:port`, `[host]:port` for
    /// IPv6, `unix:path` or any other that gRPC knows; a port must be named.
    pub fn builder(address: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(address.into())
    }

    /// The address that it was built with.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// As the iterator's `next`, but waits for at most `timeout`.
    ///
    /// # Errors
    /// [`Timeout`](RecvError::Timeout) when nothing new came; the client goes on. `Failed` (once)
    /// and `Ended` when nothing will follow.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Received, RecvError> {
        self.pump.recv(pump::after(timeout))
    }

    /// The last snapshot that was received, seen or not; never blocks. `None` while a server that
    /// does not answer at once has said nothing.
    pub fn latest(&self) -> Option<Received> {
        self.pump.latest()
    }

    /// The loss that the client is about to repair, or on which it gave up; `None` while it is
    /// connected, and always without [`reconnect`](ClientBuilder::reconnect). Never blocks.
    pub fn outage(&self) -> Option<Outage> {
        self.pump.outage()
    }
}

impl Iterator for CapacityClient {
    type Item = Result<Received, ClientError>;

    /// Blocks until there is a new snapshot.
    fn next(&mut self) -> Option<Self::Item> {
        match self.pump.recv(None) {
            Ok(received) => Some(Ok(received)),
            Err(RecvError::Failed(error)) => Some(Err(error)),
            Err(RecvError::Ended | RecvError::Timeout) => None,
        }
    }
}

impl FusedIterator for CapacityClient {}

impl fmt::Debug for CapacityClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CapacityClient")
            .field("address", &self.address)
            .field("latest", &self.latest())
            .finish_non_exhaustive()
    }
}
