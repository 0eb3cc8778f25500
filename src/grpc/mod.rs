//! Capacity over gRPC: the messages of `proto/solpipe.proto`, and the library that will carry them.

/// The messages that `build.rs` generates.
mod proto {
    #![allow(missing_docs, unreachable_pub, clippy::all)]
    include!(concat!(env!("OUT_DIR"), "/proto/mod.rs"));
}

pub use proto::solpipe::{CapacityResponse, Empty};

/// The streaming method of the capacity service, as a client or server of grpcio names it.
pub const ON_STATUS: grpcio::Method<Empty, CapacityResponse> = grpcio::Method {
    ty: grpcio::MethodType::ServerStreaming,
    name: "/solpipe.WorkerStatus/OnStatus",
    req_mar: grpcio::Marshaller {
        ser: grpcio::pb_ser,
        de: grpcio::pb_de,
    },
    resp_mar: grpcio::Marshaller {
        ser: grpcio::pb_ser,
        de: grpcio::pb_de,
    },
};
