//! One doorbell per stream: how the ticker tells a stream that there is something to do.
//!
//! A bell holds at most one ring, the loudest since the stream last listened. The value itself is
//! not in it: a stream that answers the bell reads the newest one from the streams. So a client that
//! does not read costs one byte here, however much happens meanwhile.

use std::task::{Context, Poll, Waker};

use crate::sync::Mutex;

/// Why a bell rings, from quiet to loud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ring {
    Silence,
    /// Something changed.
    Change,
    /// It is time to send, changed or not.
    Tick,
    /// Send what is last, then end. Stays.
    Closing,
    /// End now. Stays.
    Abort,
}

pub(crate) struct Bell(Mutex<Inner>);

struct Inner {
    rung: Ring,
    /// The quietest ring that wakes: a stream in the middle of a send hears only `Abort`.
    hears: Ring,
    waker: Option<Waker>,
}

impl Bell {
    pub(crate) fn new() -> Bell {
        Bell(Mutex::new(Inner {
            rung: Ring::Silence,
            hears: Ring::Abort,
            waker: None,
        }))
    }

    /// Rings. The waker is given back to be woken when the caller holds no lock: waking may run
    /// or drop the stream.
    #[must_use]
    pub(crate) fn ring(&self, ring: Ring) -> Option<Waker> {
        let mut inner = self.0.lock();
        inner.rung = inner.rung.max(ring);
        if inner.rung >= inner.hears {
            inner.waker.take()
        } else {
            None
        }
    }

    /// Ready with the loudest ring since last time, if it is at least `hears`.
    pub(crate) fn poll(&self, cx: &mut Context<'_>, hears: Ring) -> Poll<Ring> {
        let mut inner = self.0.lock();
        let rung = inner.rung;
        if rung >= hears && rung > Ring::Silence {
            if rung < Ring::Closing {
                inner.rung = Ring::Silence;
            }
            return Poll::Ready(rung);
        }
        inner.hears = hears;
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

    fn poll(bell: &Bell, hears: Ring) -> Poll<Ring> {
        bell.poll(&mut Context::from_waker(Waker::noop()), hears)
    }

    #[test]
    fn many_rings_are_one() {
        let bell = Bell::new();
        for _ in 0..1000 {
            let _ = bell.ring(Ring::Change);
        }
        let _ = bell.ring(Ring::Tick);
        let _ = bell.ring(Ring::Change);
        assert_eq!(poll(&bell, Ring::Change), Poll::Ready(Ring::Tick));
        assert_eq!(poll(&bell, Ring::Change), Poll::Pending);
    }

    #[test]
    fn a_sender_is_woken_by_abort_alone_and_misses_nothing() {
        let bell = Bell::new();
        assert_eq!(poll(&bell, Ring::Abort), Poll::Pending);
        assert!(bell.ring(Ring::Closing).is_none());
        assert_eq!(poll(&bell, Ring::Change), Poll::Ready(Ring::Closing));
        assert_eq!(poll(&bell, Ring::Abort), Poll::Pending);
        assert!(bell.ring(Ring::Abort).is_some());
        assert_eq!(poll(&bell, Ring::Change), Poll::Ready(Ring::Abort));
        assert_eq!(poll(&bell, Ring::Change), Poll::Ready(Ring::Abort));
    }
}
