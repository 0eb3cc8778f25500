//! A server whose every answer a test decides: each call is handed to a script on its own thread.

use std::future::Future;
use std::io::Read;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};

use futures_util::SinkExt;
use grpcio::{
    ChannelBuilder, EnvBuilder, GrpcSlice, Marshaller, MessageReader, Method, MethodType,
    RpcStatus, RpcStatusCode, Server, ServerBuilder, ServerCredentials, ServerStreamingSink,
    ServiceBuilder, WriteFlags,
};

/// Messages as they are on the wire, so that the tests check bytes and not our own generated code.
pub(crate) type Bytes = Vec<u8>;

fn write(bytes: &Bytes, buffer: &mut GrpcSlice) -> grpcio::Result<()> {
    *buffer = GrpcSlice::from(bytes.clone());
    Ok(())
}

fn read(mut reader: MessageReader) -> grpcio::Result<Bytes> {
    let mut bytes = Bytes::new();
    reader
        .read_to_end(&mut bytes)
        .map_err(|error| grpcio::Error::Codec(error.into()))?;
    Ok(bytes)
}

const RAW: Marshaller<Bytes> = Marshaller {
    ser: write,
    de: read,
};

const fn stream(name: &'static str) -> Method<Bytes, Bytes> {
    Method {
        ty: MethodType::ServerStreaming,
        name,
        req_mar: RAW,
        resp_mar: RAW,
    }
}

pub(crate) const SOLPIPE: Method<Bytes, Bytes> = stream("/solpipe.WorkerStatus/OnStatus");
pub(crate) const RELAY: Method<Bytes, Bytes> = stream("/relay.Capacity/OnStatus");

/// A message of the first version: the utilisation alone.
pub(crate) fn old(utilization: f32) -> Bytes {
    let mut bytes = vec![0x0d]; // field 1, four bytes
    bytes.extend(utilization.to_le_bytes());
    bytes
}

/// A message with all counts; each below 128, so that a varint is one byte.
pub(crate) fn full(utilization: f32, busy: u8, total: u8, waiting: u8) -> Bytes {
    let mut bytes = old(utilization);
    bytes.extend([0x10, busy, 0x18, total, 0x20, waiting]);
    bytes
}

/// One call, in the hands of a script.
pub(crate) struct Call {
    sink: ServerStreamingSink<Bytes>,
    pub(crate) request: Bytes,
    pub(crate) authorization: Option<String>,
}

impl Call {
    /// `false` when the client is gone.
    pub(crate) fn send(&mut self, message: Bytes) -> bool {
        block_on(self.sink.send((message, WriteFlags::default()))).is_ok()
    }

    pub(crate) fn end(mut self) {
        let _ = block_on(self.sink.close());
    }

    pub(crate) fn fail(self, code: RpcStatusCode, message: &str) {
        let _ = block_on(
            self.sink
                .fail(RpcStatus::with_message(code, message.to_owned())),
        );
    }
}

pub(crate) struct Fake {
    pub(crate) address: String,
    server: Option<Server>,
    scripts: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Fake {
    pub(crate) fn start(
        method: &Method<Bytes, Bytes>,
        script: impl Fn(Call) + Send + Sync + 'static,
    ) -> Fake {
        Fake::at("127.0.0.1:0", ServerCredentials::insecure(), method, script)
    }

    pub(crate) fn at(
        address: &str,
        credentials: ServerCredentials,
        method: &Method<Bytes, Bytes>,
        script: impl Fn(Call) + Send + Sync + 'static,
    ) -> Fake {
        let script = Arc::new(script);
        let scripts = Arc::new(Mutex::new(Vec::new()));
        let running = Arc::clone(&scripts);
        let service = ServiceBuilder::new()
            .add_server_streaming_handler(method, move |context, request, sink| {
                let headers = context.request_headers().iter();
                let authorization = headers
                    .filter(|(name, _)| *name == "authorization")
                    .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
                    .next();
                let script = Arc::clone(&script);
                let call = Call {
                    sink,
                    request,
                    authorization,
                };
                running
                    .lock()
                    .unwrap()
                    .push(thread::spawn(move || script(call)));
            })
            .build();
        let env = Arc::new(EnvBuilder::new().cq_count(1).build());
        let args = ChannelBuilder::new(Arc::clone(&env)).reuse_port(false);
        let mut server = ServerBuilder::new(env)
            .channel_args(args.build_args())
            .requests_slot_per_cq(16)
            .register_service(service)
            .build()
            .unwrap();
        let port = server.add_listening_port(address, credentials).unwrap();
        server.start();
        Fake {
            address: format!("127.0.0.1:{port}"),
            server: Some(server),
            scripts,
        }
    }
}

impl Drop for Fake {
    /// Ends every call; scripts that wait for a channel need its other end dropped before.
    fn drop(&mut self) {
        let mut server = self.server.take().unwrap();
        let down = server.shutdown();
        server.cancel_all_calls();
        for script in std::mem::take(&mut *self.scripts.lock().unwrap()) {
            let _ = script.join();
        }
        let _ = block_on(down);
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
