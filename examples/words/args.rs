//! The command line.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::argument::Argument;
use crate::workers;

pub(crate) const USAGE: &str = "\
usage: words [OPTION]... PATH…

Counts the lines, words and bytes of all regular files below the paths, as wc
does, and tells which words are the most frequent.

  -w, --workers N     count N files at a time (as many as there are processors)
  -n, --top N         tell the N most frequent words (10)
      --json          one line of JSON, for scripts
      --stats         tell what the workers are doing, every second and at the end
      --ask           read paths from standard input also where it is no terminal
      --fail-on TEXT  a worker that meets TEXT panics, to see one come back
  -h, --help          print this and exit
  -V, --version       print the version and exit
  --                  what follows are paths, even if they begin with '-'

A word is what stands between ASCII white space. Words of more than 255 bytes
are counted, but are not among the most frequent.

A PATH may be a symbolic link; those met on the way are not followed. While it
works, type the path of a file: it is counted at once, before the files that
wait, and only for the answer. (In the background: < /dev/null.) A file that
cannot be read to its end is said and left out. Ctrl-C ends the walk and prints
what was counted until then, a second one ends at once.

Exit status: 0 all was counted, 1 something was not, 2 bad usage, 130
interrupted, 141 the reader of the output went away.
";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Version,
    Count(Options),
}

/// What to count, and how.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) workers: usize,
    /// How many of the most frequent words to tell.
    pub(crate) top: usize,
    pub(crate) json: bool,
    pub(crate) stats: bool,
    /// Read paths from any standard input?
    pub(crate) ask: bool,
    /// A text at which workers panic; not empty.
    pub(crate) fail_on: Option<Arc<[u8]>>,
    pub(crate) paths: Vec<PathBuf>,
}

/// Reads the arguments; an error is one line that says what is wrong with them.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut arguments = arguments.into_iter();
    let mut options = Options {
        workers: workers::available(),
        top: 10,
        json: false,
        stats: false,
        ask: false,
        fail_on: None,
        paths: Vec::new(),
    };
    while let Some(argument) = arguments.next() {
        let argument = Argument::new(argument);
        let mut value = |what| {
            let value = argument.value(&mut arguments);
            value.ok_or_else(|| format!("{} needs {what}", argument.whole().display()))
        };
        match argument.option() {
            None => options.paths.push(argument.into_whole().into()),
            Some(("--", None)) => {
                options.paths.extend(arguments.by_ref().map(PathBuf::from));
                break;
            }
            Some(("-h" | "--help", None)) => return Ok(Command::Help),
            Some(("-V" | "--version", None)) => return Ok(Command::Version),
            Some(("-w" | "--workers", _)) => {
                options.workers = workers::parse(&value("a number")?)?;
            }
            Some(("-n" | "--top", _)) => options.top = top(&value("a number")?)?,
            Some(("--json", None)) => options.json = true,
            Some(("--stats", None)) => options.stats = true,
            Some(("--ask", None)) => options.ask = true,
            Some(("--fail-on", _)) => options.fail_on = Some(text(value("a text")?)?),
            Some(_) => return Err(format!("unknown option {:?}", argument.whole())),
        }
    }
    if options.paths.is_empty() {
        return Err("no path given".to_owned());
    }
    if options.paths.iter().any(|path| path.as_os_str() == "-") {
        return Err("standard input is not counted; a file named '-' is './-'".to_owned());
    }
    Ok(Command::Count(options))
}

fn top(text: &OsStr) -> Result<usize, String> {
    let number = text.to_str().and_then(|text| text.parse().ok());
    number.ok_or_else(|| format!("the top {text:?}? It takes a number"))
}

fn text(text: OsString) -> Result<Arc<[u8]>, String> {
    match text.is_empty() {
        true => Err("--fail-on: every file holds the empty text".to_owned()),
        false => Ok(text.into_vec().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Command, String> {
        parse(arguments.iter().map(OsString::from))
    }

    fn counted(arguments: &[&str]) -> Options {
        match parsed(arguments).unwrap() {
            Command::Count(options) => options,
            other => panic!("{arguments:?} gave {other:?}"),
        }
    }

    #[test]
    fn options_may_be_given_in_each_way_and_the_last_counts() {
        let plain = counted(&["a"]);
        assert!(plain.workers >= 1 && plain.top == 10 && plain.fail_on.is_none());
        assert!(!plain.json && !plain.stats && !plain.ask);
        let all = counted(&["-w", "3", "--json", "-n", "4", "--stats", "a", "--ask"]);
        assert!(all.json && all.stats && all.ask);
        assert_eq!((all.workers, all.top), (3, 4));
        let twice = counted(&["--workers=5", "--top", "9", "-w", "6", "--top=0", "a"]);
        assert_eq!((twice.workers, twice.top), (6, 0));
        for given in [
            &["--fail-on", "a=b", "p"] as &[&str],
            &["p", "--fail-on=a=b"],
        ] {
            assert_eq!(counted(given).fail_on.as_deref(), Some(b"a=b" as &[u8]));
        }
    }

    #[test]
    fn paths_keep_their_order_and_their_doubles() {
        let paths = |arguments: &[&str]| counted(arguments).paths;
        assert_eq!(paths(&["b", "a", "b"]), ["b", "a", "b"].map(PathBuf::from));
        let rest = ["a", "--help", "--", "-x"].map(PathBuf::from);
        assert_eq!(paths(&["a", "--", "--help", "--", "-x"]), rest);
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
            &["--json"],
            &["--workers", "0", "a"],
            &["--workers", "1025", "a"],
            &["--workers=", "a"],
            &["a", "--top"],
            &["--top", "-1", "a"],
            &["--top=many", "a"],
            &["--fail-on", "", "a"],
            &["--fail-on=", "a"],
            &["--json=yes", "a"],
            &["--stat", "a"],
            &["-x", "a"],
            &["-"],
            &["--", "-"],
        ] {
            assert!(parsed(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
