//! What a job with retries carries with it, and what follows one of its tries.

use crate::job::id::Try;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::job::Outcome;
use crate::job::cancel::CancelToken;
use crate::job::id::JobId;
use crate::policy::retry::Retry;
use crate::sync::unwind as panics;
use crate::task::ReplyTo;
use crate::task::header::Mark;
use crate::task::{Body, Heading, Load, Ticket};

pub(crate) struct Again<P> {
    retry: Retry,
    /// Known where the job was submitted.
    clone: fn(&P) -> P,
    /// The try that runs, or ended last.
    pub(crate) last: Option<Try>,
    /// While a try runs: the rest of what the next ticket needs.
    kept: Option<Kept<P>>,
}

struct Kept<P> {
    payload: P,
    mark: Mark,
    token: Option<CancelToken>,
}

/// A further try, from that moment on.
pub(crate) type NextTry<P, O, E> = Box<(Ticket<P, O, E>, Instant)>;

impl<P> Again<P> {
    pub(crate) fn new(retry: Retry, clone: fn(&P) -> P) -> Self {
        Again {
            retry,
            clone,
            last: None,
            kept: None,
        }
    }

    /// How many tries have begun.
    pub(crate) fn tries(&self) -> u32 {
        self.last.map_or(0, |last| last.number.get())
    }

    /// A try begins: keeps what another would need, if there may be another.
    pub(crate) fn begin(
        &mut self,
        this: Try,
        payload: &P,
        mark: Mark,
        token: Option<&CancelToken>,
    ) {
        self.last = Some(this);
        if !self.retry.more_after(this.number.get()) {
            return;
        }
        match catch_unwind(AssertUnwindSafe(|| (self.clone)(payload))) {
            Ok(payload) => {
                let token = token.cloned();
                self.kept = Some(Kept {
                    payload,
                    mark,
                    token,
                });
            }
            Err(panic) => log::error!(
                "cloning a payload panicked, so there is no further try: {}",
                panics::message(panic)
            ),
        }
    }

    /// What another try needs, if there shall be one after this outcome.
    fn wanted(&mut self, outcome: Outcome, closing: bool) -> Option<Kept<P>> {
        let kept = self.kept.take()?;
        let fired = kept.token.as_ref().and_then(CancelToken::fired_by);
        if !closing && fired.is_none() && self.retry.follows(outcome) {
            return Some(kept);
        }
        panics::discard("payload", kept.payload);
        None
    }
}

/// What follows this run of a job: a further try, unless it was the last; then `reply` is left to be
/// answered. From here on, a caller that gives up on a job to be tried again finds it between two
/// tries.
#[cold]
pub(crate) fn after<P, O, E>(
    id: JobId,
    mut again: Box<Again<P>>,
    reply: &mut Option<ReplyTo<P, O, E>>,
    outcome: Outcome,
    closing: bool,
) -> Option<NextTry<P, O, E>> {
    let kept = again.wanted(outcome, closing)?;
    let body = match reply.take()? {
        ReplyTo::Slot(slot) => match slot.queue_again(kept.payload) {
            Ok(()) => Body::Awaited(slot),
            Err(payload) => {
                panics::discard("payload", payload);
                *reply = Some(ReplyTo::Slot(slot)); // nobody waits any more
                return None;
            }
        },
        ReplyTo::Errors(errors) => Body::Detached(Load {
            payload: kept.payload,
            errors,
        }),
    };
    let now = Instant::now();
    let delay = again.retry.delay(again.tries());
    // A wait too long to be told lasts a year: the job ends by its token, deadline, or the pool's end.
    let at = now.checked_add(delay).unwrap_or(now + YEAR);
    let heading = Heading {
        id,
        mark: kept.mark,
        token: kept.token.filter(|_| matches!(body, Body::Detached(_))),
        again: Some(again),
    };
    Some(Box::new((Ticket::rich(heading, body), at)))
}

const YEAR: std::time::Duration = std::time::Duration::from_secs(365 * 24 * 3600);
