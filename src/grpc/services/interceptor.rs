//! What every call passes before its handler: the token, and the limits on streams.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};

use grpcio::{Method, RpcContext, RpcStatus, RpcStatusCode, ServiceBuilder};

use crate::grpc::services::auth::Token;
use crate::grpc::stream::call::{self, Call};
use crate::grpc::stream::{Class, Registration, RejectReason, Streams};
use crate::sync::Arc;
use crate::sync::unwind as panics;

#[derive(Clone)]
pub(crate) struct Interceptor {
    pub(crate) streams: Arc<Streams>,
    pub(crate) token: Option<Token>,
}

impl Interceptor {
    /// The same, without checking a token.
    pub(crate) fn without_token(&self) -> Interceptor {
        Interceptor {
            streams: Arc::clone(&self.streams),
            token: None,
        }
    }

    /// Adds a handler behind this interceptor. Whatever its declared type, the method is served as a
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
        let interceptor = self.clone();
        services.add_duplex_streaming_handler(method, move |ctx, requests, sink| {
            let admitted = catch_unwind(AssertUnwindSafe(|| interceptor.admit(&ctx, class)));
            match admitted {
                Ok(Ok(registration)) => {
                    call::spawn(&ctx, handler(Call::new(requests, sink, registration)))
                }
                Ok(Err(status)) => call::reject(
                    interceptor.streams.begin_rejection(),
                    &ctx,
                    requests,
                    sink,
                    status,
                ),
                Err(panic) => {
                    log::error!("admitting a gRPC call panicked: {}", panics::message(panic));
                    let status = RpcStatus::new(RpcStatusCode::INTERNAL);
                    call::reject(
                        interceptor.streams.begin_rejection(),
                        &ctx,
                        requests,
                        sink,
                        status,
                    );
                }
            }
        })
    }

    fn admit(&self, ctx: &RpcContext<'_>, class: Class) -> Result<Registration, RpcStatus> {
        let headers = ctx.request_headers();
        if self
            .token
            .as_ref()
            .is_some_and(|token| !token.admits(headers))
        {
            let text = "a valid bearer token is needed";
            return Err(status(RpcStatusCode::UNAUTHENTICATED, text));
        }
        self.streams.register(class).map_err(|reason| match reason {
            RejectReason::Full => status(
                RpcStatusCode::RESOURCE_EXHAUSTED,
                "as many streams are open as this server allows",
            ),
            RejectReason::Closing => status(RpcStatusCode::UNAVAILABLE, "the server is closing"),
        })
    }
}

fn status(code: RpcStatusCode, text: &str) -> RpcStatus {
    RpcStatus::with_message(code, text.to_owned())
}
