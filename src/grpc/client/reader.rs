//! The thread behind a client: it reads the stream as fast as it comes, keeps the newest snapshot
//! and connects again.
//!
//! A thread, because a reader that merely took its time would see old values: the core buffers
//! thousands of small messages before the server notices that nobody reads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use grpcio::{EnvBuilder, Environment};
use parking_lot::{Condvar, Mutex};

use crate::grpc::client::builder::ClientBuilder;
use crate::grpc::client::error::{ClientError, RecvError};
use crate::grpc::client::session::{Event, Received, Session, Stop, after};

/// Between the thread and the client's owner.
pub(super) struct Shared {
    board: Mutex<Board>,
    change: Condvar,
    stop: Stop,
}

#[derive(Default)]
struct Board {
    /// Not taken by the owner yet.
    fresh: Option<Received>,
    last: Option<Received>,
    /// A first connection was made.
    connected: bool,
    outage: Option<Outage>,
    /// Nothing follows; the reason is taken by the owner once.
    end: Option<Result<(), ClientError>>,
}

/// A connection that was lost and is being made again.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Outage {
    /// When the connection was lost.
    pub since: Instant,
    /// How often it failed since, counting the loss itself.
    pub failures: u32,
    /// What happened last; `None` when the server ended the stream cleanly.
    pub error: Option<ClientError>,
}

/// The owner's end. Dropping it stops the thread and waits for it.
pub(super) struct Reader {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Starts the thread and waits for its first connection.
    pub(super) fn start(to: ClientBuilder) -> Result<Reader, ClientError> {
        let shared = Arc::new(Shared {
            board: Mutex::default(),
            change: Condvar::new(),
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
        let mut board = self.shared.board.lock();
        while !board.connected {
            match &board.end {
                None => self.shared.change.wait(&mut board),
                // A server that ends the stream at once has answered, too.
                Some(end) => return end.clone(),
            }
        }
        Ok(())
    }

    /// Waits for a fresh snapshot, for ever without a deadline.
    pub(super) fn recv(&self, until: Option<Instant>) -> Result<Received, RecvError> {
        let mut board = self.shared.board.lock();
        loop {
            if let Some(fresh) = board.fresh.take() {
                return Ok(fresh);
            }
            if let Some(end) = &mut board.end {
                let reason = std::mem::replace(end, Ok(()));
                return Err(reason.map_or_else(RecvError::Failed, |()| RecvError::Ended));
            }
            match until {
                None => self.shared.change.wait(&mut board),
                Some(until) => {
                    let late = self.shared.change.wait_until(&mut board, until);
                    if late.timed_out() && board.fresh.is_none() && board.end.is_none() {
                        return Err(RecvError::Timeout);
                    }
                }
            }
        }
    }

    pub(super) fn latest(&self) -> Option<Received> {
        self.shared.board.lock().last
    }

    pub(super) fn outage(&self) -> Option<Outage> {
        self.shared.board.lock().outage.clone()
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
    shared.board.lock().end = Some(end);
    shared.change.notify_all();
}

/// Connects, reads, connects again; returns when nothing will follow.
fn follow(to: &ClientBuilder, shared: &Shared) -> Result<(), ClientError> {
    let queue = Queue::new();
    // What pauses grow with, and what attempts are counted by: a server that answers and hangs up
    // at once is there, but not to be pestered.
    let (mut row, mut failures) = (0u32, 0u32);
    let mut since = None;
    loop {
        let (stood_since, over) = connection(to, shared, &queue.env);
        if stood_since.is_some() {
            (failures, since) = (0, None);
        }
        let error = match over {
            Over::Stopped => return Ok(()),
            Over::Ended => None,
            Over::Failed(error) => Some(error),
        };
        let end = error.clone().map_or(Ok(()), Err);
        let permanent = error.as_ref().is_some_and(ClientError::is_permanent);
        let Some(backoff) = to.reconnect else {
            return end;
        };
        if stood_since.is_some_and(|since| since.elapsed() >= backoff.longest) {
            row = 0;
        }
        row = row.saturating_add(1);
        failures = failures.saturating_add(1);
        let was_connected = shared.lost(Outage {
            since: *since.get_or_insert_with(Instant::now),
            failures,
            error,
        });
        if !was_connected || permanent || backoff.attempts.is_some_and(|most| failures > most) {
            return end;
        }
        let pause = backoff.pause(row);
        log::debug!("capacity client: {}: again in {pause:?}", to.address);
        if !shared.stop.sleep_until(after(pause)) {
            return Ok(());
        }
    }
}

enum Over {
    Stopped,
    Ended,
    Failed(ClientError),
}

/// One connection from its start to its end; since when did it stand, and why is it over?
fn connection(
    to: &ClientBuilder,
    shared: &Shared,
    env: &Arc<Environment>,
) -> (Option<Instant>, Over) {
    let mut session = match Session::open(env, to) {
        Ok(session) => session,
        Err(error) => {
            let error = to.error(error);
            return (None, Over::Failed(error));
        }
    };
    let mut stood_since = None;
    let mut until = after(to.connect_timeout);
    let over = loop {
        match session.next(until, &shared.stop) {
            Event::Snapshot(snapshot) => shared.publish(Some(snapshot)),
            // The server is there, it merely has nothing to say before its next tick.
            Event::TimedOut if stood_since.is_none() && session.is_connected() => {
                shared.publish(None);
            }
            Event::TimedOut if stood_since.is_none() => {
                let error = ClientError::not_connected(&to.address, to.connect_timeout);
                break Over::Failed(error);
            }
            Event::TimedOut => {
                let after = to.idle_timeout.unwrap_or_default();
                break Over::Failed(ClientError::idle(&to.address, after));
            }
            Event::Stopped => break Over::Stopped,
            Event::Ended => break Over::Ended,
            Event::Failed(error) => break Over::Failed(to.error(error)),
        }
        stood_since.get_or_insert_with(Instant::now);
        until = to.idle_timeout.and_then(after);
    };
    (stood_since, over)
}

impl Shared {
    /// The connection stands, perhaps with a new snapshot.
    fn publish(&self, snapshot: Option<Received>) {
        let mut board = self.board.lock();
        board.connected = true;
        board.outage = None;
        if snapshot.is_some() {
            board.fresh = snapshot;
            board.last = snapshot;
        }
        self.change.notify_all();
    }

    /// The connection is over; `false` when there never was one, as a first attempt is not repeated.
    fn lost(&self, outage: Outage) -> bool {
        let mut board = self.board.lock();
        // A clean end is an answer.
        board.connected |= outage.error.is_none();
        board.outage = Some(outage);
        self.change.notify_all();
        board.connected
    }
}

/// grpcio's own thread for this client. Dropping the environment does not wait for it; this does.
struct Queue {
    env: Arc<Environment>,
    stopped: Receiver<()>,
}

impl Queue {
    fn new() -> Self {
        let (tell, stopped) = crossbeam_channel::bounded(1);
        let env = EnvBuilder::new()
            .cq_count(1)
            .name_prefix("capacity-client-grpc")
            .before_stop(move || {
                let _ = tell.try_send(());
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
        // It has at most a cancelled call to see off; a core that hangs must not hang the owner.
        if self.stopped.recv_timeout(Duration::from_secs(2)).is_err() {
            log::warn!("capacity client: grpcio's thread did not end within 2 s");
        }
    }
}
