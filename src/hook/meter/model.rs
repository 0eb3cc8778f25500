//! No subscriber misses the last change, and no snapshot shows more workers busy than there are.

use super::*;
use crate::sync::modelled::run::check;
use crate::sync::thread;

/// A worker comes, runs so many jobs, and goes.
fn life(meter: &Meter, worker: u64, jobs: u64) {
    let worker = WorkerId::new(worker);
    meter.worker_add(worker);
    for job in 0..jobs {
        meter.job_start(JobId::new(job), worker);
        meter.job_finish(JobId::new(job), worker, Outcome::Completed);
    }
    meter.worker_remove(worker);
}

fn is_sound(snapshot: &Snapshot) {
    assert!(snapshot.busy <= snapshot.total, "{snapshot:?}");
    assert!((0.0..=1.0).contains(&snapshot.utilization()));
}

/// Two of the workers count in one word.
#[test]
fn every_snapshot_is_sound_while_workers_come_and_go() {
    check(|| {
        let meter = Meter::new();
        thread::scope(|scope| {
            for worker in [1, 2, 3, 1 + WORDS as u64] {
                let meter = &meter;
                scope.spawn(move || life(meter, worker, 2));
            }
            for _ in 0..3 {
                scope.spawn(|| (0..3).for_each(|_| is_sound(&meter.snapshot())));
            }
            (0..3).for_each(|_| is_sound(&meter.snapshot()));
        });
        let rest = meter.snapshot();
        assert_eq!((rest.busy, rest.total), (0, 0));
    });
}

#[test]
fn a_subscriber_sees_the_last_worker_come() {
    check(|| {
        let meter = Meter::new();
        thread::scope(|scope| {
            for worker in 1..=3 {
                let meter = &meter;
                scope.spawn(move || meter.worker_add(WorkerId::new(worker)));
            }
            for _ in 0..2 {
                let mut news = meter.subscribe();
                scope.spawn(move || {
                    while let Some(snapshot) = news.recv() {
                        is_sound(&snapshot);
                        if snapshot.total == 3 {
                            return;
                        }
                    }
                    panic!("the meter lives");
                });
            }
        });
    });
}

#[test]
fn a_subscriber_sees_the_end_of_the_pool() {
    check(|| {
        let meter = Meter::new();
        let mut news = meter.subscribe();
        thread::scope(|scope| {
            scope.spawn(|| {
                life(&meter, 1, 1);
                meter.pool_state(PoolState::Closed);
            });
            scope.spawn(move || {
                let last = news.by_ref().inspect(is_sound).last();
                let last = last.expect("the first comes at once");
                assert_eq!((last.total, last.state), (0, PoolState::Closed));
                assert_eq!(news.try_recv(), None);
            });
        });
    });
}

#[test]
fn a_subscriber_sees_the_last_meter_go() {
    check(|| {
        let meter = Meter::new();
        let other = meter.clone();
        let news = meter.subscribe();
        thread::scope(|scope| {
            scope.spawn(move || drop(meter));
            scope.spawn(move || drop(other));
            assert!(news.count() <= 2);
        });
    });
}
