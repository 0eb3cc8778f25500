//! Lines, words and bytes of a text, as `wc` counts them, however it is cut into pieces.

use std::ops::AddAssign;

/// Longer words are counted, but not told: they are data, and would fill the memory.
pub(crate) const LONGEST: usize = 255;

/// How much of it there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Count {
    /// Newlines.
    pub(crate) lines: u64,
    /// Runs of bytes that are not white space.
    pub(crate) words: u64,
    pub(crate) bytes: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Count) {
        self.lines += other.lines;
        self.words += other.words;
        self.bytes += other.bytes;
    }
}

/// Goes through one text, piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    count: Count,
    /// The word that the last piece ended in, or more than `LONGEST` of its bytes.
    begun: Vec<u8>,
}

impl Scanner {
    /// Forgets the text so far.
    pub(crate) fn reset(&mut self) {
        self.count = Count::default();
        self.begun.clear();
    }

    /// Takes the next piece, and tells the words that end in it.
    pub(crate) fn piece(&mut self, piece: &[u8], mut tell: impl FnMut(&[u8])) {
        self.count.bytes += piece.len() as u64;
        self.count.lines += piece.iter().filter(|byte| **byte == b'\n').count() as u64;
        let Some(first) = piece.iter().position(is_space) else {
            return self.begin(piece);
        };
        self.begin(&piece[..first]);
        self.end_word(&mut tell);
        let last = piece.iter().rposition(is_space).unwrap_or(first);
        for word in piece[first..last].split(is_space) {
            self.word(word, &mut tell);
        }
        self.begin(&piece[last + 1..]);
    }

    /// The text ends here.
    pub(crate) fn end(&mut self, mut tell: impl FnMut(&[u8])) -> Count {
        self.end_word(&mut tell);
        self.count
    }

    fn begin(&mut self, part: &[u8]) {
        let room = LONGEST + 1 - self.begun.len();
        self.begun.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn end_word(&mut self, tell: &mut impl FnMut(&[u8])) {
        let mut begun = std::mem::take(&mut self.begun);
        self.word(&begun, tell);
        begun.clear();
        self.begun = begun;
    }

    #[inline]
    fn word(&mut self, word: &[u8], tell: &mut impl FnMut(&[u8])) {
        if !word.is_empty() {
            self.count.words += 1;
            if word.len() <= LONGEST {
                tell(word);
            }
        }
    }
}

/// C's `isspace`: a vertical tab is white space, too.
#[inline]
fn is_space(byte: &u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(scanner: &mut Scanner, pieces: &[&[u8]]) -> (Count, Vec<Vec<u8>>) {
        let mut words = Vec::new();
        scanner.reset();
        for piece in pieces {
            scanner.piece(piece, |word| words.push(word.to_vec()));
        }
        let count = scanner.end(|word| words.push(word.to_vec()));
        (count, words)
    }

    #[test]
    fn a_text_counts_the_same_wherever_it_is_cut() {
        let text = b"\x0bone  two\n\xff\xc3\xa9\tx\0y\r\n\x0c\n last\x85";
        let (count, words) = scan(&mut Scanner::default(), &[text]);
        let (lines, words_counted, bytes) = (count.lines, count.words, count.bytes);
        assert_eq!((lines, words_counted, bytes), (3, 5, text.len() as u64));
        assert_eq!(
            words,
            [
                b"one" as &[u8],
                b"two",
                b"\xff\xc3\xa9",
                b"x\0y",
                b"last\x85"
            ]
        );
        let scanner = &mut Scanner::default();
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(scan(scanner, &pieces), (count, words.clone()));
            }
        }
    }

    #[test]
    fn long_words_are_counted_and_not_told() {
        let long = [b'x'; LONGEST + 1];
        let scanner = &mut Scanner::default();
        for cut in [0, 1, LONGEST, LONGEST + 1] {
            let (count, words) = scan(scanner, &[&long[..cut], &long[cut..], b" ", &long[1..]]);
            assert_eq!((count.words, words.len()), (2, 1));
            assert_eq!(words[0], &long[1..]);
        }
        let (count, words) = scan(scanner, &[&long, &long, &long, b"\n", &long, b"\n"]);
        assert_eq!((count.words, words.len()), (2, 0));
    }
}
