//! What the user asks for.

use std::ffi::OsString;
use std::time::Duration;

use crate::argument::Argument;
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
      --cert FILE     show this certificate (PEM) to a server that asks for one
      --key FILE      the private key of that certificate (PEM)
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
    token: Option<Hidden<String>>,
    ca: Option<Vec<u8>>,
    cert: Option<Vec<u8>>,
    key: Option<Hidden<Vec<u8>>>,
    idle: Option<Duration>,
}

/// Kept out of `Debug`.
#[derive(Clone)]
struct Hidden<T>(T);

impl<T> std::fmt::Debug for Hidden<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

/// `None` when the user wants the help.
pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Option<Args>, String> {
    let mut args = Args::default();
    let token = std::env::var("WATCH_TOKEN").ok().map(Hidden);
    args.token = token.filter(|token| !token.0.is_empty());
    let mut words = words.map(OsString::from);
    while let Some(word) = words.next() {
        let word = Argument::new(word);
        let mut value = || {
            let value = word.value(&mut words).map(text);
            value.ok_or_else(|| format!("{} wants a value", word.whole().display()))
        };
        match word.option() {
            None if word.whole() == "-" => return Err("- is no option".to_owned()),
            None => args.pools.push(text(word.into_whole())),
            Some(("-h" | "--help", None)) => return Ok(None),
            Some(("--relay", None)) => args.relay = true,
            Some(("--insecure", None)) => args.insecure = true,
            Some(("--json", None)) => args.json = true,
            Some(("--once", None)) => args.once = true,
            Some(("--token", _)) => args.token = Some(Hidden(value()?)),
            Some(("--ca", _)) => args.ca = Some(read(&value()?)?),
            Some(("--cert", _)) => args.cert = Some(read(&value()?)?),
            Some(("--key", _)) => args.key = Some(Hidden(read(&value()?)?)),
            Some(("--idle", _)) => {
                let text = value()?;
                let seconds = text.parse().ok().filter(|seconds| *seconds > 0.0);
                let idle = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                args.idle = Some(idle.ok_or(format!("{text} is not a number of seconds"))?);
            }
            Some((flag @ ("--help" | "--relay" | "--insecure" | "--json" | "--once"), Some(_))) => {
                return Err(format!("{flag} takes no value"));
            }
            Some((option, _)) => return Err(format!("{option} is no option")),
        }
    }
    if args.pools.is_empty() {
        return Err("which address?".to_owned());
    }
    if args.cert.is_some() != args.key.is_some() {
        return Err("--cert and --key go together".to_owned());
    }
    if args.cert.is_some() && args.ca.is_none() {
        return Err("--cert: which authority is the server's? --ca tells".to_owned());
    }
    if args.ca.is_some() && cfg!(not(feature = "tls")) {
        return Err("--ca: this program was built without the feature `tls`".to_owned());
    }
    Ok(Some(args))
}

/// What was a `String` before.
fn text(word: OsString) -> String {
    word.into_string().expect("the words are text")
}

fn read(file: &str) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("{file}: {error}"))
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
        #[cfg(feature = "tls")]
        if let (Some(cert), Some(Hidden(key))) = (&self.cert, &self.key) {
            builder = builder.client_certificate(&**cert, &**key);
        }
        builder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Result<Args, String> {
        let words = words.split_whitespace().map(str::to_owned);
        parse(words).map(|args| args.expect("not the help"))
    }

    /// A file that is there: its contents are looked at later.
    const FILE: &str = "Cargo.toml";

    #[test]
    fn a_certificate_wants_its_key_and_an_authority() {
        for (words, names) in [
            (format!("--cert {FILE} a:1"), "--key"),
            (format!("--ca {FILE} --key {FILE} a:1"), "--cert"),
            (format!("--cert {FILE} --key {FILE} a:1"), "--ca"),
            ("--cert /no/such/file a:1".to_owned(), "/no/such/file"),
            ("--key".to_owned(), "--key wants a value"),
        ] {
            let error = parsed(&words).unwrap_err();
            assert!(error.contains(names), "{words}: {error}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn keys_and_tokens_are_never_shown() {
        let words = format!("--ca={FILE} --cert={FILE} --key={FILE} --token=s3cret a:1 b:2");
        let args = parsed(&words).unwrap();
        assert_eq!(args.pools, ["a:1", "b:2"]);
        let key = format!("{:?}", args.key.as_ref().unwrap());
        assert_eq!(key, "(hidden)");
        assert!(!format!("{args:?}").contains("s3cret"));
    }
}
