//! A short, bounded spin before a thread goes to sleep.

use std::cell::Cell;
use std::time::Instant;

use crate::sync::adaptive_spin::{AdaptiveSpin, SEARCH};
use crate::sync::thread_local;
use crate::sync::time;
use crate::sync::{spin_loop, thread};

/// Looks at the start of a spin, with one hint to the processor between two: 20 to 50 ns each, so that
/// what comes is seen at once. Longer pauses cost a third of the time of a short job's round trip.
const RELAX_TURNS: u32 = if cfg!(worker_pool_shuttle) { 2 } else { 62 };
/// After them a caller gives its core to other threads so many times.
const YIELD_TURNS: u32 = 4;
/// So many waits in a row may end while the core is given away; see [`Backoff::turn`].
const TOGETHER: u32 = 16;

thread_local! {
    /// Waits in a row of this thread that ended while its core was given away.
    static ENDED_AWAY: Cell<u32> = const { Cell::new(0) };
    /// After so many turns its last waits ended.
    static USUAL: Cell<u32> = const { Cell::new(0) };
}

/// Counts the turns of one spin.
#[derive(Default)]
pub(crate) struct Backoff {
    turns: u32,
    /// When a long search began.
    began: Option<Instant>,
    /// For so many turns it is too early to look.
    early: u32,
}

impl Backoff {
    /// For a caller that waits for an answer, and had others before. It does not look for most of the time
    /// that those took: each look takes the answer's cache line from the worker that writes there.
    pub(crate) fn of_caller() -> Self {
        let usual = USUAL.try_with(Cell::get).unwrap_or(0);
        Backoff {
            early: usual * 3 / 4,
            ..Backoff::default()
        }
    }

    /// Is it too early to look?
    #[inline]
    pub(crate) fn is_early(&self) -> bool {
        self.turns < self.early
    }

    /// Waits a moment, a few microseconds in all. `false` when it is time to sleep.
    ///
    /// Two threads that give one core to each other stay there, even if another core is idle: the
    /// kernel looks for a better one only when it wakes a thread. So a thread whose waits ended like
    /// that time and again sleeps once. (Without it a round trip took three times as long in every
    /// other run.)
    pub(crate) fn turn(&mut self) -> bool {
        self.turns += 1;
        if self.relax() {
            return true;
        }
        if self.turns == RELAX_TURNS + 1 && ended_away() >= TOGETHER {
            self.found_at_once();
            return false;
        }
        thread::yield_now();
        self.turns <= RELAX_TURNS + YIELD_TURNS
    }

    /// What the caller waited for is there.
    pub(crate) fn found(&self) {
        let usual = self.turns.min(RELAX_TURNS);
        let _ = USUAL.try_with(|turns| turns.set(usual));
        if self.turns <= RELAX_TURNS {
            self.found_at_once();
        } else {
            let _ = ENDED_AWAY.try_with(|ended| ended.set(ended.get() + 1));
        }
    }

    fn found_at_once(&self) {
        let _ = ENDED_AWAY.try_with(|ended| ended.set(0));
    }

    /// The same for the one worker that searches, which goes on for longer if the outlook is bright.
    /// Cores that others want are theirs.
    pub(crate) fn turn_of_searcher(&mut self, spin_score: &AdaptiveSpin) -> bool {
        self.turns += 1;
        self.relax() || self.go_on(spin_score)
    }

    #[cold]
    fn go_on(&mut self, spin_score: &AdaptiveSpin) -> bool {
        if self.began.is_none() && !spin_score.is_worthwhile() {
            return false;
        }
        thread::yield_now();
        let now = time::now();
        now < *self.began.get_or_insert(now) + SEARCH
    }

    /// When a search began that was long.
    pub(crate) fn began(&self) -> Option<Instant> {
        self.began
    }

    /// Is it too early to give the core away?
    #[inline]
    fn relax(&self) -> bool {
        spin_loop();
        self.turns <= RELAX_TURNS
    }
}

fn ended_away() -> u32 {
    ENDED_AWAY.try_with(Cell::get).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many turns until it is time to sleep.
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
    fn who_searches_goes_on_for_longer_if_the_outlook_is_bright() {
        let spin_score = AdaptiveSpin::default();
        assert!(spin_score.is_worthwhile());
        let search = |spin_score: &AdaptiveSpin| {
            let mut backoff = Backoff::default();
            for _ in 0..RELAX_TURNS {
                assert!(backoff.turn_of_searcher(spin_score));
            }
            let goes_on = backoff.turn_of_searcher(spin_score);
            (goes_on, backoff.began().is_some())
        };
        assert_eq!(search(&spin_score), (true, true));
        spin_score.learn(SEARCH);
        assert_eq!(search(&spin_score), (false, false));
    }

    #[test]
    fn who_shares_a_core_time_and_again_sleeps_once() {
        let long = RELAX_TURNS + YIELD_TURNS + 1;
        assert_eq!(turns(), long);
        for _ in 0..TOGETHER {
            find_after(RELAX_TURNS + 1);
        }
        assert_eq!(turns(), RELAX_TURNS + 1, "no core is given away");
        assert_eq!(turns(), long, "once is enough");
        for _ in 1..TOGETHER {
            find_after(RELAX_TURNS + 1);
        }
        find_after(RELAX_TURNS); // in time
        find_after(RELAX_TURNS + 1);
        assert_eq!(turns(), long);
    }

    #[test]
    fn a_caller_looks_when_its_answer_may_be_there() {
        assert!(!Backoff::of_caller().is_early(), "nothing is known");
        find_after(20);
        let mut backoff = Backoff::of_caller();
        let early = (0..20)
            .take_while(|_| backoff.is_early() && backoff.turn())
            .count();
        assert_eq!(early, 15);
        // Answers that come ever sooner are found ever sooner.
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
