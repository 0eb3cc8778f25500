//! An argument of a command line, read the same way by each example.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// One argument: an option or an operand.
#[derive(Debug)]
pub(crate) struct Argument {
    whole: OsString,
    /// `None` for an operand. An option that is not UTF-8 gets a name that no option has.
    name: Option<String>,
    joined: Option<OsString>,
}

impl Argument {
    /// `--option=value` is an option and its value. A lone `-` is an operand.
    pub(crate) fn new(whole: OsString) -> Self {
        let bytes = whole.as_bytes();
        let equals = bytes.iter().position(|byte| *byte == b'=');
        let (name, joined) = match equals {
            Some(at) if bytes.starts_with(b"--") => (&bytes[..at], Some(&bytes[at + 1..])),
            _ => (bytes, None),
        };
        let is_option = matches!(bytes, [b'-', _, ..]);
        Argument {
            name: is_option.then(|| String::from_utf8_lossy(name).into_owned()),
            joined: joined.map(|value| OsStr::from_bytes(value).to_owned()),
            whole,
        }
    }

    /// The name of an option, with its dashes, and the value behind its `=`, if there is one.
    pub(crate) fn option(&self) -> Option<(&str, Option<&OsStr>)> {
        Some((self.name.as_deref()?, self.joined.as_deref()))
    }

    /// The option's value: behind its `=`, or the next argument.
    pub(crate) fn value(&self, rest: &mut impl Iterator<Item = OsString>) -> Option<OsString> {
        self.joined.clone().or_else(|| rest.next())
    }

    /// As it was given.
    pub(crate) fn whole(&self) -> &OsStr {
        &self.whole
    }

    /// As it was given.
    pub(crate) fn into_whole(self) -> OsString {
        self.whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parts = (Option<String>, Option<OsString>);

    fn parts(argument: &[u8]) -> Parts {
        let argument = Argument::new(OsStr::from_bytes(argument).to_owned());
        let option = argument.option();
        let name = option.map(|(name, _)| name.to_owned());
        let joined = option.and_then(|(_, value)| value.map(OsStr::to_owned));
        (name, joined)
    }

    fn option(name: &str, value: Option<&str>) -> Parts {
        (Some(name.to_owned()), value.map(OsString::from))
    }

    #[test]
    fn an_option_may_have_its_value_joined() {
        assert_eq!(parts(b"--top"), option("--top", None));
        assert_eq!(parts(b"--top=3"), option("--top", Some("3")));
        assert_eq!(parts(b"--top="), option("--top", Some("")));
        assert_eq!(parts(b"--text=a=b"), option("--text", Some("a=b")));
        assert_eq!(parts(b"--"), option("--", None));
        assert_eq!(parts(b"-n=3"), option("-n=3", None));
        for operand in [b"a" as &[u8], b"-", b"", b"a=b", b"\xff"] {
            assert_eq!(parts(operand), (None, None));
        }
    }

    #[test]
    fn a_value_is_joined_or_comes_next() {
        let mut rest = [OsString::from("b")].into_iter();
        let joined = Argument::new("--option=a".into());
        assert_eq!(joined.value(&mut rest), Some("a".into()));
        let bare = Argument::new("--option".into());
        assert_eq!(bare.value(&mut rest), Some("b".into()));
        assert_eq!(bare.value(&mut rest), None);
    }
}
