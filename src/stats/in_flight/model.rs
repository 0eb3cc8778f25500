//! No waiter is forgotten, and none returns too early.

use super::*;
use crate::sync::modelled::run::check;
use crate::sync::{AtomicUsize, thread, time};
use std::time::Duration;

struct Model {
    in_flight: InFlight,
    worked: PerEpoch,
    /// Ended in whatever way.
    ended: AtomicUsize,
    /// What a worker takes its jobs from.
    queue: AtomicU64,
}

impl Model {
    fn new() -> Self {
        Model {
            in_flight: InFlight::default(),
            worked: Default::default(),
            ended: AtomicUsize::new(0),
            queue: AtomicU64::new(0),
        }
    }

    /// So many jobs one after another, as a worker of its own ends them. It reports only the last of
    /// those that follow one another in one epoch.
    fn work(&self, jobs: usize) {
        let mut last = None;
        for _ in 0..jobs {
            let (_, epoch) = self.in_flight.count_in();
            self.queue.load(SeqCst); // takes the next one
            if let Some(last) = last.take_if(|last| *last != epoch) {
                self.in_flight.call_if_wanted(last);
            }
            self.ended.fetch_add(1, SeqCst);
            self.worked[epoch as usize].fetch_add(1, SeqCst);
            last = Some(epoch);
        }
        fence(SeqCst);
        if let Some(last) = last {
            self.in_flight.call_if_wanted(last);
        }
    }

    fn turn_away(&self, jobs: usize) {
        for _ in 0..jobs {
            let (_, epoch) = self.in_flight.count_in();
            self.ended.fetch_add(1, SeqCst);
            self.in_flight.ended_unworked(epoch, 1);
        }
    }

    fn wait(&self, deadline: Option<Instant>) -> bool {
        let before = self.in_flight.counted() as usize;
        let count = |epoch: Epoch| self.worked[epoch as usize].load(SeqCst);
        let parker = Arc::new(Parker::new());
        let park = || {
            parker.park(deadline);
            false
        };
        let ended = self.in_flight.wait(&parker, deadline, count, park);
        assert!(!ended || self.ended.load(SeqCst) >= before, "too early");
        ended
    }
}

#[test]
fn two_waiters_among_six_that_work() {
    check(|| {
        let model = Model::new();
        thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| model.work(2));
            }
            scope.spawn(|| model.turn_away(2));
            scope.spawn(|| assert!(model.wait(None)));
            assert!(model.wait(None));
        });
        assert!(model.wait(None));
    });
}

#[test]
fn a_waiter_that_gives_up_leaves_its_epoch_to_the_next() {
    check(|| {
        let model = Model::new();
        thread::scope(|scope| {
            scope.spawn(|| model.work(3));
            scope.spawn(|| model.turn_away(1));
            scope.spawn(|| {
                model.wait(Some(time::now() + Duration::from_millis(1)));
            });
            assert!(model.wait(None));
        });
        assert!(model.wait(None));
    });
}
