//! The messages generated from `proto/`, and one [`grpcio::Method`] per procedure.

use grpcio::{Marshaller, Method, MethodType, pb_de, pb_ser};

#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused,
    clippy::all
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/proto/mod.rs"));
    pub mod v1alpha {
        include!(concat!(env!("OUT_DIR"), "/proto_v1alpha/mod.rs"));
    }
}

pub(crate) use generated::v1alpha::reflection as reflection_v1alpha;
pub(crate) use generated::{
    health, orca, orca_load_report, reflection as reflection_v1, relay, solpipe,
};

const fn method<Q: protobuf::Message, R: protobuf::Message>(
    ty: MethodType,
    name: &'static str,
) -> Method<Q, R> {
    Method {
        ty,
        name,
        req_mar: Marshaller {
            ser: pb_ser,
            de: pb_de,
        },
        resp_mar: Marshaller {
            ser: pb_ser,
            de: pb_de,
        },
    }
}

/// The pool's stream as the older clients call it.
pub(crate) const WORKER_STATUS: Method<solpipe::Empty, solpipe::CapacityResponse> = method(
    MethodType::ServerStreaming,
    "/solpipe.WorkerStatus/OnStatus",
);
/// The pool's stream as the newer clients call it.
pub(crate) const CAPACITY: Method<relay::CapacityRequest, relay::CapacityStatus> =
    method(MethodType::ServerStreaming, "/relay.Capacity/OnStatus");
pub(crate) const HEALTH_CHECK: Method<health::HealthCheckRequest, health::HealthCheckResponse> =
    method(MethodType::Unary, "/grpc.health.v1.Health/Check");
pub(crate) const HEALTH_WATCH: Method<health::HealthCheckRequest, health::HealthCheckResponse> =
    method(MethodType::ServerStreaming, "/grpc.health.v1.Health/Watch");
pub(crate) const REFLECTION_V1: Method<
    reflection_v1::ServerReflectionRequest,
    reflection_v1::ServerReflectionResponse,
> = method(
    MethodType::Duplex,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
);
/// With the messages of v1, which are the same on the wire.
pub(crate) const REFLECTION_V1ALPHA: Method<
    reflection_v1::ServerReflectionRequest,
    reflection_v1::ServerReflectionResponse,
> = method(
    MethodType::Duplex,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
);
pub(crate) const ORCA: Method<orca::OrcaLoadReportRequest, orca_load_report::OrcaLoadReport> =
    method(
        MethodType::ServerStreaming,
        "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics",
    );
