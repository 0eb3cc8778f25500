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
//! How long a worker searches before it lies down is a matter of speed only, and so is what the sleepers
//! learns for that ([`AdaptiveSpin`]) from the workers that it wakes.
//!
//! Last in, first out: the worker that lay down last is woken first, its caches still warm.

use std::time::Instant;

use crate::job::id::WorkerId;
use crate::pool::roster::record::WorkerRecord;
use crate::sync::adaptive_spin::AdaptiveSpin;
use crate::sync::park::Wake;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering::SeqCst};

const SEARCHING: u64 = 1 << 32;
const SLEEPING: u64 = 1;
/// So many search at most, and more than one only where the first does not come to it.
const MOST: u64 = 4;

/// Who searches and who sleeps.
#[derive(Default)]
pub(crate) struct Sleep {
    word: Word,
    sleepers: Mutex<Sleepers>,
}

#[derive(Default)]
struct Sleepers {
    /// The last to lie down is on top.
    stack: Vec<Arc<WorkerRecord>>,
    /// So few were on it at some time since they were counted anew.
    least: usize,
    /// When the last that searched in vain began to, if none was taken off since.
    vain: Option<Instant>,
}

impl Sleepers {
    /// Takes the one at this place off.
    fn take(&mut self, place: usize, spin_score: &AdaptiveSpin) -> Arc<WorkerRecord> {
        let record = self.stack.remove(place);
        self.least = self.least.min(self.stack.len());
        if let Some(began) = self.vain.take() {
            spin_score.learn(began.elapsed());
        }
        record
    }
}

/// On a cache line of its own: every submitter reads it.
#[derive(Default)]
#[repr(align(128))]
struct Word {
    /// `searching << 32 | sleeping`.
    count: AtomicU64,
    /// Changes hardly ever while nobody lies down.
    spin_score: AdaptiveSpin,
}

impl Sleep {
    /// How many sleep, if nobody searches.
    pub(crate) fn sleeping_quietly(&self) -> Option<usize> {
        let word = self.word.count.load(SeqCst);
        (word < SEARCHING).then_some(word as usize)
    }

    /// So many at least slept at every moment since the last call of
    /// [`reset_least_asleep`](Self::reset_least_asleep).
    pub(crate) fn least_asleep(&self) -> usize {
        self.sleepers.lock().least
    }

    pub(crate) fn reset_least_asleep(&self) {
        let mut sleepers = self.sleepers.lock();
        sleepers.least = sleepers.stack.len();
    }

    /// The worker that has slept for the longest time.
    pub(crate) fn longest_asleep(&self) -> Option<WorkerId> {
        let sleepers = self.sleepers.lock();
        sleepers.stack.first().map(|record| record.id())
    }

    /// Shall a search be long?
    pub(crate) fn adaptive_spin(&self) -> &AdaptiveSpin {
        &self.word.spin_score
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
        let record = {
            let mut sleepers = self.sleepers.lock();
            if self.word.count.load(SeqCst) >= most * SEARCHING {
                return;
            }
            let Some(top) = sleepers.stack.len().checked_sub(1) else {
                return;
            };
            let record = sleepers.take(top, self.adaptive_spin());
            record.asleep.store(false, SeqCst);
            self.word.count.fetch_add(SEARCHING - SLEEPING, SeqCst);
            record
        };
        record.parker.wake();
    }

    /// The calling worker, which searches if `searching` tells since when, found nothing and sleeps
    /// until it is woken or dismissed. `work` tells whether there is something to do after all.
    /// Afterwards the worker searches.
    pub(crate) fn sleep(
        &self,
        record: &Arc<WorkerRecord>,
        searching: Option<Instant>,
        work: impl Fn() -> bool,
    ) {
        {
            let mut sleepers = self.sleepers.lock();
            sleepers.vain = searching.or(sleepers.vain);
            sleepers.stack.push(Arc::clone(record));
            record.asleep.store(true, SeqCst);
            let change = if searching.is_some() { SEARCHING } else { 0 };
            self.word
                .count
                .fetch_add(SLEEPING.wrapping_sub(change), SeqCst);
        }
        if work() {
            return self.get_up(record);
        }
        loop {
            record.parker.park(None);
            if !record.asleep.load(SeqCst) {
                return; // whoever took it off the stack counted it as searching
            }
            if record.is_leaving() {
                return self.get_up(record);
            }
        }
    }

    /// The calling worker leaves the stack by itself, as a searcher.
    fn get_up(&self, record: &Arc<WorkerRecord>) {
        let mut sleepers = self.sleepers.lock();
        if record.asleep.load(SeqCst) {
            // From the top: those who get up by themselves mostly lay down last.
            let stack = &sleepers.stack;
            let place = stack.iter().rposition(|other| Arc::ptr_eq(other, record));
            sleepers.take(
                place.expect("a sleeper is on the stack"),
                self.adaptive_spin(),
            );
            record.asleep.store(false, SeqCst);
            self.word.count.fetch_add(SEARCHING - SLEEPING, SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::adaptive_spin::SEARCH;

    /// A worker that sleeps, without a thread.
    fn lie_down(sleep: &Sleep, id: u64) {
        let record = Arc::new(WorkerRecord::new(WorkerId::new(id), false, false));
        sleep.word.count.fetch_add(SLEEPING, SeqCst);
        record.asleep.store(true, SeqCst);
        sleep.sleepers.lock().stack.push(record);
    }

    #[test]
    fn the_least_that_slept_is_remembered_until_it_is_counted_anew() {
        let sleep = Sleep::default();
        let records =
            [1, 2, 3].map(|id| Arc::new(WorkerRecord::new(WorkerId::new(id), false, false)));
        sleep.sleepers.lock().stack.extend(records.iter().cloned());
        assert_eq!(sleep.least_asleep(), 0, "none slept from the beginning");
        sleep.reset_least_asleep();
        assert_eq!(sleep.least_asleep(), 3);
        assert_eq!(sleep.longest_asleep(), Some(WorkerId::new(1)));
        // One lies down, finds something to do after all, and gets up.
        let fourth = Arc::new(WorkerRecord::new(WorkerId::new(4), false, false));
        sleep.sleep(&fourth, None, || true);
        assert_eq!(sleep.least_asleep(), 3);
        let up = sleep.sleepers.lock().take(1, sleep.adaptive_spin());
        sleep.sleepers.lock().stack.push(up);
        assert_eq!(sleep.least_asleep(), 2, "one of them was up meanwhile");
        sleep.reset_least_asleep();
        assert_eq!(sleep.least_asleep(), 3);
    }

    #[test]
    fn more_are_woken_while_fewer_search_than_jobs_are_ready() {
        let sleep = Sleep::default();
        let asleep = || sleep.sleepers.lock().stack.len();
        sleep.wake_for(|| unreachable!("nobody sleeps"));
        (1..=6).for_each(|id| lie_down(&sleep, id));
        sleep.wake_for(|| unreachable!("nobody searches"));
        assert_eq!(asleep(), 5);
        sleep.wake_for(|| 1);
        assert_eq!(asleep(), 5, "one searches already");
        for left in [4, 3, 2] {
            sleep.wake_for(|| 6);
            assert_eq!(asleep(), left);
        }
        sleep.wake_for(|| unreachable!("enough search, whatever is ready"));
        assert_eq!(asleep(), 2);
    }

    #[test]
    fn the_gap_after_a_vain_search_is_learnt_once() {
        let sleep = Sleep::default();
        let spin_score = sleep.adaptive_spin();
        let long_ago = Instant::now() - 2 * SEARCH;
        assert!(spin_score.is_worthwhile());
        // Lies down, finds something to do after all, and gets up.
        let record = Arc::new(WorkerRecord::new(WorkerId::new(1), false, false));
        sleep.sleep(&record, None, || true);
        assert!(spin_score.is_worthwhile(), "it had not searched");
        sleep.sleep(&record, Some(long_ago), || true);
        assert!(
            !spin_score.is_worthwhile(),
            "a search would have been too long"
        );
        assert_eq!(sleep.sleepers.lock().vain, None);
    }

    #[test]
    fn a_search_is_helped_by_some_of_those_that_sleep() {
        let sleep = Sleep::default();
        let asleep = || sleep.sleepers.lock().stack.len();
        (1..=6).for_each(|id| lie_down(&sleep, id));
        sleep.help_search();
        assert_eq!(asleep(), 6, "nobody searches who could be helped");
        assert!(sleep.try_search());
        sleep.wake_one();
        assert_eq!(asleep(), 6, "one searches already");
        for left in [5, 4, 3, 3] {
            sleep.help_search();
            assert_eq!(asleep(), left);
        }
        for _ in 0..MOST {
            assert_eq!(sleep.sleeping_quietly(), None);
            sleep.stop_search();
        }
        assert_eq!(sleep.sleeping_quietly(), Some(3));
    }
}
