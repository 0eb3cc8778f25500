//! Each job has one outcome, whoever comes first, and each payload and output is dropped once.

use super::*;
use crate::job::Priority;
use crate::job::id::WorkerId;
use crate::stats::in_flight::Epoch;
use crate::sync::modelled::run::check;
use crate::sync::{AtomicUsize as Count, Ordering::SeqCst, thread};

/// Counts its drop.
struct Drops(Arc<Count>);

impl Drop for Drops {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// How a job ended, as its caller or the one who took it back sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Output,
    Payload,
    Failed,
    Abandoned,
}

type Shared = Oneshot<Drops, Drops, ()>;

struct Model {
    oneshot: Arc<Shared>,
    payloads: Arc<Count>,
    outputs: Arc<Count>,
    made: Count,
    rejected: Count,
}

fn attempt() -> Attempt {
    Attempt::first(WorkerId::new(1))
}

impl Model {
    fn new() -> Self {
        let (payloads, outputs) = (Arc::new(Count::new(0)), Arc::new(Count::new(0)));
        let header = Header::new(1, Epoch::Even, true, Priority::Normal);
        let payload = Drops(Arc::clone(&payloads));
        Model {
            oneshot: Arc::new(Oneshot::new(1, header, payload, None, true)),
            payloads,
            outputs,
            made: Count::new(0),
            rejected: Count::new(0),
        }
    }

    /// A worker begins the job and ends it; the first attempts fail. Did it begin?
    fn work(&self, failures: usize) -> bool {
        let responder = Responder(Arc::clone(&self.oneshot));
        for _ in 0..failures {
            let Some(payload) = responder.begin(attempt()) else {
                return false;
            };
            if responder.queue_again(payload).is_err() {
                responder.finish(Err(Box::new(JobError::new(
                    responder.id(),
                    Some(attempt()),
                    cause_of(RejectReason::Cancelled),
                ))));
                return true;
            }
        }
        let Some(payload) = responder.begin(attempt()) else {
            return false;
        };
        drop(payload);
        self.made.fetch_add(1, SeqCst);
        drop(responder.finish(Ok(Drops(Arc::clone(&self.outputs)))));
        true
    }

    fn reject(&self) {
        let count = || {
            self.rejected.fetch_add(1, SeqCst);
        };
        self.oneshot.reject(RejectReason::Closed, count);
    }

    /// The caller sleeps until the result is there.
    fn wait(&self) -> Seen {
        let parker = Arc::new(Parker::new());
        self.oneshot.wake_when_settled(&parker);
        loop {
            if let Some(reply) = self.oneshot.take() {
                return seen(reply);
            }
            parker.park(None);
        }
    }

    /// The caller gives up.
    fn cancel(&self, only_unstarted: bool) -> Option<Seen> {
        match self.oneshot.cancel(only_unstarted) {
            CancelOutcome::Unstarted(_) => Some(Seen::Payload),
            CancelOutcome::BetweenAttempts(..) => Some(Seen::Failed),
            CancelOutcome::Running(_) => (!only_unstarted).then_some(Seen::Abandoned),
            CancelOutcome::Settled(reply) => Some(seen(reply)),
            CancelOutcome::Taken => None,
        }
    }

    fn check_drops(self) {
        drop(self.oneshot);
        assert_eq!(self.payloads.load(SeqCst), 1, "payloads dropped");
        assert_eq!(self.outputs.load(SeqCst), self.made.load(SeqCst), "outputs");
    }
}

fn seen(reply: Reply<Drops, Drops, ()>) -> Seen {
    match reply {
        Ok(_) => Seen::Output,
        Err(SubmitError::Rejected(_)) => Seen::Payload,
        Err(SubmitError::Failed(_)) => Seen::Failed,
    }
}

/// One worker, and threads that reject: the caller that sleeps has one answer.
fn reply_against_reject(failures: usize, rejecters: usize) {
    let model = Model::new();
    let seen = thread::scope(|scope| {
        let worker = scope.spawn(|| model.work(failures));
        for _ in 0..rejecters {
            scope.spawn(|| model.reject());
        }
        let seen = model.wait();
        let began = worker.join().expect("it does not panic");
        assert!(began || seen != Seen::Output);
        seen
    });
    let rejected = model.rejected.load(SeqCst);
    assert_eq!(rejected, usize::from(seen != Seen::Output), "{seen:?}");
    assert!(failures > 0 || seen != Seen::Failed);
    assert!(model.oneshot.take().is_none(), "it was taken");
    model.check_drops();
}

#[test]
fn a_job_that_is_begun_and_rejected_at_once_has_one_answer() {
    check(|| reply_against_reject(0, 6));
}

#[test]
fn a_job_that_is_rejected_between_attempts_has_one_answer() {
    check(|| reply_against_reject(2, 2));
}

#[test]
fn a_caller_that_gives_up_meets_a_worker_and_one_who_rejects() {
    check(|| {
        let model = Model::new();
        let seen = thread::scope(|scope| {
            let worker = scope.spawn(|| model.work(1));
            scope.spawn(|| model.reject());
            let seen = model.cancel(false);
            let began = worker.join().expect("it does not panic");
            assert!(began || seen != Some(Seen::Output));
            seen
        });
        assert!(seen.is_some(), "nobody else takes it");
        assert!(model.oneshot.take().is_none(), "given up for good");
        model.check_drops();
    });
}

/// The handle waits while another thread takes the job back if it has not begun.
#[test]
fn a_job_that_is_taken_back_and_waited_for_is_seen_once() {
    check(|| {
        let model = Model::new();
        thread::scope(|scope| {
            scope.spawn(|| model.work(0));
            scope.spawn(|| model.reject());
            let first = model.cancel(true);
            let seen = first.unwrap_or_else(|| model.wait());
            assert!(matches!(seen, Seen::Output | Seen::Payload));
        });
        assert!(model.oneshot.take().is_none());
        model.check_drops();
    });
}

#[test]
fn a_responder_that_is_dropped_answers_its_caller() {
    check(|| {
        let model = Model::new();
        thread::scope(|scope| {
            let responder = Responder(Arc::clone(&model.oneshot));
            scope.spawn(move || drop(responder));
            assert_eq!(model.wait(), Seen::Payload);
        });
        model.check_drops();
    });
}

#[test]
fn a_handle_and_the_worker_ask_for_one_token() {
    check(|| {
        let model = Model::new();
        let own_token = CancelToken::new();
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let begun = model.oneshot.begin_with_handle(attempt(), &own_token);
                let (payload, own) = begun.expect("nobody else begins it");
                drop(payload);
                let token = own.unwrap_or_else(|| own_token.clone());
                token.wait();
                drop(model.oneshot.finish(Err(Box::new(JobError::new(
                    JobId::new(1),
                    Some(attempt()),
                    cause_of(RejectReason::Cancelled),
                )))));
            });
            scope.spawn(|| model.oneshot.token_or_new().cancel());
            worker.join().expect("its token fires");
            assert_eq!(model.wait(), Seen::Failed);
        });
        model.check_drops();
    });
}
