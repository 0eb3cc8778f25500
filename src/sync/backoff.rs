//! A short, bounded spin before a thread goes to sleep.

use std::cell::Cell;
use std::time::Instant;

use crate::sync::adaptive_spin::{AdaptiveSpin, SEARCH};
use crate::sync::thread_local;
use crate::sync::time;
use crate::sync::{spin_loop, thread};

/// The first turns of a spin, each a single spin-loop hint to the processor. One takes 20 to 50 ns, so
/// the spinning thread notices an event at once. Longer pauses cost a third of the time of a short
/// job's round trip.
const RELAX_TURNS: u32 = if cfg!(worker_pool_shuttle) { 2 } else { 62 };
/// The turns after those, in which a caller yields its core to other threads.
const YIELD_TURNS: u32 = 4;
/// After this many waits in a row that ended while the core was yielded, the thread sleeps once; see
/// [`Backoff::turn`].
const MAX_YIELDED_WAITS: u32 = 16;

thread_local! {
    /// How many of this thread's waits in a row ended while its core was yielded.
    static YIELDED_WAITS: Cell<u32> = const { Cell::new(0) };
    /// How many turns this thread's last wait took, without those in which it yielded.
    static LAST_TURNS: Cell<u32> = const { Cell::new(0) };
}

/// Counts the turns of one spin. The caller looks for what it waits for between two turns.
#[derive(Default)]
pub(crate) struct Backoff {
    turns: u32,
    /// When the long search began, if this is one.
    began: Option<Instant>,
    /// For this many turns it is too early to look.
    early_turns: u32,
}

impl Backoff {
    /// For a caller that waits for an answer. For three quarters of the turns that its last wait took,
    /// it does not look: each look takes the answer's cache line from the worker that writes there.
    pub(crate) fn of_caller() -> Self {
        let last_turns = LAST_TURNS.try_with(Cell::get).unwrap_or(0);
        Backoff {
            early_turns: last_turns * 3 / 4,
            ..Backoff::default()
        }
    }

    /// Is it too early to look?
    #[inline]
    pub(crate) fn is_early(&self) -> bool {
        self.turns < self.early_turns
    }

    /// Waits for a moment; all turns together take a few microseconds. Returns `false` when it is
    /// time to sleep.
    ///
    /// Two threads that yield one core to each other stay on it, even if another core is idle: the
    /// kernel looks for a better core only when it wakes a thread. So a thread whose waits ended in
    /// this way many times in a row sleeps once. (Without that, a round trip took three times as long
    /// in every other run.)
    pub(crate) fn turn(&mut self) -> bool {
        self.turns += 1;
        if self.relax() {
            return true;
        }
        if self.turns == RELAX_TURNS + 1 && yielded_waits() >= MAX_YIELDED_WAITS {
            reset_yielded_waits();
            return false;
        }
        thread::yield_now();
        self.turns <= RELAX_TURNS + YIELD_TURNS
    }

    /// The caller found what it waited for.
    pub(crate) fn found(&self) {
        let turns = self.turns.min(RELAX_TURNS);
        let _ = LAST_TURNS.try_with(|last_turns| last_turns.set(turns));
        if self.turns <= RELAX_TURNS {
            reset_yielded_waits();
        } else {
            let _ = YIELDED_WAITS.try_with(|waits| waits.set(waits.get() + 1));
        }
    }

    /// As [`turn`](Self::turn), for a worker that searches. It continues for longer if a long search
    /// is worthwhile. Meanwhile it yields its core to any thread that wants it.
    pub(crate) fn turn_of_searcher(&mut self, adaptive_spin: &AdaptiveSpin) -> bool {
        self.turns += 1;
        self.relax() || self.search_on(adaptive_spin)
    }

    #[cold]
    fn search_on(&mut self, adaptive_spin: &AdaptiveSpin) -> bool {
        if self.began.is_none() && !adaptive_spin.is_worthwhile() {
            return false;
        }
        thread::yield_now();
        let now = time::now();
        now < *self.began.get_or_insert(now) + SEARCH
    }

    /// When the long search began, if this was one.
    pub(crate) fn began(&self) -> Option<Instant> {
        self.began
    }

    /// Gives the processor a spin-loop hint. Returns `false` once it is time to yield the core.
    #[inline]
    fn relax(&self) -> bool {
        spin_loop();
        self.turns <= RELAX_TURNS
    }
}

fn yielded_waits() -> u32 {
    YIELDED_WAITS.try_with(Cell::get).unwrap_or(0)
}

fn reset_yielded_waits() {
    let _ = YIELDED_WAITS.try_with(|waits| waits.set(0));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many turns it takes until it is time to sleep.
    fn turns() -> u32 {
        let mut backoff = Backoff::default();
        while backoff.turn() {}
        backoff.turns
    }

    fn find_after(turns: u32) {
        let mut backoff = Backoff::default();
        for _ in 0..turns {
            assert!(backoff.turn());
        }
        backoff.found();
    }

    #[test]
    fn a_search_takes_longer_if_that_is_worthwhile() {
        let adaptive_spin = AdaptiveSpin::default();
        assert!(adaptive_spin.is_worthwhile());
        let search = |adaptive_spin: &AdaptiveSpin| {
            let mut backoff = Backoff::default();
            for _ in 0..RELAX_TURNS {
                assert!(backoff.turn_of_searcher(adaptive_spin));
            }
            let goes_on = backoff.turn_of_searcher(adaptive_spin);
            (goes_on, backoff.began().is_some())
        };
        assert_eq!(search(&adaptive_spin), (true, true));
        adaptive_spin.learn(SEARCH);
        assert_eq!(search(&adaptive_spin), (false, false));
    }

    #[test]
    fn a_thread_that_shares_a_core_time_and_again_sleeps_once() {
        let long = RELAX_TURNS + YIELD_TURNS + 1;
        assert_eq!(turns(), long);
        for _ in 0..MAX_YIELDED_WAITS {
            find_after(RELAX_TURNS + 1);
        }
        assert_eq!(turns(), RELAX_TURNS + 1, "it does not yield");
        assert_eq!(turns(), long, "once is enough");
        for _ in 1..MAX_YIELDED_WAITS {
            find_after(RELAX_TURNS + 1);
        }
        find_after(RELAX_TURNS); // before it yields
        find_after(RELAX_TURNS + 1);
        assert_eq!(turns(), long);
    }

    #[test]
    fn a_caller_looks_when_its_answer_may_be_there() {
        assert!(!Backoff::of_caller().is_early(), "no wait is known yet");
        find_after(20);
        let mut backoff = Backoff::of_caller();
        let early = (0..20)
            .take_while(|_| backoff.is_early() && backoff.turn())
            .count();
        assert_eq!(early, 15);
        // If answers come sooner and sooner, they are found sooner and sooner.
        for _ in 0..20 {
            let mut backoff = Backoff::of_caller();
            while backoff.is_early() {
                backoff.turn();
            }
            backoff.found();
        }
        assert!(!Backoff::of_caller().is_early());
    }
}
