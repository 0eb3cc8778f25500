//! Capacity over gRPC: a server that streams how busy pools are, and a client for it.
//!
//! ```no_run
//! use worker_pool::grpc::CapacityServer;
//! use worker_pool::{Job, Manager, Meter};
//!
//! let meter = Meter::new();
//! let pool = Manager::<u64, u64>::builder().hook(meter.clone()).build()?;
//! pool.add(|job: Job<u64>| Ok(job.into_payload() + 1))?;
//!
//! let server = CapacityServer::builder()
//!     .pool("adders", meter)
//!     .address("127.0.0.1:50051") // port 0 picks a free one; server.local_addr() returns it
//!     .start()?;
//! assert_eq!(pool.submit(1)?, 2);
//! pool.drain(); // clients get a last snapshot, and their streams end
//! server.shutdown(); // joins its threads; dropping the server does the same
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```no_run
//! use worker_pool::grpc::{Backoff, CapacityClient};
//!
//! let client = CapacityClient::builder("127.0.0.1:50051")
//!     .reconnect(Backoff::default()) // without this it ends with the connection
//!     .connect()?;
//! for snapshot in client {
//!     println!("{}", snapshot?); // 62 % busy, 5 of 8 workers, 0 jobs waiting
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The server
//!
//! [`CapacityServer`] is a server of its own; [`CapacityServices`] are the same services, to be
//! registered on your own grpcio server. A [`CapacityBuilder`] builds both.
//!
//! | service | what it sends |
//! |---|---|
//! | `solpipe.WorkerStatus`, `relay.Capacity` | busy / total of the first pool: at once, on every tick, soon after a change |
//! | `grpc.health.v1.Health` | SERVING while a pool accepts jobs; by pool name, or for all pools under the empty name |
//! | `xds.service.orca.v3.OpenRcaService` | load reports for clients with `weighted_round_robin` |
//! | `grpc.reflection.v1` and `v1alpha` | what can be called |
//!
//! A client that reads slowly misses intermediate values, never the newest; it delays no job and no
//! other client. Nor does it use memory in the server, which keeps only the newest value for it. Older
//! values may be on their way to it, as many as fit into the window of its HTTP/2 stream. The client
//! chooses that window: 64 KiB by default, and a snapshot has 12 to 20 bytes. So a client that stops
//! reading for many minutes and then goes on may get thousands of older snapshots before the newest.
//! No setting of a server shortens that. (`CapacityClient` always reads, whether it is asked for
//! snapshots or not.)
//!
//! When a pool closes, its streams get a last snapshot and end with OK; when the server shuts down,
//! all streams do.
//!
//! # Threads
//!
//! A server has two: one on which gRPC's core runs all calls, and one that decides when streams
//! send. (With TLS from files a third one watches the files.) [`CapacityServer::shutdown`] ends and
//! joins them. No job ever waits for them.
//!
//! # Security
//!
//! The server listens on loopback. Another address needs TLS (feature `tls`) or the setting
//! [`insecure_off_loopback`](CapacityBuilder::insecure_off_loopback). A bearer token is checked
//! before the request of a call is read, for every service, unless
//! [`health_without_token`](CapacityBuilder::health_without_token) opens the health service.
//! Compressed requests are refused, as a small one could unpack to a large one.
//!
#![cfg_attr(feature = "tls", doc = "```no_run")]
#![cfg_attr(not(feature = "tls"), doc = "```ignore")]
//! use worker_pool::Meter;
//! use worker_pool::grpc::{CapacityServer, ServerTls};
//!
//! let tls = ServerTls::from_files("/etc/pool/cert.pem", "/etc/pool/key.pem")
//!     .client_ca_file("/etc/pool/clients.pem");
//! let server = CapacityServer::builder()
//!     .pool("encoders", Meter::new())
//!     .address("0.0.0.0:7700")
//!     .tls(tls)
//!     .token(std::env::var("POOL_TOKEN")?)
//!     .start()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The feature `tls` uses the BoringSSL that gRPC is made for. It is compiled from source and linked
//! statically. The build takes about twice as long, but needs no OpenSSL headers, and the program
//! needs no particular version of `libssl`. BoringSSL defines the same C symbols as OpenSSL: a program
//! that also links OpenSSL statically should leave `tls` off and terminate TLS in front of the server.
//!
//! # Building
//!
//! gRPC's C++ core is compiled: cmake and a C++ compiler are needed, and some minutes.

mod builder;
mod client;
mod proto;
mod server;
mod services;
mod stream;

pub use builder::CapacityBuilder;
pub use client::{
    Backoff, CapacityClient, ClientBuilder, ClientError, Outage, Received, RecvError,
};
/// The gRPC library that [`CapacityServices`] are registered with.
pub use grpcio;
pub use server::CapacityServer;
pub use server::error::ServerError;
#[cfg(feature = "tls")]
pub use server::tls::ServerTls;
pub use services::CapacityServices;

#[cfg(test)]
mod tests {
    /// The README's gRPC examples cannot be tested there: the README is for the slim build as well. So
    /// they are repeated above, where they are tested.
    #[test]
    fn the_examples_in_the_readme_are_those_that_are_tested_here() {
        let here = include_str!("mod.rs");
        let here: Vec<&str> = here.lines().map_while(doc_line).collect();
        let readme = include_str!("../../README.md");
        let mut blocks = readme.split("```rust,ignore\n").skip(1);
        let mut compared = 0;
        while let Some((block, _)) = blocks.next().and_then(|rest| rest.split_once("```")) {
            let lines: Vec<&str> = block.lines().collect();
            let found = here.windows(lines.len()).any(|part| part == lines);
            assert!(found, "not in src/grpc/mod.rs:\n{block}");
            compared += 1;
        }
        assert_eq!(compared, 3);
    }

    fn doc_line(line: &str) -> Option<&str> {
        match line.strip_prefix("//!") {
            Some(text) => Some(text.strip_prefix(' ').unwrap_or(text)),
            None => line.starts_with("#![").then_some(line),
        }
    }
}
