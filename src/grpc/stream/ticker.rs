//! The ticker: the one thread that decides when streams send.
//!
//! It *looks* at the meters a few times per change spacing instead of being told of each change, for
//! three reasons: a job never meets this half (counting stays one atomic operation, however many
//! clients there are), the number of waiting jobs is seen too, and one thread serves any number of
//! pools. It looks only while a stream is open; without one it sleeps until the first comes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::grpc::stream::notify::Signal;
use crate::grpc::stream::threads;
use crate::grpc::stream::{Kind, Streams, Wait, next_tick};
use crate::hook::PoolState;
use crate::sync::unwind as panics;
use crate::sync::{Arc, thread};

/// The longest time between two looks: what a client of the health service waits at most to learn
/// that a pool drains.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Streams that are told of changes in a second, on average: the machine's work is its jobs, not
/// telling of them.
const STREAMS_PER_SECOND: u32 = 500;
/// With many streams changes are told further apart, but no further than this: clients are to hear
/// of a change within a second.
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

/// What the ticker knows of one pool.
struct Notified {
    /// The version that the streams were last rung for.
    version: u64,
    at: Instant,
    /// How many these were.
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
                    // The ticks that nobody waited for are not made up for.
                    let now = Instant::now();
                    self.next_tick = next_tick(self.next_tick, now, self.streams.timing.interval);
                    self.next_poll = now;
                    continue;
                }
                Wait::Due => {}
            }
            // The user's gauges run in here, and so may a stream that is dropped by its waking.
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
            // One pool's gauge that panics keeps nothing from the others.
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

    /// Rings the streams of one pool if there is a reason. Has the pool's state changed?
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
            // A change of state is rare, and ends streams: it is told at once.
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

    /// Samples while somebody listens to load reports, a good number of times per window.
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

/// The time from one round of changes to the next, when so many streams were told in the first.
fn spaced(spacing: Duration, streams: usize) -> Duration {
    let streams = u32::try_from(streams).unwrap_or(u32::MAX);
    let spaced = Duration::from_secs(1).saturating_mul(streams) / STREAMS_PER_SECOND;
    spacing.max(spaced.min(LARGEST_SPACING))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_further_apart_the_more_streams_there_are() {
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
        // Who wants them further apart gets that, however many there are.
        assert_eq!(spaced(ms(3_000), 1), ms(3_000));
        assert_eq!(spaced(ms(3_000), 10_000), ms(3_000));
        assert_eq!(spaced(ms(1), 10), ms(20));
    }
}
