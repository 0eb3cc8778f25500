//! The capacity stream, under both of its names.

use grpcio::ServiceBuilder;

use crate::grpc::proto::{self, relay, solpipe};
use crate::grpc::services::interceptor::Interceptor;
use crate::grpc::stream::call::{Call, Gone};
use crate::grpc::stream::notify::Signal;
use crate::grpc::stream::{Class, Kind};
use crate::hook::PoolState;
use crate::hook::meter::Snapshot;

/// The pool that the streams show: the first, as requests name none.
const DEFAULT_POOL: usize = 0;

pub(crate) fn add(services: ServiceBuilder, interceptor: &Interceptor) -> ServiceBuilder {
    let services = interceptor.add(services, &proto::WORKER_STATUS, Class::Stream, |call| {
        stream(call, |s| solpipe::CapacityResponse {
            capacity: s.utilization(),
            busy: Some(s.busy),
            total: Some(s.total),
            waiting: Some(s.waiting),
            ..Default::default()
        })
    });
    interceptor.add(services, &proto::CAPACITY, Class::Stream, |call| {
        stream(call, |s| relay::CapacityStatus {
            utilization_ratio: s.utilization(),
            busy: Some(s.busy),
            total: Some(s.total),
            waiting: Some(s.waiting),
            ..Default::default()
        })
    })
}

/// Serves one client until it disconnects, its pool closes or the server does.
async fn stream<Q, R>(mut call: Call<Q, R>, message: impl Fn(&Snapshot) -> R) {
    if let Ok(()) = send_all(&mut call, message).await {
        call.finish().await;
    }
}

async fn send_all<Q, R>(
    call: &mut Call<Q, R>,
    message: impl Fn(&Snapshot) -> R,
) -> Result<(), Gone> {
    call.first_request().await?;
    call.wait_for(Kind::Capacity(DEFAULT_POOL));
    // Subscribed before the first read: a change in between is a signal.
    let streams = call.streams().clone();
    let pool = &streams.sources[DEFAULT_POOL];
    let (mut seen, mut snapshot) = pool.refresh();
    loop {
        call.send(message(&snapshot)).await?;
        if snapshot.state == PoolState::Closed {
            return Ok(());
        }
        loop {
            let signal = call.next_signal().await?;
            if signal == Signal::Closing {
                call.send(message(&pool.refresh().1)).await?;
                return Ok(());
            }
            let (version, newest) = pool.newest();
            if version != seen || signal == Signal::Tick {
                (seen, snapshot) = (version, newest);
                break;
            }
        }
    }
}
