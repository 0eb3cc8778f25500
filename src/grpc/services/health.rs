//! `grpc.health.v1`: whether a pool accepts jobs.

use std::collections::HashMap;

use grpcio::{RpcStatusCode, ServiceBuilder};

use crate::grpc::proto;
use crate::grpc::proto::health::health_check_response::ServingStatus;
use crate::grpc::proto::health::{HealthCheckRequest, HealthCheckResponse};
use crate::grpc::services::interceptor::Interceptor;
use crate::grpc::stream::call::{Call, Gone};
use crate::grpc::stream::notify::Signal;
use crate::grpc::stream::{Class, Kind, Streams};
use crate::sync::Arc;

/// The services whose health can be queried, and the pool that decides; `None`: all pools.
type Names = Arc<HashMap<String, Option<usize>>>;

/// The names of the capacity streams, which show the first pool.
pub(crate) const STREAMS: [&str; 2] = ["solpipe.WorkerStatus", "relay.Capacity"];

pub(crate) fn add(services: ServiceBuilder, interceptor: &Interceptor) -> ServiceBuilder {
    let names = names(&interceptor.streams);
    let for_check = Arc::clone(&names);
    let services = interceptor.add(services, &proto::HEALTH_CHECK, Class::Short, move |call| {
        check(call, Arc::clone(&for_check))
    });
    interceptor.add(services, &proto::HEALTH_WATCH, Class::Watch, move |call| {
        watch(call, Arc::clone(&names))
    })
}

fn names(streams: &Streams) -> Names {
    let mut names = HashMap::from([(String::new(), None)]);
    names.extend(STREAMS.map(|name| (name.to_owned(), Some(0))));
    let sources = streams.sources.iter().enumerate();
    names.extend(sources.map(|(number, pool)| (pool.name.clone(), Some(number))));
    Arc::new(names)
}

/// `None` for an unknown service.
fn status(streams: &Streams, names: &Names, service: &str) -> Option<ServingStatus> {
    let pool = names.get(service)?;
    Some(match streams.serving(*pool) {
        true => ServingStatus::SERVING,
        false => ServingStatus::NOT_SERVING,
    })
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
        ..Default::default()
    }
}

async fn check(mut call: Call<HealthCheckRequest, HealthCheckResponse>, names: Names) {
    let Ok(request) = call.first_request().await else {
        return;
    };
    match status(call.streams(), &names, &request.service) {
        Some(status) => {
            if call.send(response(status)).await.is_ok() {
                call.finish().await;
            }
        }
        None => call.fail(RpcStatusCode::NOT_FOUND, "unknown service").await,
    }
}

async fn watch(mut call: Call<HealthCheckRequest, HealthCheckResponse>, names: Names) {
    if let Ok(()) = watch_all(&mut call, names).await {
        call.finish().await;
    }
}

async fn watch_all(
    call: &mut Call<HealthCheckRequest, HealthCheckResponse>,
    names: Names,
) -> Result<(), Gone> {
    let service = call.first_request().await?.service;
    call.wait_for(Kind::Health);
    let streams = Arc::clone(call.streams());
    let mut sent = None;
    loop {
        // The protocol wants the stream of an unknown service to stay open: it may be added later.
        let now = status(&streams, &names, &service).unwrap_or(ServingStatus::SERVICE_UNKNOWN);
        if sent != Some(now) {
            call.send(response(now)).await?;
            sent = Some(now);
        }
        if call.next_signal().await? == Signal::Closing {
            let last = ServingStatus::NOT_SERVING;
            if sent == Some(ServingStatus::SERVING) {
                call.send(response(last)).await?;
            }
            return Ok(());
        }
    }
}
