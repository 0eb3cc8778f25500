//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::argument::Argument;
use crate::workers;

pub(crate) const USAGE: &str = "\
usage: checksum [--workers N] [--serve ADDR] PATH…

Prints the SHA-256 of every regular file below the paths, as sha256sum does.

  -w, --workers N   hash N files at a time (as many as there are processors)
      --serve ADDR  while it runs, tell gRPC clients on ADDR how busy it is;
                    ADDR is host:port on this machine, port 0 is a free one
  -h, --help        print this and exit
  -V, --version     print the version and exit
  --                what follows are paths, even if they begin with '-'

Paths are walked in the order given; the files below one come in the order of
`find PATH -type f | LC_ALL=C sort`. A PATH may be a symbolic link; those met
on the way are not followed. Ctrl-C finishes the files that were begun, a
second one ends at once.

Exit status: 0 all was read, 1 something was not, 2 bad usage or an ADDR that
cannot be served, 130 interrupted, 141 the reader of the output went away.
";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Version,
    Hash(Options),
}

/// What to hash, and how.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) workers: usize,
    pub(crate) paths: Vec<PathBuf>,
    /// Where to tell how busy the pool is.
    #[cfg(feature = "grpc")]
    pub(crate) serve: Option<String>,
}

/// Reads the arguments; an error is one line that says what is wrong with them.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut arguments = arguments.into_iter();
    let mut workers = None;
    #[cfg(feature = "grpc")]
    let mut serve = None;
    let mut paths = Vec::new();
    while let Some(argument) = arguments.next() {
        let argument = Argument::new(argument);
        let mut value = |what| {
            let value = argument.value(&mut arguments);
            value.ok_or_else(|| format!("{} needs {what}", argument.whole().display()))
        };
        match argument.option() {
            None => paths.push(argument.into_whole()),
            Some(("--", None)) => {
                paths.extend(arguments.by_ref());
                break;
            }
            Some(("-h" | "--help", None)) => return Ok(Command::Help),
            Some(("-V" | "--version", None)) => return Ok(Command::Version),
            Some(("-w" | "--workers", _)) => {
                workers = Some(workers::parse(&value("a number")?)?);
            }
            #[cfg(feature = "grpc")]
            Some(("--serve", _)) => serve = Some(address(value("an address")?)?),
            #[cfg(not(feature = "grpc"))]
            Some(("--serve", _)) => {
                return Err(
                    "--serve needs the feature `grpc`; this is a build without it".to_owned(),
                );
            }
            Some(_) => return Err(format!("unknown option {:?}", argument.whole())),
        }
    }
    if paths.is_empty() {
        return Err("no path given".to_owned());
    }
    if paths.iter().any(|path| path == "-") {
        // A line for a file of this name would make `sha256sum --check` read its standard input.
        return Err("standard input is not read; a file named '-' is './-'".to_owned());
    }
    Ok(Command::Hash(Options {
        workers: workers.unwrap_or_else(workers::available),
        paths: paths.into_iter().map(PathBuf::from).collect(),
        #[cfg(feature = "grpc")]
        serve,
    }))
}

#[cfg(feature = "grpc")]
fn address(text: OsString) -> Result<String, String> {
    text.into_string()
        .map_err(|text| format!("{text:?} is no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Command, String> {
        parse(arguments.iter().map(OsString::from))
    }

    fn hashed(arguments: &[&str]) -> (usize, Vec<String>) {
        match parsed(arguments).unwrap() {
            Command::Hash(Options { workers, paths, .. }) => {
                let text = |path: PathBuf| path.into_os_string().into_string().unwrap();
                (workers, paths.into_iter().map(text).collect())
            }
            other => panic!("{arguments:?} gave {other:?}"),
        }
    }

    #[test]
    fn workers_may_be_given_in_each_way_and_the_last_counts() {
        assert_eq!(hashed(&["--workers", "3", "a"]).0, 3);
        assert_eq!(hashed(&["a", "--workers=4"]).0, 4);
        assert_eq!(hashed(&["-w", "5", "a", "-w", "6"]).0, 6);
        assert!(hashed(&["a"]).0 >= 1);
    }

    #[cfg(feature = "grpc")]
    #[test]
    fn an_address_may_be_given_in_each_way_and_the_last_counts() {
        let served = |arguments: &[&str]| match parsed(arguments).unwrap() {
            Command::Hash(options) => options.serve,
            other => panic!("{arguments:?} gave {other:?}"),
        };
        assert_eq!(served(&["a"]), None);
        assert_eq!(served(&["--serve", "h:1", "a"]).as_deref(), Some("h:1"));
        assert_eq!(served(&["a", "--serve=h:1"]).as_deref(), Some("h:1"));
        let twice = served(&["--serve=h:1", "--serve", "[::1]:2", "a"]);
        assert_eq!(twice.as_deref(), Some("[::1]:2"));
    }

    #[cfg(not(feature = "grpc"))]
    #[test]
    fn without_grpc_an_address_is_refused_with_the_reason() {
        for arguments in [&["--serve", "h:1", "a"] as &[&str], &["--serve=h:1", "a"]] {
            let error = parsed(arguments).unwrap_err();
            assert!(error.contains("the feature `grpc`"), "{error}");
        }
    }

    #[test]
    fn paths_keep_their_order_and_their_doubles() {
        assert_eq!(hashed(&["b", "a", "b"]).1, ["b", "a", "b"]);
        assert_eq!(
            hashed(&["a", "--", "--help", "--", "-x"]).1,
            ["a", "--help", "--", "-x"]
        );
        assert_eq!(hashed(&["", "./-"]).1, ["", "./-"]);
    }

    #[test]
    fn help_and_version_need_no_path() {
        assert_eq!(parsed(&["--help"]), Ok(Command::Help));
        assert_eq!(parsed(&["x", "-V"]), Ok(Command::Version));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            &[] as &[&str],
            &["--"],
            &["--workers", "2"],
            &["a", "--workers"],
            &["--workers", "0", "a"],
            &["--workers", "1025", "a"],
            &["--workers=-1", "a"],
            &["--workers=", "a"],
            &["--worker", "2", "a"],
            &["a", "--serve"],
            &["--help=me", "a"],
            &["--=a"],
            &["-x", "a"],
            &["-"],
            &["--", "-"],
        ] {
            assert!(parsed(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
