//! TLS on the server's side: who gets through, and certificates that change while it runs.
#![cfg(feature = "tls")]

mod common_grpc;

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use common_grpc::raw::Raw;
use common_grpc::*;
use grpcio::{ChannelCredentialsBuilder, RpcStatusCode};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use worker_pool::grpc::{CapacityServer, ServerError, ServerTls};

const NAME: &str = "pool.test";

/// Signs certificates; its own is what others have to trust.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Certificate and key.
#[derive(Clone)]
struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Authority { pem, issuer }
    }

    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let key = key.serialize_pem();
        Identity { certificate, key }
    }

    fn identity(&self, name: &str) -> Identity {
        self.sign(name, |_| {})
    }
}

impl Identity {
    fn server(&self) -> ServerTls {
        ServerTls::from_pem(&*self.certificate, &*self.key)
    }
}

/// A client that trusts this authority and shows this certificate.
fn client(server: &CapacityServer, trusts: &Authority, shows: Option<&Identity>) -> Peer {
    Peer::with(&server.local_addr().to_string(), |builder| {
        let credentials = ChannelCredentialsBuilder::new().root_cert(trusts.pem.clone().into());
        let credentials = match shows {
            None => credentials,
            Some(own) => {
                credentials.cert(own.certificate.clone().into(), own.key.clone().into_bytes())
            }
        };
        builder
            .override_ssl_target(NAME)
            .set_credentials(credentials.build())
    })
}

#[track_caller]
fn is_served(peer: &Peer) {
    assert_eq!(peer.capacity().expect().total(), 1);
}

#[track_caller]
fn is_not_served(peer: &Peer) {
    let refused = peer.capacity().next().err();
    assert_eq!(refused, Some(RpcStatusCode::UNAVAILABLE));
}

#[test]
fn only_clients_that_speak_tls_and_trust_us_get_through() {
    let (ours, foreign) = (Authority::new("ours"), Authority::new("foreign"));
    let rig = Rig::of(1);
    let server = rig.serve(|b| b.tls(ours.identity(NAME).server()));
    is_served(&client(&server, &ours, None));
    is_not_served(&Peer::new(&server)); // plain text
    is_not_served(&client(&server, &foreign, None)); // wrong CA
    assert_eq!(server.open_streams(), 0, "no handler was called");
    is_served(&client(&server, &ours, None));
}

#[test]
fn a_wrong_name_or_an_old_certificate_is_the_clients_to_refuse() {
    let ours = Authority::new("ours");
    let misnamed = ours.identity("other.test");
    let expired = ours.sign(NAME, |params| {
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
    });
    for identity in [misnamed, expired] {
        let server = Rig::of(1).serve(|b| b.tls(identity.server()));
        is_not_served(&client(&server, &ours, None));
        assert_eq!(server.open_streams(), 0);
    }
}

#[test]
fn with_a_clients_ca_only_its_clients_get_through() {
    let (ours, clients, foreign) = (
        Authority::new("ours"),
        Authority::new("clients"),
        Authority::new("foreign"),
    );
    let tls = ours.identity(NAME).server().client_ca_pem(&*clients.pem);
    let rig = Rig::of(1);
    let server = rig.serve(|b| b.tls(tls));
    let expired = clients.sign("client", |params| {
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
    });
    is_not_served(&client(&server, &ours, None));
    is_not_served(&client(&server, &ours, Some(&foreign.identity("client"))));
    is_not_served(&client(&server, &ours, Some(&ours.identity("client"))));
    is_not_served(&client(&server, &ours, Some(&expired)));
    is_not_served(&Peer::new(&server));
    assert_eq!(server.open_streams(), 0, "no handler was called");
    is_served(&client(&server, &ours, Some(&clients.identity("client"))));
}

#[test]
fn a_tls_handshake_that_never_starts_is_given_up() {
    let ours = Authority::new("ours");
    let rig = Rig::of(1);
    let server = rig.serve(|b| {
        b.tls(ours.identity(NAME).server())
            .handshake_timeout(Duration::from_secs(1))
            .keepalive(Duration::from_secs(60), Duration::from_secs(60))
    });
    let mut silent: Vec<_> = (0..20)
        .map(|_| Raw::over(TcpStream::connect(server.local_addr()).unwrap()))
        .collect();
    is_served(&client(&server, &ours, None));
    for raw in &mut silent {
        assert!(raw.dismissed_within(PATIENCE));
    }
}

#[test]
fn with_tls_any_address_is_allowed_and_the_token_still_counts() {
    let ours = Authority::new("ours");
    let rig = Rig::of(1);
    // An address of nobody: allowed, so it is tried.
    let builder = CapacityServer::builder().pool("pool", rig.meter.clone());
    let error = builder
        .address("192.0.2.1:0")
        .tls(ours.identity(NAME).server())
        .start()
        .err();
    assert!(matches!(error, Some(ServerError::Bind(_))), "{error:?}");
    let server = rig.serve(|b| b.tls(ours.identity(NAME).server()).token("secret"));
    let stranger = client(&server, &ours, None).capacity().next().err();
    assert_eq!(stranger, Some(RpcStatusCode::UNAUTHENTICATED));
    is_served(&client(&server, &ours, None).authorization("Bearer secret"));
}

#[test]
fn what_cannot_be_used_is_an_error_at_the_start() {
    let ours = Authority::new("ours");
    let (one, other) = (ours.identity(NAME), ours.identity(NAME));
    let no_pem = ServerTls::from_pem("nonsense", &*one.key);
    let no_key = ServerTls::from_pem(&*one.certificate, "nonsense");
    let nul = ServerTls::from_pem(format!("{}\0", one.certificate), &*one.key);
    let unfit = ServerTls::from_pem(&*one.certificate, &*other.key);
    let broken = one.certificate.replace(['A', 'B'], "x");
    let broken = ServerTls::from_pem(broken, &*one.key);
    let bad_ca = ours.pem.replace(['A', 'B'], "x");
    let bad_ca = one.server().client_ca_pem(bad_ca);
    let no_ca = one.server().client_ca_pem("nonsense");
    let no_file = ServerTls::from_files("/nonexistent/cert.pem", "/nonexistent/key.pem");
    for tls in [no_pem, no_key, nul, unfit, broken, no_ca, bad_ca, no_file] {
        let shown = format!("{tls:?}");
        let builder = CapacityServer::builder().pool("pool", Rig::of(1).meter);
        let error = builder.tls(tls).start().err();
        assert!(
            matches!(error, Some(ServerError::Tls(_))),
            "{shown}: {error:?}"
        );
    }
}

// Certificates that change.

/// Everything that was logged in this process.
fn log_lines() -> &'static Mutex<Vec<String>> {
    static LINES: OnceLock<Mutex<Vec<String>>> = OnceLock::new();
    struct Collect;
    impl log::Log for Collect {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            log_lines().lock().unwrap().push(record.args().to_string());
        }
        fn flush(&self) {}
    }
    LINES.get_or_init(|| {
        log::set_logger(&Collect).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        Mutex::default()
    })
}

fn logged(text: &str) -> usize {
    let lines = log_lines().lock().unwrap();
    lines.iter().filter(|line| line.contains(text)).count()
}

/// Files that are gone when the test is.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let name = format!("capacity-tls-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, identity: &Identity) {
        fs::write(self.path("cert.pem"), &identity.certificate).unwrap();
        fs::write(self.path("key.pem"), &identity.key).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn certificates_are_reloaded_and_bad_ones_are_not_taken() {
    log_lines();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let folder = Folder::new();
    folder.write(&old.identity(NAME));
    let tls = ServerTls::from_files(folder.path("cert.pem"), folder.path("key.pem"))
        .reload_every(Duration::from_millis(20));
    let rig = Rig::of(1);
    let server = rig.serve(|b| b.tls(tls));
    let mut open = client(&server, &old, None).capacity();
    open.expect();

    // A key without its certificate: as if half of the files were written.
    let unfit = Identity {
        certificate: old.identity(NAME).certificate,
        key: new.identity(NAME).key,
    };
    let before = logged("the old certificate stays");
    folder.write(&unfit);
    eventually("the bad key is logged", || {
        logged("the old certificate stays") > before
    });
    is_served(&client(&server, &old, None));

    let before = logged("the old certificate stays");
    fs::write(folder.path("cert.pem"), "nonsense").unwrap();
    eventually("the bad certificate is logged", || {
        logged("the old certificate stays") > before
    });
    is_served(&client(&server, &old, None));

    fs::remove_file(folder.path("cert.pem")).unwrap();
    eventually("the missing file is logged", || {
        logged("cannot read the certificate") > 0
    });
    is_served(&client(&server, &old, None));

    let before = logged("the server's certificate was reloaded");
    let fresh = new.identity(NAME);
    folder.write(&fresh);
    eventually("the new certificate is taken", || {
        logged("the server's certificate was reloaded") > before
    });
    is_served(&client(&server, &new, None));
    is_not_served(&client(&server, &old, None));
    // Connections from before live on.
    rig.add();
    assert_eq!(open.expect().total(), 2);

    server.shutdown();
    let key_lines = fresh.key.lines().filter(|line| line.len() > 40);
    for line in key_lines {
        assert_eq!(logged(line), 0, "a key was logged");
    }
}
