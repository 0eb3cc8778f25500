//! No submitter waits for room that is there, the capacity holds, and who shuts the queue wakes all.

use crate::error::RejectReason;
use crate::pool::queue::{Admission, Admitted};
use crate::sync::modelled::run::check;
use crate::sync::park::Parker;
use crate::sync::{Arc, AtomicUsize, Ordering::SeqCst, thread};

struct Model {
    admission: Admission,
    entered: AtomicUsize,
    refused: AtomicUsize,
}

impl Model {
    fn new(capacity: usize) -> Self {
        Model {
            admission: Admission::new(capacity),
            entered: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        }
    }

    fn submit(&self, patient: bool) -> Result<Admitted, RejectReason> {
        let parker = Arc::new(Parker::new());
        let admitted = self.admission.wait_for_room_with(
            &parker,
            patient,
            || self.admission.try_acquire(),
            |until| {
                parker.park(until);
                Ok(())
            },
        );
        let count = match admitted {
            Ok(_) => &self.entered,
            Err(_) => &self.refused,
        };
        count.fetch_add(1, SeqCst);
        admitted
    }

    /// So many jobs leave as they come.
    fn release(&self, jobs: usize) {
        for _ in 0..jobs {
            loop {
                let count = self.admission.count();
                assert!(count <= self.admission.capacity());
                if count > 0 {
                    break;
                }
                thread::yield_now();
            }
            self.admission.release(1);
        }
    }

    fn is_at_rest(&self) {
        assert_eq!(self.admission.blocked(), 0);
        assert_eq!(self.admission.undecided(), 0);
    }
}

#[test]
fn every_submitter_gets_in_as_jobs_leave() {
    check(|| {
        let model = Model::new(2);
        thread::scope(|scope| {
            for patient in [true, true, true, false, false, true, false] {
                let model = &model;
                scope.spawn(move || model.submit(patient).expect("it is open"));
            }
            model.release(7);
        });
        assert_eq!(model.entered.load(SeqCst), 7);
        model.is_at_rest();
    });
}

#[test]
fn a_job_moved_out_makes_room_like_one_released() {
    check(|| {
        let model = Model::new(1);
        thread::scope(|scope| {
            for patient in [true, false, true] {
                let model = &model;
                scope.spawn(move || model.submit(patient).expect("it is open"));
            }
            for _ in 0..3 {
                while model.admission.count() == 0 {
                    thread::yield_now();
                }
                model.admission.start_moving(1);
                assert!(!model.admission.can_handoff());
                model.admission.stop_moving(1);
            }
        });
        model.is_at_rest();
    });
}

/// One thread watches for room without blocking, and goes without taking it.
#[test]
fn an_onlooker_that_goes_leaves_its_wake_to_a_submitter() {
    check(|| {
        let model = Model::new(1);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| model.submit(false).expect("it is open"));
            }
            scope.spawn(|| {
                let parker = Arc::new(Parker::new());
                let guard = model.admission.add_waiter(&parker);
                while !guard.is_woken() && !model.admission.has_answer() {
                    parker.park(None);
                }
            });
            model.release(2);
        });
        model.is_at_rest();
    });
}

#[test]
fn a_queue_that_is_shut_tells_all_that_wait() {
    check(|| {
        let model = Model::new(1);
        thread::scope(|scope| {
            for patient in [true, false, true, false, true, false] {
                let model = &model;
                scope.spawn(move || model.submit(patient));
            }
            scope.spawn(|| model.admission.close());
        });
        let (entered, refused) = (model.entered.load(SeqCst), model.refused.load(SeqCst));
        assert_eq!(entered + refused, 6);
        assert_eq!(entered, model.admission.count());
        model.is_at_rest();
    });
}
