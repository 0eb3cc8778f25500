//! Channels on the modelled lock, with the interface of `crossbeam_channel`'s.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) use crossbeam_channel::{
    RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError,
};

use crate::sync::modelled::{Condvar, Mutex, now};

/// The sending end.
#[derive(Debug)]
pub struct Sender<T>(Arc<Channel<T>>);

/// The receiving end.
#[derive(Debug)]
pub struct Receiver<T>(Arc<Channel<T>>);

struct Channel<T> {
    state: Mutex<State<T>>,
    /// A message came, or the last sender is gone.
    came: Condvar,
    /// There is room, or the last receiver is gone.
    room: Condvar,
}

struct State<T> {
    messages: VecDeque<T>,
    capacity: usize,
    senders: usize,
    receivers: usize,
}

impl<T> std::fmt::Debug for Channel<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").finish_non_exhaustive()
    }
}

/// A channel of capacity zero holds one message: no model sends on such a channel.
pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let channel = Arc::new(Channel {
        state: Mutex::new(State {
            messages: VecDeque::new(),
            capacity: capacity.max(1),
            senders: 1,
            receivers: 1,
        }),
        came: Condvar::new(),
        room: Condvar::new(),
    });
    (Sender(Arc::clone(&channel)), Receiver(channel))
}

pub(crate) fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    bounded(usize::MAX)
}

#[allow(dead_code)]
impl<T> Sender<T> {
    pub(crate) fn send(&self, message: T) -> Result<(), SendError<T>> {
        let mut state = self.0.state.lock();
        while state.receivers > 0 && state.messages.len() >= state.capacity {
            self.0.room.wait(&mut state);
        }
        if state.receivers == 0 {
            return Err(SendError(message));
        }
        state.messages.push_back(message);
        drop(state);
        self.0.came.notify_one();
        Ok(())
    }

    pub(crate) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let mut state = self.0.state.lock();
        if state.receivers == 0 {
            return Err(TrySendError::Disconnected(message));
        }
        if state.messages.len() >= state.capacity {
            return Err(TrySendError::Full(message));
        }
        state.messages.push_back(message);
        drop(state);
        self.0.came.notify_one();
        Ok(())
    }

    pub(crate) fn same_channel(&self, other: &Sender<T>) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

#[allow(dead_code)]
impl<T> Receiver<T> {
    pub(crate) fn recv(&self) -> Result<T, RecvError> {
        self.receive(None).map_err(|_| RecvError)
    }

    pub(crate) fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.receive(now().checked_add(timeout))
    }

    pub(crate) fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.receive(Some(deadline))
    }

    fn receive(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        let mut state = self.0.state.lock();
        let message = loop {
            if let Some(message) = state.messages.pop_front() {
                break message;
            }
            if state.senders == 0 {
                return Err(RecvTimeoutError::Disconnected);
            }
            match deadline {
                None => self.0.came.wait(&mut state),
                Some(at) => {
                    let late = self.0.came.wait_until(&mut state, at).timed_out();
                    if late && state.messages.is_empty() && state.senders > 0 {
                        return Err(RecvTimeoutError::Timeout);
                    }
                }
            }
        };
        drop(state);
        self.0.room.notify_one();
        Ok(message)
    }

    pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut state = self.0.state.lock();
        match state.messages.pop_front() {
            Some(message) => {
                drop(state);
                self.0.room.notify_one();
                Ok(message)
            }
            None if state.senders == 0 => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }

    pub(crate) fn try_iter(&self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.state.lock().messages.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.state.lock().senders += 1;
        Sender(Arc::clone(&self.0))
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.0.state.lock().receivers += 1;
        Receiver(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let left = {
            let mut state = self.0.state.lock();
            state.senders -= 1;
            state.senders
        };
        if left == 0 {
            self.0.came.notify_all();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let (left, messages) = {
            let mut state = self.0.state.lock();
            state.receivers -= 1;
            let messages = match state.receivers {
                0 => std::mem::take(&mut state.messages),
                _ => VecDeque::new(),
            };
            (state.receivers, messages)
        };
        drop(messages); // after the lock
        if left == 0 {
            self.0.room.notify_all();
        }
    }
}
