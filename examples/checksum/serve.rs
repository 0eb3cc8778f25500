//! `--serve`: tells gRPC clients how busy the pool is.

use std::io::{self, Write};

use worker_pool::Meter;
use worker_pool::grpc::{CapacityServer, ServerError};

/// Serves until what it returns is dropped. Says on standard error where: port 0 is a free one.
pub(crate) fn start(address: String, meter: &Meter) -> Result<CapacityServer, ServerError> {
    let server = CapacityServer::builder()
        .pool("checksum", meter.clone())
        .address(address)
        .start()?;
    // If nobody can read it, the address may be known all the same.
    let _ = writeln!(io::stderr(), "checksum: serving on {}", server.local_addr());
    Ok(server)
}
