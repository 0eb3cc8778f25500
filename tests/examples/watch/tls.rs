//! `--ca`, `--cert` and `--key`.

use std::fs;
use std::path::{Path, PathBuf};

use worker_pool::Meter;
use worker_pool::grpc::{CapacityServer, ServerTls};

use super::authority::Authority;
use super::process::{once, watch};

/// Files of one test, gone at its end.
struct Files(PathBuf);

impl Files {
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_server_that_wants_a_certificate_gets_one() {
    let files = Files(Path::new(env!("CARGO_TARGET_TMPDIR")).join("watch-certificate"));
    fs::create_dir_all(&files.0).unwrap();
    let ours = Authority::new();
    let (certificate, key) = ours.certificate("127.0.0.1");
    let server = CapacityServer::builder()
        .pool("pool", Meter::new())
        .tls(ServerTls::from_pem(certificate, key).client_ca_pem(&*ours.pem))
        .start()
        .unwrap();
    let address = server.local_addr().to_string();
    let (certificate, key) = ours.certificate("a client");
    let (_, foreign) = ours.certificate("another client");
    let ca = files.write("ca.pem", &ours.pem);
    let cert = files.write("cert.pem", &certificate);
    let key = files.write("key.pem", &key);
    let foreign = files.write("foreign.pem", &foreign);

    let with = |key| {
        [
            "--once", "--ca", &ca, "--cert", &cert, "--key", key, &address,
        ]
    };
    let line = once(&with(&key));
    assert!(line.ends_with("0 of 0 workers, 0 jobs waiting\n"), "{line}");

    let output = watch(&with(&foreign)).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("its key cannot be used"), "{text}");
    let output = watch(&["--once", "--ca", &ca, &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "without a certificate");
    server.shutdown();
}
