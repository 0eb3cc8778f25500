//! Who is let in: addresses, tokens, and what is not HTTP/2 at all.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use crate::common_grpc::raw::Raw;
use crate::common_grpc::*;
use grpcio::RpcStatusCode;
use worker_pool::grpc::{CapacityServer, ServerError};

const SECOND: Duration = Duration::from_secs(1);
const TOKEN: &str = "correct-horse-battery-staple";

#[test]
fn the_default_address_is_loopback() {
    let server = Rig::of(1).serve(|b| b);
    assert!(server.local_addr().ip().is_loopback());
    assert_ne!(server.local_addr().port(), 0);
}

#[test]
fn off_loopback_needs_tls_or_the_word_insecure() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let rig = Rig::of(1);
        let builder = CapacityServer::builder().pool("pool", rig.meter.clone());
        let error = builder.address(address).start().err();
        assert!(
            matches!(&error, Some(ServerError::NotLoopback(at)) if at == address),
            "{error:?}"
        );
    }
    // With the word the address itself is tried; this one is nobody's.
    let rig = Rig::of(1);
    let builder = CapacityServer::builder().pool("pool", rig.meter.clone());
    let error = builder
        .address("192.0.2.1:0")
        .insecure_off_loopback()
        .start()
        .err();
    assert!(matches!(&error, Some(ServerError::Bind(_))), "{error:?}");
}

#[test]
fn a_name_for_loopback_is_loopback() {
    let server = Rig::of(1).serve(|b| b.address("localhost:0"));
    Peer::new(&server).capacity().expect();
}

#[test]
fn without_the_right_token_nothing_is_answered() {
    let rig = Rig::of(1);
    let server = rig.serve(|b| b.token(TOKEN));
    let address = server.local_addr().to_string();
    let refused = Some(RpcStatusCode::UNAUTHENTICATED);
    let stranger = Peer::to(&address);
    assert_eq!(stranger.capacity().next().err(), refused);
    assert_eq!(stranger.relay().next().err(), refused);
    assert_eq!(stranger.check("").err(), refused);
    assert_eq!(stranger.watch("").next().err(), refused);
    for wrong in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer correct-horse-battery-stapl",
        "Bearer correct-horse-battery-staples",
        "Bearer Correct-horse-battery-staple",
        "Basic correct-horse-battery-staple",
        "correct-horse-battery-staple",
    ] {
        let peer = Peer::to(&address).authorization(wrong);
        assert_eq!(peer.capacity().next().err(), refused, "{wrong:?}");
    }
    assert_eq!(server.open_streams(), 0);
    let friend = Peer::to(&address).authorization(&format!("Bearer {TOKEN}"));
    friend.capacity().expect();
    assert_eq!(friend.check(""), Ok(ServingStatus::SERVING));
}

#[test]
fn the_token_is_checked_before_the_handler_and_the_request() {
    let rig = Rig::of(1);
    let server = rig.serve(|b| b.token(TOKEN));
    // A handler would ask the gauge, and panic.
    rig.pool
        .panics
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let before = panics();
    let refused = Peer::new(&server).capacity().next().err();
    assert_eq!(refused, Some(RpcStatusCode::UNAUTHENTICATED));
    // Not even a request is waited for.
    let mut raw = Raw::connect(server.local_addr());
    raw.open(1, "/solpipe.WorkerStatus/OnStatus");
    assert!(raw.stream_ended_within(PATIENCE));
    assert_eq!(panics(), before);
}

#[test]
fn health_can_be_opened_to_probes_and_nothing_else_with_it() {
    let server = Rig::of(1).serve(|b| b.token(TOKEN).health_without_token());
    let probe = Peer::new(&server);
    assert_eq!(probe.check(""), Ok(ServingStatus::SERVING));
    let status = probe.watch("pool").expect().status.unwrap();
    assert_eq!(status, ServingStatus::SERVING);
    let refused = probe.capacity().next().err();
    assert_eq!(refused, Some(RpcStatusCode::UNAUTHENTICATED));
}

#[test]
fn strangers_who_watch_health_take_no_place_from_those_with_the_token() {
    let server = Rig::of(1).serve(|b| b.token(TOKEN).health_without_token().max_streams(2));
    let stranger = Peer::new(&server);
    let mut watchers: Vec<_> = (0..2).map(|_| stranger.watch("nonsense")).collect();
    for watcher in &mut watchers {
        watcher.expect();
    }
    let refused = stranger.watch("nonsense").next().err();
    assert_eq!(refused, Some(RpcStatusCode::RESOURCE_EXHAUSTED));
    let friend = Peer::new(&server).authorization(&format!("Bearer {TOKEN}"));
    assert_eq!(friend.capacity().expect().total(), 1);
}

#[test]
fn the_token_is_not_in_debug() {
    let rig = Rig::of(1);
    let builder = CapacityServer::builder()
        .pool("pool", rig.meter.clone())
        .token(TOKEN);
    assert!(!format!("{builder:?}").contains("horse"));
    let server = builder.start().unwrap();
    assert!(!format!("{server:?}").contains("horse"));
}

#[test]
fn garbage_ends_its_connection_and_nothing_else() {
    let before = panics();
    let rig = Rig::of(1);
    // So slow to lose patience that it is the garbage that ends the connection.
    let server = rig.serve(|b| {
        b.handshake_timeout(600 * SECOND)
            .keepalive(600 * SECOND, 600 * SECOND)
    });
    let mut feed = Peer::new(&server).capacity();
    feed.expect();
    for garbage in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        &[0xff; 4096],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", // the beginning of TLS
    ] {
        let mut socket = TcpStream::connect(server.local_addr()).unwrap();
        let _ = socket.write_all(garbage);
        let mut raw = Raw::over(socket);
        assert!(raw.dismissed_within(PATIENCE), "{garbage:?}");
    }
    let peer = Peer::new(&server);
    let mut another = peer.capacity();
    assert_eq!(another.expect().total(), 1);
    assert_eq!(server.open_streams(), 2);
    rig.add();
    feed.until(|m| m.total() == 2); // the one from before goes on
    assert_eq!(panics(), before);
}

#[test]
fn a_message_that_cannot_be_read_fails_its_call() {
    let server = Rig::of(1).serve(|b| b);
    let mut raw = Raw::connect(server.local_addr());
    raw.open(1, "/grpc.health.v1.Health/Watch");
    // Field 1 claims to be longer than the message.
    raw.frame(0, 1, 1, &[0, 0, 0, 0, 2, 0x0a, 0x7f]);
    assert!(raw.stream_ended_within(PATIENCE));
    eventually("it is forgotten", || server.open_streams() == 0);
    Peer::new(&server).capacity().expect();
}

#[test]
fn a_message_that_is_too_large_fails_its_call() {
    let server = Rig::of(1).serve(|b| b.max_message_size(1000));
    let peer = Peer::new(&server);
    let refused = peer.check(&"x".repeat(2000)).err();
    assert_eq!(refused, Some(RpcStatusCode::RESOURCE_EXHAUSTED));
    // Field 1 with a length of two bytes: 1,000 in all, and it is read.
    let unknown = peer.check(&"x".repeat(1000 - 3)).err();
    assert_eq!(unknown, Some(RpcStatusCode::NOT_FOUND));
    let refused = peer.check(&"x".repeat(1001 - 3)).err();
    assert_eq!(refused, Some(RpcStatusCode::RESOURCE_EXHAUSTED));
}

#[test]
fn unknown_methods_are_unimplemented() {
    let server = Rig::of(1).serve(|b| b);
    let peer = Peer::new(&server);
    for path in [
        "/solpipe.WorkerStatus/Nothing",
        "/solpipe.WorkerStatus/onStatus",
        "/WorkerStatus/OnStatus",
        "/",
        "/a.B/c",
    ] {
        let answer: Result<CapacityResponse, _> = peer.unary(path, &Empty::new());
        assert_eq!(answer.err(), Some(RpcStatusCode::UNIMPLEMENTED), "{path}");
    }
    peer.capacity().expect(); // over the same connection
    assert_eq!(server.open_streams(), 1);
}

#[test]
fn refusals_are_said_in_words_however_many_there_were() {
    let server = Rig::of(1).serve(|b| b.token(TOKEN));
    let stranger = Peer::new(&server);
    for call in 0..1000 {
        let refused = stranger.capacity().next().err();
        let refusal = Some(RpcStatusCode::UNAUTHENTICATED);
        assert_eq!(refused, refusal, "call {call}");
    }
}

#[test]
fn one_connection_may_open_what_the_server_allows_and_no_more() {
    let server = Rig::of(1).serve(|b| b.max_streams(10));
    let allowed = Raw::connect(server.local_addr()).allowed_streams(PATIENCE);
    // Ten streams and ten that watch health; 256 health checks; 256 refusals.
    assert_eq!(allowed, Some(532));
}

#[test]
fn a_handshake_that_never_starts_is_given_up() {
    // Keepalive would end the connection, too.
    let server = Rig::of(1).serve(|b| {
        b.handshake_timeout(SECOND)
            .keepalive(60 * SECOND, 60 * SECOND)
    });
    let mut silent = Raw::over(TcpStream::connect(server.local_addr()).unwrap());
    Peer::new(&server).capacity().expect(); // others do not wait for it
    assert!(silent.dismissed_within(PATIENCE));
}
