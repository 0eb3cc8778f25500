//! The tokens that a job sees: lent by its worker's thread, and back there when the job is dropped.
//!
//! A job may be sent anywhere, so it owns its tokens. But nearly every job is dropped where it ran,
//! and to count the tokens' owners up and down for each took longer than a short job itself.

use std::cell::Cell;

use crate::job::cancel::CancelToken;
use crate::sync::thread_local;

/// What a job's [`is_cancelled`](crate::Job::is_cancelled) looks at.
pub(crate) struct Tokens {
    /// The submitter's token (with the job's deadline), if it gave one.
    pub(crate) own: Option<CancelToken>,
    /// Fires when the pool closes. A worker's own, so that it tells whose tokens these are.
    pub(crate) pool: CancelToken,
}

thread_local! {
    /// The worker's token for the pool's end, if this is a worker's thread: for comparison only.
    static HOME: Cell<usize> = const { Cell::new(0) };
    /// A clone of it that came back.
    static BACK: Cell<Option<CancelToken>> = const { Cell::new(None) };
}

/// Tokens that go back to the thread that lent them.
pub(crate) struct JobTokens(Option<Tokens>);

impl JobTokens {
    /// From now on the calling thread lends tokens with this one in them.
    pub(crate) fn serve(pool: &CancelToken) {
        HOME.with(|home| home.set(pool.address()));
        BACK.with(|back| back.set(None));
    }

    /// Tokens for a job on this worker. `pool` is what it [serves](Self::serve) with.
    #[inline]
    pub(crate) fn new(own: Option<CancelToken>, pool: &CancelToken) -> Self {
        let pool = BACK.with(Cell::take).unwrap_or_else(|| pool.clone());
        JobTokens(Some(Tokens { own, pool }))
    }

    pub(crate) fn get(&self) -> &Tokens {
        self.0.as_ref().expect("only a drop takes them")
    }
}

impl Drop for JobTokens {
    #[inline]
    fn drop(&mut self) {
        let Some(tokens) = self.0.take() else { return };
        let at_home = HOME.try_with(|home| home.get() == tokens.pool.address());
        if at_home == Ok(true) {
            let _ = BACK.try_with(|back| back.set(Some(tokens.pool)));
        }
    }
}
