//! Subscribers of a meter: the present value at once, then the newest, the last one never missed, and
//! a clear end.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use crate::common::{LIMIT, Latch, next, stress, within};
use crate::more::{SHORT, add_workers, at_latch, jitter, tasks, until_cancelled};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::Mutex;
use worker_pool::{
    Hook, JobId, Meter, Outcome, PoolState, PoolStatus, Snapshot, Subscription, SubscriptionError,
    WorkerId,
};

/// A subscriber gets the present value at once, then nothing until something changes, and of many
/// changes the newest only.
#[test]
fn a_subscriber_gets_the_present_value_and_then_the_newest() {
    within(LIMIT, || {
        let meter = Meter::new();
        let mut early = meter.subscribe();
        let first = early.recv().unwrap();
        assert_eq!(
            (first.busy, first.total, first.state),
            (0, 0, PoolState::Running)
        );
        let pool = tasks()
            .hook(meter.clone())
            .queue_capacity(77)
            .build()
            .unwrap();
        add_workers(&pool, 3);
        let mut late = meter.subscribe();
        let now = late.try_recv().unwrap();
        assert_eq!((now.busy, now.total, now.queue_capacity), (0, 3, 77));
        assert_eq!(early.recv().unwrap().total, 3, "not one by one");
        for news in [&mut early, &mut late] {
            assert!(news.try_recv().is_none(), "nothing has changed");
            assert_eq!(news.recv_timeout(SHORT), Err(SubscriptionError::Timeout));
        }
        let latch = Latch::new();
        for n in 0..2 {
            drop(pool.enqueue(at_latch(&latch, n)).unwrap());
        }
        latch.wait_for(2);
        for news in [&mut early, &mut late] {
            let now = news.recv_timeout(LIMIT).unwrap();
            assert_eq!((now.busy, now.total), (2, 3));
            assert_eq!(news.try_recv(), None);
        }
        latch.open();
    });
}

/// Subscribers that wait as a value changes, however closely, see the last value, also if it never
/// changes again.
#[test]
fn no_subscriber_misses_the_last_value() {
    let rounds = stress(1_500);
    within(LIMIT, move || {
        let meter = Meter::new();
        let (seen, told) = unbounded();
        let subscribers: Vec<_> = (0..3)
            .map(|subscriber| {
                let (mut news, seen) = (meter.subscribe(), seen.clone());
                thread::spawn(move || {
                    loop {
                        // One of them never waits long enough without a limit.
                        let now = match subscriber {
                            0 => news.recv_timeout(Duration::MAX),
                            1 => news.recv_timeout(Duration::from_micros(50)),
                            _ => news.recv().ok_or(SubscriptionError::Ended),
                        };
                        match now {
                            Ok(now) => drop(seen.send((subscriber, now.total))),
                            Err(SubscriptionError::Timeout) => {}
                            Err(SubscriptionError::Ended) => return,
                        }
                    }
                })
            })
            .collect();
        for round in 0..rounds {
            // A burst, of which only its end is sure to be seen.
            for id in 0..3 {
                meter.worker_add(WorkerId::new(id));
                meter.job_start(JobId::new(id), WorkerId::new(id));
                meter.job_finish(JobId::new(id), WorkerId::new(id), Outcome::Completed);
            }
            jitter(round);
            let last = (3 * round + 3) as u32;
            let mut missing: HashSet<_> = (0..3).collect();
            while !missing.is_empty() {
                let (subscriber, total) = next(&told);
                assert!(total <= last);
                if total == last {
                    missing.remove(&subscriber);
                }
            }
        }
        drop(meter);
        for subscriber in subscribers {
            subscriber.join().unwrap();
        }
    });
}

/// A subscriber that goes back to wait at the very moment of the next change is woken by it.
#[test]
fn no_wake_up_is_lost_between_a_change_and_a_subscriber() {
    let rounds = stress(15_000) as u32;
    within(LIMIT, move || {
        let meter = Meter::new();
        let seen = AtomicU32::new(0);
        thread::scope(|scope| {
            let mut news = meter.subscribe();
            let seen = &seen;
            scope.spawn(move || {
                while seen.load(SeqCst) < rounds {
                    seen.store(news.recv().unwrap().total, SeqCst);
                }
            });
            for round in 1..=rounds {
                meter.worker_add(WorkerId::new(round.into()));
                // Looks all the time, so as to come right after the subscriber's word.
                let mut looks = 0_u32;
                while seen.load(SeqCst) != round {
                    looks += 1;
                    if looks.is_multiple_of(4_096) {
                        thread::yield_now();
                    }
                    std::hint::spin_loop();
                }
                for _ in 0..round % 32 {
                    std::hint::spin_loop();
                }
            }
        });
    });
}

/// The end of a pool without workers, where nothing else changes, is told to those who wait.
#[test]
fn the_end_of_an_idle_pool_is_told() {
    let rounds = stress(50);
    within(LIMIT, move || {
        for round in 0..rounds {
            let meter = Meter::new();
            let pool = tasks().hook(meter.clone()).build().unwrap();
            let mut news = meter.subscribe();
            news.recv().unwrap();
            let waiter = thread::spawn(move || news.last());
            (0..round).for_each(jitter);
            pool.close();
            let end = waiter.join().unwrap().unwrap();
            assert_eq!((end.total, end.state), (0, PoolState::Closed));
        }
    });
}

/// A pool's end is the last value: `Closed`, without workers; then the stream has ended, for those
/// who wait and for those who come late.
#[test]
fn a_subscription_ends_after_the_snapshot_that_says_closed() {
    within(LIMIT, || {
        let meter = Meter::new();
        let pool = tasks().hook(meter.clone()).build().unwrap();
        add_workers(&pool, 2);
        let waiting = [(); 3].map(|()| {
            let news = meter.subscribe();
            thread::spawn(move || news.last().unwrap())
        });
        let mut slow = meter.subscribe();
        assert_eq!(slow.recv().unwrap().state, PoolState::Running);
        // While a job holds up the end, the pool is seen draining.
        let (work, begins) = until_cancelled();
        let (latch, token) = (Latch::new(), pool.enqueue(work).unwrap());
        let held = pool.enqueue(at_latch(&latch, 0)).unwrap();
        latch.wait_for_one();
        next(&begins);
        let closer = thread::spawn({
            let pool = pool.clone();
            move || pool.close()
        });
        while slow.recv_timeout(LIMIT).unwrap().state == PoolState::Running {}
        assert!(!held.is_done());
        latch.open();
        closer.join().unwrap();
        drop((token, held));
        for waiter in waiting {
            let end = waiter.join().unwrap();
            assert_eq!((end.busy, end.total, end.state), (0, 0, PoolState::Closed));
            assert_eq!(end.utilization(), 1.0);
        }
        let mut late = meter.subscribe();
        for news in [&mut slow, &mut late] {
            assert_eq!(news.by_ref().last().unwrap().state, PoolState::Closed);
            assert_eq!(news.recv(), None);
            assert_eq!(news.recv_timeout(LIMIT), Err(SubscriptionError::Ended));
            assert_eq!(news.try_recv(), None);
        }
    });
}

/// When the last meter is dropped, also the one in the pool, those who wait are told that nothing
/// will follow.
#[test]
fn a_subscription_ends_when_the_meter_is_dropped() {
    within(LIMIT, || {
        let meter = Meter::new();
        let mut news = meter.subscribe();
        news.recv().unwrap();
        let waiter = thread::spawn(move || news.recv());
        let mut idle = meter.subscribe();
        let again = meter.clone();
        drop(meter);
        again.worker_add(WorkerId::new(1));
        assert_eq!(waiter.join().unwrap().unwrap().total, 1, "a clone lives");
        let mut news = again.subscribe();
        news.recv().unwrap();
        let waiter = thread::spawn(move || news.recv());
        drop(again);
        assert_eq!(waiter.join().unwrap(), None);
        assert_eq!(idle.recv().unwrap().total, 1, "what it had not seen");
        assert_eq!(idle.recv(), None);

        // The pool's own is one, too.
        let meter = Meter::new();
        let pool = tasks().hook(meter.clone()).build().unwrap();
        let news = meter.subscribe();
        drop(meter);
        add_workers(&pool, 1);
        let waiter = thread::spawn(move || news.last());
        drop(pool);
        let end = waiter.join().unwrap().unwrap();
        assert_eq!((end.total, end.state), (0, PoolState::Closed));
    });
}

/// Two pools with one meter that end at the same moment: whoever is told last, the meter says that
/// both are closed, and its subscribers hear of the end.
#[test]
fn two_pools_that_end_together_end_their_subscription() {
    let rounds = stress(400);
    within(2 * LIMIT, move || {
        for round in 0..rounds {
            let meter = Meter::new();
            let build = || tasks().hook(meter.clone()).build().unwrap();
            let pools = [build(), build()];
            let mut news = meter.subscribe();
            let start = Barrier::new(pools.len());
            thread::scope(|scope| {
                for pool in &pools {
                    scope.spawn(|| {
                        start.wait();
                        pool.close();
                    });
                }
            });
            assert_eq!(meter.snapshot().state, PoolState::Closed, "round {round}");
            while let Some(snapshot) = within_limit(&mut news) {
                let last = snapshot.state == PoolState::Closed;
                assert!(!last || news.try_recv().is_none(), "round {round}");
            }
        }
    });
}

/// The next snapshot, or `None` at the end, which must come.
#[track_caller]
fn within_limit(news: &mut Subscription) -> Option<Snapshot> {
    match news.recv_timeout(LIMIT) {
        Ok(snapshot) => Some(snapshot),
        Err(SubscriptionError::Ended) => None,
        Err(SubscriptionError::Timeout) => panic!("neither news nor an end"),
    }
}

/// A pool that says how it stands, and may be held for a moment just after it has looked.
struct HeldPool {
    closed: AtomicBool,
    /// Says that it has looked, and waits until it may say what it saw.
    held: Mutex<Option<(Sender<()>, Receiver<()>)>>,
}

impl PoolStatus for HeldPool {
    fn name(&self) -> &str {
        "held"
    }
    fn waiting(&self) -> usize {
        0
    }
    fn queue_capacity(&self) -> usize {
        1
    }
    fn finished(&self) -> u64 {
        0
    }
    fn state(&self) -> PoolState {
        let closed = self.closed.load(SeqCst);
        let held = self.held.lock().take();
        if let Some((looked, go)) = held {
            looked.send(()).expect("the test listens");
            let _ = go.recv_timeout(SHORT);
        }
        if closed {
            PoolState::Closed
        } else {
            PoolState::Running
        }
    }
}

/// What one pool's end found out does not hide what the end of the other found out later.
#[test]
fn a_late_look_at_two_pools_does_not_hide_a_later_one() {
    within(LIMIT, || {
        let meter = Meter::new();
        let (looked, looks) = bounded(1);
        let (go, going) = bounded(1);
        let pool = |held| {
            let closed = AtomicBool::new(false);
            let held = Mutex::new(held);
            Arc::new(HeldPool { closed, held })
        };
        let (first, second) = (pool(None), pool(Some((looked, going))));
        for pool in [&first, &second] {
            let pool: Arc<dyn PoolStatus> = pool.clone();
            meter.pool_start(Arc::downgrade(&pool));
        }
        thread::scope(|scope| {
            first.closed.store(true, SeqCst);
            scope.spawn(|| meter.pool_state(PoolState::Closed));
            next(&looks); // it has seen that the second one runs
            second.closed.store(true, SeqCst);
            meter.pool_state(PoolState::Closed);
            let _ = go.send(()); // it may have gone on by itself
        });
        assert_eq!(meter.snapshot().state, PoolState::Closed);
        let mut news = meter.subscribe();
        assert!(within_limit(&mut news).is_some());
        assert_eq!(within_limit(&mut news), None);
    });
}
