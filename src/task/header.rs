//! What a task says of its job, packed in one word: small tasks go through the channels faster.

use crate::job::Priority;
use crate::stats::in_flight::Epoch;

/// `order << 4 | cancellable << 3 | epoch << 2 | priority`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header(u64);

const PRIORITY: u64 = 0b11;
const ODD: u64 = 1 << 2;
const CANCELLABLE: u64 = 1 << 3;
/// Leaves 60 bits for the order: at a job per nanosecond, numbers last for 36 years.
const ORDER_SHIFT: u32 = 4;

impl Header {
    /// `order` tells which of two jobs came first. It is the job's number; in pools with timings,
    /// [`begin_wait`](crate::task::Task::begin_wait) replaces it. `cancellable` tells whether the job's
    /// token may be cancelled while the job waits.
    pub(crate) fn new(order: u64, epoch: Epoch, cancellable: bool, priority: Priority) -> Self {
        let epoch = match epoch {
            Epoch::Even => 0,
            Epoch::Odd => ODD,
        };
        let cancellable = if cancellable { CANCELLABLE } else { 0 };
        Header(order << ORDER_SHIFT | cancellable | epoch | priority as u64)
    }

    /// In place of the header of a job that is answered, while its task waits to be dropped.
    pub(crate) const ANSWERED: Header = Header(u64::MAX);

    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Header(bits)
    }

    pub(crate) fn order(self) -> u64 {
        self.0 >> ORDER_SHIFT
    }

    pub(crate) fn set_order(&mut self, order: u64) {
        let rest = self.0 & ((1 << ORDER_SHIFT) - 1);
        self.0 = order << ORDER_SHIFT | rest;
    }

    pub(crate) fn epoch(self) -> Epoch {
        if self.0 & ODD == 0 {
            Epoch::Even
        } else {
            Epoch::Odd
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
    fn what_is_packed_is_unpacked() {
        for priority in [Priority::Low, Priority::Normal, Priority::High] {
            for epoch in [Epoch::Even, Epoch::Odd] {
                for cancellable in [false, true] {
                    let mut header = Header::new(7, epoch, cancellable, priority);
                    for order in [7, 0, u64::MAX >> ORDER_SHIFT] {
                        header.set_order(order);
                        assert_eq!(header.order(), order);
                        assert_eq!(header.priority(), priority);
                        assert_eq!(header.epoch(), epoch);
                        assert_eq!(header.is_cancellable(), cancellable);
                    }
                }
            }
        }
    }
}
