//! Trees of cancel tokens: children, deadlines, and threads that wait on them.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{LIMIT, stress, within};
use crate::more::{SHORT, jitter};
use worker_pool::CancelToken;

/// A child fires with its parent and its grandparent, never the other way round, and siblings do not
/// hear of each other.
#[test]
fn a_token_fires_with_its_parents_and_never_for_them() {
    let root = CancelToken::new();
    let [left, right] = [root.child(), root.child()];
    let leaf = left.child();
    let same = leaf.clone();
    leaf.cancel();
    leaf.cancel();
    assert!(
        leaf.is_cancelled() && same.is_cancelled(),
        "clones are one token"
    );
    assert!(!left.is_cancelled() && !right.is_cancelled() && !root.is_cancelled());
    let other = left.child();
    root.cancel();
    for token in [&root, &left, &right, &leaf, &other] {
        assert!(token.is_cancelled());
    }
    assert!(left.child().is_cancelled(), "born after the fact");
    assert!(leaf.child().child().is_cancelled());
}

/// A middle token that nobody holds any more still passes the word on to its children.
#[test]
fn a_dropped_parent_still_passes_on_what_it_hears() {
    let root = CancelToken::new();
    let leaf = root
        .child()
        .child()
        .child_with_deadline(Instant::now() + LIMIT);
    assert!(!leaf.is_cancelled());
    root.cancel();
    assert!(leaf.is_cancelled());
    let leaf = {
        let root = CancelToken::new();
        root.child()
    };
    assert!(!leaf.is_cancelled(), "to drop a token is not to cancel it");
    drop(leaf);
}

/// The earliest deadline on the way up holds.
#[test]
fn the_earliest_deadline_of_a_token_and_its_parents_holds() {
    let now = Instant::now();
    let (soon, late) = (now + LIMIT, now + 2 * LIMIT);
    assert_eq!(CancelToken::new().deadline(), None);
    let parent = CancelToken::with_deadline(late);
    assert_eq!(parent.child().deadline(), Some(late));
    let child = parent.child_with_deadline(soon);
    assert_eq!(child.deadline(), Some(soon));
    assert_eq!(child.child_with_deadline(late).deadline(), Some(soon));
    assert_eq!(parent.deadline(), Some(late), "the child's is its own");
    assert!(!child.is_cancelled());

    let past = CancelToken::with_deadline(now);
    assert!(past.is_cancelled());
    assert!(past.child().is_cancelled());
    let fresh = CancelToken::new();
    assert!(fresh.child_with_deadline(now).is_cancelled());
    assert!(!fresh.is_cancelled());
}

/// Waiting with a limit says whether the token fired: not by itself, at a deadline, and at a cancel.
#[test]
fn waiting_on_a_token_ends_with_its_cancel_its_deadline_or_the_limit() {
    within(LIMIT, || {
        let token = CancelToken::new();
        assert!(!token.wait_timeout(Duration::ZERO));
        let start = Instant::now();
        assert!(!token.wait_timeout(SHORT));
        assert!(start.elapsed() >= SHORT, "not before its time");

        let start = Instant::now();
        let timed = token.child_with_deadline(start + SHORT);
        timed.wait();
        assert!(start.elapsed() >= SHORT, "not before its time");
        assert!(timed.is_cancelled() && !token.is_cancelled());
        assert!(timed.wait_timeout(Duration::ZERO));
        // The deadline ends the wait long before the limit, and the limit before a late deadline.
        assert!(CancelToken::with_deadline(Instant::now() + SHORT).wait_timeout(Duration::MAX));
        assert!(!CancelToken::with_deadline(start + 10 * LIMIT).wait_timeout(SHORT));

        let waiters = [token.clone(), token.child(), timed, token.child().child()];
        let waiters = waiters.map(|token| thread::spawn(move || token.wait()));
        let patient = token.child();
        let patient = thread::spawn(move || patient.wait_timeout(Duration::MAX));
        token.cancel();
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert!(patient.join().unwrap());
        token.wait();
    });
}

/// A thread that is about to wait on a token, or on a child born meanwhile, is woken by the cancel
/// that races it.
#[test]
fn no_wake_up_is_lost_between_a_waiter_and_a_cancel() {
    let rounds = stress(1_500);
    within(LIMIT, move || {
        let start = Barrier::new(3);
        let tokens: Vec<_> = (0..rounds).map(|_| CancelToken::new()).collect();
        thread::scope(|scope| {
            scope.spawn(|| {
                for token in &tokens {
                    start.wait();
                    token.wait();
                }
            });
            scope.spawn(|| {
                for token in &tokens {
                    start.wait();
                    assert!(token.child().child().wait_timeout(Duration::MAX));
                }
            });
            for (round, token) in tokens.iter().enumerate() {
                start.wait();
                jitter(round);
                token.cancel();
            }
        });
    });
}

/// A chain of a hundred thousand children fires and is dropped without a deep recursion.
#[test]
fn a_long_chain_of_tokens_fires_and_is_dropped() {
    const LENGTH: usize = 100_000;
    within(LIMIT, || {
        let root = CancelToken::new();
        let mut chain = vec![root.clone()];
        for link in 0..LENGTH {
            chain.push(chain[link].child());
        }
        root.cancel();
        assert!(chain[LENGTH].is_cancelled());
        // From the root on, so that each is kept by its child alone until the last is dropped.
        for token in chain {
            drop(token);
        }

        // One that never fires, and of which only the end is kept.
        let root = CancelToken::new();
        let mut end = root.clone();
        for _ in 0..LENGTH {
            end = end.child();
        }
        assert!(!end.is_cancelled());
        drop(root);
        drop(end);
    });
}

/// A token that lives long forgets the children and the waiters that are gone: nothing but time tells,
/// so this only goes through the motions with very many.
#[test]
fn a_token_serves_very_many_short_lived_children() {
    within(LIMIT, || {
        let root = CancelToken::new();
        for _ in 0..stress(50_000) {
            let child = root.child();
            assert!(!child.wait_timeout(Duration::ZERO));
        }
        let last = root.child();
        root.cancel();
        assert!(last.is_cancelled());
    });
}
