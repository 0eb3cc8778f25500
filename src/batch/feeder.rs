//! What a batch's iterators have in common: they read inputs, send them off in chunks, and wait for
//! results.

use std::collections::VecDeque;
use std::iter::Fuse;
use std::time::Duration;

use crate::batch::cursor::ChunkCursor;
use crate::error::RejectReason;
use crate::job::Priority;
use crate::job::cancel::{CancelToken, earliest};
use crate::policy::deadlock::Wait;
use crate::pool::Pool;
use crate::pool::waits::Waiting;
use crate::submit::admit::WaitForRoom;
use crate::sync::backoff::Backoff;
use crate::sync::park::Wake;
use crate::sync::time;
use crate::sync::{Arc, Ordering::SeqCst, fence};
use crate::task::Task;
use crate::task::chunk::progress::{ANY, FINISHED_CHUNKS, Progress};
use crate::task::chunk::reader::Reader;
use crate::task::chunk::{Chunk, ChunkHeader, Load};
use crate::task::header::Header;

/// How long a chunk is to keep a worker busy: much longer than it takes to hand it over, and too short
/// to be noticed.
const CHUNK_TIME: Duration = Duration::from_micros(200);
/// The most inputs of a chunk: those of all chunks on their way fit into the caches of two cores.
const MAX_INPUTS: usize = 4096;
/// The least work that is worth a chunk, even at the end of a batch.
const MIN_CHUNK_TIME: Duration = Duration::from_micros(2);
/// The longest that the iterator reads for one chunk: inputs that come slowly are sent off without
/// waiting for more.
const MAX_READ: Duration = Duration::from_micros(200);
/// How many inputs a batch reads ahead of its consumer by default.
pub(super) const BUFFERED: usize = 65_536;
/// How long the iterator sleeps before it looks at the results a second time; see [`Progress`].
const FIRST_WAIT: Duration = Duration::from_millis(1);

/// What the caller asked of a batch.
#[derive(Clone)]
pub(super) struct BatchOptions {
    pub(super) token: Option<CancelToken>,
    pub(super) cancellable: bool,
    pub(super) priority: Priority,
    pub(super) buffered: usize,
}

pub(super) struct Feeder<I, P, O, E> {
    pool: Arc<Pool<P, O, E>>,
    progress: Arc<Progress>,
    options: BatchOptions,
    inputs: Fuse<I>,
    /// Inputs that were read and not yet sent off.
    held: Load<P, O, E>,
    /// The memory of chunks that were yielded to the end.
    spare: Vec<Load<P, O, E>>,
    /// The chunks that were sent off and not yet yielded to the end.
    pub(super) cursors: VecDeque<ChunkCursor<P, O, E>>,
    /// How many chunks were sent off so far.
    sent: usize,
    /// How many inputs were read, and how many answers yielded.
    read: usize,
    pub(super) yielded: usize,
    /// How long a job takes, once that is known, and the jobs and nanoseconds that it is drawn from.
    nanos_per_job: Option<u64>,
    measured: (u64, u64),
    /// How many inputs can be read in time for the next chunk, by the rate at which they came.
    max_in_time: usize,
    /// The last chunk's inputs came slowly.
    inputs_slow: bool,
    /// Are answers yielded in the order of the inputs?
    ordered: bool,
    /// Jobs are so short that results are taken only from finished chunks: to be woken for every few
    /// results costs more than a short job, and to follow the workers closely would take from them the
    /// cache lines that they write to.
    pub(super) whole_chunks: bool,
    /// Enough chunks are on their way: the awaited one is some chunks away, too far to spin for.
    skip_spin: bool,
}

impl<I, P, O, E> Feeder<I, P, O, E>
where
    I: Iterator<Item = P>,
{
    pub(super) fn new(
        pool: &Arc<Pool<P, O, E>>,
        options: BatchOptions,
        inputs: I,
        ordered: bool,
    ) -> Self {
        Feeder {
            pool: Arc::clone(pool),
            progress: Arc::new(Progress::new()),
            options,
            inputs: inputs.fuse(),
            held: Load::default(),
            spare: Vec::new(),
            cursors: VecDeque::new(),
            sent: 0,
            read: 0,
            yielded: 0,
            nanos_per_job: None,
            measured: (0, 0),
            max_in_time: MAX_INPUTS,
            inputs_slow: false,
            ordered,
            whole_chunks: false,
            skip_spin: false,
        }
    }

    /// How many results are still to come, as far as the inputs tell.
    pub(super) fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = self.inputs.size_hint();
        let read = self.read - self.yielded;
        let most = most.and_then(|most| most.checked_add(read));
        (least.saturating_add(read), most)
    }

    /// Sends off chunks until all workers have enough, the inputs end, they come slowly while an answer
    /// is there, or the consumer is too far behind. Blocks for room in the queue only if there is
    /// nothing else to wait for.
    pub(super) fn feed(&mut self) {
        let workers = self.pool.roster.count().max(1);
        self.progress.notify_at(usize::MAX);
        self.skip_spin = false;
        // A chunk may be yielded to the end before it counts as finished.
        while self.cursors.is_empty()
            || self.sent - self.progress.finished() < self.target_chunks(workers)
        {
            if self.inputs_slow && self.has_answer() {
                // The answer is to be yielded even from an unfinished chunk. Otherwise the two would
                // wait for each other.
                self.whole_chunks = false;
                break;
            }
            if self.held.is_empty() {
                self.read_chunk(workers);
            }
            let finished = self.progress.finished();
            if self.held.is_empty() {
                // Either there are no more inputs, or there is room again when others are yielded.
                let full = self.room() == 0;
                self.progress
                    .notify_at(if full { finished + 1 } else { self.sent });
                return;
            }
            if !self.send() {
                self.progress.notify_at(finished + 1);
                return;
            }
        }
        let few = workers + workers / 2;
        self.progress.notify_at(self.sent.saturating_sub(few));
        self.skip_spin = self.whole_chunks;
    }

    /// How many chunks are to be on their way. The iterator is woken when one and a half per worker are
    /// left: the more chunks, the less often.
    fn target_chunks(&self, workers: usize) -> usize {
        let each = if self.whole_chunks { 5 } else { 2 };
        each * workers
    }

    /// How many more inputs may be read.
    fn room(&self) -> usize {
        let ahead = self.read - self.yielded;
        self.options.buffered.saturating_sub(ahead)
    }

    /// Reads the inputs of the next chunk.
    fn read_chunk(&mut self, workers: usize) {
        let len = self.chunk_len(workers);
        let most = len.min(self.room()).min(self.max_in_time);
        let begun = time::now();
        let (least, _) = self.inputs.size_hint();
        self.held.reserve(least.min(most));
        while self.held.len() < most
            && let Some(payload) = self.inputs.next()
        {
            self.held.push(payload);
            self.read += 1;
            let read = self.held.len();
            if (read.is_power_of_two() || read.is_multiple_of(64)) && time::since(begun) >= MAX_READ
            {
                break;
            }
        }
        if self.held.is_empty() {
            return;
        }
        // If inputs come slowly, the next chunk has as many as come in time.
        let took = time::since(begun);
        let in_time = self.held.len() as u128 * 2 * MAX_READ.as_nanos() / took.as_nanos().max(1);
        self.max_in_time = in_time.clamp(1, MAX_INPUTS as u128) as usize;
        self.inputs_slow = took >= MAX_READ;
    }

    /// Is there an answer that may be yielded next?
    fn has_answer(&self) -> bool {
        if self.ordered {
            self.cursors.front().is_some_and(ChunkCursor::has_answer)
        } else {
            self.cursors.iter().any(ChunkCursor::has_answer)
        }
    }

    /// How many inputs the next chunk is to have, if enough come in time.
    fn chunk_len(&mut self, workers: usize) -> usize {
        let (jobs, nanos) = self.progress.ran_so_far();
        let (old_jobs, old_nanos) = self.measured;
        let (new_jobs, new_nanos) = (jobs - old_jobs, nanos.saturating_sub(old_nanos));
        if let Some(new) = new_nanos.checked_div(new_jobs) {
            self.nanos_per_job = Some(self.nanos_per_job.map_or(new, |old| old.midpoint(new)));
            self.measured = (jobs, nanos);
        }
        let Some(per_job) = self.nanos_per_job else {
            return 1;
        };
        self.whole_chunks = per_job < CHUNK_TIME.as_nanos() as u64;
        let fits = |time: Duration| (time.as_nanos() as u64 / per_job.max(1)) as usize;
        // Rounded to the nearest: two jobs that are a little too long are one chunk, not two.
        let nearest = fits(CHUNK_TIME + Duration::from_nanos(per_job / 2));
        let buffered = self.options.buffered / (2 * workers);
        let mut len = nearest.min(buffered).min(MAX_INPUTS);
        if let Some(rest) = self.inputs.size_hint().1 {
            // The last chunks are small, so that the workers come to the end together.
            len = len.min(fits(MIN_CHUNK_TIME).max(rest / (2 * workers)));
        }
        len.max(1)
    }

    /// Sends off the inputs that are held. `false` if there is no room now.
    fn send(&mut self) -> bool {
        let spare = self.spare.pop().unwrap_or_default();
        let load = std::mem::replace(&mut self.held, spare);
        let jobs = load.len() as u64;
        let (counters, options) = (&self.pool.counters, &self.options);
        let (number, epoch) = counters.in_flight.count_in_many(jobs);
        let header = ChunkHeader {
            number,
            header: Header::new(number, epoch, options.cancellable, options.priority),
            token: options.token.clone(),
            place: self.sent + 1,
            nanos_per_job: self.nanos_per_job,
        };
        let (chunk, reader) = Reader::of_new_chunk(header, load, Arc::clone(&self.progress));
        if let Err((mut task, reason)) = self.admit(Task::chunk(chunk)) {
            counters.not_accepted_now(epoch, jobs);
            let chunk = task.take_chunk().expect("the task was made of a chunk");
            if reason == RejectReason::Full {
                drop(chunk);
                // Tried again soon, so the memory of both is kept.
                let spare = std::mem::replace(&mut self.held, reader.take_back());
                self.spare.push(spare);
                return false;
            }
            chunk.reject(reason, None);
        }
        self.sent += 1;
        let first = self.read - reader.len();
        self.cursors.push_back(ChunkCursor::new(first, reader));
        true
    }

    fn admit(&self, task: Task<P, O, E>) -> Result<(), (Task<P, O, E>, RejectReason)> {
        let token = self.options.token.as_ref();
        if let Some(fired) = token.and_then(CancelToken::fired_by) {
            return Err((task, fired.into()));
        }
        if self.pool.must_not_block() {
            return Err((task, RejectReason::WouldDeadlock));
        }
        let wait_for_room = if self.cursors.is_empty() {
            WaitForRoom::Until(token)
        } else {
            WaitForRoom::None
        };
        self.pool.admit(task, wait_for_room)
    }

    /// Removes the cursor of a chunk that was yielded to the end, and keeps the chunk's memory.
    pub(super) fn remove_done(&mut self, at: usize) {
        if self.cursors.get(at).is_some_and(ChunkCursor::is_done) {
            let load = self.cursors.remove(at).and_then(ChunkCursor::recycle);
            self.spare.extend(load);
        }
    }

    /// Spins for a moment, until `look` finds something.
    pub(super) fn spin<R>(&mut self, mut look: impl FnMut(&mut Self) -> Option<R>) -> Option<R> {
        if self.skip_spin {
            return None;
        }
        let mut backoff = Backoff::default();
        loop {
            let found = look(self);
            if found.is_some() || !backoff.turn() {
                return found;
            }
        }
    }

    /// Blocks until `look` finds something. `None` if more is to be sent off first.
    pub(super) fn wait<R>(&mut self, mut look: impl FnMut(&mut Self) -> Option<R>) -> Option<R> {
        let (pool, progress) = (Arc::clone(&self.pool), Arc::clone(&self.progress));
        let token = self.options.token.clone();
        let deadline = token.as_ref().and_then(CancelToken::deadline);
        let waiting = Waiting::begin(Wait::Job(pool.key()), deadline);
        if pool.must_not_block() {
            self.give_up(RejectReason::WouldDeadlock); // it takes only what is there
        }
        let _watch = token.as_ref().map(|token| {
            let parker = Arc::clone(progress.parker());
            token.watch(parker as Arc<dyn Wake>)
        });
        // How many times it has slept for the same results; see `Progress`. A pool's thread begins at 1:
        // with `whole_chunks` it could be taken for deadlocked while a result is there.
        let mut waits = u32::from(waiting.is_some());
        let mut deadlocked = false;
        // Inputs that found the queue full are sent off as soon as there is room.
        let full = !self.held.is_empty();
        let mut waiter = full.then(|| pool.admission.add_waiter(progress.parker()));
        loop {
            if let Some(waiter) = waiter.as_mut().filter(|waiter| waiter.is_woken()) {
                waiter.rejoin(); // if another thread takes the room, this one is woken again
            }
            progress.await_at(self.what_to_await(waits));
            fence(SeqCst);
            let found = look(self);
            let feed = progress.is_low() || (full && pool.admission.has_answer());
            if found.is_some() || feed {
                progress.await_nothing();
                return found;
            }
            if let Some(fired) = token.as_ref().and_then(CancelToken::fired_by) {
                self.give_up(fired.into());
                continue;
            }
            if std::mem::take(&mut deadlocked) {
                if self.reject(RejectReason::WouldDeadlock) {
                    continue;
                }
                if waiting.as_ref().is_some_and(Waiting::is_bound) {
                    self.give_up(RejectReason::WouldDeadlock); // also on those that run
                    continue;
                }
                waiting.iter().for_each(Waiting::cannot_withdraw);
            }
            let limit = (waits < 2).then(|| time::now() + FIRST_WAIT);
            progress.set_asleep(limit.is_none());
            if waits > 0 && !pool.shared_chunks.is_empty() {
                // Jobs are slower than they were: other workers may help.
                pool.sleep.wake_one();
            }
            deadlocked = match &waiting {
                Some(waiting) if limit.is_none() => waiting.park(progress.parker()),
                // Who soon looks again by itself does not wait in vain.
                _ => {
                    progress.parker().park(earliest(limit, deadline));
                    false
                }
            };
            progress.set_asleep(false);
            // The result that it was woken for may not be the next one: then it looks twice again.
            waits = if progress.is_notified() { 1 } else { waits + 1 };
        }
    }

    /// What to wait for. With short jobs, the iterator first waits until some chunks are finished: to be
    /// woken for every few results costs more than the jobs.
    fn what_to_await(&mut self, waits: u32) -> usize {
        self.whole_chunks &= waits == 0;
        match self.cursors.front() {
            _ if self.whole_chunks => FINISHED_CHUNKS,
            Some(cursor) if self.ordered => cursor.chunk().header().place,
            _ => ANY,
        }
    }

    /// Gives up for this reason: jobs that have not begun never will, and the others are not waited for.
    fn give_up(&mut self, reason: RejectReason) {
        self.reject(reason);
        for cursor in &mut self.cursors {
            cursor.give_up(reason);
        }
    }

    /// Rejects the inputs that no worker has in its hand. Were there any?
    fn reject(&mut self, reason: RejectReason) -> bool {
        let mut any = false;
        for cursor in &self.cursors {
            any |= reject(&self.pool, cursor.chunk(), reason);
        }
        any
    }
}

/// Rejects a chunk's inputs that no worker has in its hand. Were there any?
fn reject<P, O, E>(pool: &Pool<P, O, E>, chunk: &Chunk<P, O, E>, reason: RejectReason) -> bool {
    let any = chunk.reject(reason, Some(&pool.counters)) > 0;
    if any {
        pool.release_withdrawn();
    }
    any
}

impl<I, P, O, E> Drop for Feeder<I, P, O, E> {
    /// Cancels the jobs that have not begun: their results are not wanted.
    fn drop(&mut self) {
        self.held = Load::default();
        for cursor in &mut self.cursors {
            reject(&self.pool, cursor.chunk(), RejectReason::Cancelled);
            cursor.drop_results();
        }
    }
}
