//! A client that follows a server's capacity stream. Blocking, without async.

mod address;
mod builder;
mod error;
mod reader;
mod session;

use std::fmt;
use std::iter::FusedIterator;
use std::time::Duration;

pub use builder::{Backoff, ClientBuilder};
pub use error::{ClientError, RecvError};
pub use reader::Outage;
pub use session::Received;

use reader::Reader;

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
    reader: Reader,
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
        self.reader.recv(session::after(timeout))
    }

    /// The last snapshot that was received, seen or not; never blocks. `None` while a server that
    /// does not answer at once has said nothing.
    pub fn latest(&self) -> Option<Received> {
        self.reader.latest()
    }

    /// The loss that the client is about to repair, or on which it gave up; `None` while it is
    /// connected, and always without [`reconnect`](ClientBuilder::reconnect). Never blocks.
    pub fn outage(&self) -> Option<Outage> {
        self.reader.outage()
    }
}

impl ClientBuilder {
    /// Connects, and waits until the server has answered, for at most the connect timeout.
    ///
    /// Our servers answer with a snapshot at once. The Go package's say nothing until their next
    /// tick: when the connection stands at the end of the timeout and the server has not refused,
    /// the client counts as connected. One that ends the stream cleanly before any snapshot has
    /// answered as well; the client has then ended, or connects again if it was asked to.
    ///
    /// # Errors
    /// Nobody there, no agreement on TLS, refused, not a capacity server, timed out, or a builder
    /// that cannot work; see [`ClientError`].
    pub fn connect(self) -> Result<CapacityClient, ClientError> {
        self.check()?;
        let address = self.address.clone();
        let reader = Reader::start(self)?;
        Ok(CapacityClient { address, reader })
    }
}

impl Iterator for CapacityClient {
    type Item = Result<Received, ClientError>;

    /// Blocks until there is a new snapshot.
    fn next(&mut self) -> Option<Self::Item> {
        match self.reader.recv(None) {
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
