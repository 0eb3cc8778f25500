//! What the user asks for.

use std::time::Duration;

use worker_pool::grpc::{CapacityClient, ClientBuilder};

pub(crate) const HELP: &str = "\
A live view of one or several worker pools.

Usage: watch [OPTION]... ADDR...

ADDR is host:port of a capacity server.

      --relay         call relay.Capacity instead of solpipe.WorkerStatus
      --token TOKEN   show this bearer token; better in the variable WATCH_TOKEN,
                      as others can see a program's arguments
      --insecure      allow the token to travel over the network without TLS
      --ca FILE       speak TLS, and trust this authority (PEM)
      --idle SECONDS  take a server that says nothing for so long for gone
      --json          one JSON object per line and news, for scripts
      --once          show each pool once and end; fails if one is not there
  -h, --help          this

On a terminal the view is redrawn in place; otherwise there is a line for each
news. A pool that is gone is shown so, and is tried again. Ctrl-C ends it.
";

#[derive(Clone, Debug, Default)]
pub(crate) struct Args {
    pub(crate) pools: Vec<String>,
    pub(crate) json: bool,
    pub(crate) once: bool,
    relay: bool,
    insecure: bool,
    token: Option<Hidden>,
    ca: Option<Vec<u8>>,
    idle: Option<Duration>,
}

/// Kept out of `Debug`.
#[derive(Clone)]
struct Hidden(String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

/// `None` when the user wants the help.
pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Option<Args>, String> {
    let mut args = Args::default();
    let token = std::env::var("WATCH_TOKEN").ok().map(Hidden);
    args.token = token.filter(|token| !token.0.is_empty());
    let mut words = words.flat_map(|word| match word.split_once('=') {
        Some((option, value)) if option.starts_with("--") => {
            vec![option.to_owned(), value.to_owned()]
        }
        _ => vec![word],
    });
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
        match &*word {
            "-h" | "--help" => return Ok(None),
            "--relay" => args.relay = true,
            "--insecure" => args.insecure = true,
            "--json" => args.json = true,
            "--once" => args.once = true,
            "--token" => args.token = Some(Hidden(value()?)),
            "--ca" => {
                let file = value()?;
                let pem = std::fs::read(&file).map_err(|error| format!("{file}: {error}"))?;
                args.ca = Some(pem);
            }
            "--idle" => {
                let text = value()?;
                let seconds = text.parse().ok().filter(|seconds| *seconds > 0.0);
                let idle = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                args.idle = Some(idle.ok_or(format!("{text} is not a number of seconds"))?);
            }
            option if option.starts_with('-') => return Err(format!("{option} is no option")),
            _ => args.pools.push(word),
        }
    }
    if args.pools.is_empty() {
        return Err("which address?".to_owned());
    }
    if args.ca.is_some() && cfg!(not(feature = "tls")) {
        return Err("--ca: this program was built without the feature `tls`".to_owned());
    }
    Ok(Some(args))
}

impl Args {
    pub(crate) fn client(&self, pool: usize) -> ClientBuilder {
        let mut builder = CapacityClient::builder(&*self.pools[pool]);
        if self.relay {
            builder = builder.relay();
        }
        if self.insecure {
            builder = builder.insecure();
        }
        if let Some(Hidden(token)) = &self.token {
            builder = builder.token(token);
        }
        if let Some(idle) = self.idle {
            builder = builder.idle_timeout(idle);
        }
        #[cfg(feature = "tls")]
        if let Some(ca) = &self.ca {
            builder = builder.tls(&**ca);
        }
        builder
    }
}
