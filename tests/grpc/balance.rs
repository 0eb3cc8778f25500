//! A stock client of grpcio's own core with `weighted_round_robin` in front of two servers: calls
//! are shared out by our load reports alone, and a drained backend gets none.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::echo;
use grpcio::{
    CallOption, ChannelBuilder, Client, EnvBuilder, Server, ServerBuilder, ServerCredentials,
};
use worker_pool::grpc::CapacityServices;
use worker_pool::{Hook, JobId, Meter, PoolState, PoolStatus, WorkerId};

/// More than anything here takes; only a broken test waits so long.
const LONG: Duration = Duration::from_secs(30);

/// A pool that finishes jobs at a steady rate, so that the weights are known exactly.
struct Steady {
    start: Instant,
    per_second: f64,
    draining: AtomicBool,
}

impl PoolStatus for Steady {
    fn name(&self) -> &str {
        "steady"
    }
    fn waiting(&self) -> usize {
        0
    }
    fn queue_capacity(&self) -> usize {
        1
    }
    fn finished(&self) -> u64 {
        (self.start.elapsed().as_secs_f64() * self.per_second) as u64
    }
    fn state(&self) -> PoolState {
        match self.draining.load(Ordering::SeqCst) {
            false => PoolState::Running,
            true => PoolState::Draining,
        }
    }
}

struct Backend {
    pool: Arc<Steady>,
    meter: Meter,
    services: CapacityServices,
    _server: Server,
    port: u16,
}

impl Backend {
    fn start(name: &str, workers: u64, busy: u64, per_second: f64) -> Backend {
        let pool = Arc::new(Steady {
            start: Instant::now(),
            per_second,
            draining: AtomicBool::new(false),
        });
        let gauge: Arc<dyn PoolStatus> = pool.clone();
        let meter = Meter::new();
        meter.pool_start(Arc::downgrade(&gauge));
        for number in 1..=workers {
            meter.worker_add(WorkerId::new(number));
        }
        for number in 1..=busy {
            meter.job_start(JobId::new(number), WorkerId::new(number));
        }
        let services = CapacityServices::builder()
            .pool(name, meter.clone())
            .orca_min_interval(Duration::from_millis(100))
            .services()
            .unwrap();
        let env = Arc::new(EnvBuilder::new().cq_count(1).build());
        let settings = ChannelBuilder::new(Arc::clone(&env)).reuse_port(false);
        let server = ServerBuilder::new(env)
            .channel_args(settings.build_args())
            .requests_slot_per_cq(32)
            .register_service(echo::service(name.to_owned()));
        let mut server = services.register(server).build().unwrap();
        let port = server
            .add_listening_port("127.0.0.1:0", ServerCredentials::insecure())
            .unwrap();
        server.start();
        Backend {
            pool,
            meter,
            services,
            _server: server,
            port,
        }
    }

    fn drain(&self) {
        self.pool.draining.store(true, Ordering::SeqCst);
        self.meter.pool_state(PoolState::Draining);
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.services.close();
    }
}

const CONFIG: &str = r#"{
    "loadBalancingConfig": [{"weighted_round_robin": {
        "enableOobLoadReport": true,
        "oobReportingPeriod": "0.1s",
        "blackoutPeriod": "0s",
        "weightUpdatePeriod": "0.1s",
        "weightExpirationPeriod": "60s"
    }}],
    "healthCheckConfig": {"serviceName": ""}
}"#;

fn client(backends: &[&Backend]) -> Client {
    let ports = backends.iter().map(|one| format!("127.0.0.1:{}", one.port));
    let target = format!("ipv4:{}", ports.collect::<Vec<_>>().join(","));
    let env = Arc::new(EnvBuilder::new().cq_count(1).build());
    let config = std::ffi::CString::new(CONFIG).unwrap();
    let channel = ChannelBuilder::new(env)
        .raw_cfg_string(c"grpc.service_config".into(), config)
        .enable_http_proxy(false)
        .connect(&target);
    Client::new(channel)
}

fn ask(client: &Client) -> String {
    let options = CallOption::default().wait_for_ready(true).timeout(LONG);
    let answer = client.unary_call(&echo::ASK, &Vec::new(), options);
    String::from_utf8(answer.expect("no call fails")).unwrap()
}

/// How many of so many calls each backend got.
fn shares(client: &Client, calls: usize) -> HashMap<String, usize> {
    let mut shares = HashMap::new();
    for _ in 0..calls {
        *shares.entry(ask(client)).or_default() += 1;
    }
    shares
}

#[track_caller]
fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let until = Instant::now() + LONG;
    while !so() {
        assert!(Instant::now() < until, "never: {what}");
    }
}

#[test]
fn calls_follow_the_weights_within_a_tenth() {
    // Weight: completions per second, divided by utilisation. 100 / 1 = 100 and 200 / ½ = 400.
    // Rate or utilisation alone would give the large one two thirds: more than a tenth off.
    let small = Backend::start("small", 2, 2, 100.0);
    let large = Backend::start("large", 6, 3, 200.0);
    let client = client(&[&small, &large]);
    let right = 0.8;
    let share = |calls: usize| {
        let large = shares(&client, calls).get("large").copied();
        large.unwrap_or(0) as f64 / calls as f64
    };
    eventually("the weights are known", || {
        (share(200) / right - 1.0).abs() < 0.1
    });
    let seen = share(4_000);
    assert!(
        (seen / right - 1.0).abs() < 0.1,
        "the large one got {seen}, not {right}"
    );
}

#[test]
fn a_drained_backend_gets_no_further_call_and_no_call_fails() {
    let leaving = Backend::start("leaving", 2, 1, 50.0);
    let staying = Backend::start("staying", 2, 1, 50.0);
    let client = client(&[&leaving, &staying]);
    eventually("both are asked", || shares(&client, 10).len() == 2);
    leaving.drain();
    // The news has to travel; every call until then is served as well.
    eventually("calls go to the other alone", || {
        shares(&client, 100).len() == 1
    });
    let after = shares(&client, 2_000);
    assert_eq!(after, HashMap::from([("staying".to_owned(), 2_000)]));
}
