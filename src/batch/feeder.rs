//! What the iterators of a batch have in common: they read inputs, send them off in chunks, and wait
//! for results.

use std::collections::VecDeque;
use std::iter::Fuse;
use std::time::{Duration, Instant};

use crate::batch::cursor::ChunkCursor;
use crate::error::RejectReason;
use crate::job::Priority;
use crate::job::cancel::{CancelToken, earliest};
use crate::pool::Pool;
use crate::pool::queue::WaiterGuard;
use crate::pool::roster::current::ThreadRole;
use crate::submit::admit::WaitForRoom;
use crate::sync::backoff::Backoff;
use crate::sync::park::Wake;
use crate::sync::{Arc, Ordering::SeqCst, fence};
use crate::task::Task;
use crate::task::chunk::progress::{ANY, END_OF_SOME, Progress};
use crate::task::chunk::{Chunk, ChunkHeader, Load};
use crate::task::header::Header;

/// A chunk shall keep a worker busy for about so long: much longer than it takes to hand it over, and
/// short beside what anybody notices.
const CHUNK: Duration = Duration::from_micros(200);
/// The most inputs of a chunk: with all that are on their way, what two cores keep close to them.
const MOST: usize = 4096;
/// No worker wants less than this, not even at the end of a batch.
const CRUMB: Duration = Duration::from_micros(2);
/// An input that comes slowly is sent off without waiting for more.
const PATIENCE: Duration = Duration::from_micros(200);
/// How far ahead of its consumer a batch reads, unless it says otherwise.
pub(super) const BUFFERED: usize = 65_536;
/// How long the iterator sleeps before it looks once more; see [`Progress`].
const NAP: Duration = Duration::from_millis(1);

/// What a batch keeps to.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) token: Option<CancelToken>,
    pub(super) cancellable: bool,
    pub(super) priority: Priority,
    pub(super) buffered: usize,
}

pub(super) struct Feeder<I, P, O, E> {
    pool: Arc<Pool<P, O, E>>,
    progress: Arc<Progress>,
    terms: Terms,
    inputs: Fuse<I>,
    /// Read, and not yet sent off.
    held: Load<P, O, E>,
    /// Memory of chunks that were yielded to the end.
    spare: Vec<Load<P, O, E>>,
    /// Sent off, and not yet yielded to the end.
    pub(super) cursors: VecDeque<ChunkCursor<P, O, E>>,
    /// Chunks sent off so far.
    sent: usize,
    /// Inputs read, and answers yielded.
    read: usize,
    pub(super) yielded: usize,
    /// Nanoseconds per job, once known, and what that is drawn from.
    pace: Option<u64>,
    seen: (u64, u64),
    /// The most inputs of the next chunk, as they come.
    stream: usize,
    /// They came slowly the last time.
    slow: bool,
    /// Are answers asked for in the order of the inputs?
    ordered: bool,
    /// Jobs are so short that each chunk is waited for to its end: to be woken for every few results
    /// costs more than a short job, and to follow the workers closely would take from them the cache
    /// lines that they write to.
    pub(super) patient: bool,
    /// Enough is on its way: what it waits for is some chunks away, too far to spin for.
    resting: bool,
}

impl<I, P, O, E> Feeder<I, P, O, E>
where
    I: Iterator<Item = P>,
{
    pub(super) fn new(pool: &Arc<Pool<P, O, E>>, terms: Terms, inputs: I, ordered: bool) -> Self {
        Feeder {
            pool: Arc::clone(pool),
            progress: Arc::new(Progress::new()),
            terms,
            inputs: inputs.fuse(),
            held: Load::default(),
            spare: Vec::new(),
            cursors: VecDeque::new(),
            sent: 0,
            read: 0,
            yielded: 0,
            pace: None,
            seen: (0, 0),
            stream: MOST,
            slow: false,
            ordered,
            patient: false,
            resting: false,
        }
    }

    /// Results still to come, as far as the inputs say.
    pub(super) fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = self.inputs.size_hint();
        let read = self.read - self.yielded;
        let most = most.and_then(|most| most.checked_add(read));
        (least.saturating_add(read), most)
    }

    /// Sends off chunks until all workers have enough, the inputs end or come slowly while an answer
    /// is there, or the consumer is too far behind. Blocks for room in the queue only if there is
    /// nothing else to wait for.
    pub(super) fn feed(&mut self) {
        let workers = self.pool.roster.count().max(1);
        self.progress.notify_at(usize::MAX);
        self.resting = false;
        // A chunk may be yielded to the end before it counts as finished.
        while self.cursors.is_empty() || self.sent - self.progress.finished() < self.enough(workers)
        {
            if self.slow && self.has_answer() {
                // It is to be found: else the two would wait for each other.
                self.patient = false;
                break;
            }
            if self.held.is_empty() {
                self.read_on(workers);
            }
            let finished = self.progress.finished();
            if self.held.is_empty() {
                // Either there are no more, or the next one has room when others are yielded.
                let more = self.room() == 0;
                self.progress
                    .notify_at(if more { finished + 1 } else { self.sent });
                return;
            }
            if !self.send() {
                self.progress.notify_at(finished + 1);
                return;
            }
        }
        let few = workers + workers / 2;
        self.progress.notify_at(self.sent.saturating_sub(few));
        self.resting = self.patient;
    }

    /// So many chunks on their way are enough. It is called when one and a half per worker are left:
    /// the more, the more seldom.
    fn enough(&self, workers: usize) -> usize {
        let each = if self.patient { 5 } else { 2 };
        each * workers
    }

    /// How many more inputs may be read.
    fn room(&self) -> usize {
        self.terms.buffered.saturating_sub(self.read - self.yielded)
    }

    /// Reads the inputs of the next chunk.
    fn read_on(&mut self, workers: usize) {
        let most = self.length(workers).min(self.room()).min(self.stream);
        let begun = Instant::now();
        let (least, _) = self.inputs.size_hint();
        self.held.reserve(least.min(most));
        while self.held.len() < most
            && let Some(payload) = self.inputs.next()
        {
            self.held.push(payload);
            self.read += 1;
            let read = self.held.len();
            if (read.is_power_of_two() || read.is_multiple_of(64)) && begun.elapsed() >= PATIENCE {
                break;
            }
        }
        if self.held.is_empty() {
            return;
        }
        // Those that come slowly are not kept until there are many.
        let took = begun.elapsed();
        let in_time = self.held.len() as u128 * 2 * PATIENCE.as_nanos() / took.as_nanos().max(1);
        self.stream = in_time.clamp(1, MOST as u128) as usize;
        self.slow = took >= PATIENCE;
    }

    /// Is the answer there that is to be yielded next?
    fn has_answer(&self) -> bool {
        if self.ordered {
            self.cursors.front().is_some_and(ChunkCursor::has_answer)
        } else {
            self.cursors.iter().any(ChunkCursor::has_answer)
        }
    }

    /// How many inputs the next chunk shall have.
    fn length(&mut self, workers: usize) -> usize {
        let (jobs, nanos) = self.progress.ran_so_far();
        let (new_jobs, new_nanos) = (jobs - self.seen.0, nanos.saturating_sub(self.seen.1));
        if let Some(new) = new_nanos.checked_div(new_jobs) {
            self.pace = Some(self.pace.map_or(new, |old| old.midpoint(new)));
            self.seen = (jobs, nanos);
        }
        let Some(pace) = self.pace else { return 1 };
        self.patient = pace < CHUNK.as_nanos() as u64;
        let fits = |time: Duration| (time.as_nanos() as u64 / pace.max(1)) as usize;
        // To the nearest: two jobs that are a little too long are one chunk, not two.
        let nearest = fits(CHUNK + Duration::from_nanos(pace / 2));
        let mut length = nearest.min(self.terms.buffered / (2 * workers)).min(MOST);
        if let Some(rest) = self.inputs.size_hint().1 {
            // The last ones small, so that the workers come to the end together.
            length = length.min(fits(CRUMB).max(rest / (2 * workers)));
        }
        length.max(1)
    }

    /// Sends off what is held. `false` if there is no room now.
    fn send(&mut self) -> bool {
        let spare = self.spare.pop().unwrap_or_default();
        let load = std::mem::replace(&mut self.held, spare);
        let jobs = load.len() as u64;
        let counters = &self.pool.counters;
        let (number, epoch) = counters.in_flight.count_in_many(jobs);
        let header = ChunkHeader {
            number,
            header: Header::new(number, epoch, self.terms.cancellable, self.terms.priority),
            token: self.terms.token.clone(),
            place: self.sent + 1,
            pace: self.pace,
        };
        let (chunk, reader) = Chunk::new(header, load, Arc::clone(&self.progress));
        if let Err((mut task, reason)) = self.admit(Task::chunk(chunk)) {
            counters.not_accepted_now(epoch, jobs);
            let chunk = task.as_chunk().expect("it was made of one");
            if reason == RejectReason::Full {
                self.held = chunk.take_payloads();
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
        let token = self.terms.token.as_ref();
        if let Some(fired) = token.and_then(CancelToken::fired_by) {
            return Err((task, fired.into()));
        }
        if self.pool.place() == Some(ThreadRole::Dispatcher) {
            return Err((task, RejectReason::WouldDeadlock)); // it would wait for itself
        }
        let patience = if self.cursors.is_empty() {
            WaitForRoom::Until(token)
        } else {
            WaitForRoom::None
        };
        self.pool.admit(task, patience)
    }

    /// Takes a chunk off the list if it was yielded to the end.
    pub(super) fn remove_done(&mut self, at: usize) {
        if self.cursors.get(at).is_some_and(ChunkCursor::is_done) {
            let load = self.cursors.remove(at).and_then(ChunkCursor::recycle);
            self.spare.extend(load);
        }
    }

    /// Looks for a moment.
    pub(super) fn spin<R>(&mut self, mut look: impl FnMut(&mut Self) -> Option<R>) -> Option<R> {
        if self.resting {
            return None;
        }
        let mut spin = Backoff::default();
        loop {
            let found = look(self);
            if found.is_some() || !spin.turn() {
                return found;
            }
        }
    }

    /// Blocks until `look` finds something. `None` if more is to be sent off meanwhile.
    pub(super) fn wait<R>(&mut self, mut look: impl FnMut(&mut Self) -> Option<R>) -> Option<R> {
        let (pool, progress) = (Arc::clone(&self.pool), Arc::clone(&self.progress));
        let token = self.terms.token.clone();
        let deadline = token.as_ref().and_then(CancelToken::deadline);
        let blocked = match pool.place() {
            Some(ThreadRole::Worker(me)) => {
                Some(pool.roster.block(me, progress.parker(), deadline))
            }
            // Without the dispatcher the pool stands still: it takes what is there.
            Some(ThreadRole::Dispatcher) => {
                self.give_up(RejectReason::WouldDeadlock);
                None
            }
            _ => None,
        };
        let _watch = token.as_ref().map(|token| {
            let parker = Arc::clone(progress.parker());
            token.watch(parker as Arc<dyn Wake>)
        });
        // A worker shall not be thought to wait in vain while its result lies there.
        let mut naps = u32::from(blocked.is_some());
        let mut deadlocked = false;
        // What found the queue full is sent off as soon as there is room.
        let full = !self.held.is_empty();
        let add_waiter = || full.then(|| pool.admission.add_waiter(progress.parker()));
        let mut cursor = add_waiter();
        loop {
            if cursor.as_ref().is_some_and(WaiterGuard::is_woken) {
                cursor = add_waiter(); // and if another was faster, it is called again
            }
            progress.await_at(self.wanted(naps));
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
                blocked.iter().for_each(|blocked| blocked.cannot_withdraw());
            }
            let nap = (naps < 2).then(|| Instant::now() + NAP);
            progress.set_asleep(nap.is_none());
            if naps > 0 && !pool.shared_chunks.is_empty() {
                // Its jobs are slower than they were: others may help.
                pool.sleep.wake_one();
            }
            let until = earliest(nap, deadline);
            deadlocked = pool.park(progress.parker(), blocked.as_ref(), until);
            progress.set_asleep(false);
            // A result that it was called for may not be the one: then it looks twice again.
            naps = if progress.is_notified() { 1 } else { naps + 1 };
        }
    }

    /// What to wait for. At first, with short jobs, for the end of some chunks: to be woken for every
    /// few results costs more than the jobs.
    fn wanted(&mut self, naps: u32) -> usize {
        self.patient &= naps == 0;
        match self.cursors.front() {
            _ if self.patient => END_OF_SOME,
            Some(cursor) if self.ordered => cursor.chunk().header().place,
            _ => ANY,
        }
    }

    /// The batch's token fired: what has not begun never will, and nobody waits for the rest.
    fn give_up(&mut self, reason: RejectReason) {
        self.reject(reason);
        for cursor in &mut self.cursors {
            cursor.give_up(reason);
        }
    }

    /// Turns away what has not begun. Was there any?
    fn reject(&mut self, reason: RejectReason) -> bool {
        let mut any = false;
        for cursor in &self.cursors {
            any |= reject(&self.pool, cursor.chunk(), reason);
        }
        any
    }
}

/// Turns away what nobody has claimed of a chunk. Was there any?
fn reject<P, O, E>(pool: &Pool<P, O, E>, chunk: &Chunk<P, O, E>, reason: RejectReason) -> bool {
    let any = chunk.reject(reason, Some(&pool.counters)) > 0;
    if any {
        pool.place_to_free();
    }
    any
}

impl<I, P, O, E> Drop for Feeder<I, P, O, E> {
    /// Nobody wants what has not begun.
    fn drop(&mut self) {
        self.held = Load::default();
        for cursor in &mut self.cursors {
            cursor.chunk().halt();
            reject(&self.pool, cursor.chunk(), RejectReason::Cancelled);
            cursor.drop_results();
        }
    }
}
