//! Clients leave nothing behind: no thread, no file descriptor. Alone in its process, which is what
//! it counts in.
#![cfg(all(feature = "grpc", target_os = "linux"))]

use std::cell::RefCell;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use worker_pool::grpc::{Backoff, CapacityClient, CapacityServer};
use worker_pool::{Manager, Meter};

/// More than anything here takes; only a broken test waits so long.
const LONG: Duration = Duration::from_secs(20);

/// Within this everything is gone; the core's own patience with a mute peer is twice as long.
const SOON: Duration = Duration::from_secs(10);

fn count(what: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{what}"))
        .unwrap()
        .count()
}

/// Threads and descriptors of this process.
fn held() -> (usize, usize) {
    (count("task"), count("fd"))
}

/// Does it forty times; what it leaves behind each time would show.
#[track_caller]
fn leaves_nothing(what: &str, visit: impl Fn()) {
    // The core starts threads of its own with the first client and keeps them.
    visit();
    let before = held();
    for _ in 0..40 {
        visit();
    }
    // A closed connection is seen off by the server in its own time.
    let until = Instant::now() + SOON;
    loop {
        let after = held();
        // The core's own threads vary by a few; forty leaked ones would show.
        if after.0 < before.0 + 8 && after.1 < before.1 + 8 {
            return;
        }
        assert!(
            Instant::now() < until,
            "{what}: threads and descriptors before {before:?}, after 40 times {after:?}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn clients_that_come_and_go_leave_nothing_behind() {
    let open = CapacityServer::builder()
        .pool("pool", Meter::new())
        .start()
        .unwrap();
    let address = open.local_addr().to_string();
    leaves_nothing("connected", || {
        let mut client = CapacityClient::connect(&*address).unwrap();
        client.recv_timeout(LONG).unwrap();
    });

    let strict = CapacityServer::builder()
        .pool("pool", Meter::new())
        .token("s3cret")
        .start()
        .unwrap();
    let address = strict.local_addr().to_string();
    leaves_nothing("refused", || {
        let error = CapacityClient::connect(&*address).unwrap_err();
        assert!(error.is_unauthenticated(), "{error:?}");
    });

    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = mute.local_addr().unwrap().to_string();
    leaves_nothing("no answer", || {
        let error = CapacityClient::builder(&*address)
            .connect_timeout(Duration::from_millis(5))
            .connect()
            .unwrap_err();
        assert!(error.is_timeout(), "{error:?}");
    });
    drop(mute);
    leaves_nothing("nobody there", || {
        let error = CapacityClient::connect(&*address).unwrap_err();
        assert!(error.is_unreachable(), "{error:?}");
    });

    // A server whose pool is closed tells so and ends the stream: that is lost again and again.
    let meter = Meter::new();
    let pool = Manager::<(), ()>::builder()
        .hook(meter.clone())
        .build()
        .unwrap();
    pool.close();
    let ending = CapacityServer::builder()
        .pool("pool", meter)
        .start()
        .unwrap();
    let builder = |pause| {
        CapacityClient::builder(ending.local_addr().to_string()).reconnect(Backoff {
            first: pause,
            longest: pause,
            attempts: None,
        })
    };
    leaves_nothing("in a pause", || {
        let client = builder(LONG).connect().unwrap();
        while client.outage().is_none() {
            std::thread::yield_now();
        }
    });
    let client = RefCell::new(builder(Duration::from_millis(1)).connect().unwrap());
    leaves_nothing("connected again", || {
        client.borrow_mut().next().unwrap().unwrap();
    });
}
