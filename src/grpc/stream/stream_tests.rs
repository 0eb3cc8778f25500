use std::sync::mpsc::{self, RecvTimeoutError};
use std::task::{Context, Poll, Waker};
use std::thread;

use super::*;
use crate::hook::meter::Meter;

#[test]
fn ticks_do_not_drift() {
    let start = Instant::now();
    let ms = |n| start + Duration::from_millis(n);
    let period = Duration::from_millis(10);
    assert_eq!(next_tick(ms(10), ms(10), period), ms(20));
    assert_eq!(next_tick(ms(10), ms(13), period), ms(20)); // late by 3, and no later
    assert_eq!(next_tick(ms(10), ms(47), period), ms(50)); // missed three
    assert_eq!(next_tick(ms(10), ms(5), period), ms(10));
}

fn streams(max_streams: usize) -> Arc<Streams> {
    let timing = Timing {
        interval: Duration::from_secs(30),
        spacing: None,
        opening: Duration::from_secs(10),
        window: Duration::from_secs(10),
    };
    let pool = Source::new("p".into(), Meter::new(), timing.window);
    Arc::new(Streams::new(vec![pool], timing, max_streams))
}

#[test]
fn registrations_are_limited_and_come_back() {
    let streams = streams(2);
    let first = streams.register(Class::Stream).ok();
    let _second = streams.register(Class::Stream).ok();
    assert_eq!(
        streams.register(Class::Stream).err(),
        Some(RejectReason::Full)
    );
    let short = streams.register(Class::Short).ok();
    assert!(short.is_some(), "a full server still answers health checks");
    assert_eq!(streams.open_streams(), 2);
    drop(first);
    assert_eq!(streams.open_streams(), 1);
    let again = streams.register(Class::Stream);
    assert!(again.is_ok());
    streams.close();
    assert_eq!(
        streams.register(Class::Short).err(),
        Some(RejectReason::Closing)
    );
}

#[test]
fn pending_rejections_are_limited_and_come_back() {
    let streams = streams(1);
    let mut pending: Vec<_> = (0..MAX_PENDING_REJECTIONS)
        .filter_map(|_| streams.begin_rejection())
        .collect();
    assert_eq!(pending.len(), MAX_PENDING_REJECTIONS);
    assert!(streams.begin_rejection().is_none());
    pending.pop();
    let again = streams.begin_rejection();
    assert!(again.is_some());
    assert!(streams.begin_rejection().is_none());
    assert!(
        streams.register(Class::Stream).is_ok(),
        "a call is no rejection"
    );
}

/// Calls that end one after the other, for at least 20 seconds or until this is stopped.
struct Leaving {
    quit: mpsc::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Leaving {
    fn start(streams: &Arc<Streams>) -> Leaving {
        let register = || streams.register(Class::Stream).ok();
        let registrations: Vec<_> = (0..10_000).map_while(|_| register()).collect();
        assert_eq!(registrations.len(), 10_000);
        let (quit, quitting) = mpsc::channel();
        let thread = thread::spawn(move || {
            for _registration in registrations {
                let pause = Duration::from_millis(2);
                if quitting.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        Leaving { quit, thread }
    }

    fn stop(self) {
        drop(self.quit);
        self.thread.join().unwrap();
    }
}

#[test]
fn waiting_for_the_last_call_has_an_end() {
    let streams = streams(10_000);
    let leaving = Leaving::start(&streams);
    // Longer than the pause between two of them, but too short for all of them.
    let quiet = Duration::from_secs(5);
    let empty = streams.wait_empty(quiet, Duration::from_millis(100));
    leaving.stop();
    assert!(!empty, "it waited for 10,000 calls");
    assert!(streams.wait_empty(quiet, quiet), "all are gone");
}

#[test]
fn a_shutdown_does_not_wait_for_all_calls_that_end_one_after_the_other() {
    let streams = streams(10_000);
    let leaving = Leaving::start(&streams);
    streams.shut_down();
    let open = streams.open_streams();
    leaving.stop();
    assert!(open > 0, "it waited for 10,000 calls");
}

#[test]
fn a_call_that_is_late_is_told_and_then_aborted() {
    let streams = streams(1);
    let registration = streams.register(Class::Stream).ok().unwrap();
    let received = || {
        let mut cx = Context::from_waker(Waker::noop());
        match registration.notify.poll(&mut cx, Signal::Change) {
            Poll::Ready(signal) => signal,
            Poll::Pending => Signal::Idle,
        }
    };
    let deadline = streams.request_deadline();
    streams.notify_due(Instant::now());
    assert_eq!(received(), Signal::Idle);
    streams.notify_due(deadline);
    assert_eq!(received(), Signal::Tick);
    streams.notify_due(deadline);
    assert_eq!(received(), Signal::Idle, "it may say so now");
    streams.notify_due(deadline + CLOSE_GRACE);
    assert_eq!(received(), Signal::Abort);
}

#[test]
fn load_reports_after_a_pause_forget_what_was_before() {
    let streams = streams(3);
    let pool = &streams.sources[0];
    let samples = || pool.window.lock().len();
    let report = |registration: &Registration| {
        let period = Duration::from_secs(1);
        let due = Instant::now() + period;
        registration.wait_for(Kind::Orca { period, due });
    };
    pool.sample();
    assert_eq!(samples(), 1);
    let first = streams.register(Class::Stream).ok().unwrap();
    report(&first);
    assert_eq!(samples(), 0, "from before the first who asks");
    pool.sample();
    let second = streams.register(Class::Stream).ok().unwrap();
    report(&second);
    assert_eq!(samples(), 1, "the first asks still");
    drop((first, second));
    report(&streams.register(Class::Stream).ok().unwrap());
    assert_eq!(samples(), 0);
}

#[test]
fn load_reports_share_a_sample_for_a_sixty_fourth_of_the_window() {
    let streams = streams(1);
    assert_eq!(streams.timing.sampling(), Duration::from_secs(10) / 64);
    let pool = &streams.sources[0];
    let samples = || pool.window.lock().len();
    let hour = Duration::from_secs(3600);
    for _ in 0..1000 {
        pool.load(hour);
    }
    assert_eq!(
        samples(),
        1,
        "a report brings no sample while there is a new one"
    );
    pool.load(Duration::ZERO);
    assert_eq!(samples(), 2);
}
