//! What is printed: lines as GNU `sha256sum` prints them.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

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
}
