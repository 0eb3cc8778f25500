//! Which workers are awake: as a rule at most one *searches*, the others run jobs or sleep.
//!
//! # States
//!
//! A worker *runs* a job, *searches* (a short spin on the ready jobs), or *sleeps* (is on the stack
//! of sleepers and parks). `word` counts the searching and the sleeping.
//!
//! | change | who | how |
//! |---|---|---|
//! | runs → searches | the worker, if nobody searches | compare-exchange on `word` |
//! | searches → runs | the worker that found a job | `stop_search`: leaves the count, then wakes another if more is ready |
//! | runs or searches → sleeps | the worker | under the lock: onto the stack, counts changed, *then* looks once more |
//! | sleeps → searches | whoever releases a job and sees nobody search | under the lock: off the stack, counts changed, then unparked |
//! | sleeps → searches | whoever releases a job and sees fewer search than the ready jobs are worth | the same |
//! | sleeps → searches | a worker that runs, if many jobs are ready though somebody searches | the same |
//! | sleeps → searches | the worker itself, if that last look found something | under the lock |
//!
//! # Why no job is left lying while a worker sleeps
//!
//! Whoever releases a job puts it in, and *then* reads `word`. If it reads "one searches", that
//! worker has not yet left the count, and it looks at the ready jobs after it does: as it found a
//! job (and wakes another if more is there), or as it lies down (and stays up). If it reads "nobody
//! searches, one sleeps", it wakes that one, as a searcher. If nobody searches or sleeps, every
//! worker runs and looks again before it lies down. All these reads and writes are in one total
//! order (`SeqCst`, with a fence after the job is put in). To wake more than these can do no harm: who
//! is woken searches, and looks as it stops.
//!
//! How long a worker searches before it lies down is a matter of speed only, and so is what the crew
//! learns for that ([`Outlook`]) from the workers that it wakes.
//!
//! Last in, first out: the worker that lay down last is woken first, its caches still warm.

use std::time::Instant;

use crate::job::id::WorkerId;
use crate::pool::roster::record::Seat;
use crate::sync::adaptive_spin::Outlook;
use crate::sync::park::Wake;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering::SeqCst};

const SEARCHING: u64 = 1 << 32;
const SLEEPING: u64 = 1;
/// So many search at most, and more than one only where the first does not come to it.
const MOST: u64 = 4;

/// Who searches and who sleeps.
#[derive(Default)]
pub(crate) struct Crew {
    word: Word,
    sleepers: Mutex<Sleepers>,
}

#[derive(Default)]
struct Sleepers {
    /// The last to lie down is on top.
    stack: Vec<Arc<Seat>>,
    /// So few were on it at some time since they were counted anew.
    least: usize,
    /// When the last that searched in vain began to, if none was taken off since.
    vain: Option<Instant>,
}

impl Sleepers {
    /// Takes the one at this place off.
    fn take(&mut self, place: usize, outlook: &Outlook) -> Arc<Seat> {
        let seat = self.stack.remove(place);
        self.least = self.least.min(self.stack.len());
        if let Some(began) = self.vain.take() {
            outlook.learn(began.elapsed());
        }
        seat
    }
}

/// On a cache line of its own: every submitter reads it.
#[derive(Default)]
#[repr(align(128))]
struct Word {
    /// `searching << 32 | sleeping`.
    count: AtomicU64,
    /// Changes hardly ever while nobody lies down.
    outlook: Outlook,
}

impl Crew {
    /// How many sleep, if nobody searches.
    pub(crate) fn sleeping_quietly(&self) -> Option<usize> {
        let word = self.word.count.load(SeqCst);
        (word < SEARCHING).then_some(word as usize)
    }

    /// So many at least slept at every moment since the last call of
    /// [`count_asleep_anew`](Self::count_asleep_anew).
    pub(crate) fn least_asleep(&self) -> usize {
        self.sleepers.lock().least
    }

    pub(crate) fn count_asleep_anew(&self) {
        let mut sleepers = self.sleepers.lock();
        sleepers.least = sleepers.stack.len();
    }

    /// The worker that has slept for the longest time.
    pub(crate) fn longest_asleep(&self) -> Option<WorkerId> {
        let sleepers = self.sleepers.lock();
        sleepers.stack.first().map(|seat| seat.id())
    }

    /// Shall a search be long?
    pub(crate) fn outlook(&self) -> &Outlook {
        &self.word.outlook
    }

    /// The calling worker wants to search. `false`: somebody does already.
    pub(crate) fn try_search(&self) -> bool {
        let word = self.word.count.load(SeqCst);
        word < SEARCHING
            && self
                .word
                .count
                .compare_exchange(word, word + SEARCHING, SeqCst, SeqCst)
                .is_ok()
    }

    /// The calling worker searched, and stops: it found a job, or must leave. It looks at the ready
    /// jobs after this call, and calls [`wake_one`](Self::wake_one) if there are any.
    pub(crate) fn stop_search(&self) {
        let before = self.word.count.fetch_sub(SEARCHING, SeqCst);
        debug_assert!(before >= SEARCHING, "nobody searched");
    }

    /// Wakes a sleeper to search, unless somebody searches already. For those who released a job;
    /// a sequentially consistent fence lies between the release and this call.
    #[inline]
    pub(crate) fn wake_one(&self) {
        let word = self.word.count.load(SeqCst);
        if word < SEARCHING && word != 0 {
            self.wake_sleeper(1);
        }
    }

    /// As [`wake_one`](Self::wake_one). And if what is ready is `worth` more workers than search, wakes a
    /// further one: who was woken to search is on its way up for longer than many a job takes.
    #[inline]
    pub(crate) fn wake_for(&self, worth: impl FnOnce() -> usize) {
        let word = self.word.count.load(SeqCst);
        if word.is_multiple_of(SEARCHING) {
            return; // nobody sleeps
        }
        let searching = word / SEARCHING;
        if searching == 0 || (searching < MOST && worth() as u64 > searching) {
            self.wake_sleeper(searching + 1);
        }
    }

    /// Many jobs are ready. If a worker searches all the same, it is on its way or has no core: where
    /// there are more workers than cores, it may wait for some milliseconds behind one that runs jobs,
    /// while another core is idle. Wakes a further one.
    #[inline]
    pub(crate) fn help_search(&self) {
        let word = self.word.count.load(SeqCst);
        if word >= SEARCHING && !word.is_multiple_of(SEARCHING) {
            self.wake_sleeper(MOST);
        }
    }

    /// Wakes a sleeper, unless so many search.
    #[cold]
    fn wake_sleeper(&self, most: u64) {
        let seat = {
            let mut sleepers = self.sleepers.lock();
            if self.word.count.load(SeqCst) >= most * SEARCHING {
                return;
            }
            let Some(top) = sleepers.stack.len().checked_sub(1) else {
                return;
            };
            let seat = sleepers.take(top, self.outlook());
            seat.asleep.store(false, SeqCst);
            self.word.count.fetch_add(SEARCHING - SLEEPING, SeqCst);
            seat
        };
        seat.parker.wake();
    }

    /// The calling worker, which searches if `searching` tells since when, found nothing and sleeps
    /// until it is woken or dismissed. `work` tells whether there is something to do after all.
    /// Afterwards the worker searches.
    pub(crate) fn sleep(
        &self,
        seat: &Arc<Seat>,
        searching: Option<Instant>,
        work: impl Fn() -> bool,
    ) {
        {
            let mut sleepers = self.sleepers.lock();
            sleepers.vain = searching.or(sleepers.vain);
            sleepers.stack.push(Arc::clone(seat));
            seat.asleep.store(true, SeqCst);
            let change = if searching.is_some() { SEARCHING } else { 0 };
            self.word
                .count
                .fetch_add(SLEEPING.wrapping_sub(change), SeqCst);
        }
        if work() {
            return self.get_up(seat);
        }
        loop {
            seat.parker.park(None);
            if !seat.asleep.load(SeqCst) {
                return; // whoever took it off the stack counted it as searching
            }
            if seat.is_leaving() {
                return self.get_up(seat);
            }
        }
    }

    /// The calling worker leaves the stack by itself, as a searcher.
    fn get_up(&self, seat: &Arc<Seat>) {
        let mut sleepers = self.sleepers.lock();
        if seat.asleep.load(SeqCst) {
            // From the top: those who get up by themselves mostly lay down last.
            let stack = &sleepers.stack;
            let place = stack.iter().rposition(|other| Arc::ptr_eq(other, seat));
            sleepers.take(place.expect("a sleeper is on the stack"), self.outlook());
            seat.asleep.store(false, SeqCst);
            self.word.count.fetch_add(SEARCHING - SLEEPING, SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::adaptive_spin::SEARCH;

    /// A worker that sleeps, without a thread.
    fn lie_down(crew: &Crew, id: u64) {
        let seat = Arc::new(Seat::new(WorkerId::new(id), false, false));
        crew.word.count.fetch_add(SLEEPING, SeqCst);
        seat.asleep.store(true, SeqCst);
        crew.sleepers.lock().stack.push(seat);
    }

    #[test]
    fn the_least_that_slept_is_remembered_until_it_is_counted_anew() {
        let crew = Crew::default();
        let seats = [1, 2, 3].map(|id| Arc::new(Seat::new(WorkerId::new(id), false, false)));
        crew.sleepers.lock().stack.extend(seats.iter().cloned());
        assert_eq!(crew.least_asleep(), 0, "none slept from the beginning");
        crew.count_asleep_anew();
        assert_eq!(crew.least_asleep(), 3);
        assert_eq!(crew.longest_asleep(), Some(WorkerId::new(1)));
        // One lies down, finds something to do after all, and gets up.
        let fourth = Arc::new(Seat::new(WorkerId::new(4), false, false));
        crew.sleep(&fourth, None, || true);
        assert_eq!(crew.least_asleep(), 3);
        let up = crew.sleepers.lock().take(1, crew.outlook());
        crew.sleepers.lock().stack.push(up);
        assert_eq!(crew.least_asleep(), 2, "one of them was up meanwhile");
        crew.count_asleep_anew();
        assert_eq!(crew.least_asleep(), 3);
    }

    #[test]
    fn more_are_woken_while_fewer_search_than_jobs_are_ready() {
        let crew = Crew::default();
        let asleep = || crew.sleepers.lock().stack.len();
        crew.wake_for(|| unreachable!("nobody sleeps"));
        (1..=6).for_each(|id| lie_down(&crew, id));
        crew.wake_for(|| unreachable!("nobody searches"));
        assert_eq!(asleep(), 5);
        crew.wake_for(|| 1);
        assert_eq!(asleep(), 5, "one searches already");
        for left in [4, 3, 2] {
            crew.wake_for(|| 6);
            assert_eq!(asleep(), left);
        }
        crew.wake_for(|| unreachable!("enough search, whatever is ready"));
        assert_eq!(asleep(), 2);
    }

    #[test]
    fn the_gap_after_a_vain_search_is_learnt_once() {
        let crew = Crew::default();
        let outlook = crew.outlook();
        let long_ago = Instant::now() - 2 * SEARCH;
        assert!(outlook.is_bright());
        // Lies down, finds something to do after all, and gets up.
        let seat = Arc::new(Seat::new(WorkerId::new(1), false, false));
        crew.sleep(&seat, None, || true);
        assert!(outlook.is_bright(), "it had not searched");
        crew.sleep(&seat, Some(long_ago), || true);
        assert!(!outlook.is_bright(), "a search would have been too long");
        assert_eq!(crew.sleepers.lock().vain, None);
    }

    #[test]
    fn a_search_is_helped_by_some_of_those_that_sleep() {
        let crew = Crew::default();
        let asleep = || crew.sleepers.lock().stack.len();
        (1..=6).for_each(|id| lie_down(&crew, id));
        crew.help_search();
        assert_eq!(asleep(), 6, "nobody searches who could be helped");
        assert!(crew.try_search());
        crew.wake_one();
        assert_eq!(asleep(), 6, "one searches already");
        for left in [5, 4, 3, 3] {
            crew.help_search();
            assert_eq!(asleep(), left);
        }
        for _ in 0..MOST {
            assert_eq!(crew.sleeping_quietly(), None);
            crew.stop_search();
        }
        assert_eq!(crew.sleeping_quietly(), Some(3));
    }
}
