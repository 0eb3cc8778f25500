//! TLS from the client's side.

use grpcio::{CertificateRequestType, ServerCredentials, ServerCredentialsBuilder};
use rcgen::CertificateParams;
use worker_pool::grpc::{CapacityClient, ClientBuilder};

use super::LONG;
use super::authority::Authority;
use super::fake::{Fake, SOLPIPE, old};

fn server(own: (String, String), clients_of: Option<&Authority>) -> Fake {
    let credentials = ServerCredentialsBuilder::new().add_cert(own.0.into(), own.1.into());
    let credentials = match clients_of {
        None => credentials,
        Some(authority) => credentials.root_cert(
            authority.pem.clone(),
            CertificateRequestType::RequestAndRequireClientCertificateAndVerify,
        ),
    };
    serve(credentials.build())
}

fn serve(credentials: ServerCredentials) -> Fake {
    Fake::at("127.0.0.1:0", credentials, &SOLPIPE, |mut call| {
        call.send(old(0.5));
        call.end();
    })
}

#[track_caller]
fn is_served(builder: ClientBuilder) {
    let mut client = builder.connect().unwrap();
    assert_eq!(client.next().unwrap().unwrap().utilization, 0.5);
}

#[test]
fn a_trusted_server_is_read_and_others_are_not() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let good = server(ours.certificate("127.0.0.1"), None);
    is_served(CapacityClient::builder(&*good.address).tls(&*ours.pem));

    let not_trusted = CapacityClient::builder(&*good.address)
        .tls(&*foreign.pem)
        .connect()
        .unwrap_err();
    assert!(not_trusted.is_tls(), "{not_trusted:?}");

    let misnamed = server(ours.certificate("example.org"), None);
    let error = CapacityClient::builder(&*misnamed.address)
        .tls(&*ours.pem)
        .connect()
        .unwrap_err();
    assert!(error.is_tls(), "{error:?}");

    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    let expired = server(ours.sign(params), None);
    let error = CapacityClient::builder(&*expired.address)
        .tls(&*ours.pem)
        .connect()
        .unwrap_err();
    assert!(error.is_tls(), "{error:?}");
}

#[test]
fn a_server_that_wants_a_certificate_gets_one() {
    let ours = Authority::new();
    let strict = server(ours.certificate("127.0.0.1"), Some(&ours));
    let builder = || CapacityClient::builder(&*strict.address).tls(&*ours.pem);
    let (certificate, key) = ours.certificate("a client");
    is_served(builder().client_certificate(&*certificate, &*key));

    let without = builder().connect().unwrap_err();
    assert!(!without.is_config() && !without.is_timeout(), "{without:?}");
    let (certificate, key) = Authority::new().certificate("a stranger");
    let foreign = builder()
        .client_certificate(&*certificate, &*key)
        .connect()
        .unwrap_err();
    assert!(!foreign.is_config() && !foreign.is_timeout(), "{foreign:?}");
}

#[test]
fn one_side_without_tls_is_an_error_on_either_side() {
    let ours = Authority::new();
    let secure = server(ours.certificate("127.0.0.1"), None);
    let error = CapacityClient::connect(&*secure.address).unwrap_err();
    assert!(error.is_unreachable() || error.is_tls(), "{error:?}");

    let plain = serve(ServerCredentials::insecure());
    let error = CapacityClient::builder(&*plain.address)
        .tls(&*ours.pem)
        .connect()
        .unwrap_err();
    assert!(error.is_tls(), "{error:?}");
}

#[test]
fn what_is_not_pem_is_refused_before_anything_is_sent() {
    let ours = Authority::new();
    let (certificate, key) = ours.certificate("a client");
    let here = || CapacityClient::builder("127.0.0.1:1");
    let ours_and =
        |certificate: &str, key: &str| here().tls(&*ours.pem).client_certificate(certificate, key);
    let (ca, own) = ("`tls`", "`client_certificate`");
    for (what, named, builder) in [
        ("empty authority", ca, here().tls("")),
        ("a file name", ca, here().tls("/etc/ca.pem")),
        ("a NUL", ca, here().tls(format!("{}\0", ours.pem))),
        (
            "no authority",
            ca,
            here().client_certificate(&*certificate, &*key),
        ),
        ("an empty key", own, ours_and(&certificate, "")),
        (
            "a certificate as key",
            own,
            ours_and(&certificate, &certificate),
        ),
        ("a key as certificate", own, ours_and(&key, &key)),
    ] {
        let error = builder.connect().unwrap_err();
        assert!(error.is_config(), "{what}: {error:?}");
        assert!(error.to_string().contains(named), "{what}: {error}");
    }
}

#[test]
fn nonsense_in_the_form_of_pem_is_an_error_that_says_so() {
    let ours = Authority::new();
    let secure = server(ours.certificate("127.0.0.1"), None);
    let nonsense =
        |what| format!("-----BEGIN {what}-----\nbm9uc2Vuc2U=\n-----END {what}-----\n").into_bytes();
    let (certificate, key) = ours.certificate("a client");
    let (_, foreign_key) = ours.certificate("another client");
    let here = || CapacityClient::builder(&*secure.address).connect_timeout(LONG);
    let ours = || here().tls(&*ours.pem);
    for (what, builder) in [
        ("authority", here().tls(nonsense("CERTIFICATE"))),
        (
            "certificate",
            ours().client_certificate(nonsense("CERTIFICATE"), &*key),
        ),
        (
            "key",
            ours().client_certificate(&*certificate, nonsense("PRIVATE KEY")),
        ),
        (
            "another's key",
            ours().client_certificate(&*certificate, &*foreign_key),
        ),
    ] {
        let error = builder.connect().unwrap_err();
        assert!(error.is_config(), "{what}: {error:?}");
        assert!(error.to_string().contains("certificate"), "{what}: {error}");
    }
}

#[test]
fn keys_are_never_shown() {
    let ours = Authority::new();
    let (certificate, key) = ours.certificate("a client");
    let builder = CapacityClient::builder("127.0.0.1:1")
        .tls(&*ours.pem)
        .client_certificate(&*certificate, &*key);
    let shown = format!("{builder:?}");
    assert!(!shown.contains("BEGIN"), "{shown}");
    assert!(shown.contains("tls: true"), "{shown}");
}
