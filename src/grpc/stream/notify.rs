//! One notifier per stream: how the ticker tells a stream that there is something to do.
//!
//! It holds at most one signal, the strongest since the stream last asked. The value itself is not
//! in it: a stream that gets a signal reads the newest value from its source. So a client that does
//! not read costs one byte here, however much happens meanwhile.

use std::task::{Context, Poll, Waker};

use crate::sync::Mutex;

/// What a stream is to do, from weak to strong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Signal {
    /// Nothing.
    Idle,
    /// Something changed.
    Change,
    /// It is time to send, changed or not.
    Tick,
    /// Send the final message, then end. Stays.
    Closing,
    /// End now. Stays.
    Abort,
}

pub(crate) struct Notify(Mutex<Inner>);

struct Inner {
    pending: Signal,
    /// The weakest signal that wakes: a stream in the middle of a send is woken only by `Abort`.
    wakes_at: Signal,
    waker: Option<Waker>,
}

impl Notify {
    pub(crate) fn new() -> Notify {
        Notify(Mutex::new(Inner {
            pending: Signal::Idle,
            wakes_at: Signal::Abort,
            waker: None,
        }))
    }

    /// Leaves a signal. The caller has to wake the returned waker once it holds no lock: waking may
    /// run or drop the stream.
    #[must_use]
    pub(crate) fn notify(&self, signal: Signal) -> Option<Waker> {
        let mut inner = self.0.lock();
        inner.pending = inner.pending.max(signal);
        if inner.pending >= inner.wakes_at {
            inner.waker.take()
        } else {
            None
        }
    }

    /// Ready with the strongest signal since last time, if it is at least `wakes_at`.
    pub(crate) fn poll(&self, cx: &mut Context<'_>, wakes_at: Signal) -> Poll<Signal> {
        let mut inner = self.0.lock();
        let pending = inner.pending;
        if pending >= wakes_at && pending > Signal::Idle {
            if pending < Signal::Closing {
                inner.pending = Signal::Idle;
            }
            return Poll::Ready(pending);
        }
        inner.wakes_at = wakes_at;
        match &inner.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => inner.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn poll(notify: &Notify, wakes_at: Signal) -> Poll<Signal> {
        notify.poll(&mut Context::from_waker(Waker::noop()), wakes_at)
    }

    #[test]
    fn many_signals_are_one() {
        let notify = Notify::new();
        for _ in 0..1000 {
            let _ = notify.notify(Signal::Change);
        }
        let _ = notify.notify(Signal::Tick);
        let _ = notify.notify(Signal::Change);
        assert_eq!(poll(&notify, Signal::Change), Poll::Ready(Signal::Tick));
        assert_eq!(poll(&notify, Signal::Change), Poll::Pending);
    }

    #[test]
    fn a_sender_is_woken_by_abort_alone_and_misses_nothing() {
        let notify = Notify::new();
        assert_eq!(poll(&notify, Signal::Abort), Poll::Pending);
        assert!(notify.notify(Signal::Closing).is_none());
        assert_eq!(poll(&notify, Signal::Change), Poll::Ready(Signal::Closing));
        assert_eq!(poll(&notify, Signal::Abort), Poll::Pending);
        assert!(notify.notify(Signal::Abort).is_some());
        assert_eq!(poll(&notify, Signal::Change), Poll::Ready(Signal::Abort));
        assert_eq!(poll(&notify, Signal::Change), Poll::Ready(Signal::Abort));
    }
}
