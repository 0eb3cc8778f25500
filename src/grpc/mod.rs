//! Capacity over gRPC: a server that streams how busy pools are, and a client for it.
//!
//! # The server
//!
//! [`CapacityServer`] starts a server of its own; [`CapacityServices`] are the same services to be
//! registered on a grpcio server of yours. Both are made by a [`CapacityBuilder`].
//!
//! | service | what it tells |
//! |---|---|
//! | `solpipe.WorkerStatus`, `relay.Capacity` | busy / total of the first pool: at once, on every tick, soon after a change |
//! | `grpc.health.v1.Health` | SERVING while a pool accepts jobs; by pool name, or for all pools under the empty name |
//! | `xds.service.orca.v3.OpenRcaService` | load reports for clients with `weighted_round_robin` |
//! | `grpc.reflection.v1` and `v1alpha` | what can be called |
//!
//! A client that reads slowly misses intermediate values, never the newest; it delays no job and no
//! other client. When a pool closes, its streams get a last snapshot and end with OK; when the server
//! shuts down, all do.
//!
//! # Threads
//!
//! A server has two: one on which gRPC's core runs all calls, and one that decides when streams
//! send. (With TLS from files a third looks at the files.) All of them end, and are waited for, in
//! [`CapacityServer::shutdown`]. No job ever waits for them.
//!
//! # Security
//!
//! The server listens on loopback. Another address needs TLS (feature `tls`) or the word
//! [`insecure_off_loopback`](CapacityBuilder::insecure_off_loopback). A bearer token is checked
//! before anything of a call is read, for every service, unless
//! [`health_without_token`](CapacityBuilder::health_without_token) opens the health service.
//!
//! The feature `tls` uses the BoringSSL that gRPC is made for. It is compiled from source and linked
//! in statically: about twice the build time, but nothing is needed on the machine, neither to build
//! (no OpenSSL headers) nor to run (no particular version of `libssl`). Its price: it defines the
//! same C symbols as OpenSSL. A program that also links OpenSSL statically should leave `tls` off and
//! end TLS in front of the server.
//!
//! # Building
//!
//! gRPC's C++ core is compiled: cmake and a C++ compiler are needed, and some minutes.

mod auth;
mod bell;
mod builder;
mod call;
mod capacity;
mod client;
mod error;
mod front;
mod health;
mod hub;
mod orca;
mod own;
mod proto;
mod reflection;
mod server;
mod services;
mod ticker;
#[cfg(feature = "tls")]
mod tls;
mod window;

pub use builder::CapacityBuilder;
pub use client::{
    Backoff, CapacityClient, ClientBuilder, ClientError, Outage, Received, RecvError,
};
pub use error::ServerError;
/// The gRPC library that [`CapacityServices`] are registered with.
pub use grpcio;
pub use server::CapacityServer;
pub use services::CapacityServices;
#[cfg(feature = "tls")]
pub use tls::ServerTls;
