//! The tokens that a job sees. The one of its worker comes from a cache of the worker's thread, and
//! returns there when the job is dropped.
//!
//! A job may be sent anywhere, so it owns its tokens. But nearly every job is dropped on the thread
//! that ran it, and counting the tokens' owners up and down for each job took longer than a short job
//! itself.

use std::cell::Cell;

use crate::job::cancel::CancelToken;
use crate::sync::thread_local;

/// What a job's [`is_cancelled`](crate::Job::is_cancelled) looks at.
pub(crate) struct Tokens {
    /// The job's own token, if it has one. It includes the job's deadline.
    pub(super) job: Option<CancelToken>,
    /// Fires when the pool closes. Each worker has a token of its own for this, so the token also
    /// identifies the worker.
    pub(super) closing: CancelToken,
}

thread_local! {
    /// The address of the worker's `closing` token if this is a worker's thread, or else zero. For
    /// comparison only.
    static OWN_TOKEN: Cell<usize> = const { Cell::new(0) };
    /// A clone of that token for the next job, returned by a job that was dropped.
    static CACHED: Cell<Option<CancelToken>> = const { Cell::new(None) };
}

/// A job's tokens. If they are dropped on the worker's thread, `closing` returns to its cache.
pub(crate) struct JobTokens(Option<Tokens>);

impl JobTokens {
    /// The calling thread is a worker's, and caches clones of this token from now on.
    pub(crate) fn serve(closing: &CancelToken) {
        OWN_TOKEN.with(|own| own.set(closing.address()));
        CACHED.with(|cached| cached.set(None));
    }

    /// Tokens for a job on the calling worker. `closing` is the token that its thread
    /// [caches](Self::serve).
    #[inline]
    pub(crate) fn new(job: Option<CancelToken>, closing: &CancelToken) -> Self {
        let closing = CACHED.with(Cell::take).unwrap_or_else(|| closing.clone());
        JobTokens(Some(Tokens { job, closing }))
    }

    pub(crate) fn get(&self) -> &Tokens {
        self.0.as_ref().expect("only `drop` takes them")
    }
}

impl Drop for JobTokens {
    #[inline]
    fn drop(&mut self) {
        let Some(tokens) = self.0.take() else { return };
        let is_own = OWN_TOKEN.try_with(|own| own.get() == tokens.closing.address());
        if is_own == Ok(true) {
            let _ = CACHED.try_with(|cached| cached.set(Some(tokens.closing)));
        }
    }
}
