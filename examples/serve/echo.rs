//! `/demo.Who/Ask`: a service to balance. Bytes in, the name of this server out.

use std::io::Read;

use futures_util::FutureExt;
use grpcio::{GrpcSlice, Marshaller, MessageReader, Method, MethodType, Service, ServiceBuilder};

/// A message that is taken as it is.
type Bytes = Vec<u8>;

fn write(bytes: &Bytes, buffer: &mut GrpcSlice) -> grpcio::Result<()> {
    *buffer = GrpcSlice::from(bytes.clone());
    Ok(())
}

fn read(mut reader: MessageReader) -> grpcio::Result<Bytes> {
    let mut bytes = Bytes::new();
    let done = reader.read_to_end(&mut bytes);
    done.map_err(|error| grpcio::Error::Codec(error.into()))?;
    Ok(bytes)
}

const RAW: Marshaller<Bytes> = Marshaller {
    ser: write,
    de: read,
};

pub(crate) const ASK: Method<Bytes, Bytes> = Method {
    ty: MethodType::Unary,
    name: "/demo.Who/Ask",
    req_mar: RAW,
    resp_mar: RAW,
};

pub(crate) fn service(name: String) -> Service {
    ServiceBuilder::new()
        .add_unary_handler(&ASK, move |context, _, sink| {
            context.spawn(sink.success(name.clone().into_bytes()).map(drop));
        })
        .build()
}
