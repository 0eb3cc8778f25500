//! What is written on a ticket in one word: small tickets go through the channels faster.

use crate::job::Priority;
use crate::stats::in_flight::Generation;

/// `order << 4 | cancellable << 3 | generation << 2 | priority`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark(u64);

const PRIORITY: u64 = 0b11;
const ODD: u64 = 1 << 2;
const CANCELLABLE: u64 = 1 << 3;
/// Enough for 36 years in nanoseconds.
const ORDER_SHIFT: u32 = 4;

impl Mark {
    /// `order` tells which of two jobs came first; `cancellable`, whether the caller gave a token
    /// that may fire while the job waits.
    pub(crate) fn new(
        order: u64,
        generation: Generation,
        cancellable: bool,
        priority: Priority,
    ) -> Self {
        let generation = match generation {
            Generation::Even => 0,
            Generation::Odd => ODD,
        };
        let cancellable = if cancellable { CANCELLABLE } else { 0 };
        Mark(order << ORDER_SHIFT | cancellable | generation | priority as u64)
    }

    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Mark(bits)
    }

    pub(crate) fn order(self) -> u64 {
        self.0 >> ORDER_SHIFT
    }

    pub(crate) fn set_order(&mut self, order: u64) {
        let rest = self.0 & ((1 << ORDER_SHIFT) - 1);
        self.0 = order << ORDER_SHIFT | rest;
    }

    pub(crate) fn generation(self) -> Generation {
        if self.0 & ODD == 0 {
            Generation::Even
        } else {
            Generation::Odd
        }
    }

    pub(crate) fn is_cancellable(self) -> bool {
        self.0 & CANCELLABLE != 0
    }

    pub(crate) fn priority(self) -> Priority {
        const LOW: u64 = Priority::Low as u64;
        const NORMAL: u64 = Priority::Normal as u64;
        match self.0 & PRIORITY {
            LOW => Priority::Low,
            NORMAL => Priority::Normal,
            _ => Priority::High,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        for priority in [Priority::Low, Priority::Normal, Priority::High] {
            for generation in [Generation::Even, Generation::Odd] {
                for cancellable in [false, true] {
                    let mut mark = Mark::new(7, generation, cancellable, priority);
                    for order in [7, 0, u64::MAX >> ORDER_SHIFT] {
                        mark.set_order(order);
                        assert_eq!(mark.order(), order);
                        assert_eq!(mark.priority(), priority);
                        assert_eq!(mark.generation(), generation);
                        assert_eq!(mark.is_cancellable(), cancellable);
                    }
                }
            }
        }
    }
}
