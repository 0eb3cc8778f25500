//! Why a server does not start.

use std::fmt;
use std::io;

/// Why [`CapacityBuilder::start`](crate::grpc::CapacityBuilder::start) or
/// [`CapacityBuilder::services`](crate::grpc::CapacityBuilder::services) failed. Nothing runs then: no
/// thread, no open port.
///
/// Neither the text nor the `Debug` form holds a token or a key.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServerError {
    /// No pool was given: there is nothing to serve.
    NoPool,
    /// A pool's name is empty, used twice, or `solpipe.WorkerStatus` or `relay.Capacity`: for the
    /// health service these are the names of the streams.
    PoolName(String),
    /// A setting is out of its range.
    Setting {
        /// The builder's method.
        name: &'static str,
        /// What it must be.
        needs: &'static str,
    },
    /// The address cannot be read or resolved.
    Address {
        /// As given.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// The address can be reached from other machines, and neither TLS nor
    /// [`insecure_off_loopback`](crate::grpc::CapacityBuilder::insecure_off_loopback) was asked for.
    NotLoopback(String),
    /// The address cannot be listened on; the port may be in use.
    Bind(String),
    /// The certificate, the key or the clients' CA cannot be read or used.
    Tls(String),
    /// A thread could not be started.
    Thread(io::Error),
    /// gRPC's core failed.
    Grpc(String),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerError::NoPool => f.write_str("no pool to serve: call pool(name, meter)"),
            ServerError::PoolName(name) => {
                write!(f, "the pool name {name:?} is empty, used twice or reserved")
            }
            ServerError::Setting { name, needs } => write!(f, "{name} must be {needs}"),
            ServerError::Address { address, source } => {
                write!(f, "cannot resolve the address {address:?}: {source}")
            }
            ServerError::NotLoopback(address) => write!(
                f,
                "{address} can be reached from other machines: use TLS, or say insecure_off_loopback()"
            ),
            ServerError::Bind(address) => write!(f, "cannot listen on {address}"),
            ServerError::Tls(reason) => write!(f, "TLS: {reason}"),
            ServerError::Thread(source) => write!(f, "cannot start a thread: {source}"),
            ServerError::Grpc(reason) => write!(f, "gRPC: {reason}"),
        }
    }
}

impl std::error::Error for ServerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ServerError::Address { source, .. } | ServerError::Thread(source) => Some(source),
            _ => None,
        }
    }
}
