//! Pausing, draining, closing.

use crate::pool::{Command, Pool};
use crate::sync::channel::Sender;
use crate::sync::{Ordering::SeqCst, fence};

/// A pool of any job type, to be closed.
pub(crate) trait Close {
    fn ask_to_close(&self);
}

impl<P, O, E> Close for Pool<P, O, E> {
    fn ask_to_close(&self) {
        self.close(None);
    }
}

impl<P, O, E> Pool<P, O, E> {
    /// Running jobs go on, and no job begins. A pool that drains or closes is not paused.
    pub(crate) fn pause(&self) {
        {
            let _one_step = self.pausing.lock();
            self.admission.pause();
            self.run_queue.pause();
        }
        if self.admission.is_shut() {
            self.resume();
        }
        // What was released may have a deadline or a token: it is swept now, and when that fires.
        if self.run_queue.has_expiring() {
            self.signal.ask_sweep();
        }
    }

    pub(crate) fn resume(&self) {
        {
            let _one_step = self.pausing.lock();
            self.run_queue.resume();
            self.admission.resume();
        }
        fence(SeqCst);
        if self.has_work() {
            self.sleep.wake_one();
        }
        self.roster.waits.help_left(); // nobody needs to be waited for who resumes it
        self.check_size();
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

    /// As [`drain`](Self::drain). In addition, no job begins any more, and the running ones see
    /// that their tokens are cancelled. `reply` gets the number of rejected jobs.
    pub(crate) fn close(&self, reply: Option<Sender<usize>>) {
        self.roster.close();
        self.run_queue.shut();
        let first = self.admission.close();
        if first || reply.is_some() {
            self.command(Command::Close(reply));
        }
        self.closing.cancel();
    }
}
