//! One call to one server, and waiting for it without async.

use std::ffi::CStr;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant, SystemTime};

use futures_util::Stream;
use grpcio::{
    CallOption, Channel, ChannelBuilder, Client, ClientSStreamReceiver, ConnectivityState,
    Environment, MetadataBuilder,
};

use crate::grpc::client::builder::ClientBuilder;
use crate::grpc::proto::{self, relay, solpipe};
use crate::sync::thread::{self, Thread};
use crate::sync::{Arc, AtomicBool, Ordering};

/// A snapshot has a few dozen bytes; a larger message than this is none.
const MAX_MESSAGE: i32 = 64 * 1024;

/// Despite its name it also sets the core's shortest timeout of an attempt to connect.
const MIN_CONNECT: &CStr = c"grpc.min_reconnect_backoff_ms";

/// How much later the core's timeout is than the client's own, whose error says what happened.
const GRACE: Duration = Duration::from_millis(500);

/// Set when the client is dropped; setting it unparks the thread.
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

    /// Sleeps until then; `false` if it was stopped before.
    pub(super) fn sleep_until(&self, until: Option<Instant>) -> bool {
        while !self.is_set() {
            if !park_until(until) {
                return true;
            }
        }
        false
    }
}

/// The time after this pause; a deadline that overflows is none.
pub(super) fn after(pause: Duration) -> Option<Instant> {
    Instant::now().checked_add(pause)
}

/// Parks this thread until it is unparked, perhaps spuriously; `false` if the time is over.
fn park_until(until: Option<Instant>) -> bool {
    match until.map(|until| until.saturating_duration_since(Instant::now())) {
        None => thread::park(),
        Some(Duration::ZERO) => return false,
        Some(left) => thread::park_timeout(left),
    }
    true
}

/// A snapshot of a server's pool, and when it was received.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Received {
    /// Busy workers divided by all workers, from 0 to 1.
    pub utilization: f32,
    /// Workers that are running a job; `None` from a server that sends only the utilisation, as that
    /// of the Go package does.
    pub busy: Option<u32>,
    /// Workers that have a thread. `Some(0)` is a pool without workers; `None` as for `busy`.
    pub total: Option<u32>,
    /// Jobs that wait for a worker; `None` as for `busy`.
    pub waiting: Option<u64>,
    /// When it was received, for measuring its age.
    pub at: Instant,
    /// When it was received, by the wall clock, for display and storage.
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

/// What [`Session::next`] returns.
pub(super) enum Event {
    Snapshot(Received),
    /// The server ended the stream cleanly.
    Ended,
    Failed(grpcio::Error),
    TimedOut,
    Stopped,
}

/// A running call. Dropping it cancels the call.
pub(super) struct Session {
    stream: Messages,
    channel: Channel,
}

enum Messages {
    Solpipe(ClientSStreamReceiver<solpipe::CapacityResponse>),
    Relay(ClientSStreamReceiver<relay::CapacityStatus>),
}

impl Session {
    /// Starts to connect and to call; the first event tells whether that worked.
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

    /// Whether the connection is established. (The call may still be rejected.)
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

/// A server's value, within the documented bounds; NaN counts as full.
fn sane(utilization: f32) -> f32 {
    if utilization.is_nan() {
        1.0
    } else {
        utilization.clamp(0.0, 1.0)
    }
}

fn channel(env: &Arc<Environment>, to: &ClientBuilder) -> Channel {
    // grpcio's milliseconds would overflow for a huge duration.
    let keepalive = to.keepalive.min(Duration::from_secs(20 * 86_400));
    // The core gives up a little later: else a peer that never answers would keep its socket for 20 s
    // after the client is dropped, and a longer timeout than the core's would have no effect.
    let connecting = to.connect_timeout.min(Duration::from_secs(20 * 86_400)) + GRACE;
    let builder = ChannelBuilder::new(Arc::clone(env))
        .raw_cfg_int(MIN_CONNECT.into(), connecting.as_millis() as i32)
        .max_receive_message_len(MAX_MESSAGE)
        .keepalive_time(keepalive)
        .keepalive_timeout(Duration::from_secs(20))
        // Streams are silent for long times: pings must not depend on data being sent.
        .http2_max_pings_without_data(0)
        .http2_min_sent_ping_interval_without_data(keepalive)
        .enable_http_proxy(false)
        // The reader reconnects, with its own pauses.
        .enable_retry(false)
        // Else two clients of one process would share a connection, and its end.
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
