//! The streams: which streams are open, and what their pools look like now.
//!
//! Streams meet the streams in three ways. They *enter* (and are refused when there are too many),
//! they *read* the newest snapshot of their pool, and they *leave* by dropping their [`Registration`]. The
//! ticker thread (`ticker.rs`) rings their notifiers. No lock is held while a notify wakes a stream,
//! because a stream may be run or dropped by its waking, and then leaves.

pub(crate) mod call;
pub(crate) mod notify;
pub(crate) mod source;
pub(crate) mod threads;
pub(crate) mod ticker;
pub(crate) mod window;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::grpc::stream::notify::{Notify, Signal};
use crate::grpc::stream::source::Source;
use crate::hook::PoolState;
use crate::sync::{Arc, Condvar, Mutex};

/// Short calls (health checks) that may be open at once, apart from the streams: a server that is
/// full of streams still answers whether it is healthy.
const MAX_SHORT_CALLS: usize = 256;
/// Refusals that may be on their way at once. A stranger that reads none of them gets no more.
const MAX_PENDING_REJECTIONS: usize = 256;

/// How long a stream gets to send what is last; those that end together, counted from the last one
/// that did.
const CLOSE_GRACE: Duration = Duration::from_millis(250);

/// How long aborted streams get to be gone.
const ABORT_GRACE: Duration = Duration::from_millis(250);
/// And all in all, each, however many of them end one after the other.
const GRACE_LIMIT: Duration = Duration::from_secs(1);

/// When things are sent.
#[derive(Debug, Clone)]
pub(crate) struct Timing {
    /// From tick to tick.
    pub(crate) interval: Duration,
    /// The smallest time between two sends that are due to changes; `None`: only ticks.
    pub(crate) spacing: Option<Duration>,
    /// How long a client may take from opening a call to its request, and from one to the next.
    pub(crate) opening: Duration,
    /// What ORCA's means are taken over.
    pub(crate) window: Duration,
}

impl Timing {
    /// The time between two samples for ORCA's means.
    pub(crate) fn sampling(&self) -> Duration {
        (self.window / 64).max(Duration::from_millis(1))
    }
}

/// What a stream waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A request, until this time: then it is told that it is late.
    Request(Instant),
    /// It was told, and has until this time to end.
    Late(Instant),
    /// Snapshots of the pool with this number.
    Capacity(usize),
    /// A change of some pool's state.
    Health,
    /// Its next load report.
    Orca { period: Duration, due: Instant },
}

/// Which limit a call counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Stream,
    /// A stream of health, which strangers may be allowed to open.
    Watch,
    Short,
}

/// Why a call was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RejectReason {
    Full,
    Closing,
}

/// Why [`Streams::wait`] came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The time is due.
    Due,
    /// After a sleep of any length the first stream came.
    First,
    /// The ticker shall go.
    Stop,
}

struct Entry {
    notify: Arc<Notify>,
    kind: Kind,
    class: Class,
}

#[derive(Default)]
struct State {
    entries: HashMap<u64, Entry>,
    next_id: u64,
    /// Entries by class.
    open: [usize; 3],
    /// Refusals on their way.
    pending_rejections: usize,
    /// Entries that wait for a time of their own.
    timed: usize,
    /// Entries that send load reports.
    reporting: usize,
    /// Health says NOT_SERVING whatever the pools do.
    lame_duck: bool,
    closing: bool,
    /// The ticker's sign to go.
    stopped: bool,
}

impl Kind {
    fn is_timed(self) -> bool {
        matches!(self, Kind::Request(_) | Kind::Late(_) | Kind::Orca { .. })
    }

    fn is_report(self) -> bool {
        matches!(self, Kind::Orca { .. })
    }
}

impl State {
    fn insert(&mut self, entry: Entry) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.open[entry.class as usize] += 1;
        self.timed += usize::from(entry.kind.is_timed());
        self.reporting += usize::from(entry.kind.is_report());
        self.entries.insert(id, entry);
        id
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.open[entry.class as usize] -= 1;
        self.timed -= usize::from(entry.kind.is_timed());
        self.reporting -= usize::from(entry.kind.is_report());
        Some(entry)
    }

    fn set_kind(&mut self, id: u64, kind: Kind) {
        if let Some(entry) = self.entries.get_mut(&id) {
            let before = std::mem::replace(&mut entry.kind, kind);
            self.timed += usize::from(kind.is_timed());
            self.timed -= usize::from(before.is_timed());
            self.reporting += usize::from(kind.is_report());
            self.reporting -= usize::from(before.is_report());
        }
    }

    fn notifiers(&self, wanted: impl Fn(Kind) -> bool) -> Vec<Arc<Notify>> {
        let entries = self.entries.values().filter(|entry| wanted(entry.kind));
        entries.map(|entry| Arc::clone(&entry.notify)).collect()
    }
}

pub(crate) struct Streams {
    pub(crate) sources: Vec<Source>,
    pub(crate) timing: Timing,
    max_streams: usize,
    state: Mutex<State>,
    /// The first stream came, or the ticker shall go.
    ticker: Condvar,
    /// The last stream left.
    empty: Condvar,
}

impl Streams {
    pub(crate) fn new(sources: Vec<Source>, timing: Timing, max_streams: usize) -> Streams {
        Streams {
            sources,
            timing,
            max_streams,
            state: Mutex::new(State::default()),
            ticker: Condvar::new(),
            empty: Condvar::new(),
        }
    }

    /// Until when a client may keep a call waiting for its request.
    pub(crate) fn request_deadline(&self) -> Instant {
        Instant::now() + self.timing.opening
    }

    /// Lets a call in.
    pub(crate) fn register(self: &Arc<Self>, class: Class) -> Result<Registration, RejectReason> {
        let notify = Arc::new(Notify::new());
        let mut state = self.state.lock();
        if state.closing {
            return Err(RejectReason::Closing);
        }
        let most = match class {
            Class::Stream | Class::Watch => self.max_streams,
            Class::Short => MAX_SHORT_CALLS,
        };
        if state.open[class as usize] >= most {
            return Err(RejectReason::Full);
        }
        let id = state.insert(Entry {
            notify: Arc::clone(&notify),
            kind: Kind::Request(self.request_deadline()),
            class,
        });
        if state.entries.len() == 1 {
            self.ticker.notify_one();
        }
        Ok(Registration {
            streams: Arc::clone(self),
            id,
            notify,
        })
    }

    /// The most calls that one connection may have open.
    pub(crate) fn max_calls(&self) -> usize {
        // Streams, and as many that watch health; short calls; refusals on their way.
        self.max_streams * 2 + MAX_SHORT_CALLS + MAX_PENDING_REJECTIONS
    }

    /// Streams that are open now, short calls not counted.
    pub(crate) fn open_streams(&self) -> usize {
        let state = self.state.lock();
        state.entries.len() - state.open[Class::Short as usize]
    }

    /// A call is to be refused in words; `None` if too many refusals are on their way.
    pub(crate) fn begin_rejection(self: &Arc<Self>) -> Option<PendingRejection> {
        let mut state = self.state.lock();
        (state.pending_rejections < MAX_PENDING_REJECTIONS).then(|| {
            state.pending_rejections += 1;
            PendingRejection(Arc::clone(self))
        })
    }

    /// Rings the notifiers of these streams; how many were they?
    pub(crate) fn notify(&self, signal: Signal, wanted: impl Fn(Kind) -> bool) -> usize {
        let notifiers = self.state.lock().notifiers(wanted);
        wake(&notifiers, signal);
        notifiers.len()
    }

    /// Rings what is due by its own time: reports, and requests that did not come.
    pub(crate) fn notify_due(&self, now: Instant) {
        let (mut due, mut overdue) = (Vec::new(), Vec::new());
        let mut state = self.state.lock();
        if state.timed == 0 {
            return;
        }
        for entry in state.entries.values_mut() {
            match &mut entry.kind {
                Kind::Request(until) if *until <= now => {
                    entry.kind = Kind::Late(now + CLOSE_GRACE);
                    due.push(Arc::clone(&entry.notify));
                }
                Kind::Late(until) if *until <= now => overdue.push(Arc::clone(&entry.notify)),
                Kind::Orca { period, due: next } if *next <= now => {
                    *next = next_tick(*next, now, *period);
                    due.push(Arc::clone(&entry.notify));
                }
                _ => {}
            }
        }
        drop(state);
        wake(&due, Signal::Tick);
        wake(&overdue, Signal::Abort);
    }

    /// Blocks the ticker: until `due`, or, while there is no stream, for as long as it takes.
    pub(crate) fn wait(&self, due: Instant) -> Wait {
        let mut state = self.state.lock();
        let mut slept = false;
        loop {
            if state.stopped {
                return Wait::Stop;
            }
            if state.entries.is_empty() {
                slept = true;
                self.ticker.wait(&mut state);
            } else if slept {
                return Wait::First;
            } else if self.ticker.wait_until(&mut state, due).timed_out() {
                return if state.stopped { Wait::Stop } else { Wait::Due };
            }
        }
    }

    /// Is there a stream of load reports?
    pub(crate) fn reporting(&self) -> bool {
        self.state.lock().reporting > 0
    }

    /// Does this server want calls: for the pool with this number, or with all of its pools?
    pub(crate) fn serving(&self, pool: Option<usize>) -> bool {
        {
            let state = self.state.lock();
            if state.lame_duck || state.closing {
                return false;
            }
        }
        let runs = |pool: &Source| pool.refresh().1.state == PoolState::Running;
        match pool {
            Some(pool) => runs(&self.sources[pool]),
            None => self.sources.iter().all(runs),
        }
    }

    /// From now on health says NOT_SERVING, and those who watch it learn so at once.
    pub(crate) fn stop_serving(&self) {
        self.state.lock().lame_duck = true;
        self.notify(Signal::Change, |kind| kind == Kind::Health);
    }

    /// Lets nobody in any more, and asks every stream to send what is last and to end.
    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.notify(Signal::Closing, |_| true);
    }

    /// Ends every stream that has not ended yet; its client sees CANCELLED.
    fn abort(&self) {
        self.notify(Signal::Abort, |_| true);
    }

    /// Blocks until no call is open, or none has ended for as long as `patience`, or `most` has
    /// passed. True if none is open.
    fn wait_empty(&self, timeout: Duration, most: Duration) -> bool {
        let mut state = self.state.lock();
        let end = Instant::now() + most;
        loop {
            let open = state.entries.len();
            let until = end.min(Instant::now() + timeout);
            while !state.entries.is_empty() {
                if self.empty.wait_until(&mut state, until).timed_out() {
                    break;
                }
            }
            let late = Instant::now() >= end;
            if state.entries.is_empty() || state.entries.len() == open || late {
                return state.entries.is_empty();
            }
        }
    }

    /// Asks all streams to end and waits for them; cuts off those that do not. Then the ticker goes.
    pub(crate) fn shut_down(&self) {
        self.close();
        if !self.wait_empty(CLOSE_GRACE, GRACE_LIMIT) {
            self.abort();
            if !self.wait_empty(ABORT_GRACE, GRACE_LIMIT) {
                log::warn!("{} gRPC calls did not end in time", self.open_streams());
            }
        }
        self.stop();
    }

    /// Lets the ticker go.
    fn stop(&self) {
        self.state.lock().stopped = true;
        self.ticker.notify_one();
    }
}

/// A refusal on its way.
pub(crate) struct PendingRejection(Arc<Streams>);

impl Drop for PendingRejection {
    fn drop(&mut self) {
        self.0.state.lock().pending_rejections -= 1;
    }
}

fn wake(notifiers: &[Arc<Notify>], signal: Signal) {
    for notify in notifiers {
        if let Some(waker) = notify.notify(signal) {
            waker.wake();
        }
    }
}

/// The first time after `now` in the row `tick`, `tick + period`, `tick + 2 × period`, …: times
/// that were missed are skipped, and lateness does not add up.
pub(crate) fn next_tick(tick: Instant, now: Instant, period: Duration) -> Instant {
    let late = now.saturating_duration_since(tick).as_nanos();
    let beyond = period.as_nanos() - late % period.as_nanos();
    let step = |nanos: u128| Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
    if tick > now { tick } else { now + step(beyond) }
}

/// A call's place at the streams, given back when dropped.
pub(crate) struct Registration {
    pub(crate) streams: Arc<Streams>,
    id: u64,
    pub(crate) notify: Arc<Notify>,
}

impl Registration {
    /// The request is here: this is what the call waits for from now on.
    pub(crate) fn wait_for(&self, kind: Kind) {
        let first_report = {
            let mut state = self.streams.state.lock();
            let before = state.reporting;
            state.set_kind(self.id, kind);
            before == 0 && state.reporting > 0
        };
        if first_report {
            // What was sampled for the last one before says nothing of the time between.
            for pool in &self.streams.sources {
                pool.window.lock().clear();
            }
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut state = self.streams.state.lock();
        state.remove(self.id);
        if state.entries.is_empty() {
            self.streams.empty.notify_all();
        }
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
