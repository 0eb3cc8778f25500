//! A short, bounded spin before a thread goes to sleep.

use crate::sync::thread;

/// Steps in which the processor is only told to relax: 2, 4, … 32 times.
const RELAX_STEPS: u32 = 5;
/// After them, steps that give the core to another thread.
const ALL_STEPS: u32 = RELAX_STEPS + 4;

/// Counts the steps of one spin; about ten microseconds in all on an otherwise idle machine.
#[derive(Default)]
pub(crate) struct Spin(u32);

impl Spin {
    /// Waits a moment longer than the last time. `false` when it is time to sleep.
    pub(crate) fn turn(&mut self) -> bool {
        if self.0 >= ALL_STEPS {
            return false;
        }
        self.0 += 1;
        if self.0 <= RELAX_STEPS {
            for _ in 0..1 << self.0 {
                std::hint::spin_loop();
            }
        } else {
            thread::yield_now();
        }
        true
    }
}
