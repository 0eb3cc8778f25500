//! grpcio's traps, each of which was seen to catch somebody, and the test that we are not in it.
//!
//! | trap | test |
//! |---|---|
//! | a panic on a queue's thread ends it, and every later call hangs | `a_panic_in_a_handler_…`, `a_panic_in_the_ticker_…`, `a_pool_whose_gauge_panics_…` |
//! | closing a sink after a failed send panics | `clients_that_are_killed_during_a_send_…` in `grpc/stream.rs` |
//! | a dropped sink reads as CANCELLED | `shutdown_with_idle_streams_…` in `grpc/stream.rs` |
//! | shutdown does not finish while a stream is open | `shutdown_with_idle_streams_…`, and `shutdown_with_stalled_clients_…` |
//! | 1,024 request slots make shutdown slow; few can be used up | `shutdown_of_an_idle_server_…`, `calls_without_a_request_…` |
//! | dropping a server on its own thread deadlocks | `a_server_dropped_on_its_own_thread_…` |
//! | the queue's thread is not joined | `grpc_leaks.rs` |
//! | an unbounded sender to a client that does not read | `grpc_leaks.rs`, and `a_client_that_does_not_read_…` in `grpc/stream.rs` |
//! | waiting in a handler delays all | `a_client_that_does_not_read_…` in `grpc/stream.rs` |
//! | a second server shares the port | `a_port_in_use_is_an_error` |
//! | clients with a common keepalive are cut off | `clients_may_ping` |
//! | a vanished client is not noticed | `a_client_that_vanished_…` |
//! | a cancelled stream is noticed at the next send only | `an_idle_client_that_is_killed_…` in `grpc/stream.rs` |
#![cfg(feature = "grpc")]

mod common_grpc;

use std::net::TcpStream;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common_grpc::raw::Raw;
use common_grpc::*;
use futures_util::StreamExt;
use grpcio::{CallOption, Client, MethodType, RpcStatusCode};
use worker_pool::PoolState;
use worker_pool::grpc::{CapacityServer, ServerError};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_panic_in_a_handler_fails_that_call_alone() {
    let rig = Rig::of(1);
    let server = rig.serve(|b| b.without_changes());
    let peer = Peer::new(&server);
    rig.pool.panics.store(true, SeqCst);
    for _ in 0..3 {
        assert!(peer.capacity().next().is_err());
        assert!(peer.check("").is_err());
    }
    rig.pool.panics.store(false, SeqCst);
    assert_eq!(peer.capacity().expect().total(), 1);
    assert_eq!(peer.check(""), Ok(ServingStatus::SERVING));
}

#[test]
fn a_panic_in_the_ticker_does_not_end_it() {
    let rig = Rig::of(1);
    let server = rig.serve(|b| b);
    let mut feed = Peer::new(&server).capacity();
    feed.expect();
    let before = panics();
    rig.pool.panics.store(true, SeqCst);
    eventually("the ticker panics", || panics() > before);
    rig.pool.panics.store(false, SeqCst);
    rig.add();
    assert_eq!(feed.expect().total(), 2);
}

#[test]
fn shutdown_with_stalled_clients_is_quick() {
    let rig = Rig::of(1);
    let server = rig.serve(|b| b.interval(Duration::from_millis(5)));
    let mut stalled: Vec<_> = (0..10)
        .map(|_| Raw::with_window(server.local_addr(), 20))
        .collect();
    for raw in &mut stalled {
        raw.capacity(1);
        raw.open(3, "/solpipe.WorkerStatus/OnStatus"); // and a call that never sends its request
    }
    eventually("all are open", || server.open_streams() == 20);
    let mut healthy = Peer::new(&server).capacity();
    for _ in 0..10 {
        healthy.expect();
    }
    let since = Instant::now();
    server.shutdown();
    let took = since.elapsed();
    assert!(took < SECOND, "{took:?}");
    assert_eq!(healthy.end().1, RpcStatusCode::OK);
    assert_eq!(server.open_streams(), 0);
}

#[test]
fn shutdown_of_an_idle_server_is_quick() {
    for _ in 0..5 {
        let server = Rig::of(1).serve(|b| b);
        let since = Instant::now();
        server.shutdown();
        let took = since.elapsed();
        assert!(took < SECOND, "{took:?}");
    }
}

#[test]
fn calls_without_a_request_do_not_block_others() {
    let rig = Rig::of(1);
    // Keepalive would end the connection, too.
    let server = rig.serve(|b| {
        b.request_timeout(2 * SECOND)
            .keepalive(60 * SECOND, 60 * SECOND)
    });
    let mut raw = Raw::connect(server.local_addr());
    for call in 0..90 {
        raw.open(2 * call + 1, "/solpipe.WorkerStatus/OnStatus");
    }
    eventually("all wait for their requests", || {
        server.open_streams() == 90
    });
    assert_eq!(Peer::new(&server).capacity().expect().total(), 1);
    // And they do not wait for ever.
    eventually("they are given up", || server.open_streams() == 0);
}

#[test]
fn a_call_whose_request_is_late_is_told_so() {
    let server = Rig::of(1).serve(|b| b.request_timeout(SECOND / 10));
    let peer = Peer::new(&server);
    let method = method::<Empty, CapacityResponse>(
        MethodType::Duplex, // as far as this client knows
        "/solpipe.WorkerStatus/OnStatus",
    );
    let client = Client::new(peer.channel.clone());
    let (_sink, mut messages) = client
        .duplex_streaming(&method, CallOption::default())
        .unwrap();
    let error = wait(messages.next()).expect("a status").expect_err("late");
    assert_eq!(code(&error), RpcStatusCode::DEADLINE_EXCEEDED);
    eventually("its place is free", || server.open_streams() == 0);
}

#[test]
fn a_pool_whose_gauge_panics_keeps_nothing_from_the_others() {
    let (first, second) = (Rig::of(1), Rig::of(1));
    let server = first.serve(|b| b.pool("second", second.meter.clone()));
    let mut watched = Peer::new(&server).watch("second");
    let serving = |m: HealthCheckResponse| m.status.unwrap() == ServingStatus::SERVING;
    assert!(serving(watched.expect()));
    let before = panics();
    first.pool.panics.store(true, SeqCst);
    eventually("the ticker panics", || panics() > before);
    second.enter(PoolState::Draining);
    assert!(!serving(watched.expect()));
}

#[test]
fn a_server_dropped_on_its_own_thread_does_not_deadlock() {
    for round in 0..10 {
        let rig = Rig::of(1);
        let server = rig.serve(|b| b);
        let address = server.local_addr();
        let peer = Peer::new(&server);
        let held = Arc::new(Mutex::new(Some(server)));
        let (dropped, told) = std::sync::mpsc::channel();
        // The gauge is asked by the handler and by the ticker, both on threads of the server.
        *rig.pool.ambush.lock().unwrap() = Some(Box::new(move || {
            drop(held.lock().unwrap().take());
            dropped
                .send(thread::current().name().map(str::to_owned))
                .unwrap();
        }));
        let mut feed = peer.capacity();
        let on = told.recv_timeout(PATIENCE).expect("the drop returns");
        let on = on.expect("a named thread");
        assert!(on.starts_with("capacity-"), "round {round} on {on}");
        while feed.next().is_ok() {}
        eventually("the port is closed", || {
            TcpStream::connect(address).is_err()
        });
    }
}

#[test]
fn a_port_in_use_is_an_error() {
    let rig = Rig::of(1);
    let server = rig.serve(|b| b);
    let address = server.local_addr().to_string();
    let second = CapacityServer::builder()
        .pool("pool", rig.meter.clone())
        .address(&address)
        .start();
    assert!(
        matches!(&second, Err(ServerError::Bind(at)) if *at == address),
        "{second:?}"
    );
    server.shutdown();
    let third = CapacityServer::builder()
        .pool("pool", rig.meter.clone())
        .address(&address)
        .start();
    assert_eq!(third.expect("free again").local_addr().to_string(), address);
}

#[test]
fn clients_may_ping() {
    let server = Rig::of(1).serve(|b| b);
    let mut raw = Raw::connect(server.local_addr());
    raw.capacity(1);
    for _ in 0..5 {
        raw.ping();
        assert!(!raw.dismissed_within(SECOND + SECOND / 10));
    }
    assert_eq!(server.open_streams(), 1);
}

#[test]
fn a_client_that_vanished_without_a_word_is_forgotten() {
    let server = Rig::of(1).serve(|b| b.keepalive(SECOND / 2, SECOND / 2));
    let mut raw = Raw::connect(server.local_addr());
    raw.capacity(1);
    let _lively = {
        let mut feed = Peer::new(&server).capacity();
        feed.expect();
        feed
    };
    eventually("both are open", || server.open_streams() == 2);
    // The connection stays open, but nothing answers the server's pings.
    eventually("the silent one is forgotten", || server.open_streams() == 1);
    thread::sleep(SECOND); // and the other one is not
    assert_eq!(server.open_streams(), 1);
}
