//! The capacity server: one completion queue, one ticker, and a shutdown that joins their threads.

pub(crate) mod error;
#[cfg(feature = "tls")]
pub(crate) mod tls;

use std::ffi::CStr;
use std::fmt;
use std::future::Future;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use grpcio::{ChannelBuilder, EnvBuilder, Environment, Server, ServerBuilder, ServerCredentials};

use crate::grpc::server::error::ServerError;
use crate::grpc::services::CapacityServices;
use crate::grpc::stream::threads;
use crate::sync::unwind as panics;
use crate::sync::{Arc, Mutex, thread};

/// How long to wait for gRPC's core to do what should take milliseconds.
const CORE_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls that the core may pass on between two turns of the queue's thread. A call releases its slot
/// as soon as its headers are read, so few are enough; the default of 1,024 slows shutdown.
const REQUEST_SLOTS: usize = 32;
/// The core answers UNIMPLEMENTED to a call with an algorithm whose bit is not set here.
const ENABLED_COMPRESSION: &CStr = c"grpc.compression_enabled_algorithms_bitset";
const IDENTITY_ONLY: i32 = 1;
/// The shortest time between two pings of a client. The core's default is five minutes, and
/// disconnects clients with a common keepalive of 10 s.
const CLIENT_PINGS: Duration = Duration::from_secs(1);

/// Settings for listening; [`CapacityServices`] alone have none.
#[derive(Debug, Clone)]
pub(crate) struct Listen {
    pub(crate) address: String,
    pub(crate) insecure: bool,
    pub(crate) max_message: usize,
    pub(crate) keepalive: (Duration, Duration),
    pub(crate) handshake: Duration,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<tls::ServerTls>,
}

/// A gRPC server that streams the capacity of one or several pools.
///
/// It runs on threads of its own, and listens on loopback unless another address is set. Dropping it
/// is [`shutdown`](Self::shutdown).
///
/// ```
/// use worker_pool::Meter;
/// use worker_pool::grpc::CapacityServer;
///
/// let meter = Meter::new(); // hooked into a pool: Manager::builder().hook(meter.clone())
/// let server = CapacityServer::builder().pool("encoders", meter).start()?;
/// println!("listening on {}", server.local_addr());
/// server.shutdown();
/// # Ok::<(), worker_pool::grpc::ServerError>(())
/// ```
pub struct CapacityServer {
    services: CapacityServices,
    address: SocketAddr,
    running: Mutex<Option<Running>>,
}

struct Running {
    server: Server,
    queue: Queue,
    #[cfg(feature = "tls")]
    reloader: Option<tls::Reloader>,
}

impl fmt::Debug for CapacityServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CapacityServer")
            .field("local_addr", &self.address)
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}

impl CapacityServer {
    /// Where the server listens, with its actual port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Streams that are open now.
    pub fn open_streams(&self) -> usize {
        self.services.open_streams()
    }

    /// From now on the health service says NOT_SERVING; see [`CapacityServices::stop_serving`].
    pub fn stop_serving(&self) {
        self.services.stop_serving();
    }

    /// Stops: no new calls, a last snapshot and the status OK on every stream, every thread joined.
    ///
    /// Blocks for milliseconds, or for about a quarter of a second if a client does not read; for at
    /// most two seconds. Calling it again does nothing. On a thread of the server itself (a logger or a
    /// gauge may be called there) it only begins, and does not wait.
    pub fn shutdown(&self) {
        if threads::is_server_thread() {
            // No waiting for the lock: its holder is stopping the server already, and may wait for
            // this thread.
            let running = self
                .running
                .try_lock()
                .and_then(|mut running| running.take());
            if let Some(running) = running {
                self.services.begin_close();
                // grpcio deadlocks when a server is dropped on its own queue's thread.
                let streams = Arc::clone(self.services.streams());
                threads::run_on_new(move || running.stop(&|| streams.shut_down()));
            }
            return;
        }
        // Held to the end, so that a second caller returns when the first is done.
        let mut running = self.running.lock();
        if let Some(running) = running.take() {
            running.stop(&|| self.services.close());
        }
    }
}

impl Drop for CapacityServer {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Running {
    /// The order matters: refuse new calls, end the streams, only then wait for the core, which does
    /// not finish while a stream is open; then the queue, and last its thread.
    fn stop(mut self, end_streams: &dyn Fn()) {
        #[cfg(feature = "tls")]
        drop(self.reloader.take());
        let done = self.server.shutdown();
        end_streams();
        self.server.cancel_all_calls();
        match wait(done, CORE_TIMEOUT) {
            Some(_) => drop(self.server),
            // Destroying a server that still has calls aborts the process, so it is leaked.
            None => {
                log::error!("gRPC's core did not stop in {CORE_TIMEOUT:?}; the server is leaked");
                std::mem::forget(self.server);
            }
        }
        drop(self.queue);
    }
}

/// Listens at the first of these addresses that can be listened on.
pub(crate) fn start(
    services: CapacityServices,
    listen: &Listen,
    addresses: Vec<SocketAddr>,
) -> Result<CapacityServer, ServerError> {
    let queue = Queue::start()?;
    #[cfg(feature = "tls")]
    let mut reloader = None;
    let mut failure = ServerError::Bind(listen.address.clone());
    for address in addresses {
        let mut server = build(&services, queue.env()?, listen)?;
        #[cfg(feature = "tls")]
        let credentials = match &listen.tls {
            None => ServerCredentials::insecure(),
            Some(tls) => {
                let (credentials, fresh) = tls::credentials(tls.clone(), queue.env()?)?;
                reloader = fresh;
                credentials
            }
        };
        #[cfg(not(feature = "tls"))]
        let credentials = ServerCredentials::insecure();
        match server.add_listening_port(address.to_string(), credentials) {
            Ok(port) => {
                server.start();
                return Ok(CapacityServer {
                    services,
                    address: SocketAddr::new(address.ip(), port),
                    running: Mutex::new(Some(Running {
                        server,
                        queue,
                        #[cfg(feature = "tls")]
                        reloader,
                    })),
                });
            }
            Err(_) => failure = ServerError::Bind(address.to_string()),
        }
    }
    Err(failure)
}

/// The addresses behind this setting, if listening on them is allowed.
pub(crate) fn resolve(listen: &Listen) -> Result<Vec<SocketAddr>, ServerError> {
    let addresses = listen.address.to_socket_addrs();
    let addresses: Vec<_> = addresses
        .map_err(|source| ServerError::Address {
            address: listen.address.clone(),
            source,
        })?
        .collect();
    #[cfg(feature = "tls")]
    let safe = listen.insecure || listen.tls.is_some();
    #[cfg(not(feature = "tls"))]
    let safe = listen.insecure;
    // These very addresses are bound: the name is not resolved again.
    let all_loopback = addresses.iter().all(|address| address.ip().is_loopback());
    if safe || all_loopback {
        Ok(addresses)
    } else {
        Err(ServerError::NotLoopback(listen.address.clone()))
    }
}

fn build(
    services: &CapacityServices,
    env: &Arc<Environment>,
    listen: &Listen,
) -> Result<Server, ServerError> {
    let millis = |time: Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    let (ping, pong) = listen.keepalive;
    let args = ChannelBuilder::new(Arc::clone(env))
        // Else a second server could share the port and silently get half of the clients.
        .reuse_port(false)
        // Per connection; `Streams` counts those of all connections.
        .max_concurrent_stream(i32::try_from(services.streams().max_calls()).unwrap_or(i32::MAX))
        .max_receive_message_len(i32::try_from(listen.max_message).unwrap_or(i32::MAX))
        // The limit on messages is checked before they are decompressed, where 60 KiB may become 60 MiB.
        .raw_cfg_int(ENABLED_COMPRESSION.into(), IDENTITY_ONLY)
        .keepalive_time(ping)
        .keepalive_timeout(pong)
        .keepalive_permit_without_calls(true)
        .http2_max_pings_without_data(0)
        .http2_min_sent_ping_interval_without_data(ping)
        .http2_min_recv_ping_interval_without_data(CLIENT_PINGS)
        .raw_cfg_int(
            c"grpc.server_handshake_timeout_ms".into(),
            millis(listen.handshake),
        )
        .build_args();
    let server = ServerBuilder::new(Arc::clone(env))
        .channel_args(args)
        .requests_slot_per_cq(REQUEST_SLOTS);
    let server = services.register(server).build();
    server.map_err(|error| ServerError::Grpc(error.to_string()))
}

/// A completion queue and its thread. grpcio does not join the thread; dropping this does, so it has
/// to be dropped after the server.
struct Queue {
    env: Option<Arc<Environment>>,
    gone: mpsc::Receiver<()>,
}

impl Queue {
    fn start() -> Result<Queue, ServerError> {
        let (alive, gone) = mpsc::channel::<()>();
        let alive = Mutex::new(Some(alive));
        let build = || {
            EnvBuilder::new()
                // One thread serves all streams: none of them blocks it.
                .cq_count(1)
                .name_prefix("capacity-grpc")
                .after_start(move || threads::register(alive.lock().take()))
                .build()
        };
        // grpcio panics when its thread cannot be started.
        let env = catch_unwind(AssertUnwindSafe(build)).map_err(|panic| {
            let reason = panics::message(panic);
            ServerError::Thread(std::io::Error::other(reason))
        })?;
        Ok(Queue {
            env: Arc::new(env).into(),
            gone,
        })
    }

    /// `None` only while this is dropped.
    fn env(&self) -> Result<&Arc<Environment>, ServerError> {
        let closed = || ServerError::Grpc("the queue is closed".to_owned());
        self.env.as_ref().ok_or_else(closed)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        drop(self.env.take());
        // Nothing is ever sent: the channel is disconnected when the thread ends.
        if let Err(mpsc::RecvTimeoutError::Timeout) = self.gone.recv_timeout(CORE_TIMEOUT) {
            log::error!("the gRPC queue's thread did not end in {CORE_TIMEOUT:?}");
        }
    }
}

/// Blocks on a future, for at most `timeout`.
fn wait<F: Future>(future: F, timeout: Duration) -> Option<F::Output> {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let until = Instant::now() + timeout;
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::proto::{self, health};
    use crate::hook::meter::Meter;
    use grpcio::{CallOption, Client, CompressionAlgorithms, RpcStatusCode};

    #[test]
    fn compressed_requests_are_refused() {
        let builder = CapacityServer::builder().pool("p", Meter::new());
        let server = builder.start().unwrap();
        let ask = |algorithm| {
            let channel = ChannelBuilder::new(Arc::new(Environment::new(1)))
                .default_compression_algorithm(algorithm)
                .connect(&server.local_addr().to_string());
            let request = health::HealthCheckRequest {
                service: "p".repeat(60_000),
                ..Default::default()
            };
            let options = CallOption::default().timeout(CORE_TIMEOUT);
            let client = Client::new(channel);
            match client.unary_call(&proto::HEALTH_CHECK, &request, options) {
                Err(grpcio::Error::RpcFailure(status)) => status.code(),
                other => panic!("{other:?}"),
            }
        };
        let plain = ask(CompressionAlgorithms::GRPC_COMPRESS_NONE);
        assert_eq!(plain, RpcStatusCode::NOT_FOUND, "no such pool");
        for algorithm in [
            CompressionAlgorithms::GRPC_COMPRESS_GZIP,
            CompressionAlgorithms::GRPC_COMPRESS_DEFLATE,
        ] {
            assert_eq!(ask(algorithm), RpcStatusCode::UNIMPLEMENTED);
        }
    }
}
