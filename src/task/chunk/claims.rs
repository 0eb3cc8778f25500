//! Which inputs of a chunk are free, and what each worker claimed last.

use std::ops::Range;

use crate::job::id::WorkerId;

pub(super) struct Claims {
    /// Inputs that are not claimed, the first ones at the end.
    pub(super) free: Vec<Range<usize>>,
    /// The last claim of each worker.
    pub(super) last: Vec<(WorkerId, Range<usize>)>,
}

impl Claims {
    pub(super) fn of_all(inputs: usize) -> Self {
        let all = 0..inputs;
        Claims {
            free: vec![all],
            last: Vec::new(),
        }
    }

    /// Takes the next free inputs, at most this many.
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
