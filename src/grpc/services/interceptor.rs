//! The front door: what every call passes before its handler sees it.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};

use grpcio::{Method, RpcContext, RpcStatus, RpcStatusCode, ServiceBuilder};

use crate::grpc::services::auth::Token;
use crate::grpc::stream::call::{self, Call};
use crate::grpc::stream::{Class, Refusal, Seat, Streams};
use crate::sync::Arc;
use crate::sync::unwind as panics;

#[derive(Clone)]
pub(crate) struct Front {
    pub(crate) streams: Arc<Streams>,
    pub(crate) token: Option<Token>,
}

impl Front {
    /// The same door, open to those who have no token.
    pub(crate) fn without_token(&self) -> Front {
        Front {
            streams: Arc::clone(&self.streams),
            token: None,
        }
    }

    /// Registers a handler behind this door. Whatever its type on paper, the method is served as a
    /// duplex one; `call.rs` says why.
    pub(crate) fn add<Q, R, F, C>(
        &self,
        services: ServiceBuilder,
        method: &Method<Q, R>,
        class: Class,
        handler: F,
    ) -> ServiceBuilder
    where
        Q: Send + 'static,
        R: Send + 'static,
        F: Fn(Call<Q, R>) -> C + Clone + Send + 'static,
        C: Future<Output = ()> + Send + 'static,
    {
        let front = self.clone();
        services.add_duplex_streaming_handler(method, move |ctx, requests, sink| {
            let admitted = catch_unwind(AssertUnwindSafe(|| front.admit(&ctx, class)));
            match admitted {
                Ok(Ok(seat)) => call::spawn(&ctx, handler(Call::new(requests, sink, seat))),
                Ok(Err(status)) => {
                    call::refuse(front.streams.refusing(), &ctx, requests, sink, status)
                }
                Err(panic) => {
                    log::error!("admitting a gRPC call panicked: {}", panics::message(panic));
                    let status = RpcStatus::new(RpcStatusCode::INTERNAL);
                    call::refuse(front.streams.refusing(), &ctx, requests, sink, status);
                }
            }
        })
    }

    fn admit(&self, ctx: &RpcContext<'_>, class: Class) -> Result<Seat, RpcStatus> {
        let headers = ctx.request_headers();
        if self
            .token
            .as_ref()
            .is_some_and(|token| !token.admits(headers))
        {
            let text = "a valid bearer token is needed";
            return Err(status(RpcStatusCode::UNAUTHENTICATED, text));
        }
        self.streams.enter(class).map_err(|refusal| match refusal {
            Refusal::Full => status(
                RpcStatusCode::RESOURCE_EXHAUSTED,
                "as many streams are open as this server allows",
            ),
            Refusal::Closing => status(RpcStatusCode::UNAVAILABLE, "the server is closing"),
        })
    }
}

fn status(code: RpcStatusCode, text: &str) -> RpcStatus {
    RpcStatus::with_message(code, text.to_owned())
}
