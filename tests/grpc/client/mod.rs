//! What `CapacityClient` promises, against a server that does what each test wants.

#[cfg(feature = "tls")]
mod authority;
mod errors;
mod fake;
mod reconnect;
mod stream;
#[cfg(feature = "tls")]
mod tls;

use std::time::{Duration, Instant};

use worker_pool::grpc::{CapacityClient, ClientError, RecvError};

/// More than anything here takes; only a broken test waits so long.
const LONG: Duration = Duration::from_secs(20);

/// Waits until it is so.
#[track_caller]
fn eventually(what: &str, so: impl Fn() -> bool) {
    let until = Instant::now() + LONG;
    while !so() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Reads to the end: the error, or `None` for a clean end. A client that goes on fails the test.
#[track_caller]
fn end_of(client: &mut CapacityClient) -> Option<ClientError> {
    let until = Instant::now() + LONG;
    while Instant::now() < until {
        match client.recv_timeout(LONG) {
            Ok(_) => {}
            Err(RecvError::Ended) => return None,
            Err(RecvError::Failed(error)) => return Some(error),
            Err(RecvError::Timeout) => break,
        }
    }
    panic!("the client goes on");
}

/// Drops the client, which must take well under a second.
#[track_caller]
fn drop_promptly(client: CapacityClient) {
    let (tell, told) = crossbeam_channel::bounded(1);
    let start = Instant::now();
    std::thread::spawn(move || {
        drop(client);
        let _ = tell.send(());
    });
    told.recv_timeout(LONG).expect("the drop returns");
    let took = start.elapsed();
    assert!(took < Duration::from_secs(1), "the drop took {took:?}");
}
