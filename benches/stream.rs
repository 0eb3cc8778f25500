//! What the capacity stream costs: `cargo bench --bench stream`. Linux only, for it reads `/proc`.
//!
//! The clients are a process of their own (this program once more), so that memory and processor time
//! are the server's. `-- --smoke` runs everything small and short, to see that nothing breaks; words
//! choose parts: `-- jobs`, `-- count`, `-- streams`, `-- stalled`.

use std::convert::Infallible;
use std::fs;
use std::hint::{black_box, spin_loop};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use futures_util::StreamExt;
use grpcio::{ChannelBuilder, Client, EnvBuilder, Marshaller, Method, MethodType, pb_de, pb_ser};
use worker_pool::grpc::CapacityServer;
use worker_pool::{Hook, Job, JobId, Manager, Meter, Outcome, WorkerId};

#[allow(
    warnings,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all
)]
mod proto {
    include!(concat!(env!("OUT_DIR"), "/proto/mod.rs"));
}
use proto::solpipe::{CapacityResponse, Empty};

/// Set for the process that is the clients.
const CLIENTS: &str = "STREAM_BENCH_CLIENTS";
/// Streams per connection.
const PER_CHANNEL: usize = 100;
/// What takes longer is broken.
const LONG: Duration = Duration::from_secs(120);

fn main() {
    if let Ok(order) = std::env::var(CLIENTS) {
        return be_clients(&order);
    }
    let smoke = std::env::var_os("BENCH_SMOKE").is_some()
        || std::env::args().any(|arg| arg == "--smoke" || arg == "--test");
    let words: Vec<_> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let wanted = |part: &str| words.is_empty() || words.iter().any(|word| word == part);
    if wanted("count") {
        counting(if smoke { 10_000 } else { 5_000_000 });
    }
    if wanted("jobs") {
        let (clients, rounds) = if smoke { (20, 1) } else { (1000, 9) };
        let second = Duration::from_millis(if smoke { 50 } else { 1000 });
        jobs("empty jobs", clients, rounds, second, Duration::ZERO);
        let short = Duration::from_micros(20);
        jobs("20 µs jobs", clients, rounds, second, short);
    }
    if wanted("streams") {
        let (streams, quiet) = if smoke { (200, 1) } else { (10_000, 60) };
        many_streams(streams, Duration::from_secs(quiet));
    }
    if wanted("stalled") {
        stalled(Duration::from_secs(if smoke { 1 } else { 60 }));
    }
}

fn meter_of(workers: u64) -> Meter {
    let meter = Meter::new();
    for id in 1..=workers {
        meter.worker_add(WorkerId::new(id));
    }
    meter
}

fn serve(meter: &Meter) -> CapacityServer {
    CapacityServer::builder()
        .pool("bench", meter.clone())
        .max_streams(100_000)
        .start()
        .expect("the server starts")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

// What counting costs.

fn counting(jobs: u32) {
    let meter = meter_of(1);
    let (job, worker) = (JobId::new(1), WorkerId::new(1));
    let run = || {
        let since = Instant::now();
        for _ in 0..jobs {
            black_box(&meter).job_start(job, worker);
            black_box(&meter).job_finish(job, worker, Outcome::Completed);
        }
        since.elapsed().as_nanos() as f64 / f64::from(jobs)
    };
    let alone = median((0..5).map(|_| run()).collect());
    let server = serve(&meter);
    let clients = Clients::start(server.local_addr(), 10);
    let served = median((0..5).map(|_| run()).collect());
    drop(clients);
    println!("counting one job (start and finish): {alone:.1} ns; with 10 clients {served:.1} ns");
    println!("    aim: at most 20 ns");
}

// What 1,000 clients cost a busy pool.

fn jobs(what: &str, clients: usize, rounds: usize, span: Duration, work: Duration) {
    let (mut bare, mut counted, mut watched) = (Vec::new(), Vec::new(), Vec::new());
    let metered = |clients: usize| {
        let meter = Meter::new();
        let pool = Manager::<u64, u64>::builder().hook(meter.clone()).build();
        let pool = pool.expect("a pool");
        let server = serve(&meter);
        let _subscribed = (clients > 0).then(|| Clients::start(server.local_addr(), clients));
        jobs_per_second(&pool, span, work)
    };
    for _ in 0..rounds {
        let pool = Manager::<u64, u64>::builder().build().expect("a pool");
        bare.push(jobs_per_second(&pool, span, work));
        counted.push(metered(0));
        watched.push(metered(clients));
    }
    let lost = |less: &[f64], more: &[f64]| {
        let ratios = less.iter().zip(more).map(|(less, more)| less / more);
        100.0 * (1.0 - median(ratios.collect()))
    };
    println!(
        "{what}, 2 workers: {:.0} jobs/s without a meter; {:.1} % lost with one; {:.1} % lost with \
         {clients} clients, too",
        median(bare.clone()),
        lost(&counted, &bare),
        lost(&watched, &bare),
    );
    println!(
        "    aim: at most 5 % (medians of {rounds} interleaved rounds; clients on the same machine)"
    );
}

fn jobs_per_second(pool: &Manager<u64, u64>, span: Duration, work: Duration) -> f64 {
    let done = Arc::new(AtomicU64::new(0));
    for _ in 0..2 {
        let done = Arc::clone(&done);
        let worker = move |job: Job<u64>| -> Result<u64, Infallible> {
            let until = Instant::now() + work;
            while !work.is_zero() && Instant::now() < until {
                spin_loop();
            }
            done.fetch_add(1, SeqCst);
            Ok(job.into_payload())
        };
        if pool.add(worker).is_err() {
            panic!("the worker is not taken");
        }
    }
    let (errors, _failed) = unbounded();
    let (since, mut id) = (Instant::now(), 0);
    while since.elapsed() < span {
        for _ in 0..100 {
            id += 1;
            if pool.detach_submit(id, id, &errors).is_err() {
                panic!("the job is not taken");
            }
        }
    }
    pool.drain();
    assert_eq!(done.load(SeqCst), id);
    id as f64 / since.elapsed().as_secs_f64()
}

// 10,000 streams.

fn many_streams(streams: usize, quiet: Duration) {
    let meter = meter_of(1);
    let server = serve(&meter);
    drop(Clients::start(server.local_addr(), 1)); // what is allocated once
    let before = memory_kib();
    let clients = Clients::start(server.local_addr(), streams);
    assert_eq!(server.open_streams(), streams);
    let per_stream = (memory_kib() - before) as f64 / streams as f64;
    println!("{streams} streams: {per_stream:.1} KiB of the server's memory per stream");
    println!("    aim: at most 64 KiB");

    let mut delays = Vec::new();
    for total in 2..7 {
        thread::sleep(Duration::from_millis(500));
        let since = Instant::now();
        meter.worker_add(WorkerId::new(total));
        clients.wait_for(total);
        delays.push(since.elapsed().as_secs_f64() * 1000.0);
    }
    println!(
        "{streams} streams: {:.0} ms from a change until the last client has it",
        median(delays)
    );
    println!("    aim: at most 1,000 ms");

    let before = processor_time();
    thread::sleep(quiet);
    let used = (processor_time() - before).as_secs_f64();
    println!(
        "{streams} streams: {:.2} s of processor time in {} quiet seconds ({:.2} % of one core)",
        used,
        quiet.as_secs(),
        100.0 * used / quiet.as_secs_f64(),
    );
    println!("    aim: near zero");

    let since = Instant::now();
    server.shutdown();
    println!(
        "{streams} streams: shutdown in {:.0} ms",
        since.elapsed().as_secs_f64() * 1000.0
    );
}

// 100,000 changes a second and a client that does not read.

fn stalled(span: Duration) {
    let meter = meter_of(2);
    let server = serve(&meter);
    let mut stalled = rude::open_capacity(server.local_addr());
    let clients = Clients::start(server.local_addr(), 1);
    let (job, worker) = (JobId::new(1), WorkerId::new(1));
    let mut changes = 0_u64;
    let since = Instant::now();
    let mut churn = |until: Duration| {
        while since.elapsed() < until {
            for _ in 0..50 {
                meter.job_start(job, worker);
                meter.job_finish(job, worker, Outcome::Completed);
            }
            changes += 100;
            let due = Duration::from_micros(changes * 10);
            thread::sleep(due.saturating_sub(since.elapsed()));
        }
    };
    churn(span / 6); // buffers of the connection fill
    let before = memory_kib();
    churn(span);
    let grown = memory_kib().saturating_sub(before);
    let rate = changes as f64 / since.elapsed().as_secs_f64();
    println!("{rate:.0} changes/s for {span:?}, one client stalled: memory grew by {grown} KiB");
    println!("    aim: flat");
    let _ = stalled.write_all(&[]);
    drop(clients);
}

// The clients, as a process.

struct Clients {
    process: Child,
    order: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Clients {
    /// Starts this many streams, and waits until each has its first snapshot.
    fn start(server: SocketAddr, streams: usize) -> Clients {
        let program = std::env::current_exe().expect("a path");
        let mut process = Command::new(program)
            .env(CLIENTS, format!("{server} {streams}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the clients start");
        let order = process.stdin.take();
        let output = BufReader::new(process.stdout.take().expect("a pipe"));
        let (send, lines) = unbounded();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let clients = Clients {
            process,
            order,
            lines,
        };
        clients.wait_line("all connected");
        clients
    }

    /// Waits until every stream has seen this total.
    fn wait_for(&self, total: u64) {
        self.wait_line(&format!("all {total}"));
    }

    fn wait_line(&self, wanted: &str) {
        while self.lines.recv_timeout(LONG).expect("an answer in time") != wanted {}
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        drop(self.order.take()); // they end with their input
        let _ = self.process.wait();
    }
}

/// What all streams of the process have seen.
struct Seen {
    streams: usize,
    connected: usize,
    /// For each total, by how many streams it was seen.
    totals: Vec<usize>,
}

impl Seen {
    fn note(&mut self, first: bool, total: usize) {
        if first {
            self.connected += 1;
            if self.connected == self.streams {
                println!("all connected");
            }
        }
        if total < self.totals.len() {
            self.totals[total] += 1;
            if self.totals[total] == self.streams {
                println!("all {total}");
            }
        }
    }
}

fn be_clients(order: &str) {
    let (server, streams) = order.split_once(' ').expect("an order");
    let streams: usize = streams.parse().expect("a number");
    let method = Method::<Empty, CapacityResponse> {
        ty: MethodType::ServerStreaming,
        name: "/solpipe.WorkerStatus/OnStatus",
        req_mar: Marshaller {
            ser: pb_ser,
            de: pb_de,
        },
        resp_mar: Marshaller {
            ser: pb_ser,
            de: pb_de,
        },
    };
    let seen = Arc::new(Mutex::new(Seen {
        streams,
        connected: 0,
        totals: vec![0; 1000],
    }));
    let env = Arc::new(EnvBuilder::new().cq_count(1).build());
    let mut clients = Vec::new();
    for number in 0..streams {
        if number % PER_CHANNEL == 0 {
            let channel = ChannelBuilder::new(Arc::clone(&env))
                .use_local_subchannel_pool(true)
                .connect(server);
            clients.push(Client::new(channel));
        }
        let client = &clients[number / PER_CHANNEL];
        let stream = client.server_streaming(&method, &Empty::new(), Default::default());
        let mut stream = stream.expect("a call");
        let seen = Arc::clone(&seen);
        client.spawn(async move {
            let mut first = true;
            while let Some(Ok(message)) = stream.next().await {
                seen.lock()
                    .unwrap()
                    .note(first, message.total.unwrap_or_default() as usize);
                first = false;
            }
        });
    }
    // Until the other end of the pipe is closed.
    let _ = std::io::stdin().lines().count();
    std::process::exit(0);
}

// The system's figures.

/// Memory of this process that is in use.
fn memory_kib() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("/proc");
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4
}

/// Processor time of this process, all threads, in user and system mode.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("/proc");
    // The name in parentheses may hold spaces; the fields behind it do not.
    let rest = stat.rsplit_once(") ").expect("a name").1;
    let mut fields = rest.split(' ').skip(11);
    let mut ticks = || fields.next().unwrap().parse::<u64>().unwrap();
    Duration::from_millis((ticks() + ticks()) * 10)
}

/// A client that never reads.
mod rude {
    use super::{SocketAddr, TcpStream, Write};

    /// Opens a capacity stream by hand, with room for two messages.
    pub(super) fn open_capacity(server: SocketAddr) -> TcpStream {
        let mut socket = TcpStream::connect(server).expect("a connection");
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        // Settings: an initial window of 40 bytes.
        bytes.extend([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 40]);
        let mut headers = Vec::new();
        for (name, value) in [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/solpipe.WorkerStatus/OnStatus"),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        ] {
            headers.push(0);
            for text in [name, value] {
                headers.push(text.len() as u8);
                headers.extend(text.as_bytes());
            }
        }
        bytes.extend([0, 0, headers.len() as u8, 1, 4, 0, 0, 0, 1]);
        bytes.extend(headers);
        // An empty message ends the request.
        bytes.extend([0, 0, 5, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
        socket.write_all(&bytes).expect("a request");
        socket
    }
}
