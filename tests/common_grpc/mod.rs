//! What the tests of the gRPC server share: a meter without a pool, a raw client, and a client that
//! speaks HTTP/2 by hand where gRPC's own would be too polite.

#![allow(dead_code, unreachable_pub)]

pub mod raw;

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use grpcio::{
    CallOption, Channel, ChannelBuilder, Client, ClientSStreamReceiver, Environment, Marshaller,
    MetadataBuilder, Method, MethodType, RpcStatusCode, pb_de, pb_ser,
};
use protobuf::Message;
use worker_pool::grpc::{CapacityBuilder, CapacityServer};
use worker_pool::{Hook, JobId, Meter, Outcome, PoolState, PoolStatus, WorkerId};

#[allow(
    warnings,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all
)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/proto/mod.rs"));
}
pub use proto::health::health_check_response::ServingStatus;
pub use proto::health::{HealthCheckRequest, HealthCheckResponse};
pub use proto::relay::{CapacityRequest, CapacityStatus};
pub use proto::solpipe::{CapacityResponse, Empty};

/// What a server always tells, even when it is 0.
pub trait Counts {
    fn busy(&self) -> u32;
    fn total(&self) -> u32;
    fn waiting(&self) -> u64;
}

macro_rules! counts {
    ($message:ty) => {
        impl Counts for $message {
            fn busy(&self) -> u32 {
                self.busy.expect("busy is always sent")
            }
            fn total(&self) -> u32 {
                self.total.expect("total is always sent")
            }
            fn waiting(&self) -> u64 {
                self.waiting.expect("waiting is always sent")
            }
        }
    };
}
counts!(CapacityResponse);
counts!(CapacityStatus);

/// No test depends on time but for this: what takes longer is taken for a hang.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A pool that does what a test says.
#[derive(Default)]
pub struct Pool {
    pub waiting: AtomicUsize,
    pub finished: AtomicU64,
    state: AtomicU8,
    pub panics: AtomicBool,
    /// Run, once, by the next question.
    pub ambush: std::sync::Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl PoolStatus for Pool {
    fn name(&self) -> &str {
        "fake"
    }
    fn waiting(&self) -> usize {
        let ambush = self.ambush.lock().unwrap().take();
        if let Some(ambush) = ambush {
            ambush();
        }
        assert!(!self.panics.load(SeqCst), "the gauge panics, as it should");
        self.waiting.load(SeqCst)
    }
    fn queue_capacity(&self) -> usize {
        64
    }
    fn finished(&self) -> u64 {
        self.finished.load(SeqCst)
    }
    fn state(&self) -> PoolState {
        match self.state.load(SeqCst) {
            0 => PoolState::Running,
            1 => PoolState::Draining,
            _ => PoolState::Closed,
        }
    }
}

/// A meter, and the pool that it is hooked into.
#[derive(Clone)]
pub struct Rig {
    pub meter: Meter,
    pub pool: Arc<Pool>,
}

impl Rig {
    pub fn new() -> Rig {
        let (meter, pool) = (Meter::new(), Arc::new(Pool::default()));
        let gauge: Arc<dyn PoolStatus> = pool.clone();
        meter.pool_start(Arc::downgrade(&gauge) as Weak<dyn PoolStatus>);
        Rig { meter, pool }
    }

    /// A pool of this size.
    pub fn of(workers: u64) -> Rig {
        let rig = Rig::new();
        for id in 1..=workers {
            rig.meter.worker_add(WorkerId::new(id));
        }
        rig
    }

    pub fn add(&self) {
        self.meter.worker_add(WorkerId::new(1));
    }

    pub fn meter_remove(&self) {
        self.meter.worker_remove(WorkerId::new(1));
    }

    pub fn start_job(&self) {
        self.meter.job_start(JobId::new(1), WorkerId::new(1));
    }

    pub fn finish_job(&self) {
        let (job, worker) = (JobId::new(1), WorkerId::new(1));
        self.pool.finished.fetch_add(1, SeqCst);
        self.meter.job_finish(job, worker, Outcome::Completed);
    }

    pub fn enter(&self, state: PoolState) {
        self.pool.state.store(state as u8, SeqCst);
        self.meter.pool_state(state);
    }

    /// Serves this pool, with ticks so rare that none comes during a test.
    #[track_caller]
    pub fn serve(&self, more: impl FnOnce(CapacityBuilder) -> CapacityBuilder) -> CapacityServer {
        let builder = CapacityServer::builder()
            .pool("pool", self.meter.clone())
            .interval(Duration::from_secs(3600));
        more(builder).start().expect("the server starts")
    }
}

pub fn env() -> Arc<Environment> {
    static ENV: OnceLock<Arc<Environment>> = OnceLock::new();
    Arc::clone(ENV.get_or_init(|| Arc::new(Environment::new(1))))
}

/// A client with a connection of its own.
pub struct Peer {
    pub channel: Channel,
    token: Option<String>,
}

impl Peer {
    pub fn new(server: &CapacityServer) -> Peer {
        Peer::to(&server.local_addr().to_string())
    }

    pub fn to(address: &str) -> Peer {
        Peer::with(address, |builder| builder)
    }

    pub fn with(address: &str, more: impl FnOnce(ChannelBuilder) -> ChannelBuilder) -> Peer {
        // Without a pool of its own, gRPC's core would share connections between tests.
        let builder = ChannelBuilder::new(env()).use_local_subchannel_pool(true);
        Peer {
            channel: more(builder).connect(address),
            token: None,
        }
    }

    /// Sends this as the whole `authorization` header.
    pub fn authorization(mut self, value: &str) -> Peer {
        self.token = Some(value.to_owned());
        self
    }

    fn option(&self) -> CallOption {
        let option = CallOption::default();
        match &self.token {
            None => option,
            Some(token) => {
                let mut headers = MetadataBuilder::new();
                headers.add_str("authorization", token).unwrap();
                option.headers(headers.build())
            }
        }
    }

    pub fn stream<Q: Message, R: Message + Unpin>(
        &self,
        path: &'static str,
        request: &Q,
    ) -> Feed<R> {
        let method = method(MethodType::ServerStreaming, path);
        let client = Client::new(self.channel.clone());
        let receiver = client
            .server_streaming(&method, request, self.option())
            .expect("the call starts");
        Feed {
            receiver,
            _channel: self.channel.clone(),
        }
    }

    pub fn capacity(&self) -> Feed<CapacityResponse> {
        self.stream("/solpipe.WorkerStatus/OnStatus", &Empty::new())
    }

    pub fn relay(&self) -> Feed<CapacityStatus> {
        self.stream("/relay.Capacity/OnStatus", &CapacityRequest::new())
    }

    pub fn watch(&self, service: &str) -> Feed<HealthCheckResponse> {
        self.stream("/grpc.health.v1.Health/Watch", &of_service(service))
    }

    pub fn unary<Q: Message, R: Message + Unpin>(
        &self,
        path: &'static str,
        request: &Q,
    ) -> Result<R, RpcStatusCode> {
        let method = method(MethodType::Unary, path);
        let client = Client::new(self.channel.clone());
        let call = client.unary_call_async(&method, request, self.option());
        let receiver = call.expect("the call starts");
        wait(receiver).map_err(|error| code(&error))
    }

    pub fn check(&self, service: &str) -> Result<ServingStatus, RpcStatusCode> {
        let answer: HealthCheckResponse =
            self.unary("/grpc.health.v1.Health/Check", &of_service(service))?;
        Ok(answer.status.unwrap())
    }
}

fn of_service(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
        ..Default::default()
    }
}

pub fn method<Q: Message, R: Message + Unpin>(ty: MethodType, name: &'static str) -> Method<Q, R> {
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

pub fn code(error: &grpcio::Error) -> RpcStatusCode {
    match error {
        grpcio::Error::RpcFailure(status) | grpcio::Error::RpcFinished(Some(status)) => {
            status.code()
        }
        other => panic!("not a status: {other}"),
    }
}

/// One stream.
pub struct Feed<R> {
    receiver: ClientSStreamReceiver<R>,
    /// Dropping the last handle of a channel ends its calls.
    _channel: Channel,
}

impl<R> Feed<R> {
    /// The next message, or the code with which the stream ended.
    pub fn next(&mut self) -> Result<R, RpcStatusCode> {
        match wait(self.receiver.next()) {
            None => Err(RpcStatusCode::OK),
            Some(Ok(message)) => Ok(message),
            Some(Err(error)) => Err(code(&error)),
        }
    }

    #[track_caller]
    pub fn expect(&mut self) -> R {
        match self.next() {
            Ok(message) => message,
            Err(code) => panic!("the stream ended with {code:?}"),
        }
    }

    /// Is there no message for this long?
    pub fn is_silent(&mut self, span: Duration) -> bool {
        wait_for(self.receiver.next(), span).is_none()
    }

    /// Reads until a message has it.
    #[track_caller]
    pub fn until(&mut self, mut wanted: impl FnMut(&R) -> bool) -> R {
        loop {
            let message = self.expect();
            if wanted(&message) {
                return message;
            }
        }
    }

    /// Reads to the end: the last message, and how it ended.
    pub fn end(&mut self) -> (Option<R>, RpcStatusCode) {
        let mut last = None;
        loop {
            match self.next() {
                Ok(message) => last = Some(message),
                Err(code) => return (last, code),
            }
        }
    }
}

/// Blocks on a future. Panics when it takes too long.
#[track_caller]
pub fn wait<F: Future>(future: F) -> F::Output {
    wait_for(future, PATIENCE).expect("an answer in time")
}

pub fn wait_for<F: Future>(future: F, patience: Duration) -> Option<F::Output> {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let until = Instant::now() + patience;
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

/// Waits until something becomes true that nothing announces.
#[track_caller]
pub fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < until, "not in time: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Panics of any thread since the first call.
pub fn panics() -> usize {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    static HOOK: OnceLock<()> = OnceLock::new();
    HOOK.get_or_init(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, SeqCst);
            before(info);
        }));
    });
    PANICS.load(SeqCst)
}
