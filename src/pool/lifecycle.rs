//! Pausing, draining, closing.

use crate::pool::{Command, Pool};
use crate::sync::channel::Sender;
use crate::sync::{Ordering::SeqCst, fence};

/// A pool of any kind, to be closed.
pub(crate) trait Close {
    fn ask_to_close(&self);
}

impl<P, O, E> Close for Pool<P, O, E> {
    fn ask_to_close(&self) {
        self.close(None);
    }
}

impl<P, O, E> Pool<P, O, E> {
    /// Running jobs go on, none begins. A pool on its way out is not held up.
    pub(crate) fn pause(&self) {
        self.admission.pause();
        self.run_queue.pause();
        if self.admission.is_shut() {
            self.resume();
        }
    }

    pub(crate) fn resume(&self) {
        self.run_queue.resume();
        self.admission.resume();
        fence(SeqCst);
        if self.has_work() {
            self.sleep.wake_one();
        }
        self.look_at_size();
    }

    /// No new jobs and no new workers, from this call on.
    pub(crate) fn drain(&self) {
        self.roster.close();
        let first = self.admission.drain();
        self.resume();
        if first {
            self.command(Command::Drain);
        }
    }

    /// As [`drain`](Self::drain); and no job begins any more, and the running ones are told.
    pub(crate) fn close(&self, told: Option<Sender<usize>>) {
        self.roster.close();
        self.run_queue.shut();
        let first = self.admission.close();
        if first || told.is_some() {
            self.command(Command::Close(told));
        }
        self.closing.cancel();
    }
}
