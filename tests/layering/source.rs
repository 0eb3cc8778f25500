//! Just enough of Rust's grammar to see which paths a file names.

/// Comments, strings and characters become blanks: what is left has the same length and lines.
pub(crate) fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => comment_end(bytes, at),
            b'"' => string_end(bytes, at + 1),
            b'r' if !in_word(bytes, at) => raw_end(bytes, at + 1).unwrap_or(at + 1),
            // `br"…"`; the `b` of `b"…"` may stay.
            b'b' if !in_word(bytes, at) && bytes.get(at + 1) == Some(&b'r') => {
                raw_end(bytes, at + 2).unwrap_or(at + 1)
            }
            b'\'' => character_end(text, at),
            _ => at + 1,
        };
        if end > at + 1 {
            for byte in &mut code[at..end] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
        }
        at = end;
    }
    String::from_utf8(code).expect("only whole characters were replaced")
}

fn in_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    let rest = bytes[at..].iter().position(|byte| *byte == b'\n');
    rest.map_or(bytes.len(), |length| at + length)
}

fn comment_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if bytes[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// The end of a raw string whose hashes, if any, begin here. A raw name such as `r#type` is none.
fn raw_end(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(at + hashes) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let from = at + hashes + 1;
    let length = bytes[from..]
        .windows(close.len())
        .position(|seen| seen == close);
    Some(length.map_or(bytes.len(), |length| from + length + close.len()))
}

/// The end of a character, or the next byte if this begins a lifetime.
fn character_end(text: &str, at: usize) -> usize {
    let mut rest = text[at + 1..].char_indices();
    match rest.next() {
        Some((_, '\\')) => {
            rest.next();
            let close = rest.find(|(_, c)| *c == '\'');
            close.map_or(text.len(), |(length, _)| at + 1 + length + 1)
        }
        Some(_) => match rest.next() {
            Some((length, '\'')) => at + 1 + length + 1,
            _ => at + 1,
        },
        None => at + 1,
    }
}

/// Names and marks of code without comments and strings, in order; `::` is one of them.
pub(crate) fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// Leaves out every item, statement or field that has `#[cfg(test)]` before it.
pub(crate) fn without_tests<'t>(tokens: &[&'t str]) -> Vec<&'t str> {
    const CFG_TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].starts_with(&CFG_TEST) {
            at = item_end(tokens, at + CFG_TEST.len());
        } else {
            kept.push(tokens[at]);
            at += 1;
        }
    }
    kept
}

/// Past the item that begins here: its `;`, its `,`, or the block that is its body. Stops before a
/// bracket that closes what is around the item.
fn item_end(tokens: &[&str], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0);
    // `use a::{b, c};` has a block that is no body.
    let mut is_use = false;
    while at < tokens.len() {
        match tokens[at] {
            "use" if depth == 0 => is_use = true,
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" if depth == 0 => return at,
            "}" if depth == 1 && !is_use => return at + 1,
            ")" | "]" | "}" => depth -= 1,
            ";" if depth == 0 => return at + 1,
            "," if depth == 0 && !is_signature(&tokens[from..at]) => return at + 1,
            _ => {}
        }
        at += 1;
    }
    at
}

/// Whether a comma here is one between type parameters: `fn f<A, B>`.
fn is_signature(item: &[&str]) -> bool {
    let names = |keyword: &&str| matches!(*keyword, "fn" | "impl" | "struct" | "enum" | "trait");
    item.iter().any(names)
}

/// All paths that begin with one of these roots, each written out to its end: `a::{b, c::d}` is two.
pub(crate) fn paths(tokens: &[&str], roots: &[&str]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        // `a::crate_name` is no root, `::std` is one.
        let inside = at >= 2 && tokens[at - 1] == "::" && is_name(tokens[at - 2]);
        if roots.contains(token) && !inside {
            branch(tokens, at, &mut Vec::new(), &mut found);
        }
    }
    found
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Follows one path from here, adds each of its ends, and says where it ended.
fn branch(
    tokens: &[&str],
    mut at: usize,
    path: &mut Vec<String>,
    found: &mut Vec<Vec<String>>,
) -> usize {
    let depth = path.len();
    loop {
        match tokens.get(at) {
            Some(&"{") => {
                at += 1;
                while at < tokens.len() && tokens[at] != "}" {
                    at = match tokens[at] {
                        "," => at + 1,
                        _ => branch(tokens, at, path, found).max(at + 1),
                    };
                }
                at += 1;
                break;
            }
            Some(&name) if is_name(name) || name == "*" => {
                path.push(name.to_owned());
                at += 1;
                if tokens.get(at) == Some(&"::")
                    && tokens
                        .get(at + 1)
                        .is_some_and(|next| is_name(next) || matches!(*next, "{" | "*"))
                {
                    at += 1;
                    continue;
                }
                found.push(path.clone());
                // `as other`
                if tokens.get(at) == Some(&"as") {
                    at += 2;
                }
                break;
            }
            _ => break,
        }
    }
    path.truncate(depth);
    at
}

#[test]
fn comments_strings_and_tests_are_not_seen() {
    let text = r##"
        //! crate::a
        use crate::{b::{self, C}, d as e}; /* crate::f /* crate::g */ crate::h */
        fn f<'l, T>(c: char) { let _ = ("crate::i", r#"crate::"j"#, '"', '\'', b"crate::k"); }
        #[cfg(test)]
        mod tests { use crate::l; }
        use crate::after_l;
        #[cfg(test)]
        use crate::{m, n};
        use crate::after_n;
        struct S { #[cfg(test)] field: crate::o, other: crate::p<crate::q> }
        #[cfg(test)]
        fn only<A, B>(_: A, _: B) { crate::r(); }
        fn after() { other::crate_::s(); crate::t::<u8>(); super::super::u(); }
    "##;
    let code = code_of(text);
    assert_eq!(code.len(), text.len());
    let tokens = without_tests(&tokens(&code));
    let seen: Vec<_> = paths(&tokens, &["crate", "super"])
        .iter()
        .map(|path| path.join("::"))
        .collect();
    let expected = [
        "crate::b::self",
        "crate::b::C",
        "crate::d",
        "crate::after_l",
        "crate::after_n",
        "crate::p",
        "crate::q",
        "crate::t",
        "super::super::u",
    ];
    assert_eq!(seen, expected);
}
