//! What is printed: lines as GNU `sha256sum` prints them, and problems.

use std::error::Error;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The line for one file. A name that holds a newline, a carriage return or a backslash is escaped,
/// and a backslash at the start of the line says so; every other byte stands for itself.
pub(crate) fn checksum(digest: &[u8], path: &Path) -> Vec<u8> {
    let name = path.as_os_str().as_bytes();
    let mut line = Vec::with_capacity(2 * digest.len() + name.len() + 4);
    let odd = name
        .iter()
        .any(|byte| matches!(byte, b'\\' | b'\n' | b'\r'));
    if odd {
        line.push(b'\\');
    }
    for byte in digest {
        line.push(DIGITS[usize::from(byte >> 4)]);
        line.push(DIGITS[usize::from(byte & 15)]);
    }
    line.extend_from_slice(b"  ");
    if odd {
        for &byte in name {
            match byte {
                b'\\' => line.extend_from_slice(b"\\\\"),
                b'\n' => line.extend_from_slice(b"\\n"),
                b'\r' => line.extend_from_slice(b"\\r"),
                _ => line.push(byte),
            }
        }
    } else {
        line.extend_from_slice(name);
    }
    line.push(b'\n');
    line
}

/// A file or directory that could not be read, and why.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) path: PathBuf,
    pub(crate) error: io::Error,
}

impl fmt::Display for Problem {
    /// One line, and nothing in it that a terminal would obey.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.to_str() {
            Some(name) if !name.is_empty() && !name.contains(char::is_control) => {
                f.write_str(name)?
            }
            _ => write!(f, "{:?}", self.path)?,
        }
        write!(f, ": {}", self.error)
    }
}

impl Error for Problem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    fn name_in_line(name: &[u8]) -> Vec<u8> {
        checksum(&[0x0f, 0xa0], Path::new(OsStr::from_bytes(name)))
    }

    #[test]
    fn plain_names_stand_as_they_are() {
        assert_eq!(name_in_line(b"a/b c"), b"0fa0  a/b c\n");
        assert_eq!(name_in_line(b" *\t\xff"), b"0fa0   *\t\xff\n");
    }

    #[test]
    fn odd_names_are_escaped_and_marked() {
        assert_eq!(name_in_line(b"a\nb"), b"\\0fa0  a\\nb\n");
        assert_eq!(name_in_line(b"a\rb"), b"\\0fa0  a\\rb\n");
        assert_eq!(name_in_line(b"\\n\xfe"), b"\\0fa0  \\\\n\xfe\n");
    }

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
