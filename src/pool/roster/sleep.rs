//! Which workers are awake: as a rule at most one *searches*, the others run jobs or sleep.
//!
//! # States
//!
//! A worker *runs* a job, *searches* (spins for a short time on the ready jobs), or *sleeps* (is on
//! the stack of sleepers, and parks). `count` holds how many search and how many sleep.
//!
//! | change | who | how |
//! |---|---|---|
//! | runs → searches | the worker, if no worker searches | compare-exchange on `count` |
//! | searches → runs | the worker that found a job | `stop_search`: leaves the count, then wakes another worker if more jobs are ready |
//! | runs or searches → sleeps | the worker | under the lock: onto the stack, counts changed, *then* looks for work once more |
//! | sleeps → searches | a thread that released a job and sees no worker search | under the lock: off the stack, counts changed, then unparked |
//! | sleeps → searches | a thread that released a job and sees fewer workers search than the ready jobs are worth | the same |
//! | sleeps → searches | a worker that runs, if many jobs are ready although a worker searches | the same |
//! | sleeps → searches | the worker itself, if its last look found something, or if it is to leave | under the lock |
//!
//! The count changes before the worker can see that it is off the stack. So it never leaves a count
//! that it is not yet in.
//!
//! # Why no job is left lying while a worker sleeps
//!
//! A thread that releases a job puts it in, and *then* reads `count`. There are three cases:
//!
//! - It reads "one searches". Then that worker has not yet left the count, and it looks at the
//!   ready jobs after it does. If it leaves because it found a job, it wakes another worker if more
//!   are ready. If it leaves to sleep, it finds the job before it parks, and stays awake.
//! - It reads "none searches, one sleeps". Then it wakes that worker, as a searcher.
//! - It reads "none searches, none sleeps". Then every worker runs, and looks again before it
//!   parks.
//!
//! All these reads and writes are in one total order (`SeqCst`, with a fence after the job is put
//! in). To wake more workers than these can do no harm: a worker that is woken searches, and looks
//! again when it stops.
//!
//! How long a worker searches before it parks is only a matter of speed. So is what is learnt for
//! that ([`AdaptiveSpin`]) from the workers that are woken.
//!
//! Last in, first out: the most recently parked worker wakes first, while its caches are still
//! warm.

use std::time::Instant;

use crate::job::id::WorkerId;
use crate::pool::roster::record::WorkerRecord;
use crate::sync::adaptive_spin::AdaptiveSpin;
use crate::sync::park::Wake;
use crate::sync::time;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering::SeqCst};

const SEARCHING: u64 = 1 << 32;
const SLEEPING: u64 = 1;
/// At most this many search. More than one do so only if the first does not get to the jobs.
const MAX_SEARCHING: u64 = 4;

/// Which workers search, and which sleep.
#[derive(Default)]
pub(crate) struct Sleep {
    word: Word,
    sleepers: Mutex<Sleepers>,
}

#[derive(Default)]
struct Sleepers {
    /// The most recently parked is on top.
    stack: Vec<Arc<WorkerRecord>>,
    /// The smallest size of the stack since the last reset.
    least: usize,
    /// When the last search in vain began, if no worker was taken off the stack since.
    vain_search: Option<Instant>,
}

impl Sleepers {
    /// Takes the worker at this index off the stack.
    fn take(&mut self, index: usize, adaptive_spin: &AdaptiveSpin) -> Arc<WorkerRecord> {
        let record = self.stack.remove(index);
        self.least = self.least.min(self.stack.len());
        if let Some(began) = self.vain_search.take() {
            adaptive_spin.learn(time::since(began));
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
    /// Hardly ever changes while no worker parks.
    adaptive_spin: AdaptiveSpin,
}

impl Sleep {
    /// How many workers sleep, if none searches.
    pub(crate) fn sleeping_quietly(&self) -> Option<usize> {
        let count = self.word.count.load(SeqCst);
        (count < SEARCHING).then_some(count as usize)
    }

    /// At least this many workers slept at every moment since the last call of
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

    /// Tells whether a long search is worthwhile.
    pub(crate) fn adaptive_spin(&self) -> &AdaptiveSpin {
        &self.word.adaptive_spin
    }

    /// The calling worker wants to search. Returns `false` if another searches already.
    pub(crate) fn try_search(&self) -> bool {
        let count = self.word.count.load(SeqCst);
        count < SEARCHING
            && self
                .word
                .count
                .compare_exchange(count, count + SEARCHING, SeqCst, SeqCst)
                .is_ok()
    }

    /// The calling worker searched, and stops: it found a job, or is to leave. After this call, it
    /// looks at the ready jobs, and calls [`wake_one`](Self::wake_one) if there are any.
    pub(crate) fn stop_search(&self) {
        let before = self.word.count.fetch_sub(SEARCHING, SeqCst);
        debug_assert!(before >= SEARCHING, "nobody searched");
    }

    /// Wakes a sleeper to search, unless a worker searches already. For threads that released a
    /// job: a sequentially consistent fence lies between the release and this call.
    #[inline]
    pub(crate) fn wake_one(&self) {
        let count = self.word.count.load(SeqCst);
        if count < SEARCHING && count != 0 {
            self.wake_sleeper(1);
        }
    }

    /// As [`wake_one`](Self::wake_one). And if the ready jobs are `worth` more workers than search,
    /// wakes one more: a worker that is woken takes longer to get going than many a job takes.
    #[inline]
    pub(crate) fn wake_for(&self, worth: impl FnOnce() -> usize) {
        let count = self.word.count.load(SeqCst);
        if count.is_multiple_of(SEARCHING) {
            return; // no worker sleeps
        }
        let searching = count / SEARCHING;
        if searching == 0 || (searching < MAX_SEARCHING && worth() as u64 > searching) {
            self.wake_sleeper(searching + 1);
        }
    }

    /// Many jobs are ready. If a worker searches nevertheless, it is just waking up, or has no
    /// core: with more workers than cores, it may wait for some milliseconds behind one that runs
    /// jobs, while another core is idle. Wakes one more.
    #[inline]
    pub(crate) fn help_search(&self) {
        let count = self.word.count.load(SeqCst);
        if count >= SEARCHING && !count.is_multiple_of(SEARCHING) {
            self.wake_sleeper(MAX_SEARCHING);
        }
    }

    /// Wakes a sleeper, unless at least `max` workers search.
    #[cold]
    fn wake_sleeper(&self, max: u64) {
        let record = {
            let mut sleepers = self.sleepers.lock();
            if self.word.count.load(SeqCst) >= max * SEARCHING {
                return;
            }
            let Some(top) = sleepers.stack.len().checked_sub(1) else {
                return;
            };
            let record = sleepers.take(top, self.adaptive_spin());
            self.count_awake(&record);
            record
        };
        record.parker.wake();
    }

    /// The calling worker found nothing, and sleeps until it is woken or is to leave. If it
    /// searched until now, `searching` is when it began to. `work` tells whether there is something
    /// to do after all. Afterwards the worker searches.
    pub(crate) fn sleep(
        &self,
        record: &Arc<WorkerRecord>,
        searching: Option<Instant>,
        work: impl Fn() -> bool,
    ) {
        {
            let mut sleepers = self.sleepers.lock();
            sleepers.vain_search = searching.or(sleepers.vain_search);
            sleepers.stack.push(Arc::clone(record));
            record.asleep.store(true, SeqCst);
            let change = if searching.is_some() { SEARCHING } else { 0 };
            let change = SLEEPING.wrapping_sub(change);
            let before = self.word.count.fetch_add(change, SeqCst);
            debug_assert!(
                searching.is_none() || before >= SEARCHING,
                "it did not search"
            );
        }
        if work() {
            return self.leave_stack(record);
        }
        loop {
            record.parker.park(None);
            if !record.asleep.load(SeqCst) {
                return; // the thread that took it off the stack counted it as searching
            }
            if record.is_leaving() {
                return self.leave_stack(record);
            }
        }
    }

    /// The calling worker leaves the stack by itself, if it is still there, as a searcher.
    fn leave_stack(&self, record: &Arc<WorkerRecord>) {
        let mut sleepers = self.sleepers.lock();
        if record.asleep.load(SeqCst) {
            // From the top: workers that leave by themselves are mostly the most recently parked.
            let stack = &sleepers.stack;
            let index = stack.iter().rposition(|other| Arc::ptr_eq(other, record));
            sleepers.take(
                index.expect("a sleeper is on the stack"),
                self.adaptive_spin(),
            );
            self.count_awake(record);
        }
    }

    /// Under the lock: a worker that slept searches. It is counted *before* it can see that it is off
    /// the stack: one that was woken for another reason, such as to leave, stops searching at once.
    fn count_awake(&self, record: &WorkerRecord) {
        let before = self.word.count.fetch_add(SEARCHING - SLEEPING, SeqCst);
        debug_assert!(!before.is_multiple_of(SEARCHING), "nobody slept");
        record.asleep.store(false, SeqCst);
    }
}

#[cfg(all(test, worker_pool_shuttle))]
mod model;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::adaptive_spin::SEARCH;

    /// Adds a worker that sleeps, without a thread.
    fn add_sleeper(sleep: &Sleep, id: u64) {
        let record = Arc::new(WorkerRecord::new(WorkerId::new(id), false, false));
        sleep.word.count.fetch_add(SLEEPING, SeqCst);
        record.asleep.store(true, SeqCst);
        sleep.sleepers.lock().stack.push(record);
    }

    #[test]
    fn the_least_asleep_is_remembered_until_it_is_reset() {
        let sleep = Sleep::default();
        let records =
            [1, 2, 3].map(|id| Arc::new(WorkerRecord::new(WorkerId::new(id), false, false)));
        sleep.sleepers.lock().stack.extend(records.iter().cloned());
        assert_eq!(sleep.least_asleep(), 0, "none slept from the beginning");
        sleep.reset_least_asleep();
        assert_eq!(sleep.least_asleep(), 3);
        assert_eq!(sleep.longest_asleep(), Some(WorkerId::new(1)));
        // One goes to sleep, finds something to do after all, and leaves the stack.
        let fourth = Arc::new(WorkerRecord::new(WorkerId::new(4), false, false));
        sleep.sleep(&fourth, None, || true);
        assert_eq!(sleep.least_asleep(), 3);
        let awake = sleep.sleepers.lock().take(1, sleep.adaptive_spin());
        sleep.sleepers.lock().stack.push(awake);
        assert_eq!(sleep.least_asleep(), 2, "one of them was awake meanwhile");
        sleep.reset_least_asleep();
        assert_eq!(sleep.least_asleep(), 3);
    }

    #[test]
    fn more_are_woken_while_fewer_search_than_jobs_are_ready() {
        let sleep = Sleep::default();
        let asleep = || sleep.sleepers.lock().stack.len();
        sleep.wake_for(|| unreachable!("none sleeps"));
        (1..=6).for_each(|id| add_sleeper(&sleep, id));
        sleep.wake_for(|| unreachable!("none searches"));
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
        let adaptive_spin = sleep.adaptive_spin();
        let long_ago = Instant::now() - 2 * SEARCH;
        assert!(adaptive_spin.is_worthwhile());
        // Goes to sleep, finds something to do after all, and leaves the stack.
        let record = Arc::new(WorkerRecord::new(WorkerId::new(1), false, false));
        sleep.sleep(&record, None, || true);
        assert!(adaptive_spin.is_worthwhile(), "it had not searched");
        sleep.sleep(&record, Some(long_ago), || true);
        assert!(
            !adaptive_spin.is_worthwhile(),
            "a search would have been too long"
        );
        assert_eq!(sleep.sleepers.lock().vain_search, None);
    }

    #[test]
    fn a_search_is_helped_by_some_of_those_that_sleep() {
        let sleep = Sleep::default();
        let asleep = || sleep.sleepers.lock().stack.len();
        (1..=6).for_each(|id| add_sleeper(&sleep, id));
        sleep.help_search();
        assert_eq!(asleep(), 6, "none searches that could be helped");
        assert!(sleep.try_search());
        sleep.wake_one();
        assert_eq!(asleep(), 6, "one searches already");
        for left in [5, 4, 3, 3] {
            sleep.help_search();
            assert_eq!(asleep(), left);
        }
        for _ in 0..MAX_SEARCHING {
            assert_eq!(sleep.sleeping_quietly(), None);
            sleep.stop_search();
        }
        assert_eq!(sleep.sleeping_quietly(), Some(3));
    }
}
