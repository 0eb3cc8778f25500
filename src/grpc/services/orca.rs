//! ORCA load reports: how stock gRPC clients with `weighted_round_robin` weigh this backend.
//!
//! A client divides completions per second by utilisation. Both are means over a window, not values
//! of one instant: a pool of two workers is at 0, ½ or 1 at any moment, and weights that jump like
//! that send all clients to the same backend. For the same reason the queue does not count as
//! utilisation.

use std::time::{Duration, Instant};

use grpcio::ServiceBuilder;

use crate::grpc::proto;
use crate::grpc::proto::orca::OrcaLoadReportRequest;
use crate::grpc::proto::orca_load_report::OrcaLoadReport;
use crate::grpc::services::interceptor::Interceptor;
use crate::grpc::stream::call::{Call, Gone};
use crate::grpc::stream::notify::Signal;
use crate::grpc::stream::{Class, Kind, Streams};
use crate::sync::Arc;

type OrcaCall = Call<OrcaLoadReportRequest, OrcaLoadReport>;

/// `shortest`: the shortest time between two reports, whatever the client asks for.
pub(crate) fn add(
    services: ServiceBuilder,
    interceptor: &Interceptor,
    shortest: Duration,
) -> ServiceBuilder {
    interceptor.add(
        services,
        &proto::ORCA,
        Class::Stream,
        move |mut call| async move {
            if let Ok(()) = report_all(&mut call, shortest).await {
                call.finish().await;
            }
        },
    )
}

async fn report_all(call: &mut OrcaCall, shortest: Duration) -> Result<(), Gone> {
    let request = call.first_request().await?;
    let period = period(&request, shortest);
    let due = Instant::now() + period;
    call.wait_for(Kind::Orca { period, due });
    let streams = Arc::clone(call.streams());
    loop {
        call.send(report(&streams)).await?;
        loop {
            match call.next_signal().await? {
                Signal::Tick => break,
                Signal::Closing => {
                    call.send(report(&streams)).await?;
                    return Ok(());
                }
                _ => {}
            }
        }
    }
}

/// The period that the client asks for, but at least `shortest`; `shortest` if it asks for none.
fn period(request: &OrcaLoadReportRequest, shortest: Duration) -> Duration {
    /// Larger numbers would overflow the clock.
    const LONGEST: Duration = Duration::from_secs(24 * 3600);
    let wish = &request.report_interval;
    let seconds = u64::try_from(wish.seconds).unwrap_or(0);
    let nanos = u64::try_from(wish.nanos).unwrap_or(0);
    let wished = Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos));
    if wish.seconds < 0 || wish.nanos < 0 {
        shortest
    } else {
        wished.min(LONGEST).max(shortest)
    }
}

/// The first pool sets the backend's weight; every pool is in the maps.
fn report(streams: &Streams) -> OrcaLoadReport {
    let mut report = OrcaLoadReport::new();
    for (number, pool) in streams.sources.iter().enumerate() {
        let load = pool.load(streams.timing.sampling());
        let (_, now) = pool.newest();
        if number == 0 {
            report.application_utilization = load.utilization;
            report.rps_fractional = load.completions;
        }
        report
            .utilization
            .insert(pool.name.clone(), load.utilization);
        let mut metric = |name: &str, value: f64| {
            let name = format!("{}.{name}", pool.name);
            report.named_metrics.insert(name, value);
        };
        metric("waiting", now.waiting as f64);
        metric("queue_capacity", now.queue_capacity as f64);
        metric("completions_per_second", load.completions);
        metric("busy", f64::from(now.busy));
        metric("total", f64::from(now.total));
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_period_is_the_wish_or_the_shortest() {
        let shortest = Duration::from_secs(1);
        let asked = |seconds, nanos| {
            let mut request = OrcaLoadReportRequest::new();
            let wish = request.report_interval.mut_or_insert_default();
            (wish.seconds, wish.nanos) = (seconds, nanos);
            period(&request, shortest)
        };
        assert_eq!(period(&OrcaLoadReportRequest::new(), shortest), shortest);
        assert_eq!(asked(0, 0), shortest);
        assert_eq!(asked(-5, 0), shortest);
        assert_eq!(asked(0, 999_999_999), shortest);
        assert_eq!(asked(10, 500_000_000), Duration::from_millis(10_500));
        assert_eq!(asked(i64::MAX, i32::MAX), Duration::from_secs(24 * 3600));
    }
}
