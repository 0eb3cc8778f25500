//! The command line.

use std::ffi::{OsStr, OsString};
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::thread;

pub(crate) const USAGE: &str = "\
usage: checksum [--workers N] PATH…

Prints the SHA-256 of every regular file below the paths, as sha256sum does.

  -w, --workers N  hash N files at a time (as many as there are processors)
  -h, --help       print this and exit
  -V, --version    print the version and exit
  --               what follows are paths, even if they begin with '-'

Paths are walked in the order given; the files below one come in the order of
`find PATH -type f | LC_ALL=C sort`. A PATH may be a symbolic link; those met
on the way are not followed. Ctrl-C finishes the files that were begun, a
second one ends at once.

Exit status: 0 all was read, 1 something was not, 2 bad usage, 130 interrupted,
141 the reader of the output went away.
";

/// More threads than this are a slip of the finger.
const MOST_WORKERS: usize = 1024;

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
    // An address to serve the pool's capacity on goes here.
}

/// Reads the arguments; an error is one line that says what is wrong with them.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut arguments = arguments.into_iter();
    let mut workers = None;
    let mut paths = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.as_bytes() {
            b"--" => {
                paths.extend(arguments.by_ref());
                break;
            }
            b"-h" | b"--help" => return Ok(Command::Help),
            b"-V" | b"--version" => return Ok(Command::Version),
            b"-w" | b"--workers" => {
                let count = arguments
                    .next()
                    .ok_or_else(|| format!("{} needs a number", argument.display()))?;
                workers = Some(number_of_workers(&count)?);
            }
            [
                b'-',
                b'-',
                b'w',
                b'o',
                b'r',
                b'k',
                b'e',
                b'r',
                b's',
                b'=',
                count @ ..,
            ] => {
                workers = Some(number_of_workers(OsStr::from_bytes(count))?);
            }
            [b'-', _, ..] => return Err(format!("unknown option {argument:?}")),
            _ => paths.push(argument),
        }
    }
    if paths.is_empty() {
        return Err("no path given".to_owned());
    }
    if paths.iter().any(|path| path == "-") {
        // A line for a file of this name would make `sha256sum --check` read its standard input.
        return Err("standard input is not read; a file named '-' is './-'".to_owned());
    }
    let available = || thread::available_parallelism().map_or(1, NonZero::get);
    Ok(Command::Hash(Options {
        workers: workers.unwrap_or_else(|| available().min(MOST_WORKERS)),
        paths: paths.into_iter().map(PathBuf::from).collect(),
    }))
}

fn number_of_workers(text: &OsStr) -> Result<usize, String> {
    match text.to_str().and_then(|text| text.parse().ok()) {
        Some(count @ 1..=MOST_WORKERS) => Ok(count),
        _ => Err(format!(
            "{text:?} workers? It takes a number from 1 to {MOST_WORKERS}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Command, String> {
        parse(arguments.iter().map(OsString::from))
    }

    fn hashed(arguments: &[&str]) -> (usize, Vec<String>) {
        match parsed(arguments).unwrap() {
            Command::Hash(Options { workers, paths }) => {
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
            &["-x", "a"],
            &["-"],
            &["--", "-"],
        ] {
            assert!(parsed(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
