//! The open streams of a server, and the pools that they show.
//!
//! A call is *registered* when it begins, or rejected if too many are open. It reads the newest
//! snapshot from its [`Source`], and is deregistered when its [`Registration`] is dropped. The ticker
//! thread (`ticker.rs`) notifies streams when they have something to send. No lock is held while a
//! stream is woken, because waking may run or drop it, which deregisters it.

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

/// Short calls (health checks) that may be open at once. They are counted apart from the streams: a
/// server with all streams taken still says whether it is healthy.
const MAX_SHORT_CALLS: usize = 256;
/// Rejections that may be unsent at once. A client that reads none of them gets no more.
const MAX_PENDING_REJECTIONS: usize = 256;

/// How long a stream may take to send its final message. If many end together, the time starts again
/// with each that ends.
const CLOSE_GRACE: Duration = Duration::from_millis(250);

/// How long aborted streams may take to end.
const ABORT_GRACE: Duration = Duration::from_millis(250);
/// The limit of both, however many streams end one after the other.
const GRACE_LIMIT: Duration = Duration::from_secs(1);

/// When things are sent.
#[derive(Debug, Clone)]
pub(crate) struct Timing {
    /// Time between two ticks.
    pub(crate) interval: Duration,
    /// The shortest time between two sends because of changes; `None`: sends on ticks only.
    pub(crate) spacing: Option<Duration>,
    /// How long a client may take to send its first request, and each further one.
    pub(crate) opening: Duration,
    /// The window for ORCA's averages.
    pub(crate) window: Duration,
}

impl Timing {
    /// Time between two samples for ORCA's averages.
    pub(crate) fn sampling(&self) -> Duration {
        (self.window / 64).max(Duration::from_millis(1))
    }
}

/// What a stream waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A request, until this time; then it is late.
    Request(Instant),
    /// It was late, and has until this time to end.
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
    /// A health stream, which clients without the token may be allowed to open.
    Watch,
    Short,
}

/// Why a call was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RejectReason {
    Full,
    Closing,
}

/// Why [`Streams::wait`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The given time has come.
    Due,
    /// There was no stream, for any length of time, and now there is one.
    First,
    /// The ticker is to end.
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
    /// Rejections not sent yet.
    pending_rejections: usize,
    /// Entries with a time of their own at which they are due.
    timed: usize,
    /// Entries that send load reports.
    reporting: usize,
    /// The health service says NOT_SERVING, whatever the pools do.
    lame_duck: bool,
    closing: bool,
    /// The ticker is to end.
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
    /// There is a first stream, or the ticker is to end.
    ticker: Condvar,
    /// The last stream has ended.
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

    /// When a request that is awaited from now on will be late.
    pub(crate) fn request_deadline(&self) -> Instant {
        Instant::now() + self.timing.opening
    }

    /// Registers a call, unless its class is at its limit or the server is closing.
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
        // Streams, and as many health streams; short calls; unsent rejections.
        self.max_streams * 2 + MAX_SHORT_CALLS + MAX_PENDING_REJECTIONS
    }

    /// Streams that are open now, short calls not counted.
    pub(crate) fn open_streams(&self) -> usize {
        let state = self.state.lock();
        state.entries.len() - state.open[Class::Short as usize]
    }

    /// Permission to answer a call with a rejection; `None` if too many are unsent.
    pub(crate) fn begin_rejection(self: &Arc<Self>) -> Option<PendingRejection> {
        let mut state = self.state.lock();
        (state.pending_rejections < MAX_PENDING_REJECTIONS).then(|| {
            state.pending_rejections += 1;
            PendingRejection(Arc::clone(self))
        })
    }

    /// Notifies these streams. Returns their number.
    pub(crate) fn notify(&self, signal: Signal, wanted: impl Fn(Kind) -> bool) -> usize {
        let notifiers = self.state.lock().notifiers(wanted);
        wake(&notifiers, signal);
        notifiers.len()
    }

    /// Notifies streams that are due at a time of their own: reports, and requests that are late.
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

    /// Blocks the ticker until `due`, or while there is no stream.
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

    /// Whether any stream sends load reports.
    pub(crate) fn reporting(&self) -> bool {
        self.state.lock().reporting > 0
    }

    /// Whether calls are welcome: for the pool with this number, or for every pool.
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

    /// From now on the health service says NOT_SERVING; its streams are notified at once.
    pub(crate) fn stop_serving(&self) {
        self.state.lock().lame_duck = true;
        self.notify(Signal::Change, |kind| kind == Kind::Health);
    }

    /// Rejects new calls, and asks every stream to send its final message and end.
    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.notify(Signal::Closing, |_| true);
    }

    /// Ends every stream that has not ended yet; its client sees CANCELLED.
    fn abort(&self) {
        self.notify(Signal::Abort, |_| true);
    }

    /// Blocks until no call is open, or none has ended for `quiet`, or `most` has passed. True if none
    /// is open.
    fn wait_empty(&self, quiet: Duration, most: Duration) -> bool {
        let mut state = self.state.lock();
        let end = Instant::now() + most;
        loop {
            let open = state.entries.len();
            let until = end.min(Instant::now() + quiet);
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

    /// Asks all streams to end and waits for them; aborts those that do not. Then stops the ticker.
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

    /// Stops the ticker.
    fn stop(&self) {
        self.state.lock().stopped = true;
        self.ticker.notify_one();
    }
}

/// A rejection that is not sent yet.
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

/// The first time after `now` in the series `tick`, `tick + period`, `tick + 2 × period`, …: missed
/// ticks are skipped, and delays do not add up.
pub(crate) fn next_tick(tick: Instant, now: Instant, period: Duration) -> Instant {
    let late = now.saturating_duration_since(tick).as_nanos();
    let beyond = period.as_nanos() - late % period.as_nanos();
    let step = |nanos: u128| Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
    if tick > now { tick } else { now + step(beyond) }
}

/// One call in the table of [`Streams`]; dropping it removes the call.
pub(crate) struct Registration {
    pub(crate) streams: Arc<Streams>,
    id: u64,
    pub(crate) notify: Arc<Notify>,
}

impl Registration {
    /// The request has arrived: this is what the call waits for from now on.
    pub(crate) fn wait_for(&self, kind: Kind) {
        let first_report = {
            let mut state = self.streams.state.lock();
            let before = state.reporting;
            state.set_kind(self.id, kind);
            before == 0 && state.reporting > 0
        };
        if first_report {
            // Nothing was sampled since the last stream of reports ended: start afresh.
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
