//! A gRPC server of your own with a pool's capacity on it, to try clients and balancers against.
//!
//!     cargo run --example serve -- --workers 4 --busy 3
//!
//! It prints `listening on ADDR`, and ends when its standard input does. Lines on standard input
//! are commands, each answered with a line: `busy N` gives the pool N jobs at a time from now on,
//! `drain` lets it take no more.

mod echo;
mod load;

use std::error::Error;
use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use grpcio::{ChannelBuilder, Environment, ServerBuilder, ServerCredentials};
use worker_pool::Meter;
use worker_pool::grpc::{CapacityBuilder, CapacityServices};

use load::Load;

const HELP: &str = "\
Serves the capacity of a pool that is kept as busy as asked.

Usage: serve [OPTION]...

      --address A       listen there; 127.0.0.1:0 by default
      --name NAME       what /demo.Who/Ask answers, and the pool's name
      --workers N       workers of the pool; 4 by default
      --busy N          jobs at a time; 2 by default
      --job-ms N        how long a job takes; 20 by default
      --interval-ms N   from tick to tick; 30000 by default
      --token TOKEN     let in only clients with this token
      --orca-ms N       the shortest time between load reports; 1000 by default
      --window-ms N     what the load reports are means over; 10000 by default
  -h, --help            this
";

struct Options {
    address: String,
    name: String,
    workers: usize,
    busy: usize,
    job: Duration,
    capacity: CapacityBuilder,
}

fn options() -> Result<Option<Options>, Box<dyn Error>> {
    let mut options = Options {
        address: "127.0.0.1:0".to_owned(),
        name: "demo".to_owned(),
        workers: 4,
        busy: 2,
        job: Duration::from_millis(20),
        capacity: CapacityServices::builder(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "-h" || word == "--help" {
            return Ok(None);
        }
        let value = words.next().ok_or(format!("{word} wants a value"))?;
        let millis = || value.parse().map(Duration::from_millis);
        let capacity = options.capacity.clone();
        match &*word {
            "--address" => options.address = value,
            "--name" => options.name = value,
            "--workers" => options.workers = value.parse()?,
            "--busy" => options.busy = value.parse()?,
            "--job-ms" => options.job = millis()?,
            "--interval-ms" => options.capacity = capacity.interval(millis()?),
            "--token" => options.capacity = capacity.token(value),
            "--orca-ms" => options.capacity = capacity.orca_min_interval(millis()?),
            "--window-ms" => options.capacity = capacity.orca_window(millis()?),
            _ => return Err(format!("{word} is no option").into()),
        }
    }
    Ok(Some(options))
}

fn main() -> ExitCode {
    let result = options().and_then(|options| match options {
        Some(options) => serve(options),
        None => {
            print!("{HELP}");
            Ok(())
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("serve: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    let meter = Meter::new();
    let mut load = Load::start(&meter, options.workers, options.job)?;
    load.keep_busy(options.busy);

    let services = options.capacity.pool(&*options.name, meter).services()?;
    let env = Arc::new(Environment::new(1));
    let settings = ChannelBuilder::new(Arc::clone(&env)).reuse_port(false);
    let server = ServerBuilder::new(env)
        .channel_args(settings.build_args())
        .requests_slot_per_cq(32)
        .register_service(echo::service(options.name));
    let mut server = services.register(server).build()?;
    let (host, _) = options.address.rsplit_once(':').ok_or("which port?")?;
    let port = server.add_listening_port(&options.address, ServerCredentials::insecure())?;
    server.start();
    say(&format!("listening on {host}:{port}"))?;

    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("busy", jobs) => {
                load.keep_busy(jobs.parse()?);
                say("busy")?;
            }
            ("drain", _) => {
                say("draining")?;
                load.drain();
            }
            _ => say("commands: busy N, drain")?,
        }
    }
    // The streams first: grpcio does not shut down while one is open.
    services.close();
    drop(server);
    Ok(())
}

/// At once, also into a pipe.
fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
