//! Which inputs of a chunk nobody has claimed, and who claimed what last.

use std::ops::Range;

use crate::job::id::WorkerId;

pub(super) struct Claims {
    /// Inputs that nobody has claimed, the first ones last.
    pub(super) free: Vec<Range<usize>>,
    /// What each worker claimed last.
    pub(super) held: Vec<(WorkerId, Range<usize>)>,
}

impl Claims {
    pub(super) fn of_all(inputs: usize) -> Self {
        let all = 0..inputs;
        Claims {
            free: vec![all],
            held: Vec::new(),
        }
    }

    pub(super) fn take(&mut self, most: usize) -> Option<Range<usize>> {
        let first = self.free.last_mut()?;
        let end = first.end.min(first.start.saturating_add(most));
        let taken = first.start..end;
        first.start = end;
        if first.start == first.end {
            self.free.pop();
        }
        Some(taken)
    }
}
