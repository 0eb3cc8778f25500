//! The bearer token.

use std::fmt;
use std::hint::black_box;

use grpcio::Metadata;

/// A secret that clients must send. Never printed.
#[derive(Clone)]
pub(crate) struct Token(Box<[u8]>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// `None` for a token that no header can carry: an empty one, or one with other characters than
    /// printable ASCII.
    pub(crate) fn new(token: &str) -> Option<Token> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        Some(Token(token.as_bytes().into()))
    }

    /// Whether these headers hold `authorization: Bearer <token>`, exactly once.
    pub(crate) fn admits(&self, headers: &Metadata) -> bool {
        let mut given = headers.iter().filter(|(key, _)| *key == "authorization");
        match (given.next(), given.next()) {
            (Some((_, value)), None) => self.matches(value),
            _ => false,
        }
    }

    fn matches(&self, header: &[u8]) -> bool {
        const SCHEME: &[u8] = b"bearer ";
        match header.split_at_checked(SCHEME.len()) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(SCHEME) => same(token, &self.0),
            _ => false,
        }
    }
}

/// Compares in constant time: it depends on the length of `given` alone, not on where it differs.
fn same(given: &[u8], secret: &[u8]) -> bool {
    let mut differs = u8::from(given.len() != secret.len());
    for (at, byte) in given.iter().enumerate() {
        differs |= byte ^ secret[at % secret.len()];
        differs = black_box(differs);
    }
    differs == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_matches() {
        let token = Token::new("s3cret").unwrap();
        assert!(token.matches(b"Bearer s3cret"));
        assert!(token.matches(b"bearer s3cret"));
        for wrong in [
            &b""[..],
            b"Bearer",
            b"Bearer ",
            b"Bearer s3cre",
            b"Bearer s3crets",
            b"Bearer s3crets3cret",
            b"Bearer S3cret",
            b"Bearer  s3cret",
            b"Basic s3cret",
            b"s3cret",
        ] {
            assert!(!token.matches(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_token_is_never_shown() {
        let shown = format!("{:?}", Token::new("s3cret").unwrap());
        assert!(!shown.contains("s3cret"));
        assert!(Token::new("s3c ret").is_none());
    }
}
