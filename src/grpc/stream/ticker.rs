//! The ticker: the one thread that decides when streams send.
//!
//! It *polls* the meters, a few times within the spacing of changes, instead of being notified of
//! each change, for three reasons: jobs do no work for clients (counting stays one atomic operation,
//! however many clients there are), the number of waiting jobs is seen too, and one thread serves any
//! number of pools. It polls only while a stream is open; else it sleeps until there is one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::grpc::stream::notify::Signal;
use crate::grpc::stream::threads;
use crate::grpc::stream::{Kind, Streams, Wait, next_tick};
use crate::hook::PoolState;
use crate::sync::unwind as panics;
use crate::sync::{Arc, thread};

/// The longest time between two polls: a client of the health service learns after at most this time
/// that a pool drains.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Streams that are notified of changes per second, on average: the machine is there for its jobs,
/// not for reporting them.
const STREAMS_PER_SECOND: u32 = 500;
/// With many streams the spacing of changes grows, but not beyond this: clients are to learn of a
/// change within a second.
const LARGEST_SPACING: Duration = Duration::from_millis(750);

/// Starts the thread. It ends after [`Streams::stop`].
pub(crate) fn start(streams: Arc<Streams>) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new()
        .name("capacity-ticker".to_owned())
        .spawn(move || {
            threads::register(());
            Ticker::new(streams).run();
        })
}

/// The last notification for one pool.
struct Notified {
    /// The version of the snapshot at that time.
    version: u64,
    at: Instant,
    /// How many streams were notified.
    streams: usize,
    state: PoolState,
}

struct Ticker {
    streams: Arc<Streams>,
    notified: Vec<Notified>,
    next_tick: Instant,
    next_poll: Instant,
    next_sample: Instant,
}

impl Ticker {
    fn new(streams: Arc<Streams>) -> Ticker {
        let now = Instant::now();
        let notified = streams.sources.iter().map(|pool| {
            let (version, snapshot) = pool.newest();
            Notified {
                version,
                at: now.checked_sub(Duration::from_secs(3600)).unwrap_or(now),
                streams: 0,
                state: snapshot.state,
            }
        });
        Ticker {
            notified: notified.collect(),
            next_tick: now + streams.timing.interval,
            next_poll: now,
            next_sample: now,
            streams,
        }
    }

    fn run(mut self) {
        loop {
            match self.streams.wait(self.next_poll.min(self.next_tick)) {
                Wait::Stop => return,
                Wait::First => {
                    // Ticks without a stream are not made up for.
                    let now = Instant::now();
                    self.next_tick = next_tick(self.next_tick, now, self.streams.timing.interval);
                    self.next_poll = now;
                    continue;
                }
                Wait::Due => {}
            }
            // The user's gauges run in here, and so may a stream that is dropped when woken.
            let turn = catch_unwind(AssertUnwindSafe(|| self.turn(Instant::now())));
            if let Err(panic) = turn {
                log::error!("the capacity ticker panicked: {}", panics::message(panic));
                self.next_poll = Instant::now() + POLL_INTERVAL;
            }
        }
    }

    /// Does what is due at `now`.
    fn turn(&mut self, now: Instant) {
        // Set before anything can panic, so that a panic is not repeated without a pause.
        let ticks = self.next_tick <= now;
        if ticks {
            self.next_tick = next_tick(self.next_tick, now, self.streams.timing.interval);
        }
        self.next_poll = now
            + self
                .streams
                .timing
                .spacing
                .map_or(POLL_INTERVAL, |s| s.min(POLL_INTERVAL));
        let mut states_changed = false;
        for number in 0..self.notified.len() {
            // A gauge that panics affects its own pool only.
            let notify = AssertUnwindSafe(|| self.notify(number, ticks, now));
            match catch_unwind(notify) {
                Ok(changed) => states_changed |= changed,
                Err(panic) => {
                    let message = panics::message(panic);
                    log::error!("looking at a pool panicked: {message}");
                }
            }
        }
        if states_changed {
            self.streams
                .notify(Signal::Change, |kind| kind == Kind::Health);
        }
        self.streams.notify_due(now);
        self.sample_loads(now);
    }

    /// Notifies the streams of one pool if there is a reason. True if the pool's state has changed.
    fn notify(&mut self, number: usize, ticks: bool, now: Instant) -> bool {
        let (version, snapshot) = self.streams.sources[number].refresh();
        let spacing = self.streams.timing.spacing;
        let notified = &mut self.notified[number];
        let state_changed = snapshot.state != notified.state;
        let since = now.duration_since(notified.at);
        let due = || spacing.is_some_and(|spacing| since >= spaced(spacing, notified.streams));
        let signal = if ticks {
            Some(Signal::Tick)
        } else if version != notified.version && (state_changed || due()) {
            // A change of state is rare, and may end streams: it is sent at once.
            Some(Signal::Change)
        } else {
            None
        };
        if let Some(signal) = signal {
            notified.version = version;
            notified.at = now;
            notified.state = snapshot.state;
            let mine = |kind| kind == Kind::Capacity(number);
            notified.streams = self.streams.notify(signal, mine);
        }
        state_changed
    }

    /// Samples while any stream sends load reports, many times per window.
    fn sample_loads(&mut self, now: Instant) {
        if self.next_sample > now {
            return;
        }
        self.next_sample = now + self.streams.timing.sampling();
        let reporting = self.streams.reporting();
        for pool in &self.streams.sources {
            if reporting {
                pool.sample();
            } else {
                pool.window.lock().clear();
            }
        }
    }
}

/// The time until the next notification of changes, after one that went to so many streams.
fn spaced(spacing: Duration, streams: usize) -> Duration {
    let streams = u32::try_from(streams).unwrap_or(u32::MAX);
    let spaced = Duration::from_secs(1).saturating_mul(streams) / STREAMS_PER_SECOND;
    spacing.max(spaced.min(LARGEST_SPACING))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_sent_further_apart_the_more_streams_there_are() {
        let ms = Duration::from_millis;
        let usual = |streams| spaced(ms(100), streams);
        assert_eq!(usual(0), ms(100));
        assert_eq!(usual(1), ms(100));
        assert_eq!(usual(50), ms(100));
        assert_eq!(usual(100), ms(200));
        assert_eq!(usual(300), ms(600));
        assert_eq!(usual(375), ms(750));
        assert_eq!(usual(10_000), ms(750), "a client waits no longer");
        assert_eq!(usual(usize::MAX), ms(750));
        // A longer spacing that was set is kept, however many there are.
        assert_eq!(spaced(ms(3_000), 1), ms(3_000));
        assert_eq!(spaced(ms(3_000), 10_000), ms(3_000));
        assert_eq!(spaced(ms(1), 10), ms(20));
    }
}
