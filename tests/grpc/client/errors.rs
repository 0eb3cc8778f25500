//! Every way in which a connection is not made or is lost says which it was.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, unbounded};
use grpcio::{Method, MethodType, RpcStatusCode as Code};
use worker_pool::grpc::{CapacityClient, ClientError};

use super::fake::{Bytes, Call, Fake, SOLPIPE, old};
use super::{LONG, end_of};

fn error_of(script: impl Fn(Call) + Send + Sync + 'static) -> ClientError {
    let fake = Fake::start(&SOLPIPE, script);
    CapacityClient::connect(&*fake.address).unwrap_err()
}

/// An address where nobody listens.
pub(crate) fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn a_server_that_is_not_one_of_ours() {
    const OTHER: Method<Bytes, Bytes> = Method {
        ty: MethodType::ServerStreaming,
        name: "/other.Service/Method",
        req_mar: SOLPIPE.req_mar,
        resp_mar: SOLPIPE.resp_mar,
    };
    let fake = Fake::start(&OTHER, |_| ());
    let error = CapacityClient::connect(&*fake.address).unwrap_err();
    assert!(error.is_not_a_capacity_server(), "{error:?}");
    assert!(error.is_permanent());
    assert_eq!(error.address(), fake.address);
}

#[test]
fn a_server_that_refuses_says_why() {
    let refused = error_of(|call| call.fail(Code::UNAUTHENTICATED, "no token"));
    assert!(refused.is_unauthenticated(), "{refused:?}");
    assert!(refused.to_string().contains("no token"), "{refused}");
    let forbidden = error_of(|call| call.fail(Code::PERMISSION_DENIED, "not you"));
    assert!(forbidden.is_unauthenticated(), "{forbidden:?}");
    let full = error_of(|call| call.fail(Code::RESOURCE_EXHAUSTED, "1000 streams"));
    assert!(full.is_exhausted() && !full.is_permanent(), "{full:?}");
    let odd = error_of(|call| call.fail(Code::INTERNAL, "odd"));
    assert!(odd.to_string().contains("INTERNAL: odd"), "{odd}");
}

#[test]
fn nobody_listens() {
    let start = Instant::now();
    let error = CapacityClient::builder(nobody())
        .connect_timeout(LONG)
        .connect()
        .unwrap_err();
    assert!(error.is_unreachable(), "{error:?}");
    let took = start.elapsed();
    assert!(took < LONG / 2, "an answer that took {took:?}");
}

#[test]
fn a_peer_that_never_answers_times_out() {
    let mute = TcpListener::bind("127.0.0.1:0").unwrap(); // the kernel accepts; we never speak
    let timeout = Duration::from_millis(300);
    let start = Instant::now();
    let error = CapacityClient::builder(mute.local_addr().unwrap().to_string())
        .connect_timeout(timeout)
        .connect()
        .unwrap_err();
    let took = start.elapsed();
    assert!(error.is_timeout(), "{error:?}");
    assert!(took >= timeout && took < LONG / 2, "took {took:?}");
}

#[test]
fn a_server_that_waits_for_its_tick_counts_as_connected() {
    let (tick, ticked) = bounded::<()>(0);
    let fake = Fake::start(&SOLPIPE, move |mut call| {
        let _ = ticked.recv_timeout(LONG);
        call.send(old(0.5));
        call.end();
    });
    let mut client = CapacityClient::builder(&*fake.address)
        .connect_timeout(Duration::from_millis(300))
        .connect()
        .unwrap();
    assert_eq!(client.latest(), None);
    tick.send(()).unwrap();
    assert_eq!(client.next().unwrap().unwrap().utilization, 0.5);
}

#[test]
fn a_server_that_falls_silent_times_out_when_asked_to() {
    let (hold, held) = bounded::<()>(0);
    let fake = Fake::start(&SOLPIPE, move |mut call| {
        call.send(old(0.5));
        let _ = held.recv_timeout(LONG);
    });
    let mut client = CapacityClient::builder(&*fake.address)
        .idle_timeout(Duration::from_millis(200))
        .connect()
        .unwrap();
    let first = client.next().unwrap().unwrap();
    let error = end_of(&mut client).unwrap();
    assert!(error.is_timeout(), "{error:?}");
    assert!(first.age() >= Duration::from_millis(200));
    assert_eq!(client.next(), None);
    drop(hold);
}

#[test]
fn a_connection_that_is_lost() {
    let (sent, was_sent) = unbounded();
    let fake = Fake::start(&SOLPIPE, move |mut call| {
        call.send(old(0.5));
        sent.send(()).unwrap();
        while call.send(old(0.5)) {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let mut client = CapacityClient::connect(&*fake.address).unwrap();
    was_sent.recv_timeout(LONG).unwrap();
    drop(fake);
    let end = end_of(&mut client).unwrap();
    assert!(end.is_unreachable(), "{end:?}");
    assert_eq!(client.next(), None);
}

#[test]
fn garbage_and_giants_are_not_snapshots() {
    // A field that nobody knows, of a megabyte: valid, but not what a snapshot looks like.
    let mut giant = vec![0x7a, 0x80, 0x80, 0x40];
    giant.resize(4 + (1 << 20), 0);
    for message in [vec![0xff; 40], giant] {
        let length = message.len();
        let error = error_of(move |mut call| {
            call.send(message.clone());
            call.end();
        });
        assert!(error.is_protocol(), "{length} bytes: {error:?}");
    }
}

#[test]
fn the_token_is_sent_and_never_shown() {
    let (tell, told) = unbounded();
    let fake = Fake::start(&SOLPIPE, move |mut call| {
        tell.send(call.authorization.clone()).unwrap();
        call.send(old(0.5));
        call.end();
    });
    let builder = CapacityClient::builder(&*fake.address).token("tell-nobody");
    let mut shown = format!("{builder:?}");
    let client = builder.connect().unwrap();
    let header = told.recv_timeout(LONG).unwrap();
    assert_eq!(header.as_deref(), Some("Bearer tell-nobody"));
    shown += &format!("{client:?}");
    let refusing = Fake::start(&SOLPIPE, |call| call.fail(Code::UNAUTHENTICATED, ""));
    let refused = CapacityClient::builder(&*refusing.address).token("tell-nobody");
    let error = refused.connect().unwrap_err();
    shown += &format!("{error:?} {error}");
    assert!(!shown.contains("tell-nobody"), "{shown}");
    assert!(shown.contains("hidden"));
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_sent() {
    let here = || CapacityClient::builder(nobody());
    let away = || CapacityClient::builder("192.0.2.1:1").token("secret");
    for (what, builder) in [
        ("no address", CapacityClient::builder("")),
        ("no port", CapacityClient::builder("localhost")),
        ("a URL", CapacityClient::builder("http://localhost:1")),
        ("a NUL", CapacityClient::builder("a\0b:1")),
        ("no time to connect", here().connect_timeout(Duration::ZERO)),
        ("no time for news", here().idle_timeout(Duration::ZERO)),
        ("pings without a pause", here().keepalive(Duration::ZERO)),
        ("no whole ms", here().keepalive(Duration::from_micros(999))),
        ("empty token", here().token("")),
        ("token with a blank", here().token("a b")),
        ("token with a line end", here().token("a\r\nb: c")),
        ("token with an umlaut", here().token("grün")),
        ("token in the clear", away()),
    ] {
        let error = builder.connect().unwrap_err();
        assert!(error.is_config(), "{what}: {error:?}");
    }
    let said = away()
        .insecure()
        .connect_timeout(Duration::from_millis(50))
        .connect()
        .unwrap_err();
    assert!(!said.is_config(), "{said:?}");
}
