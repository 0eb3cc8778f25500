//! The example `watch`, as a user meets it.

#[cfg(feature = "tls")]
#[path = "../../grpc/client/authority.rs"]
mod authority;
#[allow(dead_code)]
#[path = "../../grpc/client/fake.rs"]
mod fake;
mod process;
#[cfg(feature = "tls")]
mod tls;

// The example's parts that need neither a server nor a terminal: their unit tests run here.
#[allow(dead_code)]
#[path = "../../../examples/watch/args.rs"]
mod args;
#[allow(dead_code)]
#[path = "../../../examples/watch/history.rs"]
mod history;
#[allow(dead_code)]
#[path = "../../../examples/watch/json.rs"]
mod json;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crossbeam_channel::bounded;
use grpcio::RpcStatusCode as Code;

use fake::{Bytes, Fake, SOLPIPE, full, old};
use process::{Running, once, watch};

/// More than anything here takes; only a broken test waits so long.
const LONG: Duration = Duration::from_secs(60);

/// Sends one message and stays.
fn saying(message: Bytes) -> (Fake, crossbeam_channel::Sender<()>) {
    let (hold, held) = bounded::<()>(0);
    let fake = Fake::start(&SOLPIPE, move |mut call| {
        call.send(message.clone());
        let _ = held.recv_timeout(LONG);
    });
    (fake, hold)
}

#[test]
fn counts_that_a_server_does_not_tell_are_null_and_zeros_are_zeros() {
    let (first_version, hold) = saying(old(0.5));
    let line = once(&["--json", "--once", &first_version.address]);
    let rest = "\"utilization\":0.5,\"busy\":null,\"total\":null,\"waiting\":null}\n";
    assert!(line.ends_with(rest), "{line}");
    let line = once(&["--once", &first_version.address]);
    assert!(line.ends_with("  50 % busy\n"), "{line}");
    drop(hold);

    let (no_workers, hold) = saying(full(1.0, 0, 0, 7));
    let line = once(&["--json", "--once", &no_workers.address]);
    let rest = "\"utilization\":1,\"busy\":0,\"total\":0,\"waiting\":7}\n";
    assert!(line.ends_with(rest), "{line}");
    drop(hold);
}

#[cfg(target_os = "linux")] // where `script` takes these options
#[test]
fn on_a_terminal_a_server_that_tells_no_counts_has_a_bar_and_no_numbers() {
    let (first_version, hold) = saying(old(0.5));
    let mut running = Running::on_a_terminal(&[&first_version.address]);
    let seen = running.read_until(" 50 %  0");
    let bar = "█".repeat(10) + &"░".repeat(10);
    assert!(
        seen.contains(&format!("{}  {bar}   50 %  0", first_version.address)),
        "{seen}"
    );
    assert!(
        !seen.contains("busy") && !seen.contains("waiting"),
        "{seen}"
    );
    drop(running);
    drop(hold);
}

#[test]
fn a_server_that_came_back_and_says_nothing_yet_is_not_gone() {
    let (go, may_go) = bounded::<()>(0);
    let calls = AtomicU32::new(0);
    let fake = Fake::start(&SOLPIPE, move |mut call| {
        match calls.fetch_add(1, Ordering::SeqCst) {
            0 => {
                call.send(full(0.25, 1, 4, 0));
                let _ = may_go.recv_timeout(LONG);
                call.fail(Code::UNAVAILABLE, "restarting");
            }
            _ => {
                let _ = may_go.recv_timeout(LONG);
                call.send(full(0.75, 3, 4, 0));
                let _ = may_go.recv_timeout(LONG);
            }
        }
    });
    let mut running = Running::start(watch(&[&fake.address]));
    running.read_until("25 % busy, 1 of 4 workers");
    go.send(()).unwrap();
    running.read_until("gone: cannot be reached: restarting, trying again");
    running.read_until("connected, no news yet");
    go.send(()).unwrap();
    running.read_until("75 % busy");
    drop(running);
    drop(go);
}

#[test]
fn what_the_core_says_does_not_break_the_view() {
    let mut watch = watch(&["--once", "ipv4:nonsense:1"]);
    let output = watch.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
