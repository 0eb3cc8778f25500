//! One call to one server, and waiting for it without async.

use std::ffi::CStr;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant, SystemTime};

use futures_util::Stream;
use grpcio::{
    CallOption, Channel, ChannelBuilder, Client, ClientSStreamReceiver, ConnectivityState,
    Environment, MetadataBuilder,
};

use crate::grpc::client::builder::ClientBuilder;
use crate::grpc::proto::{self, relay, solpipe};

/// A snapshot has a few dozen bytes; whoever sends more than this is not one of ours.
const MAX_MESSAGE: i32 = 64 * 1024;

/// So named as it is the least that the core gives an attempt to connect.
const MIN_CONNECT: &CStr = c"grpc.min_reconnect_backoff_ms";

/// Between our own timeout and the core's, so that ours tells what happened.
const GRACE: Duration = Duration::from_millis(500);

/// Set, and the thread unparked, when the client is dropped.
#[derive(Default)]
pub(super) struct Stop(AtomicBool);

impl Stop {
    pub(super) fn set(&self, waiting: &Thread) {
        self.0.store(true, Ordering::SeqCst);
        waiting.unpark();
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Sleeps until then; `false` when it was stopped before.
    pub(super) fn sleep_until(&self, until: Option<Instant>) -> bool {
        while !self.is_set() {
            if !park_until(until) {
                return true;
            }
        }
        false
    }
}

/// That far from now; `None`, never, when no clock goes that far.
pub(super) fn after(pause: Duration) -> Option<Instant> {
    Instant::now().checked_add(pause)
}

/// Parks this thread until it is unparked, perhaps for nothing; `false` when the time was over.
fn park_until(until: Option<Instant>) -> bool {
    match until.map(|until| until.saturating_duration_since(Instant::now())) {
        None => thread::park(),
        Some(Duration::ZERO) => return false,
        Some(left) => thread::park_timeout(left),
    }
    true
}

/// A snapshot of a server's pool, and when it came.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Received {
    /// Busy workers divided by all workers, from 0 to 1.
    pub utilization: f32,
    /// Workers that are running a job; `None` from a server that tells only the utilisation, as the
    /// Go package's does.
    pub busy: Option<u32>,
    /// Workers that have a thread. `Some(0)` is a pool without workers; `None` as for `busy`.
    pub total: Option<u32>,
    /// Jobs that wait for a worker; `None` as for `busy`.
    pub waiting: Option<u64>,
    /// When it was received, for measuring its age.
    pub at: Instant,
    /// When it was received, by this machine's clock, for showing and storing.
    pub time: SystemTime,
}

impl Received {
    /// Time since it was received.
    pub fn age(&self) -> Duration {
        self.at.elapsed()
    }
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} % busy", self.utilization * 100.0)?;
        if let (Some(busy), Some(total)) = (self.busy, self.total) {
            write!(f, ", {busy} of {total} workers")?;
        }
        if let Some(waiting) = self.waiting {
            write!(f, ", {waiting} jobs waiting")?;
        }
        Ok(())
    }
}

/// What [`Session::next`] saw.
pub(super) enum Event {
    Snapshot(Received),
    /// The server ended the stream cleanly.
    Ended,
    Failed(grpcio::Error),
    TimedOut,
    Stopped,
}

/// A call under way. Dropping it cancels the call.
pub(super) struct Session {
    stream: Messages,
    channel: Channel,
}

enum Messages {
    Solpipe(ClientSStreamReceiver<solpipe::CapacityResponse>),
    Relay(ClientSStreamReceiver<relay::CapacityStatus>),
}

impl Session {
    /// Starts to connect and to call; whether that worked is the first event.
    pub(super) fn open(env: &Arc<Environment>, to: &ClientBuilder) -> grpcio::Result<Session> {
        let channel = channel(env, to);
        let client = Client::new(channel.clone());
        let mut options = CallOption::default();
        if let Some(token) = &to.token {
            let mut headers = MetadataBuilder::with_capacity(1);
            headers.add_str("authorization", &format!("Bearer {token}"))?;
            options = options.headers(headers.build());
        }
        let stream = if to.relay {
            let request = relay::CapacityRequest::default();
            Messages::Relay(client.server_streaming(&proto::CAPACITY, &request, options)?)
        } else {
            let request = solpipe::Empty::default();
            Messages::Solpipe(client.server_streaming(&proto::WORKER_STATUS, &request, options)?)
        };
        Ok(Session { stream, channel })
    }

    /// Does the connection stand? (The call may still be refused.)
    pub(super) fn is_connected(&self) -> bool {
        let state = self.channel.check_connectivity_state(false);
        state == ConnectivityState::GRPC_CHANNEL_READY
    }

    /// Blocks until something happens. Not to be called again after `Ended` or `Failed`.
    pub(super) fn next(&mut self, until: Option<Instant>, stop: &Stop) -> Event {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            if stop.is_set() {
                return Event::Stopped;
            }
            match self.poll(&mut context) {
                Poll::Ready(Some(Ok(snapshot))) => return Event::Snapshot(snapshot),
                Poll::Ready(Some(Err(error))) => return Event::Failed(error),
                Poll::Ready(None) => return Event::Ended,
                Poll::Pending if park_until(until) => {}
                Poll::Pending => return Event::TimedOut,
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<grpcio::Result<Received>>> {
        let next = match &mut self.stream {
            Messages::Solpipe(stream) => Pin::new(stream).poll_next(cx).map_ok(|message| {
                (
                    message.capacity,
                    message.busy,
                    message.total,
                    message.waiting,
                )
            }),
            Messages::Relay(stream) => Pin::new(stream).poll_next(cx).map_ok(|message| {
                (
                    message.utilization_ratio,
                    message.busy,
                    message.total,
                    message.waiting,
                )
            }),
        };
        next.map_ok(|(utilization, busy, total, waiting)| Received {
            utilization: sane(utilization),
            busy,
            total,
            waiting,
            at: Instant::now(),
            time: SystemTime::now(),
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        match &mut self.stream {
            Messages::Solpipe(stream) => stream.cancel(),
            Messages::Relay(stream) => stream.cancel(),
        }
    }
}

/// Wakes the thread that polls.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// What a server says, within the bounds that we promise; not a number counts as full.
fn sane(utilization: f32) -> f32 {
    if utilization.is_nan() {
        1.0
    } else {
        utilization.clamp(0.0, 1.0)
    }
}

fn channel(env: &Arc<Environment>, to: &ClientBuilder) -> Channel {
    // grpcio counts milliseconds, which overflow for a huge duration.
    let keepalive = to.keepalive.min(Duration::from_secs(20 * 86_400));
    // Past ours the core gives up, too: else a peer that never answers keeps its socket for 20 s
    // after the client is gone, and a longer timeout of ours would not count.
    let connecting = to.connect_timeout.min(Duration::from_secs(20 * 86_400)) + GRACE;
    let builder = ChannelBuilder::new(Arc::clone(env))
        .raw_cfg_int(MIN_CONNECT.into(), connecting.as_millis() as i32)
        .max_receive_message_len(MAX_MESSAGE)
        .keepalive_time(keepalive)
        .keepalive_timeout(Duration::from_secs(20))
        // The stream is quiet for long: pings must not wait for data to be sent.
        .http2_max_pings_without_data(0)
        .http2_min_sent_ping_interval_without_data(keepalive)
        .enable_http_proxy(false)
        // Our own pauses decide; the call is made once per connection.
        .enable_retry(false)
        // Or two clients of one process would share a connection, and its end.
        .use_local_subchannel_pool(true);
    #[cfg(feature = "tls")]
    let builder = match &to.tls {
        None => builder,
        Some(tls) => {
            let trust = grpcio::ChannelCredentialsBuilder::new().root_cert(tls.ca.clone());
            let credentials = match &tls.own {
                None => trust,
                Some((certificate, key)) => trust.cert(certificate.clone(), key.clone()),
            };
            builder.set_credentials(credentials.build())
        }
    };
    builder.connect(&to.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_utilizations_are_brought_into_bounds() {
        let seen = [f32::NAN, -1.0, 0.0, 0.5, 7.0, f32::INFINITY].map(sane);
        assert_eq!(seen, [1.0, 0.0, 0.0, 0.5, 1.0, 1.0]);
    }
}
