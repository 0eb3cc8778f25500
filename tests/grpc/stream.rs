//! The capacity streams: what clients see, and when.

use std::net::Shutdown;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use crate::common_grpc::raw::Raw;
use crate::common_grpc::*;
use grpcio::RpcStatusCode;
use protobuf::Message;
use worker_pool::PoolState;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn connecting_brings_a_snapshot_at_once() {
    let rig = Rig::of(4);
    rig.start_job();
    rig.pool.waiting.store(7, SeqCst);
    let server = rig.serve(|b| b);
    let peer = Peer::new(&server);
    let old = peer.capacity().expect();
    assert_eq!(old.capacity, 0.25);
    assert_eq!((old.busy(), old.total(), old.waiting()), (1, 4, 7));
    let new = peer.relay().expect();
    assert_eq!(new.utilization_ratio, 0.25);
    assert_eq!((new.busy(), new.total(), new.waiting()), (1, 4, 7));
}

#[test]
fn without_workers_the_pool_is_fully_used() {
    let server = Rig::new().serve(|b| b);
    assert_eq!(Peer::new(&server).capacity().expect().capacity, 1.0);
}

#[test]
fn a_change_is_told_though_no_tick_comes() {
    let rig = Rig::of(2);
    let server = rig.serve(|b| b);
    let mut feed = Peer::new(&server).capacity();
    feed.expect();
    rig.start_job();
    assert_eq!(feed.expect().busy(), 1);
    rig.pool.waiting.store(3, SeqCst); // the queue alone is a change, too
    assert_eq!(feed.expect().waiting(), 3);
}

#[test]
fn many_changes_are_told_as_one_and_the_spacing_is_kept() {
    let rig = Rig::of(1);
    let spacing = 2 * SECOND;
    let server = rig.serve(|b| b.change_spacing(spacing));
    let mut feed = Peer::new(&server).capacity();
    feed.expect();
    rig.add();
    feed.expect(); // the quiet time is over
    let since = Instant::now();
    for _ in 0..1000 {
        rig.add();
    }
    assert_eq!(feed.expect().total(), 1002, "the newest value alone");
    assert!(since.elapsed() >= spacing / 2, "{:?}", since.elapsed());
}

#[test]
fn with_many_streams_changes_are_told_further_apart() {
    let rig = Rig::of(1);
    let server = rig.serve(|b| b.change_spacing(Duration::from_millis(1)));
    let peers: Vec<_> = (0..10).map(|_| Peer::new(&server)).collect();
    let mut feeds: Vec<_> = (0..1250).map(|n| peers[n % 10].capacity()).collect();
    for feed in &mut feeds {
        feed.expect();
    }
    // Read as they come, so that none is replaced before it is sent.
    let mut first = feeds.swap_remove(0);
    let reading = thread::spawn(move || {
        let mut messages = 0;
        first.until(|m| {
            messages += 1;
            m.total() == 1001
        });
        messages
    });
    let since = Instant::now();
    for _ in 0..1000 {
        rig.add();
        thread::sleep(Duration::from_millis(2));
    }
    let messages = reading.join().unwrap();
    let rounds = since.elapsed().as_millis() / 750;
    assert!(
        messages <= rounds + 2,
        "{messages} in {rounds} times 750 ms"
    );
}

#[test]
fn without_changes_only_ticks_are_sent() {
    let rig = Rig::of(1);
    let server = rig.serve(|b| b.without_changes());
    let mut feed = Peer::new(&server).capacity();
    feed.expect();
    rig.start_job();
    assert!(feed.is_silent(SECOND / 2));
    let ticking = rig.serve(|b| b.without_changes().interval(SECOND / 20));
    let mut feed = Peer::new(&ticking).capacity();
    feed.expect();
    rig.finish_job();
    feed.until(|m| m.busy() == 0);
}

#[test]
fn subscribing_races_an_update_and_the_last_value_arrives() {
    let rig = Rig::new();
    let server = rig.serve(|b| b.change_spacing(Duration::from_millis(1)));
    let peer = Peer::new(&server);
    for round in 1..=300 {
        let update = thread::spawn({
            let rig = rig.clone();
            move || rig.add()
        });
        let mut feed = peer.capacity();
        let mut seen = 0;
        feed.until(|m| {
            assert!(m.total() >= seen, "an older value after a newer one");
            seen = m.total();
            m.total() == round
        });
        update.join().unwrap();
    }
}

#[test]
fn ticks_come_though_nothing_changes_and_without_drift() {
    let interval = Duration::from_millis(20);
    let rig = Rig::of(1);
    let server = rig.serve(|b| b.interval(interval));
    let mut feed = Peer::new(&server).capacity();
    feed.expect();
    feed.expect(); // a tick: from here on
    let since = Instant::now();
    for _ in 0..100 {
        feed.expect();
    }
    let took = since.elapsed();
    assert!(took >= 99 * interval - interval, "too fast: {took:?}");
    assert!(took <= 100 * interval + 2 * SECOND, "too slow: {took:?}");
}

#[test]
fn a_client_that_does_not_read_misses_values_but_not_the_newest() {
    let rig = Rig::new();
    let server = rig.serve(|b| b.change_spacing(Duration::from_millis(1)));
    // Room for a few messages on the way, so that the stall reaches the server at once.
    let mut stalled = Raw::with_window(server.local_addr(), 64);
    stalled.capacity(1);
    let mut reading = Peer::new(&server).capacity();
    for round in 1..=500 {
        rig.add();
        // The other client is not held up by the one that does not read.
        reading.until(|m| m.total() == round);
    }
    // It reads again.
    stalled.allow(1, 1 << 20);
    for messages in 1.. {
        let message = CapacityResponse::parse_from_bytes(&stalled.message(PATIENCE)).unwrap();
        if message.total() == 500 {
            break;
        }
        assert!(
            messages < 20,
            "kept for a client that did not read: {message:?}"
        );
    }
}

#[test]
fn an_idle_client_that_is_killed_is_forgotten_between_ticks() {
    let server = Rig::of(1).serve(|b| b.without_changes());
    let mut raw = Raw::connect(server.local_addr());
    raw.capacity(1);
    eventually("the stream is open", || server.open_streams() == 1);
    raw.socket.shutdown(Shutdown::Both).unwrap();
    eventually("the stream is forgotten", || server.open_streams() == 0);
    // The same for a client that cancels.
    let feed = Peer::new(&server).capacity();
    eventually("the stream is open", || server.open_streams() == 1);
    drop(feed);
    eventually("the stream is forgotten", || server.open_streams() == 0);
}

#[test]
fn clients_that_are_killed_during_a_send_harm_nobody() {
    let before = panics();
    let rig = Rig::of(1);
    let server = rig.serve(|b| b.interval(Duration::from_millis(1)).max_streams(10_000));
    let mut healthy = Peer::new(&server).capacity();
    for round in 0..20 {
        // Room for a few messages: the next is stuck in its send.
        let mut raw = Raw::with_window(server.local_addr(), 40);
        for stream in 0..20 {
            raw.capacity(2 * stream + 1);
        }
        eventually("streams are open", || server.open_streams() == 21);
        (0..10).for_each(|_| drop(healthy.expect()));
        if round % 2 == 0 {
            (0..20).for_each(|stream| raw.cancel(2 * stream + 1));
        } else {
            raw.socket.shutdown(Shutdown::Both).unwrap();
        }
        eventually("all are forgotten", || server.open_streams() == 1);
    }
    assert_eq!(Peer::new(&server).capacity().expect().total(), 1);
    assert_eq!(panics(), before);
}

#[test]
fn shutdown_with_idle_streams_is_quick_and_clean() {
    let rig = Rig::of(3);
    let server = rig.serve(|b| b);
    let peer = Peer::new(&server);
    let mut feeds: Vec<_> = (0..100).map(|_| peer.capacity()).collect();
    for feed in &mut feeds {
        feed.expect();
    }
    let since = Instant::now();
    server.shutdown();
    let took = since.elapsed();
    assert!(took < SECOND, "{took:?}");
    for feed in &mut feeds {
        let (last, status) = feed.end();
        assert_eq!(last.expect("a last snapshot").total(), 3);
        assert_eq!(status, RpcStatusCode::OK);
    }
    server.shutdown(); // harmless
}

#[test]
fn dropping_the_server_is_a_shutdown() {
    let server = Rig::of(1).serve(|b| b);
    let mut feed = Peer::new(&server).capacity();
    feed.expect();
    drop(server);
    assert_eq!(feed.end().1, RpcStatusCode::OK);
}

#[test]
fn a_thousand_streams_see_the_last_value_in_order() {
    let rig = Rig::new();
    let server = rig.serve(|b| b);
    let peers: Vec<_> = (0..10).map(|_| Peer::new(&server)).collect();
    let mut feeds: Vec<_> = (0..1000).map(|n| peers[n % 10].capacity()).collect();
    for feed in &mut feeds {
        feed.expect();
    }
    assert_eq!(server.open_streams(), 1000);
    let adding = thread::spawn({
        let rig = rig.clone();
        move || {
            for _ in 0..2000 {
                rig.add();
                thread::yield_now();
            }
        }
    });
    let rest = feeds.split_off(100);
    drop(feeds); // the end of some
    let mut feeds = rest;
    adding.join().unwrap();
    for feed in &mut feeds {
        let mut seen = 0;
        feed.until(|m| {
            assert!(m.total() >= seen, "{} after {seen}", m.total());
            seen = m.total();
            seen == 2000
        });
    }
}

#[test]
fn a_pool_that_closes_ends_its_streams_after_a_last_snapshot() {
    let rig = Rig::of(1);
    let server = rig.serve(|b| b.without_changes());
    let peer = Peer::new(&server);
    let (mut old, mut new) = (peer.capacity(), peer.relay());
    old.expect();
    new.expect();
    rig.start_job();
    rig.enter(PoolState::Draining);
    rig.finish_job();
    rig.meter_remove();
    rig.enter(PoolState::Closed);
    let (last, status) = old.end();
    assert_eq!(last.expect("a last snapshot").total(), 0);
    assert_eq!(status, RpcStatusCode::OK);
    assert_eq!(new.end().1, RpcStatusCode::OK);
    // Who comes later is told the same.
    let (last, status) = peer.capacity().end();
    assert_eq!((last.unwrap().total(), status), (0, RpcStatusCode::OK));
}

#[test]
fn streams_beyond_the_limit_are_refused_and_the_rest_is_served() {
    let rig = Rig::of(1);
    let server = rig.serve(|b| b.max_streams(3));
    let peer = Peer::new(&server);
    let mut feeds: Vec<_> = (0..3).map(|_| peer.capacity()).collect();
    for feed in &mut feeds {
        feed.expect();
    }
    let refused = peer.capacity().next().err();
    assert_eq!(refused, Some(RpcStatusCode::RESOURCE_EXHAUSTED));
    // Watchers of health have as many places of their own.
    let mut watchers: Vec<_> = (0..3).map(|_| peer.watch("")).collect();
    for watcher in &mut watchers {
        watcher.expect();
    }
    let refused = peer.watch("").next().err();
    assert_eq!(refused, Some(RpcStatusCode::RESOURCE_EXHAUSTED));
    drop(watchers);
    eventually("their places are free", || server.open_streams() == 3);
    assert_eq!(peer.check(""), Ok(ServingStatus::SERVING));
    feeds.pop();
    eventually("a place is free", || server.open_streams() == 2);
    peer.capacity().expect();
}

#[test]
fn counts_of_zero_are_sent() {
    let rig = Rig::new(); // no workers: not to be taken for a server that does not count them
    let server = rig.serve(|b| b);
    let peer = Peer::new(&server);
    let old = peer.capacity().expect();
    assert_eq!(
        (old.busy, old.total, old.waiting),
        (Some(0), Some(0), Some(0))
    );
    let new = peer.relay().expect();
    assert_eq!(
        (new.busy, new.total, new.waiting),
        (Some(0), Some(0), Some(0))
    );
}

#[test]
fn the_bytes_are_those_of_the_first_version_and_more() {
    let rig = Rig::of(2);
    rig.start_job();
    let server = rig.serve(|b| b);
    let bytes = Peer::new(&server)
        .capacity()
        .expect()
        .write_to_bytes()
        .unwrap();
    // Field 1, 32 bits, 0.5; then busy = 1, total = 2 and waiting = 0, which is not left out.
    assert_eq!(bytes, [0x0d, 0, 0, 0, 0x3f, 0x10, 1, 0x18, 2, 0x20, 0]);
}
