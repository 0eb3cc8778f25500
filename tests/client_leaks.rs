//! Clients leave nothing behind: no thread, no file descriptor. Alone in its process, which is what
//! it counts in.
#![cfg(all(feature = "grpc", target_os = "linux"))]

use std::time::{Duration, Instant};

use worker_pool::Meter;
use worker_pool::grpc::{CapacityClient, CapacityServer};

/// More than anything here takes; only a broken test waits so long.
const LONG: Duration = Duration::from_secs(20);

fn count(what: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{what}"))
        .unwrap()
        .count()
}

#[test]
fn clients_that_come_and_go_leave_nothing_behind() {
    let server = CapacityServer::builder()
        .pool("pool", Meter::new())
        .start()
        .unwrap();
    let address = server.local_addr().to_string();
    let visit = || {
        let mut client = CapacityClient::connect(&*address).unwrap();
        client.recv_timeout(LONG).unwrap();
    };
    // The core starts threads of its own with the first client and keeps them.
    visit();
    let before = (count("task"), count("fd"));
    for _ in 0..40 {
        visit();
    }
    // A closed connection is seen off by the server in its own time.
    let until = Instant::now() + LONG;
    loop {
        let after = (count("task"), count("fd"));
        // The core's own threads vary by a few; forty leaked ones would show.
        if after.0 < before.0 + 8 && after.1 < before.1 + 8 {
            return;
        }
        assert!(
            Instant::now() < until,
            "threads and descriptors before {before:?}, after 40 clients {after:?}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
