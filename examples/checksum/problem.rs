//! What could not be read.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A file or directory that could not be read, and why.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) path: PathBuf,
    pub(crate) error: io::Error,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", Name(&self.path), self.error)
    }
}

impl Error for Problem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// Shows a path on one line, with nothing in it that a terminal would obey.
#[derive(Debug)]
pub(crate) struct Name<'a>(pub(crate) &'a Path);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.to_str() {
            Some(name) if !name.is_empty() && !name.contains(char::is_control) => f.write_str(name),
            _ => write!(f, "{:?}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_problem_is_one_line() {
        for name in [b"a\nb" as &[u8], b"\x1b[2J", b"\xff\n", b""] {
            let problem = Problem {
                path: OsStr::from_bytes(name).into(),
                error: io::ErrorKind::NotFound.into(),
            };
            let text = problem.to_string();
            assert!(!text.contains(char::is_control), "{text:?}");
            assert!(text.starts_with('"'), "{text:?}");
        }
    }
}
