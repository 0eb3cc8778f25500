//! What came of the files, and how it is printed.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use crate::text::Count;
use crate::vocabulary::Frequency;

/// So many names of files are kept for the end. All were said when it happened.
const NAMED: usize = 20;

/// The results so far, folded as they come.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) files: u64,
    pub(crate) count: Count,
    /// Files and directories that could not be read.
    pub(crate) unreadable: u64,
    /// Files at which a worker panicked, and the first of them.
    pub(crate) panicked: u64,
    pub(crate) named: Vec<Arc<Path>>,
}

impl Tally {
    pub(crate) fn counted(&mut self, count: Count) {
        self.files += 1;
        self.count += count;
    }

    pub(crate) fn panicked(&mut self, path: Arc<Path>) {
        self.panicked += 1;
        if self.named.len() < NAMED {
            self.named.push(path);
        }
    }

    /// Files that are missing in the counts.
    pub(crate) fn left_out(&self) -> u64 {
        self.unreadable + self.panicked
    }

    /// For people: numbers in a column, and what they are.
    pub(crate) fn text(&self, top: &[Frequency]) -> String {
        let totals = self.totals();
        let widest = totals.iter().map(|(_, number)| *number).max();
        let width = widest.unwrap_or(0).to_string().len();
        let mut text = String::new();
        let mut line = |number: u64, what: &str| {
            writeln!(text, "{number:>width$} {what}").expect("a string takes all");
        };
        totals.iter().for_each(|(what, number)| line(*number, what));
        for (word, count) in top {
            line(*count, &readable(word));
        }
        text
    }

    /// For scripts: one line. Bytes of a word that are not UTF-8 are replaced.
    pub(crate) fn json(&self, top: &[Frequency]) -> String {
        let mut json = String::from("{");
        for (what, number) in self.totals() {
            write!(json, "\"{what}\":{number},").expect("a string takes all");
        }
        write!(json, "\"left_out\":{},\"top\":[", self.left_out()).expect("a string takes all");
        for (index, (word, count)) in top.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let word = quoted(&String::from_utf8_lossy(word));
            write!(json, "{comma}{{\"word\":{word},\"count\":{count}}}")
                .expect("a string takes all");
        }
        json.push_str("]}\n");
        json
    }

    fn totals(&self) -> [(&'static str, u64); 4] {
        let Count {
            lines,
            words,
            bytes,
        } = self.count;
        [
            ("files", self.files),
            ("lines", lines),
            ("words", words),
            ("bytes", bytes),
        ]
    }
}

/// A word with nothing in it that a terminal would obey.
fn readable(word: &[u8]) -> String {
    match str::from_utf8(word) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => word.escape_ascii().to_string(),
    }
}

/// As JSON has its strings.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => {
                write!(quoted, "\\u{:04x}", u32::from(letter)).expect("a string takes all");
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> (Tally, Vec<Frequency>) {
        let mut tally = Tally::default();
        for bytes in [5, 100] {
            tally.counted(Count {
                lines: 1,
                words: 2,
                bytes,
            });
        }
        tally.panicked(Path::new("a").into());
        let words: [&[u8]; 4] = ["é".as_bytes(), b"\"\\", b"\x1b[2J", b"\xff"];
        let top = words.iter().map(|word| ((*word).into(), 9));
        (tally, top.collect())
    }

    #[test]
    fn people_get_columns() {
        let (tally, top) = tally();
        assert_eq!(
            tally.text(&top),
            "  2 files\n  2 lines\n  4 words\n105 bytes\n  9 é\n  9 \"\\\n  9 \\x1b[2J\n  9 \\xff\n"
        );
    }

    #[test]
    fn scripts_get_json() {
        let (tally, top) = tally();
        assert_eq!(
            tally.json(&top),
            concat!(
                r#"{"files":2,"lines":2,"words":4,"bytes":105,"left_out":1,"top":["#,
                r#"{"word":"é","count":9},{"word":"\"\\","count":9},"#,
                r#"{"word":"\u001b[2J","count":9},{"word":"�","count":9}]}"#,
                "\n"
            )
        );
        assert!(tally.json(&[]).ends_with("\"top\":[]}\n"));
    }
}
