//! Channels with pauses around each step.

use std::time::{Duration, Instant};

pub(crate) use crossbeam_channel::{
    RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError,
};

use crate::sync::perturbed::step;

pub(crate) struct Sender<T>(crossbeam_channel::Sender<T>);

pub(crate) struct Receiver<T>(crossbeam_channel::Receiver<T>);

pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = crossbeam_channel::bounded(capacity);
    (Sender(sender), Receiver(receiver))
}

pub(crate) fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = crossbeam_channel::unbounded();
    (Sender(sender), Receiver(receiver))
}

impl<T> Sender<T> {
    pub(crate) fn send(&self, message: T) -> Result<(), SendError<T>> {
        step(|| self.0.send(message))
    }

    pub(crate) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        step(|| self.0.try_send(message))
    }
}

#[allow(dead_code)]
impl<T> Receiver<T> {
    pub(crate) fn recv(&self) -> Result<T, RecvError> {
        step(|| self.0.recv())
    }

    pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
        step(|| self.0.try_recv())
    }

    pub(crate) fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        step(|| self.0.recv_timeout(timeout))
    }

    pub(crate) fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        step(|| self.0.recv_deadline(deadline))
    }

    pub(crate) fn try_iter(&self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    pub(crate) fn len(&self) -> usize {
        step(|| self.0.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        step(|| self.0.is_empty())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        step(|| Sender(self.0.clone()))
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        step(|| Receiver(self.0.clone()))
    }
}
