//! One thread per pool: connects, listens, connects again, and tells the view.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use worker_pool::grpc::{Backoff, CapacityClient, ClientError, Received, RecvError};

use crate::args::Args;

/// News of one pool, numbered as on the command line.
#[derive(Debug, Clone)]
pub(crate) struct Update {
    pub(crate) pool: usize,
    pub(crate) news: News,
}

#[derive(Debug, Clone)]
pub(crate) enum News {
    Snapshot(Received),
    /// The connection stands, but the server says nothing before its next tick.
    Silent,
    Gone(Gone),
}

/// Of a server from which nothing has come yet.
pub(crate) const SILENT: &str = "connected, no news yet";

#[derive(Debug, Clone)]
pub(crate) struct Gone {
    pub(crate) since: Instant,
    pub(crate) why: String,
    /// It is of no use to try again, or not wanted.
    pub(crate) for_good: bool,
}

/// A running client; dropping it waits for its thread, which ends when the program stops.
pub(crate) struct Client(Option<JoinHandle<()>>);

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

/// How long a stop may go unseen.
const NAP: Duration = Duration::from_millis(100);
/// Between attempts to connect for the first time.
const RETRY: Duration = Duration::from_secs(1);

impl Client {
    pub(crate) fn start(
        pool: usize,
        args: &Args,
        tell: Sender<Update>,
        stop: Arc<AtomicBool>,
    ) -> Client {
        let args = args.clone();
        Client(Some(thread::spawn(move || {
            let say = |news| {
                let _ = tell.send(Update { pool, news });
            };
            if args.once {
                once(&args, pool, &stop, say);
            } else {
                follow(&args, pool, &stop, say);
            }
        })))
    }
}

/// Tells the first snapshot, or why there is none.
fn once(args: &Args, pool: usize, stop: &AtomicBool, say: impl Fn(News)) {
    let now = Instant::now();
    let mut client = match args.client(pool).connect() {
        Ok(client) => client,
        Err(error) => return say(gone(now, Some(&error), true)),
    };
    while !stop.load(Ordering::SeqCst) {
        return say(match client.recv_timeout(NAP) {
            Ok(snapshot) => News::Snapshot(snapshot),
            Err(RecvError::Timeout) => continue,
            Err(RecvError::Failed(error)) => gone(now, Some(&error), true),
            Err(RecvError::Ended) => gone(now, None, true),
        });
    }
}

fn follow(args: &Args, pool: usize, stop: &AtomicBool, say: impl Fn(News)) {
    let since = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        match args.client(pool).reconnect(Backoff::default()).connect() {
            Ok(client) => return listen(client, stop, say),
            Err(error) => {
                say(gone(since, Some(&error), error.is_permanent()));
                if error.is_permanent() {
                    return;
                }
            }
        }
        let until = Instant::now() + RETRY;
        while !stop.load(Ordering::SeqCst) && Instant::now() < until {
            thread::sleep(NAP);
        }
    }
}

/// Until the program stops, or the client gives up.
fn listen(mut client: CapacityClient, stop: &AtomicBool, say: impl Fn(News)) {
    if client.latest().is_none() {
        say(News::Silent);
    }
    let (mut shown, mut told) = (None, None);
    while !stop.load(Ordering::SeqCst) {
        let seen = client.recv_timeout(NAP);
        let outage = client.outage();
        match &seen {
            Ok(snapshot) => {
                (shown, told) = (Some(*snapshot), None);
                say(News::Snapshot(*snapshot));
            }
            Err(RecvError::Timeout) => {}
            Err(RecvError::Failed(error)) => {
                let since = outage.map_or_else(Instant::now, |outage| outage.since);
                return say(gone(since, Some(error), true));
            }
            Err(RecvError::Ended) => return say(gone(Instant::now(), None, true)),
        }
        let failure = outage
            .as_ref()
            .map(|outage| (outage.since, outage.failures));
        if failure != told {
            told = failure;
            match outage {
                Some(outage) => say(gone(outage.since, outage.error.as_ref(), false)),
                None if client.latest() == shown => say(News::Silent),
                None => {} // a snapshot is about to be shown
            }
        }
    }
}

fn gone(since: Instant, error: Option<&ClientError>, for_good: bool) -> News {
    let why = error.map_or_else(|| "the server ended the stream".to_owned(), text);
    News::Gone(Gone {
        since,
        why,
        for_good,
    })
}

/// Without the address, which every view shows anyway, and on one line.
fn text(error: &ClientError) -> String {
    let text = error.to_string();
    let text = text
        .strip_prefix(error.address())
        .map_or(&*text, |text| text.trim_start_matches(": "));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
