//! A client that was asked to connect again.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, unbounded};
use grpcio::{RpcStatusCode as Code, ServerCredentials};
use worker_pool::grpc::{Backoff, CapacityClient};

use super::errors::nobody;
use super::fake::{Fake, SOLPIPE, old};
use super::{LONG, drop_promptly, end_of, eventually};

const QUICK: Backoff = Backoff {
    first: Duration::from_millis(5),
    longest: Duration::from_millis(20),
    attempts: None,
};

#[test]
fn it_outlives_a_restart_of_the_server_and_says_that_it_was_gone() {
    let answer_at = |address: &str, value: f32| {
        Fake::at(
            address,
            ServerCredentials::insecure(),
            &SOLPIPE,
            move |mut call| {
                while call.send(old(value)) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            },
        )
    };
    let first = answer_at("127.0.0.1:0", 0.25);
    let address = first.address.clone();
    let mut client = CapacityClient::builder(&*address)
        .reconnect(QUICK)
        .connect()
        .unwrap();
    assert_eq!(client.next().unwrap().unwrap().utilization, 0.25);
    assert!(client.outage().is_none());

    let before = Instant::now();
    drop(first);
    eventually("several attempts fail", || {
        client.outage().is_some_and(|outage| outage.failures > 2)
    });
    let outage = client.outage().unwrap();
    assert!(outage.since >= before);
    assert!(outage.error.unwrap().is_unreachable());

    let _second = answer_at(&address, 0.75);
    let seen = client.find(|seen| seen.as_ref().unwrap().utilization == 0.75);
    assert!(seen.is_some());
    assert!(client.outage().is_none());
}

#[test]
fn a_clean_end_is_followed_by_a_new_connection() {
    let calls = Arc::new(AtomicU32::new(0));
    let fake = Fake::start(&SOLPIPE, {
        let calls = Arc::clone(&calls);
        move |mut call| {
            let number = calls.fetch_add(1, Ordering::SeqCst) + 1;
            call.send(old(number as f32 / 100.0));
            call.end();
        }
    });
    let mut client = CapacityClient::builder(&*fake.address)
        .reconnect(QUICK)
        .connect()
        .unwrap();
    client.find(|seen| seen.as_ref().unwrap().utilization >= 0.05);
    assert!(calls.load(Ordering::SeqCst) >= 5);
}

#[test]
fn a_server_that_answers_and_hangs_up_is_asked_ever_more_rarely() {
    let (tell, told) = unbounded();
    let fake = Fake::start(&SOLPIPE, move |mut call| {
        tell.send(Instant::now()).unwrap();
        call.send(old(1.0));
        call.end();
    });
    let first = Duration::from_millis(40);
    let _client = CapacityClient::builder(&*fake.address)
        .reconnect(Backoff {
            first,
            longest: LONG,
            attempts: Some(1), // it is there, so this does not end it
        })
        .connect()
        .unwrap();
    let calls = [(); 4].map(|()| told.recv_timeout(LONG).unwrap());
    for (number, pair) in calls.windows(2).enumerate() {
        let least = first.mul_f64(0.75) * (1 << number);
        let gap = pair[1] - pair[0];
        assert!(gap >= least, "gap {number}: {gap:?}, not {least:?}");
    }
}

#[test]
fn it_gives_up_after_the_attempts_it_was_given() {
    let fake = Fake::start(&SOLPIPE, |mut call| {
        call.send(old(0.5));
        call.end();
    });
    let mut client = CapacityClient::builder(&*fake.address)
        .reconnect(Backoff {
            attempts: Some(3),
            // Time to drop the server before the first attempt.
            first: Duration::from_millis(300),
            longest: Duration::from_millis(300),
        })
        .connect()
        .unwrap();
    assert!(client.next().unwrap().is_ok());
    drop(fake);
    let end = end_of(&mut client).unwrap();
    assert!(end.is_unreachable(), "{end:?}");
    assert_eq!(client.next(), None);
    assert_eq!(client.outage().unwrap().failures, 4); // the loss, and three attempts
}

#[test]
fn it_gives_up_at_once_when_trying_again_cannot_help() {
    let calls = Arc::new(AtomicU32::new(0));
    let fake = Fake::start(&SOLPIPE, {
        let calls = Arc::clone(&calls);
        move |mut call| match calls.fetch_add(1, Ordering::SeqCst) {
            0 => {
                call.send(old(0.5));
                call.end();
            }
            _ => call.fail(Code::UNAUTHENTICATED, "the token was changed"),
        }
    });
    let mut client = CapacityClient::builder(&*fake.address)
        .reconnect(QUICK)
        .connect()
        .unwrap();
    let end = end_of(&mut client).unwrap();
    assert!(end.is_unauthenticated(), "{end:?}");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    // The outage tells this error, not the clean end before it.
    let outage = client.outage().unwrap();
    assert_eq!((outage.failures, outage.error), (2, Some(end)));
}

#[test]
fn a_loss_that_cannot_be_repaired_is_an_outage_too() {
    let (go, may_go) = bounded::<()>(0);
    let fake = Fake::start(&SOLPIPE, move |mut call| {
        call.send(old(0.5));
        // The core drops messages that a failure overtakes.
        let _ = may_go.recv_timeout(LONG);
        call.fail(Code::PERMISSION_DENIED, "not any more");
    });
    let mut client = CapacityClient::builder(&*fake.address)
        .reconnect(QUICK)
        .connect()
        .unwrap();
    go.send(()).unwrap();
    let end = end_of(&mut client).unwrap();
    let outage = client.outage().unwrap();
    assert_eq!((outage.failures, outage.error), (1, Some(end)));
}

#[test]
fn a_silent_connection_ends_the_outage_and_the_next_loss_begins_another() {
    let (close, closing) = bounded::<()>(0);
    let calls = AtomicU32::new(0);
    let fake = Fake::start(&SOLPIPE, move |mut call| {
        match calls.fetch_add(1, Ordering::SeqCst) {
            0 => {
                call.send(old(0.5));
                call.end();
            }
            // Like a server that says nothing before its tick.
            1 => {
                let _ = closing.recv_timeout(LONG);
                call.end();
            }
            _ => call.fail(Code::UNAVAILABLE, "later"),
        }
    });
    let mut client = CapacityClient::builder(&*fake.address)
        .connect_timeout(Duration::from_secs(1))
        .reconnect(Backoff {
            attempts: Some(1),
            ..QUICK
        })
        .connect()
        .unwrap();
    assert!(client.next().unwrap().is_ok());
    eventually("the loss", || client.outage().is_some());
    eventually("the connection stands", || client.outage().is_none());
    let stood = Instant::now();
    close.send(()).unwrap();
    assert!(end_of(&mut client).unwrap().is_unreachable());
    let outage = client.outage().unwrap();
    assert!(outage.since >= stood, "the loss is the earlier one");
    assert_eq!(outage.failures, 2); // the loss, and one attempt
}

#[test]
fn a_clean_end_before_the_first_snapshot_is_followed_by_a_new_connection() {
    let calls = AtomicU32::new(0);
    let fake = Fake::start(&SOLPIPE, move |mut call| {
        if calls.fetch_add(1, Ordering::SeqCst) == 2 {
            call.send(old(0.5));
        }
        call.end();
    });
    let mut client = CapacityClient::builder(&*fake.address)
        .reconnect(QUICK)
        .connect()
        .unwrap();
    assert_eq!(client.next().unwrap().unwrap().utilization, 0.5);
}

#[test]
fn the_first_attempt_is_not_repeated() {
    let error = CapacityClient::builder(nobody())
        .reconnect(QUICK)
        .connect()
        .unwrap_err();
    assert!(error.is_unreachable(), "{error:?}");
}

#[test]
fn dropping_it_during_a_long_pause_is_prompt() {
    let fake = Fake::start(&SOLPIPE, |mut call| {
        call.send(old(0.5));
        call.end();
    });
    let client = CapacityClient::builder(&*fake.address)
        .reconnect(Backoff {
            first: LONG,
            longest: LONG,
            attempts: None,
        })
        .connect()
        .unwrap();
    eventually("the pause", || client.outage().is_some());
    drop_promptly(client);
}

#[test]
fn dropping_it_while_it_connects_again_is_prompt() {
    let fake = Fake::start(&SOLPIPE, |mut call| {
        call.send(old(0.5));
        call.end();
    });
    let client = CapacityClient::builder(&*fake.address)
        .connect_timeout(LONG)
        .reconnect(Backoff {
            // Time to put a mute one in the server's place.
            first: Duration::from_millis(300),
            longest: Duration::from_millis(300),
            attempts: None,
        })
        .connect()
        .unwrap();
    let address = fake.address.clone();
    drop(fake);
    let mute = TcpListener::bind(address).unwrap();
    let _held = mute.accept().unwrap(); // an attempt is under way, and stays so
    drop_promptly(client);
}
