//! The thread behind a client: it reads the stream as fast as it can, keeps the newest snapshot and
//! reconnects.
//!
//! It needs a thread, because a slow reader would see old values: the core buffers thousands of small
//! messages before the server notices that they are not read.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use grpcio::{EnvBuilder, Environment};

use crate::grpc::client::builder::ClientBuilder;
use crate::grpc::client::error::{ClientError, RecvError};
use crate::grpc::client::session::{Event, Received, Session, Stop, after};
use crate::sync::channel::{Receiver, bounded};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Arc, Condvar, Mutex};

/// Shared by the thread and the client's owner.
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    stop: Stop,
}

#[derive(Default)]
struct State {
    /// The newest snapshot, if the owner has not taken it yet.
    fresh: Option<Received>,
    last: Option<Received>,
    /// The first connection was established.
    connected: bool,
    outage: Option<Outage>,
    /// Why nothing will follow; the owner takes an error once.
    end: Option<Result<(), ClientError>>,
}

/// A lost connection that is being re-established.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Outage {
    /// When the connection was lost.
    pub since: Instant,
    /// Failures since then, counting the loss itself.
    pub failures: u32,
    /// The last error; `None` if the server ended the stream cleanly.
    pub error: Option<ClientError>,
}

/// The owner's handle. Dropping it stops the thread and joins it.
pub(super) struct Reader {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Starts the thread and waits for its first connection.
    pub(super) fn start(to: ClientBuilder) -> Result<Reader, ClientError> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            stop: Stop::default(),
        });
        let address = to.address.clone();
        let thread = thread::Builder::new()
            .name("capacity-client".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || run(&to, &shared)
            })
            .map_err(|error| ClientError::internal(&address, error.to_string()))?;
        let reader = Reader {
            shared,
            thread: Some(thread),
        };
        reader.wait_for_first_connection()?;
        Ok(reader)
    }

    fn wait_for_first_connection(&self) -> Result<(), ClientError> {
        let mut state = self.shared.state.lock();
        while !state.connected {
            match &state.end {
                None => self.shared.changed.wait(&mut state),
                // A server that ends the stream at once has answered, too.
                Some(end) => return end.clone(),
            }
        }
        Ok(())
    }

    /// Waits for a fresh snapshot, without limit if there is no deadline.
    pub(super) fn recv(&self, until: Option<Instant>) -> Result<Received, RecvError> {
        let mut state = self.shared.state.lock();
        loop {
            if let Some(fresh) = state.fresh.take() {
                return Ok(fresh);
            }
            if let Some(end) = &mut state.end {
                let reason = std::mem::replace(end, Ok(()));
                return Err(reason.map_or_else(RecvError::Failed, |()| RecvError::Ended));
            }
            match until {
                None => self.shared.changed.wait(&mut state),
                Some(until) => {
                    let late = self.shared.changed.wait_until(&mut state, until);
                    if late.timed_out() && state.fresh.is_none() && state.end.is_none() {
                        return Err(RecvError::Timeout);
                    }
                }
            }
        }
    }

    pub(super) fn latest(&self) -> Option<Received> {
        self.shared.state.lock().last
    }

    pub(super) fn outage(&self) -> Option<Outage> {
        self.shared.state.lock().outage.clone()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.shared.stop.set(thread.thread());
            if thread.join().is_err() {
                log::error!("capacity client: its thread panicked");
            }
        }
    }
}

fn run(to: &ClientBuilder, shared: &Shared) {
    let end = catch_unwind(AssertUnwindSafe(|| follow(to, shared))).unwrap_or_else(|panic| {
        let text = crate::sync::unwind::message(panic);
        log::error!("capacity client: {text}");
        Err(ClientError::internal(&to.address, text))
    });
    shared.state.lock().end = Some(end);
    shared.changed.notify_all();
}

/// Connects, reads, reconnects; returns when nothing will follow.
fn follow(to: &ClientBuilder, shared: &Shared) -> Result<(), ClientError> {
    let queue = Queue::new();
    // Two counts: pauses grow with the first, attempts are limited by the second. A server that
    // answers and hangs up at once is no failed attempt, but needs a pause.
    let (mut in_a_row, mut failures) = (0u32, 0u32);
    let mut since = None;
    loop {
        let (connected_since, ending) = connection(to, shared, &queue.env);
        if connected_since.is_some() {
            (failures, since) = (0, None);
        }
        let error = match ending {
            Ending::Stopped => return Ok(()),
            Ending::Ended => None,
            Ending::Failed(error) => Some(error),
        };
        let end = error.clone().map_or(Ok(()), Err);
        let permanent = error.as_ref().is_some_and(ClientError::is_permanent);
        let Some(backoff) = to.reconnect else {
            return end;
        };
        if connected_since.is_some_and(|since| since.elapsed() >= backoff.longest) {
            in_a_row = 0;
        }
        in_a_row = in_a_row.saturating_add(1);
        failures = failures.saturating_add(1);
        let was_connected = shared.lost(Outage {
            since: *since.get_or_insert_with(Instant::now),
            failures,
            error,
        });
        if !was_connected || permanent || backoff.attempts.is_some_and(|most| failures > most) {
            return end;
        }
        let pause = backoff.pause(in_a_row);
        log::debug!("capacity client: {}: again in {pause:?}", to.address);
        if !shared.stop.sleep_until(after(pause)) {
            return Ok(());
        }
    }
}

enum Ending {
    Stopped,
    Ended,
    Failed(ClientError),
}

/// One connection from its start to its end. Returns since when it was established, if it was, and
/// why it ended.
fn connection(
    to: &ClientBuilder,
    shared: &Shared,
    env: &Arc<Environment>,
) -> (Option<Instant>, Ending) {
    let mut session = match Session::open(env, to) {
        Ok(session) => session,
        Err(error) => {
            let error = to.error(error);
            return (None, Ending::Failed(error));
        }
    };
    let mut connected_since = None;
    let mut until = after(to.connect_timeout);
    let ending = loop {
        match session.next(until, &shared.stop) {
            Event::Snapshot(snapshot) => shared.publish(Some(snapshot)),
            // The server is there, but sends nothing before its next tick.
            Event::TimedOut if connected_since.is_none() && session.is_connected() => {
                shared.publish(None);
            }
            Event::TimedOut if connected_since.is_none() => {
                let error = ClientError::not_connected(&to.address, to.connect_timeout);
                break Ending::Failed(error);
            }
            Event::TimedOut => {
                let after = to.idle_timeout.unwrap_or_default();
                break Ending::Failed(ClientError::idle(&to.address, after));
            }
            Event::Stopped => break Ending::Stopped,
            Event::Ended => break Ending::Ended,
            Event::Failed(error) => break Ending::Failed(to.error(error)),
        }
        connected_since.get_or_insert_with(Instant::now);
        until = to.idle_timeout.and_then(after);
    };
    (connected_since, ending)
}

impl Shared {
    /// The connection is established, perhaps with a new snapshot.
    fn publish(&self, snapshot: Option<Received>) {
        let mut state = self.state.lock();
        state.connected = true;
        state.outage = None;
        if snapshot.is_some() {
            state.fresh = snapshot;
            state.last = snapshot;
        }
        self.changed.notify_all();
    }

    /// The connection has ended; `false` if there never was one, as a first attempt is not repeated.
    fn lost(&self, outage: Outage) -> bool {
        let mut state = self.state.lock();
        // A clean end counts as an answer.
        state.connected |= outage.error.is_none();
        state.outage = Some(outage);
        self.changed.notify_all();
        state.connected
    }
}

/// grpcio's own thread for this client. Dropping the environment does not wait for it; this does.
struct Queue {
    env: Arc<Environment>,
    stopped: Receiver<()>,
}

impl Queue {
    fn new() -> Self {
        let (stop, stopped) = bounded(1);
        let env = EnvBuilder::new()
            .cq_count(1)
            .name_prefix("capacity-client-grpc")
            .before_stop(move || {
                let _ = stop.try_send(());
            })
            .build();
        Queue {
            env: Arc::new(env),
            stopped,
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        for queue in self.env.completion_queues() {
            queue.shutdown();
        }
        // At most a cancelled call is left; if the core hangs, the owner must not.
        if self.stopped.recv_timeout(Duration::from_secs(2)).is_err() {
            log::warn!("capacity client: grpcio's thread did not end within 2 s");
        }
    }
}
