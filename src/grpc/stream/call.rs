//! One call: its request, its sink and its registration; and grpcio's traps, kept in one place.
//!
//! - Every call is served as a duplex one, whatever its type: there is no difference on the wire,
//!   but grpcio calls a duplex handler as soon as the headers have arrived. A unary or
//!   server-streaming handler would hold a request slot until the message arrives, so a few clients
//!   that never send one could block all others; and the token would be checked only then.
//! - Nothing here waits on a thread; a call is a future on its completion queue, and a panic in it
//!   is caught before it can kill the queue's thread.
//! - A sink that has failed is dropped and never touched again (closing it panics); every other one
//!   is closed (a dropped one reads as CANCELLED).

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{FutureExt, Sink, Stream};
use grpcio::{DuplexSink, RequestStream, RpcContext, RpcStatus, RpcStatusCode, WriteFlags};

use crate::grpc::stream::notify::Signal;
use crate::grpc::stream::{Kind, PendingRejection, Registration, Streams};
use crate::sync::Arc;
use crate::sync::unwind as panics;

/// The client is gone, or the call has to end at once: drop it.
#[derive(Debug)]
pub(crate) struct Gone;

/// What a call that waited for a request got.
#[derive(Debug)]
pub(crate) enum Request<Q> {
    Message(Q),
    /// The client will send no more.
    End,
    /// None arrived in time.
    Late,
    /// The server is closing.
    Closing,
}

pub(crate) struct Call<Q, R> {
    requests: RequestStream<Q>,
    /// `None` once it has failed.
    sink: Option<DuplexSink<R>>,
    registration: Registration,
}

/// Runs a call's future on the queue that the call came from.
pub(crate) fn spawn(ctx: &RpcContext<'_>, call: impl Future<Output = ()> + Send + 'static) {
    ctx.spawn(async move {
        if let Err(panic) = AssertUnwindSafe(call).catch_unwind().await {
            log::error!("a gRPC call panicked: {}", panics::message(panic));
        }
    });
}

/// Answers a call that was not admitted. If `pending` is `None`, too many such answers are still
/// unsent, because some client does not read them: the call is cancelled instead.
pub(crate) fn reject<Q: Send + 'static, R: Send + 'static>(
    pending: Option<PendingRejection>,
    ctx: &RpcContext<'_>,
    requests: RequestStream<Q>,
    sink: DuplexSink<R>,
    status: RpcStatus,
) {
    let Some(pending) = pending else { return };
    spawn(ctx, async move {
        let _ = sink.fail(status).await;
        drop(pending);
        // Not earlier: dropping unread requests cancels the call.
        drop(requests);
    });
}

impl<Q, R> Call<Q, R> {
    pub(crate) fn new(
        requests: RequestStream<Q>,
        sink: DuplexSink<R>,
        registration: Registration,
    ) -> Self {
        Call {
            requests,
            sink: Some(sink),
            registration,
        }
    }

    /// The first message. A call without one is answered here, and then `Gone`.
    pub(crate) async fn first_request(&mut self) -> Result<Q, Gone> {
        let status = match self.request().await? {
            Request::Message(request) => return Ok(request),
            Request::End => (RpcStatusCode::INVALID_ARGUMENT, "no request message"),
            Request::Late => (RpcStatusCode::DEADLINE_EXCEEDED, "no request in time"),
            Request::Closing => (RpcStatusCode::UNAVAILABLE, "the server is closing"),
        };
        self.fail(status.0, status.1).await;
        Err(Gone)
    }

    /// The next message. A call that waits for one is of the kind [`Kind::Request`].
    pub(crate) async fn request(&mut self) -> Result<Request<Q>, Gone> {
        let next = poll_fn(|cx| {
            match self.registration.notify.poll(cx, Signal::Tick) {
                Poll::Ready(Signal::Tick) => return Poll::Ready(Ok(Some(Request::Late))),
                Poll::Ready(Signal::Closing) => return Poll::Ready(Ok(Some(Request::Closing))),
                Poll::Ready(_) => return Poll::Ready(Err(Gone)),
                Poll::Pending => {}
            }
            Pin::new(&mut self.requests)
                .poll_next(cx)
                .map(|next| match next {
                    Some(Ok(request)) => Ok(Some(Request::Message(request))),
                    Some(Err(grpcio::Error::Codec(_))) => Ok(None),
                    Some(Err(_)) => Err(Gone),
                    None => Ok(Some(Request::End)),
                })
        })
        .await?;
        match next {
            Some(request) => Ok(request),
            None => {
                let text = "the request message cannot be decoded";
                self.fail(RpcStatusCode::INVALID_ARGUMENT, text).await;
                Err(Gone)
            }
        }
    }

    /// Suspends the call until there is a signal for it.
    pub(crate) async fn next_signal(&mut self) -> Result<Signal, Gone> {
        poll_fn(|cx| {
            match self.registration.notify.poll(cx, Signal::Change) {
                Poll::Ready(Signal::Abort) => return Poll::Ready(Err(Gone)),
                Poll::Ready(signal) => return Poll::Ready(Ok(signal)),
                Poll::Pending => {}
            }
            // Polled only to notice that the client is gone: else the next send would be the first to.
            match self.poll_sink(cx, |sink, cx| sink.poll_ready(cx)) {
                Poll::Ready(Err(gone)) => Poll::Ready(Err(gone)),
                _ => Poll::Pending,
            }
        })
        .await
    }

    /// Sends one message and waits until the connection has accepted it: a client that does not read
    /// delays its own call here, and no other.
    pub(crate) async fn send(&mut self, message: R) -> Result<(), Gone> {
        let mut message = Some(message);
        poll_fn(|cx| {
            if self.aborted(cx) {
                return Poll::Ready(Err(Gone));
            }
            if message.is_some() {
                match self.poll_sink(cx, |sink, cx| sink.poll_ready(cx)) {
                    Poll::Ready(Ok(())) => {}
                    other => return other,
                }
                let next = message.take().map(|m| (m, WriteFlags::default()));
                let sent = match (self.sink.as_mut(), next) {
                    (Some(sink), Some(next)) => Pin::new(sink).start_send(next),
                    _ => return Poll::Ready(Err(Gone)),
                };
                if let Err(error) = sent {
                    log::debug!("a gRPC message could not be sent: {error}");
                    self.sink = None;
                    return Poll::Ready(Err(Gone));
                }
            }
            self.poll_sink(cx, |sink, cx| sink.poll_flush(cx))
        })
        .await
    }

    /// Ends the call with the status OK.
    pub(crate) async fn finish(mut self) {
        let _ = poll_fn(|cx| {
            if self.aborted(cx) {
                return Poll::Ready(Err(Gone));
            }
            self.poll_sink(cx, |sink, cx| sink.poll_close(cx))
        })
        .await;
    }

    /// Ends the call with another status.
    pub(crate) async fn fail(&mut self, code: RpcStatusCode, text: &str) {
        let Some(sink) = self.sink.take() else { return };
        let mut failing = sink.fail(RpcStatus::with_message(code, text.to_owned()));
        poll_fn(|cx| {
            if self.aborted(cx) {
                return Poll::Ready(());
            }
            Pin::new(&mut failing).poll(cx).map(|_| ())
        })
        .await;
    }

    pub(crate) fn streams(&self) -> &Arc<Streams> {
        &self.registration.streams
    }

    pub(crate) fn wait_for(&self, kind: Kind) {
        self.registration.wait_for(kind);
    }

    fn aborted(&self, cx: &mut Context<'_>) -> bool {
        self.registration.notify.poll(cx, Signal::Abort).is_ready()
    }

    /// Polls the sink unless it has failed, and drops it when it does.
    fn poll_sink(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut DuplexSink<R>>, &mut Context<'_>) -> Poll<grpcio::Result<()>>,
    ) -> Poll<Result<(), Gone>> {
        let Some(sink) = self.sink.as_mut() else {
            return Poll::Ready(Err(Gone));
        };
        match poll(Pin::new(sink), cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(_)) => {
                self.sink = None;
                Poll::Ready(Err(Gone))
            }
        }
    }
}
