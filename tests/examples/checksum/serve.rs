//! `checksum --serve`: how busy it is, seen from outside.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;

use worker_pool::grpc::{CapacityClient, RecvError};

use super::support::*;

#[test]
fn while_it_runs_a_client_sees_its_workers_and_its_output_stays_the_same() {
    let (scratch, mut arguments, whole) = endless("served", 60_000);
    arguments.splice(0..0, ["--serve", "127.0.0.1:0"]);
    // Nobody reads its output yet: it cannot end.
    let (mut running, mut out, mut printed) = start(&scratch, &arguments);
    let mut errors = BufReader::new(running.0.stderr.take().unwrap());
    let mut line = String::new();
    errors.read_line(&mut line).unwrap();
    let address = line.strip_prefix("checksum: serving on ").unwrap().trim();
    assert!(address.starts_with("127.0.0.1:"), "{line}");
    assert!(!address.ends_with(":0"), "{line}");

    let mut client = CapacityClient::connect(address).unwrap();
    let first = client.recv_timeout(PATIENCE).unwrap();
    assert_eq!(first.total, Some(2), "{first}");
    assert!(first.busy <= first.total, "{first}");

    out.read_to_end(&mut printed).unwrap();
    assert!(printed == whole, "the output differs");
    assert_eq!(running.exit_code(), Some(0));
    // The last word comes before the clean end.
    let end = loop {
        match client.recv_timeout(PATIENCE) {
            Ok(snapshot) => assert!(snapshot.busy <= snapshot.total, "{snapshot}"),
            Err(end) => break end,
        }
    };
    assert!(matches!(end, RecvError::Ended), "{end}");
    let mut rest = String::new();
    errors.read_to_string(&mut rest).unwrap();
    assert_summary(rest.as_bytes(), "60000 files, ");
    assert_eq!(rest.lines().count(), 1, "{rest}");
}

#[test]
fn an_address_that_cannot_be_served_exits_with_2_before_any_output() {
    let scratch = Scratch::new("not-served");
    scratch.file("f", b"");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (bad, reason) in [
        ("nonsense", "\"nonsense\""),
        ("127.0.0.1:99999", "127.0.0.1:99999"),
        ("0.0.0.0:0", "can be reached from other machines"),
        (&taken, "cannot listen on"),
    ] {
        let output = scratch.run(["--serve", bad, "f"]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{bad}: {text}");
        assert!(output.stdout.is_empty(), "{bad}");
        // gRPC's core may have its own say before.
        let last = text.lines().last().unwrap_or_default();
        assert!(last.starts_with("checksum: --serve: "), "{text}");
        assert!(last.contains(reason), "{text}");
    }
}
