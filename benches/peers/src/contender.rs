//! The process that runs one contender in one case, once.

use crate::cases::{self, Case, Workload};
use crate::contenders::{
    Bounded, Contender, Mapped, ParIter, Plain, Rayon, RustyPool, Split, Threadfin, Threadpool,
    Unbounded, WithDeadline, WithMeter, WithMeterAndTimings, WithTimings, Workerpool,
};
use crate::figure::Figure;
use crate::options::Order;
use crate::{closed, costs, open};

/// Does what the order says, and prints the figures.
pub(crate) fn be(order: &Order, smoke: bool) {
    let case = cases::all(smoke)
        .into_iter()
        .find(|case| case.name == order.case)
        .expect("a case of this name");
    let measure = match order.contender.as_str() {
        "pool" | "pool handles" => measure::<Plain>,
        cases::FOR_EACH | "pool map" | "pool map_unordered" => measure::<Mapped>,
        "pool, meter" => measure::<WithMeter>,
        "pool, timings" => measure::<WithTimings>,
        "pool, meter, timings" => measure::<WithMeterAndTimings>,
        "pool, deadlines" => measure::<WithDeadline>,
        "rayon" => measure::<Rayon>,
        "rayon par_iter" => measure::<ParIter>,
        "threadpool" => measure::<Threadpool>,
        "workerpool" => measure::<Workerpool>,
        "rusty_pool" => measure::<RustyPool>,
        "threadfin" => measure::<Threadfin>,
        "bounded channel" => measure::<Bounded>,
        "unbounded channel" => measure::<Unbounded>,
        "no pool" => measure::<Split>,
        unknown => panic!("there is no contender {unknown}"),
    };
    for figure in measure(&case, order.speed) {
        figure.write();
    }
}

fn measure<C: Contender>(case: &Case, speed: f64) -> Vec<Figure> {
    match case.workload {
        Workload::Burst => closed::burst::<C>(case),
        Workload::RoundTrip => closed::round_trip::<C>(case),
        Workload::Submitters => closed::submitters::<C>(case),
        Workload::InOrder => closed::in_order::<C>(case),
        Workload::AsTheyCome => closed::as_they_come::<C>(case),
        Workload::Grain(micros) => closed::grain::<C>(case, micros, speed),
        Workload::SkewedBurst => closed::skewed_burst::<C>(case, speed),
        Workload::SkewedArrivals => open::skewed::<C>(case, speed),
        Workload::OpenLoop(load) => open::open_loop::<C>(case, load, speed),
        Workload::Memory => costs::memory::<C>(case),
        Workload::HandleMemory => costs::memory_with_handles::<C>(case),
        Workload::Allocations => costs::allocations::<C>(case),
        Workload::Workers => costs::workers::<C>(case),
        Workload::Idle(watched) => costs::idle::<C>(case, watched),
    }
}
