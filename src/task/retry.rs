//! What a job with retries carries with it, and what follows one of its attempts.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::job::Outcome;
use crate::job::cancel::CancelToken;
use crate::job::id::Attempt;
use crate::policy::retry::Retry;
use crate::sync::log;
use crate::sync::unwind as panics;
use crate::task::header::Header;

pub(crate) struct RetryState<P> {
    pub(crate) retry: Retry,
    /// A pointer, since only where the job is submitted is the payload known to be `Clone`.
    clone: fn(&P) -> P,
    /// The attempt that runs, or the one that ended last.
    pub(crate) last: Option<Attempt>,
    /// While an attempt runs: the rest of what the next task needs.
    saved: Option<Saved<P>>,
}

/// What the task of another attempt is made of.
pub(crate) struct Saved<P> {
    pub(crate) payload: P,
    pub(crate) header: Header,
    pub(crate) token: Option<CancelToken>,
}

impl<P> RetryState<P> {
    pub(crate) fn new(retry: Retry, clone: fn(&P) -> P) -> Self {
        RetryState {
            retry,
            clone,
            last: None,
            saved: None,
        }
    }

    /// How many attempts have begun.
    pub(crate) fn attempts(&self) -> u32 {
        self.last.map_or(0, |last| last.number.get())
    }

    /// An attempt begins. Saves what another would need, if there may be another.
    pub(crate) fn begin(
        &mut self,
        attempt: Attempt,
        payload: &P,
        header: Header,
        token: Option<&CancelToken>,
    ) {
        self.last = Some(attempt);
        if !self.retry.more_after(attempt.number.get()) {
            return;
        }
        match catch_unwind(AssertUnwindSafe(|| (self.clone)(payload))) {
            Ok(payload) => {
                let token = token.cloned();
                self.saved = Some(Saved {
                    payload,
                    header,
                    token,
                });
            }
            Err(panic) => {
                let message = panics::message(panic);
                log::error!("cloning a payload panicked, so there is no further try: {message}");
            }
        }
    }

    /// What another attempt needs, if one is to follow this outcome.
    pub(crate) fn wanted(&mut self, outcome: Outcome, closing: bool) -> Option<Saved<P>> {
        let saved = self.saved.take()?;
        let fired = saved.token.as_ref().and_then(CancelToken::fired_by);
        if !closing && fired.is_none() && self.retry.follows(outcome) {
            return Some(saved);
        }
        panics::discard("payload", saved.payload);
        None
    }
}
