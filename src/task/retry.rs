//! What a job with retries carries with it, and what follows one of its tries.

use crate::job::id::Attempt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::job::Outcome;
use crate::job::cancel::CancelToken;
use crate::policy::retry::Retry;
use crate::sync::unwind as panics;
use crate::task::header::Header;

pub(crate) struct RetryState<P> {
    pub(crate) retry: Retry,
    /// Known where the job was submitted.
    clone: fn(&P) -> P,
    /// The try that runs, or ended last.
    pub(crate) last: Option<Attempt>,
    /// While a try runs: the rest of what the next task needs.
    kept: Option<Saved<P>>,
}

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
            kept: None,
        }
    }

    /// How many tries have begun.
    pub(crate) fn attempts(&self) -> u32 {
        self.last.map_or(0, |last| last.number.get())
    }

    /// A try begins: keeps what another would need, if there may be another.
    pub(crate) fn begin(
        &mut self,
        this: Attempt,
        payload: &P,
        header: Header,
        token: Option<&CancelToken>,
    ) {
        self.last = Some(this);
        if !self.retry.more_after(this.number.get()) {
            return;
        }
        match catch_unwind(AssertUnwindSafe(|| (self.clone)(payload))) {
            Ok(payload) => {
                let token = token.cloned();
                self.kept = Some(Saved {
                    payload,
                    header,
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
    pub(crate) fn wanted(&mut self, outcome: Outcome, closing: bool) -> Option<Saved<P>> {
        let kept = self.kept.take()?;
        let fired = kept.token.as_ref().and_then(CancelToken::fired_by);
        if !closing && fired.is_none() && self.retry.follows(outcome) {
            return Some(kept);
        }
        panics::discard("payload", kept.payload);
        None
    }
}
