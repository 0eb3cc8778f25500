//! Which results of a chunk were taken.

/// A set of inputs: nearly always the first few, without a gap.
#[derive(Default)]
pub(super) struct TakenSet {
    /// All inputs before this one are in the set.
    first: usize,
    /// A bit for each input that was taken out of turn. From the first of them on, all that are taken
    /// are marked here.
    others: Vec<u64>,
    /// How many bits of `others` are set.
    count: usize,
}

impl TakenSet {
    pub(super) fn len(&self) -> usize {
        self.first + self.count
    }

    pub(super) fn contains(&self, index: usize) -> bool {
        let word = self.others.get(index / 64);
        index < self.first || word.is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    /// `false` if it was in the set before.
    #[inline]
    pub(super) fn insert(&mut self, index: usize) -> bool {
        let next = index == self.first && self.others.is_empty();
        self.first += usize::from(next);
        next || self.insert_other(index)
    }

    #[cold]
    fn insert_other(&mut self, index: usize) -> bool {
        let new = !self.contains(index);
        if new {
            let words = self.others.len().max(index / 64 + 1);
            self.others.resize(words, 0);
            self.others[index / 64] |= 1 << (index % 64);
            self.count += 1;
        }
        new
    }
}
