//! A short, bounded spin before a thread goes to sleep.

use std::time::{Duration, Instant};

use crate::sync::thread;

/// Turns in which the processor is only told to relax: 2, 4, … 32 times.
const RELAX_TURNS: u32 = 5;
/// After them a caller gives its core to other threads so many times.
const YIELD_TURNS: u32 = 4;
/// And a worker for so long. To sleep and be woken takes some 40 µs on a virtual machine: a worker
/// that looked for less would sleep again before the caller that it woke can submit its next job.
const SEARCH: Duration = Duration::from_micros(100);

/// Counts the turns of one spin.
#[derive(Default)]
pub(crate) struct Spin {
    turns: u32,
    until: Option<Instant>,
}

impl Spin {
    /// Waits a moment longer than the last time, a few microseconds in all. `false` when it is time
    /// to sleep.
    pub(crate) fn turn(&mut self) -> bool {
        self.turns += 1;
        if self.turns <= RELAX_TURNS {
            self.relax();
        } else {
            thread::yield_now();
        }
        self.turns <= RELAX_TURNS + YIELD_TURNS
    }

    /// The same for the one worker that searches, which goes on for longer. Cores that others want
    /// are theirs.
    pub(crate) fn turn_of_searcher(&mut self) -> bool {
        self.turns += 1;
        if self.turns <= RELAX_TURNS {
            self.relax();
            return true;
        }
        thread::yield_now();
        let now = Instant::now();
        now < *self.until.get_or_insert(now + SEARCH)
    }

    fn relax(&self) {
        for _ in 0..1 << self.turns {
            std::hint::spin_loop();
        }
    }
}
