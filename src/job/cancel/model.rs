//! Whoever waits on a token or its child is told, whenever it fires.

use super::*;
use crate::sync::modelled::run::check;
use crate::sync::{thread, time};

#[test]
fn a_token_that_fires_wakes_all_that_register_meanwhile() {
    check(|| {
        let token = CancelToken::new();
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| token.wait());
            }
            scope.spawn(|| token.cancel());
            token.wait();
        });
        assert!(token.is_cancelled());
    });
}

#[test]
fn a_child_that_is_made_as_its_parent_fires_has_fired() {
    check(|| {
        let (one, other) = (CancelToken::new(), CancelToken::new());
        thread::scope(|scope| {
            scope.spawn(|| one.cancel());
            scope.spawn(|| other.cancel());
            scope.spawn(|| one.child().wait());
            scope.spawn(|| one.child().child().wait());
            one.child_of_both(&other).wait();
        });
    });
}

#[test]
fn a_watch_may_end_as_the_token_fires() {
    check(|| {
        let token = CancelToken::new();
        let child = token.child();
        thread::scope(|scope| {
            scope.spawn(|| drop(token.watch(Arc::new(Parker::new()))));
            scope.spawn(|| drop(token.child()));
            scope.spawn(|| token.cancel());
            scope.spawn(move || child.wait());
        });
        assert!(token.is_cancelled());
    });
}

#[test]
fn those_who_do_not_wait_for_ever_learn_whether_it_fired() {
    check(|| {
        let token = CancelToken::with_deadline(time::now() + Duration::from_millis(1));
        let child = token.child();
        thread::scope(|scope| {
            scope.spawn(|| child.cancel());
            scope.spawn(|| token.wait());
            if child.wait_timeout(Duration::from_micros(100)) {
                assert!(child.is_cancelled());
            }
            child.wait();
        });
    });
}
