//! How often each word was met: per worker, and of all together.

use std::collections::HashMap;
use std::rc::Rc;

use parking_lot::Mutex;

/// So many different words are kept by a worker, before the table of all takes them.
const FULL: usize = 50_000;

/// A word and how often it was met.
pub(crate) type Frequency = (Box<[u8]>, u64);

/// One worker's words. Those of the current file count only once it is read to its end. A word that
/// was met before costs one look-up and no allocation.
#[derive(Debug, Default)]
pub(crate) struct Vocabulary {
    places: HashMap<Rc<[u8]>, usize>,
    words: Vec<Word>,
    /// The places of those that are in the current file.
    here: Vec<usize>,
}

#[derive(Debug)]
struct Word {
    text: Rc<[u8]>,
    /// In earlier files.
    count: u64,
    /// In the current file.
    here: u64,
}

impl Vocabulary {
    /// The current file has this word.
    pub(crate) fn note(&mut self, text: &[u8]) {
        let place = match self.places.get(text) {
            Some(place) => *place,
            None => self.learn(text),
        };
        let word = &mut self.words[place];
        if word.here == 0 {
            self.here.push(place);
        }
        word.here += 1;
    }

    fn learn(&mut self, text: &[u8]) -> usize {
        let text: Rc<[u8]> = text.into();
        let place = self.words.len();
        self.places.insert(Rc::clone(&text), place);
        self.words.push(Word {
            text,
            count: 0,
            here: 0,
        });
        place
    }

    /// The current file was read to its end.
    pub(crate) fn keep_file(&mut self) {
        for place in self.here.drain(..) {
            let word = &mut self.words[place];
            word.count += std::mem::take(&mut word.here);
        }
    }

    /// Reading the current file failed.
    pub(crate) fn forget_file(&mut self) {
        for place in self.here.drain(..) {
            self.words[place].here = 0;
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.words.len() >= FULL
    }

    /// Gives all that it keeps to the table.
    pub(crate) fn hand_over(&mut self, table: &Table) {
        self.forget_file();
        self.places.clear();
        let mut all = table.0.lock();
        for word in self.words.drain(..).filter(|word| word.count > 0) {
            match all.get_mut(&*word.text) {
                Some(count) => *count += word.count,
                None => {
                    all.insert((*word.text).into(), word.count);
                }
            }
        }
    }
}

/// The words of all workers.
#[derive(Debug, Default)]
pub(crate) struct Table(Mutex<HashMap<Box<[u8]>, u64>>);

impl Table {
    /// The most frequent words, so many at most; equally frequent ones by their bytes.
    pub(crate) fn top(&self, most: usize) -> Vec<Frequency> {
        let all = self.0.lock();
        let mut words: Vec<(&[u8], u64)> = all.iter().map(|(text, n)| (&**text, *n)).collect();
        let order = |one: &(&[u8], u64), other: &(&[u8], u64)| {
            other.1.cmp(&one.1).then_with(|| one.0.cmp(other.0))
        };
        if most < words.len() {
            words.select_nth_unstable_by(most, order);
            words.truncate(most);
        }
        words.sort_unstable_by(order);
        let own = |(text, count): (&[u8], u64)| (text.into(), count);
        words.into_iter().map(own).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top(table: &Table, most: usize) -> Vec<(String, u64)> {
        let text = |word: Box<[u8]>| String::from_utf8(word.into()).unwrap();
        let words = table.top(most).into_iter();
        words.map(|(word, count)| (text(word), count)).collect()
    }

    #[test]
    fn only_files_that_were_read_to_their_end_count() {
        let table = Table::default();
        let mut words = Vocabulary::default();
        let file = |words: &mut Vocabulary, text: &str| {
            text.split(' ').for_each(|word| words.note(word.as_bytes()));
        };
        file(&mut words, "a b a");
        words.keep_file();
        file(&mut words, "a c c");
        words.forget_file();
        file(&mut words, "b d d");
        words.keep_file();
        file(&mut words, "d e");
        words.hand_over(&table);
        let all = [("a", 2), ("b", 2), ("d", 2)].map(|(word, count)| (word.to_owned(), count));
        assert_eq!(top(&table, 9), all);
        // It begins anew.
        file(&mut words, "d b d");
        words.keep_file();
        words.hand_over(&table);
        words.hand_over(&table);
        let all = [("d", 4), ("b", 3), ("a", 2)].map(|(word, count)| (word.to_owned(), count));
        assert_eq!(top(&table, 3), all);
        assert_eq!(top(&table, 2), all[..2]);
        assert_eq!(top(&table, 0), []);
    }
}
