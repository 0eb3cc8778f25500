//! No wake is lost, whenever it comes.

use super::*;
use crate::sync::modelled::run::check;
use crate::sync::{AtomicBool, thread, time};
use std::time::Duration;

/// Each of so many threads sets its flag and then wakes the one that waits for all flags.
fn flags_and_wakes(wakers: usize, deadline: fn() -> Option<Instant>) {
    let parker = Parker::new();
    let flags: Vec<_> = (0..wakers).map(|_| AtomicBool::new(false)).collect();
    thread::scope(|scope| {
        for flag in &flags {
            let parker = &parker;
            scope.spawn(move || {
                flag.store(true, SeqCst);
                parker.wake();
            });
        }
        for flag in &flags {
            while !flag.load(SeqCst) {
                parker.park(deadline());
            }
        }
    });
}

#[test]
fn seven_wakes_are_all_seen() {
    check(|| flags_and_wakes(7, || None));
}

#[test]
fn wakes_that_meet_deadlines_are_all_seen() {
    check(|| flags_and_wakes(3, || Some(time::now() + Duration::from_millis(1))));
}

#[test]
fn a_wake_at_the_deadline_is_kept_for_the_next_wait() {
    check(|| {
        let parker = Parker::new();
        thread::scope(|scope| {
            scope.spawn(|| parker.wake());
            parker.park_and_keep(Some(time::now()));
            if !parker.is_woken() {
                parker.park_and_keep(None);
            }
            assert!(parker.is_woken());
            parker.forget_wake();
            assert!(!parker.is_woken(), "one wake is seen once");
        });
    });
}

#[test]
fn two_threads_that_wake_each_other_in_turn_go_on() {
    check(|| {
        let (ping, pong) = (Parker::new(), Parker::new());
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..3 {
                    ping.park(None);
                    pong.wake();
                }
            });
            for _ in 0..3 {
                ping.wake();
                pong.park(None);
            }
        });
    });
}
