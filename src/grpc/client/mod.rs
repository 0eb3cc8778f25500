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
/// The newest snapshot that it has not yielded yet; it blocks while there is none. A slow reader
/// misses values in between, never the last one. Without [`reconnect`](ClientBuilder::reconnect) it
/// ends when the server ends the stream; when the connection is lost, it yields one error and ends.
/// With it, the client reconnects silently ([`outage`](CapacityClient::outage) tells), and yields an
/// error only if it gives up.
///
/// # Threads
/// A client has two threads: one that reads, and one of grpcio's. Dropping it cancels the call and
/// joins them, within milliseconds.
///
/// It never uses an HTTP proxy.
pub struct CapacityClient {
    address: String,
    reader: Reader,
}

impl CapacityClient {
    /// Connects to `host:port` in plain text, without a token. Blocks for at most 5 seconds.
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
    /// [`Timeout`](RecvError::Timeout) if nothing new arrived; the client goes on. `Failed` (once) and
    /// `Ended` if nothing will follow.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Received, RecvError> {
        self.reader.recv(session::after(timeout))
    }

    /// The last snapshot that was received, yielded or not; never blocks. `None` before the first one:
    /// a server may send none at once.
    pub fn latest(&self) -> Option<Received> {
        self.reader.latest()
    }

    /// The outage that the client is trying to end, or on which it gave up; `None` while it is
    /// connected, and always without [`reconnect`](ClientBuilder::reconnect). Never blocks.
    pub fn outage(&self) -> Option<Outage> {
        self.reader.outage()
    }
}

impl ClientBuilder {
    /// Connects, and waits until the server has answered, for at most the connect timeout.
    ///
    /// The servers of this crate send a snapshot at once. Those of the Go package send nothing until
    /// their next tick: if there is a connection at the end of the timeout and the server has not
    /// rejected the call, the client counts as connected. A server that ends the stream cleanly before
    /// any snapshot has answered as well; the client has then ended, or reconnects if that is set.
    ///
    /// # Errors
    /// The server is unreachable, TLS fails, the call is rejected, there is no capacity stream, the
    /// timeout passes, or a setting cannot work; see [`ClientError`].
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
