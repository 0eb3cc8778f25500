//! Snapshots: what is in them, which of them are seen, and how a stream ends.

use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{bounded, unbounded};
use worker_pool::grpc::{CapacityClient, RecvError};

use super::fake::{Call, Fake, RELAY, SOLPIPE, full, old};
use super::{LONG, drop_promptly, end_of, eventually};

#[test]
fn both_names_of_the_stream_give_all_fields_and_the_time() {
    for relay in [false, true] {
        let method = if relay { &RELAY } else { &SOLPIPE };
        let fake = Fake::start(method, |mut call| {
            assert!(call.request.is_empty());
            call.send(full(0.75, 3, 4, 9));
            call.end();
        });
        let before = (Instant::now(), SystemTime::now());
        let builder = CapacityClient::builder(&*fake.address);
        let builder = if relay { builder.relay() } else { builder };
        let mut client = builder.connect().unwrap();
        let seen = client.next().unwrap().unwrap();
        assert_eq!(seen.utilization, 0.75);
        assert_eq!(
            (seen.busy, seen.total, seen.waiting),
            (Some(3), Some(4), Some(9))
        );
        assert!(before.0 <= seen.at && seen.at <= Instant::now());
        assert!(before.1 <= seen.time && seen.time <= SystemTime::now());
        assert_eq!(
            seen.to_string(),
            "75 % busy, 3 of 4 workers, 9 jobs waiting"
        );
    }
}

#[test]
fn a_server_of_the_first_version_has_no_counts() {
    let fake = Fake::start(&SOLPIPE, |mut call| {
        call.send(old(0.5));
        call.end();
    });
    let seen = CapacityClient::connect(&*fake.address)
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(
        (seen.utilization, seen.busy, seen.total, seen.waiting),
        (0.5, None, None, None)
    );
    assert_eq!(seen.to_string(), "50 % busy");
}

#[test]
fn a_pool_without_workers_is_told_from_a_server_of_the_first_version() {
    for relay in [false, true] {
        let method = if relay { &RELAY } else { &SOLPIPE };
        let fake = Fake::start(method, |mut call| {
            call.send(full(1.0, 0, 0, 0));
            call.end();
        });
        let builder = CapacityClient::builder(&*fake.address);
        let builder = if relay { builder.relay() } else { builder };
        let seen = builder.connect().unwrap().next().unwrap().unwrap();
        assert_eq!(
            (seen.busy, seen.total, seen.waiting),
            (Some(0), Some(0), Some(0))
        );
        assert_eq!(
            seen.to_string(),
            "100 % busy, 0 of 0 workers, 0 jobs waiting"
        );
    }
}

#[test]
fn counts_of_earlier_snapshots_are_not_put_into_later_ones() {
    let (go, may_go) = bounded::<()>(0);
    let fake = Fake::start(&SOLPIPE, move |mut call| {
        call.send(full(0.5, 1, 2, 0));
        let _ = may_go.recv_timeout(LONG);
        call.send(old(0.5)); // as behind a balancer that has servers of both versions
        call.end();
    });
    let mut client = CapacityClient::connect(&*fake.address).unwrap();
    assert_eq!(client.next().unwrap().unwrap().total, Some(2));
    go.send(()).unwrap();
    assert_eq!(client.next().unwrap().unwrap().total, None);
}

#[test]
fn a_slow_reader_misses_values_in_between_but_never_the_last() {
    const LAST: u32 = 10_000;
    let fake = Fake::start(&SOLPIPE, |mut call| {
        for step in 1..=LAST {
            call.send(old(step as f32 / LAST as f32));
        }
        // Kept open: the value must arrive without the help of an end.
        while call.send(old(1.0)) {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let mut client = CapacityClient::connect(&*fake.address).unwrap();
    eventually("the last value arrives though nobody reads", || {
        client.latest().is_some_and(|last| last.utilization == 1.0)
    });
    // One step, not ten thousand: only the newest was kept.
    assert_eq!(client.next().unwrap().unwrap().utilization, 1.0);
}

#[test]
fn a_clean_end_ends_the_iterator_after_the_last_snapshot() {
    let fake = Fake::start(&SOLPIPE, |mut call| {
        call.send(old(0.25));
        call.end();
    });
    let mut client = CapacityClient::connect(&*fake.address).unwrap();
    assert_eq!(client.next().unwrap().unwrap().utilization, 0.25);
    assert_eq!(client.next(), None);
    assert_eq!(client.next(), None);
    assert_eq!(client.recv_timeout(LONG), Err(RecvError::Ended));
    assert_eq!(client.latest().unwrap().utilization, 0.25);
}

#[test]
fn a_clean_end_before_the_first_snapshot_is_a_clean_end() {
    let fake = Fake::start(&SOLPIPE, Call::end);
    let mut client = CapacityClient::connect(&*fake.address).unwrap();
    assert_eq!(client.next(), None);
    assert_eq!(client.recv_timeout(LONG), Err(RecvError::Ended));

    // One that waits for its tick, and ends before.
    let (close, closing) = bounded::<()>(0);
    let silent = Fake::start(&SOLPIPE, move |call| {
        let _ = closing.recv_timeout(LONG);
        call.end();
    });
    let mut client = CapacityClient::builder(&*silent.address)
        .connect_timeout(Duration::from_secs(1))
        .connect()
        .unwrap();
    close.send(()).unwrap();
    assert_eq!(end_of(&mut client), None);
}

#[test]
fn recv_timeout_waits_that_long_and_no_longer() {
    let (hold, held) = bounded::<()>(0);
    let fake = Fake::start(&SOLPIPE, move |mut call| {
        call.send(old(0.5));
        let _ = held.recv_timeout(LONG);
    });
    let mut client = CapacityClient::connect(&*fake.address).unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().utilization, 0.5);
    let asked = Duration::from_millis(150);
    let start = Instant::now();
    assert_eq!(client.recv_timeout(asked), Err(RecvError::Timeout));
    let took = start.elapsed();
    assert!(took >= asked && took < LONG, "took {took:?}");
    assert_eq!(client.recv_timeout(Duration::ZERO), Err(RecvError::Timeout));
    drop(hold);
}

#[test]
fn dropping_the_client_cancels_the_call_promptly() {
    let (gone, is_gone) = unbounded();
    let fake = Fake::start(&SOLPIPE, move |mut call| {
        while call.send(old(0.5)) {
            std::thread::sleep(Duration::from_millis(2));
        }
        gone.send(Instant::now()).unwrap();
    });
    let client = CapacityClient::connect(&*fake.address).unwrap();
    let start = Instant::now();
    drop_promptly(client);
    let noticed = is_gone.recv_timeout(LONG).unwrap();
    assert!(noticed - start < Duration::from_secs(1));
}

#[test]
fn dropping_a_client_of_a_silent_server_is_prompt_too() {
    let (hold, held) = bounded::<()>(0);
    let fake = Fake::start(&SOLPIPE, move |mut call| {
        call.send(old(0.5));
        let _ = held.recv_timeout(LONG);
    });
    let client = CapacityClient::connect(&*fake.address).unwrap();
    drop_promptly(client);
    drop(hold);
}

#[test]
fn the_client_may_move_to_another_thread() {
    let fake = Fake::start(&SOLPIPE, |mut call| {
        call.send(old(0.5));
        call.end();
    });
    let client = CapacityClient::connect(&*fake.address).unwrap();
    let count = std::thread::spawn(move || client.count()).join().unwrap();
    assert_eq!(count, 1);
}
