//! What stock clients expect beside the stream: health, reflection, load reports; several pools; and
//! the services on a server of the user's own.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use crate::common_grpc::*;
use futures_util::{SinkExt, StreamExt};
use grpcio::{
    CallOption, Client, MethodType, RpcStatusCode, Server, ServerCredentials, WriteFlags,
};
use proto::orca::OrcaLoadReportRequest;
use proto::orca_load_report::OrcaLoadReport;
use proto::reflection::server_reflection_request::Message_request as Question;
use proto::reflection::server_reflection_response::Message_response as Answer;
use proto::reflection::{ServerReflectionRequest, ServerReflectionResponse};
use protobuf::Message;
use protobuf::descriptor::FileDescriptorProto;
use worker_pool::grpc::{CapacityServer, CapacityServices, ServerError};
use worker_pool::{Meter, PoolState};

const SECOND: Duration = Duration::from_secs(1);
const SERVING: ServingStatus = ServingStatus::SERVING;
const NOT_SERVING: ServingStatus = ServingStatus::NOT_SERVING;

fn two_pools() -> (Rig, Rig, CapacityServer) {
    let (first, second) = (Rig::of(1), Rig::of(2));
    let server = CapacityServer::builder()
        .pool("first", first.meter.clone())
        .pool("second", second.meter.clone())
        .orca_min_interval(Duration::from_millis(50))
        .orca_window(SECOND / 2)
        .start()
        .expect("the server starts");
    (first, second, server)
}

// Health.

#[test]
fn health_follows_the_pools_state() {
    let rig = Rig::of(1);
    let server = rig.serve(|b| b);
    let peer = Peer::new(&server);
    let mut watched = peer.watch("");
    for service in ["", "pool", "solpipe.WorkerStatus", "relay.Capacity"] {
        assert_eq!(peer.check(service), Ok(SERVING), "{service:?}");
    }
    assert_eq!(watched.expect().status.unwrap(), SERVING);
    rig.enter(PoolState::Draining);
    assert_eq!(peer.check(""), Ok(NOT_SERVING)); // from that very moment on
    assert_eq!(watched.expect().status.unwrap(), NOT_SERVING);
    rig.enter(PoolState::Closed);
    assert_eq!(peer.check("pool"), Ok(NOT_SERVING));
    assert!(watched.is_silent(SECOND / 4), "nothing new to tell");
    server.shutdown();
    assert_eq!(watched.end().1, RpcStatusCode::OK);
}

#[test]
fn an_unknown_service_is_not_found_but_can_be_watched() {
    let server = Rig::of(1).serve(|b| b);
    let peer = Peer::new(&server);
    assert_eq!(peer.check("nobody"), Err(RpcStatusCode::NOT_FOUND));
    let mut watched = peer.watch("nobody");
    let status = watched.expect().status.unwrap();
    assert_eq!(status, ServingStatus::SERVICE_UNKNOWN);
    assert!(watched.is_silent(SECOND / 4), "it stays open");
}

#[test]
fn each_pool_has_its_own_health() {
    let (first, second, server) = two_pools();
    let peer = Peer::new(&server);
    second.enter(PoolState::Draining);
    assert_eq!(peer.check("first"), Ok(SERVING));
    assert_eq!(peer.check("second"), Ok(NOT_SERVING));
    assert_eq!(peer.check("solpipe.WorkerStatus"), Ok(SERVING));
    assert_eq!(peer.check(""), Ok(NOT_SERVING), "all pools together");
    drop(first);
}

#[test]
fn a_server_can_say_goodbye_before_its_pool_drains() {
    let rig = Rig::of(1);
    let server = rig.serve(|b| b);
    let peer = Peer::new(&server);
    let (mut watched, mut feed) = (peer.watch("pool"), peer.capacity());
    assert_eq!(watched.expect().status.unwrap(), SERVING);
    feed.expect();
    server.stop_serving();
    assert_eq!(watched.expect().status.unwrap(), NOT_SERVING);
    assert_eq!(peer.check(""), Ok(NOT_SERVING));
    rig.add(); // the streams go on
    assert_eq!(feed.expect().total(), 2);
}

#[test]
fn watchers_hear_of_the_shutdown() {
    let server = Rig::of(1).serve(|b| b);
    let mut watched = Peer::new(&server).watch("");
    assert_eq!(watched.expect().status.unwrap(), SERVING);
    server.shutdown();
    let (last, code) = watched.end();
    assert_eq!(last.unwrap().status.unwrap(), NOT_SERVING);
    assert_eq!(code, RpcStatusCode::OK);
}

// Load reports.

fn reports(peer: &Peer, wish: Duration) -> Feed<OrcaLoadReport> {
    let mut request = OrcaLoadReportRequest::new();
    request.report_interval = Some(wish.into()).into();
    peer.stream(
        "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics",
        &request,
    )
}

#[test]
fn load_reports_show_means_and_rates() {
    let (first, second, server) = two_pools();
    first.start_job(); // one of one, from the beginning on
    second.start_job(); // one of two
    second.pool.waiting.store(5, SeqCst);
    let mut feed = reports(&Peer::new(&server), Duration::from_millis(50));
    feed.expect(); // at once
    let since = Instant::now();
    let report = feed.until(|_| {
        for _ in 0..10 {
            first.finish_job();
            first.start_job();
        }
        since.elapsed() > SECOND
    });
    assert!(report.application_utilization > 0.99, "{report}");
    assert!(report.rps_fractional > 1.0, "{report}");
    assert!(
        (report.utilization["second"] - 0.5).abs() < 0.01,
        "{report}"
    );
    assert_eq!(report.named_metrics["second.waiting"], 5.0);
    assert_eq!(report.named_metrics["second.queue_capacity"], 64.0);
    assert_eq!(report.named_metrics["first.waiting"], 0.0);
    assert_eq!(report.cpu_utilization, 0.0, "not measured, so not claimed");
    // Idle from now on: the mean goes down slowly, but all the way.
    first.finish_job();
    let mut before = 1.0;
    feed.until(|report| {
        assert!(report.application_utilization <= before);
        before = report.application_utilization;
        before == 0.0 && report.rps_fractional == 0.0
    });
}

#[test]
fn load_reports_keep_the_shortest_interval() {
    let server = Rig::of(1).serve(|b| b.orca_min_interval(SECOND));
    let mut feed = reports(&Peer::new(&server), Duration::ZERO);
    feed.expect();
    let since = Instant::now();
    feed.expect();
    feed.expect();
    assert!(since.elapsed() > 2 * SECOND - SECOND / 4);
    server.shutdown();
    assert_eq!(feed.end().1, RpcStatusCode::OK);
}

// Reflection.

fn ask(peer: &Peer, path: &'static str, questions: Vec<Question>) -> Vec<Answer> {
    let method =
        method::<ServerReflectionRequest, ServerReflectionResponse>(MethodType::Duplex, path);
    let client = Client::new(peer.channel.clone());
    let option = CallOption::default();
    let (mut sink, mut answers) = client.duplex_streaming(&method, option).unwrap();
    let mut heard = Vec::new();
    for question in questions {
        let request = ServerReflectionRequest {
            message_request: Some(question),
            ..Default::default()
        };
        wait(sink.send((request, WriteFlags::default()))).unwrap();
        let answer = wait(answers.next()).expect("an answer").expect("no error");
        assert!(answer.original_request.is_some());
        heard.push(answer.message_response.unwrap());
    }
    // grpcio calls it an error when the answer to this is quicker than this.
    let _ = wait(sink.close());
    assert!(wait(answers.next()).is_none(), "a clean end");
    heard
}

#[test]
fn reflection_tells_what_can_be_called() {
    let server = Rig::of(1).serve(|b| b);
    let peer = Peer::new(&server);
    for path in [
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ] {
        let symbol = |name: &str| Question::FileContainingSymbol(name.to_owned());
        let answers = ask(
            &peer,
            path,
            vec![
                Question::ListServices(String::new()),
                symbol("solpipe.WorkerStatus"),
                symbol("solpipe.Nobody"),
            ],
        );
        let Answer::ListServicesResponse(list) = &answers[0] else {
            panic!("{:?}", answers[0]);
        };
        let names: Vec<_> = list.service.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "grpc.reflection.v1alpha.ServerReflection",
                "relay.Capacity",
                "solpipe.WorkerStatus",
                "xds.service.orca.v3.OpenRcaService",
            ]
        );
        let Answer::FileDescriptorResponse(files) = &answers[1] else {
            panic!("{:?}", answers[1]);
        };
        let file = FileDescriptorProto::parse_from_bytes(&files.file_descriptor_proto[0]).unwrap();
        assert_eq!(file.name(), "solpipe.proto");
        assert_eq!(file.service[0].name(), "WorkerStatus");
        assert_eq!(file.service[0].method[0].name(), "OnStatus");
        assert!(file.service[0].method[0].server_streaming());
        let Answer::ErrorResponse(error) = &answers[2] else {
            panic!("{:?}", answers[2]);
        };
        assert_eq!(error.error_code, i32::from(RpcStatusCode::NOT_FOUND));
    }
}

#[test]
fn an_open_conversation_does_not_hold_up_the_shutdown() {
    let server = Rig::of(1).serve(|b| b);
    let peer = Peer::new(&server);
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let method =
        method::<ServerReflectionRequest, ServerReflectionResponse>(MethodType::Duplex, path);
    let client = Client::new(peer.channel.clone());
    let (_sink, mut answers) = client
        .duplex_streaming(&method, CallOption::default())
        .unwrap();
    eventually("the call is open", || server.open_streams() == 1);
    let since = Instant::now();
    server.shutdown();
    assert!(since.elapsed() < SECOND);
    assert!(wait(answers.next()).is_none(), "a clean end");
}

#[test]
fn a_conversation_that_asks_nothing_gives_its_place_back() {
    let server = Rig::of(1).serve(|b| b.request_timeout(SECOND).max_streams(1));
    let peer = Peer::new(&server);
    let method = method::<ServerReflectionRequest, ServerReflectionResponse>(
        MethodType::Duplex,
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    );
    let client = Client::new(peer.channel.clone());
    for questions in [0, 2] {
        let (mut sink, mut answers) = client
            .duplex_streaming(&method, CallOption::default())
            .unwrap();
        for _ in 0..questions {
            let question = ServerReflectionRequest::new(); // one that makes no sense
            wait(sink.send((question, WriteFlags::default()))).unwrap();
            wait(answers.next()).expect("an answer").expect("no error");
        }
        let end = wait(answers.next()).expect("a status");
        let status = end.map_err(|error| code(&error)).err();
        assert_eq!(status, Some(RpcStatusCode::DEADLINE_EXCEEDED));
        eventually("its place is free", || server.open_streams() == 0);
    }
    peer.capacity().expect();
}

// Switches.

#[test]
fn what_is_switched_off_is_not_there() {
    let rig = Rig::of(1);
    let server = rig.serve(|b| {
        let b = b.health(false).reflection(false).orca(false);
        b.orca_min_interval(SECOND) // this alone does not switch it on again
    });
    let peer = Peer::new(&server);
    let gone = Some(RpcStatusCode::UNIMPLEMENTED);
    assert_eq!(peer.check("").err(), gone);
    assert_eq!(reports(&peer, SECOND).next().err(), gone);
    let mut reflection: Feed<ServerReflectionResponse> = peer.stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        &ServerReflectionRequest::new(),
    );
    assert_eq!(reflection.next().err(), gone);
    peer.capacity().expect();
}

#[test]
fn mistakes_are_errors_of_the_builder() {
    let pool = || CapacityServer::builder().pool("pool", Meter::new());
    let start = |builder: worker_pool::grpc::CapacityBuilder| builder.start().err();
    let none = start(CapacityServer::builder());
    assert!(matches!(none, Some(ServerError::NoPool)), "{none:?}");
    for name in ["", "pool", "solpipe.WorkerStatus"] {
        let error = start(pool().pool(name, Meter::new()));
        assert!(matches!(error, Some(ServerError::PoolName(_))), "{error:?}");
    }
    for builder in [
        pool().interval(Duration::ZERO),
        pool().interval(Duration::MAX),
        pool().change_spacing(Duration::ZERO),
        pool().max_streams(0),
        pool().max_message_size(0),
        pool().token(""),
        pool().token("two words"),
        pool().orca_window(Duration::ZERO),
        pool().orca_min_interval(Duration::ZERO),
        pool().request_timeout(Duration::ZERO),
    ] {
        let error = start(builder);
        assert!(
            matches!(error, Some(ServerError::Setting { .. })),
            "{error:?}"
        );
    }
    for address in ["", "nonsense", "127.0.0.1", "127.0.0.1:99999", "a\0b:1"] {
        let error = start(pool().address(address));
        assert!(
            matches!(error, Some(ServerError::Address { .. })),
            "{error:?}"
        );
    }
}

// On a server of one's own.

fn own_server(services: &CapacityServices) -> (Server, String) {
    let mut server = services
        .register(grpcio::ServerBuilder::new(env()))
        .build()
        .unwrap();
    let port = server
        .add_listening_port("127.0.0.1:0", ServerCredentials::insecure())
        .unwrap();
    server.start();
    (server, format!("127.0.0.1:{port}"))
}

#[test]
fn the_services_work_on_a_server_of_ones_own() {
    let rig = Rig::of(2);
    let services = CapacityServices::builder()
        .pool("pool", rig.meter.clone())
        .token("secret")
        .services()
        .unwrap();
    let (mut server, address) = own_server(&services);
    let stranger = Peer::to(&address).capacity().next().err();
    assert_eq!(stranger, Some(RpcStatusCode::UNAUTHENTICATED));
    let peer = Peer::to(&address).authorization("Bearer secret");
    let mut feed = peer.capacity();
    assert_eq!(feed.expect().total(), 2);
    assert_eq!(peer.check("pool"), Ok(SERVING));
    rig.add();
    assert_eq!(feed.expect().total(), 3);
    services.close();
    let (last, code) = feed.end();
    assert_eq!((last.unwrap().total(), code), (3, RpcStatusCode::OK));
    let late = peer.capacity().next().err();
    assert_eq!(late, Some(RpcStatusCode::UNAVAILABLE));
    // Nothing of ours is left that could hold up the server's own shutdown.
    let done = wait_for(server.shutdown(), SECOND);
    assert!(matches!(done, Some(Ok(()))));
}

#[test]
fn services_that_are_dropped_end_their_streams() {
    let rig = Rig::of(1);
    let services = CapacityServices::builder().pool("pool", rig.meter.clone());
    let services = Arc::new(services.services().unwrap());
    let (server, address) = own_server(&services);
    let mut feed = Peer::to(&address).capacity();
    feed.expect();
    drop(services);
    assert_eq!(feed.end().1, RpcStatusCode::OK);
    drop(server);
}

#[test]
fn a_stalled_client_does_not_hold_up_the_end_of_the_services() {
    let rig = Rig::of(1);
    let services = CapacityServices::builder()
        .pool("pool", rig.meter.clone())
        .interval(Duration::from_millis(5))
        .services()
        .unwrap();
    let (mut server, address) = own_server(&services);
    let mut stalled = raw::Raw::with_window(address.parse().unwrap(), 20);
    stalled.capacity(1);
    eventually("the stream is open", || services.open_streams() == 1);
    let mut feed = Peer::to(&address).capacity();
    for _ in 0..20 {
        feed.expect();
    }
    let since = Instant::now();
    services.close();
    assert!(since.elapsed() < SECOND);
    assert_eq!(services.open_streams(), 0);
    let done = server.shutdown();
    server.cancel_all_calls(); // also drops a connection whose client does not answer the goodbye
    let done = wait_for(done, SECOND);
    assert!(matches!(done, Some(Ok(()))));
}

#[test]
fn services_closed_on_their_own_thread_cut_off_stalled_clients_too() {
    let rig = Rig::of(1);
    let services = CapacityServices::builder()
        .pool("pool", rig.meter.clone())
        .interval(Duration::from_millis(5))
        .services()
        .unwrap();
    let services = Arc::new(services);
    let (server, address) = own_server(&services);
    let mut stalled = raw::Raw::with_window(address.parse().unwrap(), 20);
    stalled.capacity(1);
    eventually("the stream is open", || services.open_streams() == 1);
    let mut feed = Peer::to(&address).capacity();
    for _ in 0..20 {
        feed.expect();
    }
    // All streams are open: only the ticker asks the gauge now.
    let closing = Arc::clone(&services);
    let (closed, told) = std::sync::mpsc::channel();
    *rig.pool.ambush.lock().unwrap() = Some(Box::new(move || {
        closing.close();
        let on = std::thread::current().name().map(str::to_owned);
        closed.send(on).unwrap();
    }));
    let on = told.recv_timeout(PATIENCE).expect("close returns");
    assert_eq!(on.as_deref(), Some("capacity-ticker"));
    assert_eq!(feed.end().1, RpcStatusCode::OK);
    eventually("the stalled one is cut off", || {
        services.open_streams() == 0
    });
    drop(server);
}
