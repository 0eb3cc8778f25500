//! The services, ready to be registered on any grpcio server, and the ticker that drives them.

pub(crate) mod auth;
mod capacity;
pub(crate) mod health;
mod interceptor;
mod orca;
mod reflection;

use std::fmt;
use std::io;
use std::time::Duration;

use grpcio::{ServerBuilder, ServiceBuilder};
use protobuf::reflect::FileDescriptor;

use crate::grpc::proto;
use crate::grpc::services::auth::Token;
use crate::grpc::services::interceptor::Interceptor;
use crate::grpc::stream::Streams;
use crate::grpc::stream::{threads, ticker};
use crate::sync::{Arc, Mutex, thread};

/// Which services there are besides the capacity streams.
#[derive(Debug, Clone)]
pub(crate) struct Extras {
    pub(crate) health: bool,
    /// The health service needs no token.
    pub(crate) open_health: bool,
    pub(crate) reflection: bool,
    pub(crate) orca: bool,
    /// The shortest time between two ORCA reports.
    pub(crate) orca_shortest: Duration,
}

/// The capacity services for a grpcio server of your own, for instance the one whose calls the pool
/// works on: ORCA's weights are only used for the server that they come from.
///
/// Register them on as many servers as you like. **Before** you shut such a server down, call
/// [`close`](Self::close) (or drop this): grpcio's shutdown does not finish while a stream is open,
/// nor, before `Server::cancel_all_calls`, while a client does not answer.
///
/// On a server of your own, avoid grpcio's other traps: give it `ChannelBuilder::reuse_port(false)`,
/// 16 to 32 `requests_slot_per_cq` and a keepalive, and do not drop it on one of its own threads.
/// gRPC's core limits the size of a request before it decompresses it: set the channel argument
/// `grpc.compression_enabled_algorithms_bitset` to 1 if no client needs to send compressed requests.
///
/// ```
/// use std::sync::Arc;
/// use worker_pool::Meter;
/// use worker_pool::grpc::{CapacityServices, grpcio};
///
/// let services = CapacityServices::builder().pool("encoders", Meter::new()).services()?;
/// let env = Arc::new(grpcio::Environment::new(1));
/// let mut server = services.register(grpcio::ServerBuilder::new(env)).build()?;
/// let port = server.add_listening_port("127.0.0.1:0", grpcio::ServerCredentials::insecure())?;
/// server.start();
/// assert_ne!(port, 0);
/// services.close();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CapacityServices {
    interceptor: Interceptor,
    extras: Extras,
    ticker: Mutex<Option<thread::JoinHandle<()>>>,
}

impl fmt::Debug for CapacityServices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CapacityServices")
            .field("open_streams", &self.open_streams())
            .field("extras", &self.extras)
            .finish_non_exhaustive()
    }
}

impl CapacityServices {
    pub(crate) fn new(
        streams: Arc<Streams>,
        token: Option<Token>,
        extras: Extras,
    ) -> io::Result<CapacityServices> {
        let ticker = ticker::start(Arc::clone(&streams))?;
        Ok(CapacityServices {
            interceptor: Interceptor { streams, token },
            extras,
            ticker: Mutex::new(Some(ticker)),
        })
    }

    /// Adds all services to a server that is being built.
    pub fn register(&self, server: ServerBuilder) -> ServerBuilder {
        server.register_service(self.add_to(ServiceBuilder::new()).build())
    }

    /// Adds all services to a service that is being built.
    pub fn add_to(&self, services: ServiceBuilder) -> ServiceBuilder {
        let mut files: Vec<&FileDescriptor> = vec![
            proto::solpipe::file_descriptor(),
            proto::relay::file_descriptor(),
        ];
        let mut services = capacity::add(services, &self.interceptor);
        if self.extras.health {
            let interceptor = match self.extras.open_health {
                true => self.interceptor.without_token(),
                false => self.interceptor.clone(),
            };
            services = health::add(services, &interceptor);
            files.push(proto::health::file_descriptor());
        }
        if self.extras.orca {
            services = orca::add(services, &self.interceptor, self.extras.orca_shortest);
            files.push(proto::orca::file_descriptor());
        }
        if self.extras.reflection {
            files.push(proto::reflection_v1::file_descriptor());
            files.push(proto::reflection_v1alpha::file_descriptor());
            services = reflection::add(services, &self.interceptor, &files);
        }
        services
    }

    /// Streams that are open now.
    pub fn open_streams(&self) -> usize {
        self.interceptor.streams.open_streams()
    }

    /// From now on the health service says NOT_SERVING, while all streams and running calls go on.
    ///
    /// The first step of a shutdown that no client notices: call this, give clients a moment to react,
    /// then drain the pool.
    pub fn stop_serving(&self) {
        self.interceptor.streams.stop_serving();
    }

    /// Ends every stream: each client gets a last snapshot and the status OK. Streams whose clients do
    /// not read are cancelled after a quarter of a second. Later calls get UNAVAILABLE.
    ///
    /// Blocks until the streams have ended and the ticker's thread is joined: for milliseconds, or for
    /// about a quarter of a second if clients do not read; with thousands of streams a little longer.
    /// Calling it again does nothing. On a thread of these services (a gauge or a logger may be called
    /// there) it does not wait: a thread that it starts does the rest. Dropping this does the same.
    ///
    /// Do not call it on a completion queue's thread of your own server: the streams need that thread
    /// to end, so it would wait half a second for nothing, and they would be cancelled.
    pub fn close(&self) {
        if threads::is_server_thread() {
            if self.begin_close() {
                let streams = Arc::clone(&self.interceptor.streams);
                threads::run_on_new(move || streams.shut_down());
            }
            return;
        }
        let ticker = self.ticker.lock().take();
        self.interceptor.streams.shut_down();
        if let Some(ticker) = ticker {
            let _ = ticker.join();
        }
    }

    /// Rejects new calls and asks the streams to end. True for the first caller, who then has to
    /// [wait for them](Streams::shut_down), on a thread that may wait.
    pub(crate) fn begin_close(&self) -> bool {
        self.interceptor.streams.close();
        // Not joined: this may be the ticker itself.
        self.ticker.lock().take().is_some()
    }

    pub(crate) fn streams(&self) -> &Arc<Streams> {
        &self.interceptor.streams
    }
}

impl Drop for CapacityServices {
    fn drop(&mut self) {
        self.close();
    }
}
