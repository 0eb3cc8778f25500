//! Priorities: who begins first, what may stand before an urgent job, and that nothing starves.

use std::thread;
use std::time::Duration;

use crate::common::{LIMIT, Latch, eventually, next, stress, threads_asleep, within};
use crossbeam_channel::{Receiver, Sender, unbounded};
use worker_pool::{
    DetachedError, Failure, Job, Manager,
    Priority::{self, High, Low, Normal},
    RejectReason,
};

type Pool = Manager<u64, u64, String>;

/// Jobs that hold the workers are numbered from here on.
const HOLDS: u64 = 1 << 40;

/// A pool whose workers stop at the latch in each job; with channels for what fails.
struct Held {
    // First: when a test fails its workers are let go, and then the pool is dropped.
    latch: Latch,
    pool: Pool,
    errors: Sender<DetachedError<String>>,
    failures: Receiver<DetachedError<String>>,
}

impl Held {
    fn new(workers: usize, capacity: usize) -> Held {
        let pool = Pool::builder().queue_capacity(capacity).build().unwrap();
        let (errors, failures) = unbounded();
        let held = Held {
            latch: Latch::new(),
            pool,
            errors,
            failures,
        };
        held.add(workers);
        held
    }

    fn add(&self, workers: usize) {
        for _ in 0..workers {
            self.pool.add(self.latch.worker()).unwrap();
        }
    }

    /// Occupies so many workers.
    fn hold(&self, workers: usize) {
        for hold in 0..workers as u64 {
            self.submit(Normal, HOLDS + hold);
            assert_eq!(self.latch.wait_for_one().get(), HOLDS + hold);
        }
    }

    #[track_caller]
    fn submit(&self, priority: Priority, id: u64) {
        let job = self.pool.job(id).priority(priority);
        job.try_detach(id, &self.errors).expect("there is room");
    }

    /// Lets one worker go on: which job begins next?
    #[track_caller]
    fn step(&self) -> u64 {
        self.latch.release(1);
        self.latch.wait_for_one().get()
    }
}

/// Of the jobs that wait for the first worker, the high ones begin first and the low ones last, and
/// within one priority the first in is the first out.
#[test]
fn waiting_jobs_begin_by_priority_and_then_by_arrival() {
    within(LIMIT, || {
        let held = Held::new(0, 100);
        for (from, priority) in [(200, Low), (100, Normal), (0, High)] {
            for id in from..from + 4 {
                held.submit(priority, id);
            }
        }
        held.add(1);
        let mut order = vec![held.latch.wait_for_one().get()];
        order.extend((1..12).map(|_| held.step()));
        let expected = [0, 100, 200].map(|from| from..from + 4);
        assert_eq!(order, expected.into_iter().flatten().collect::<Vec<_>>());
        held.latch.open();
    });
}

/// Behind a held worker the same holds, but for the one low job that was its turn already.
#[test]
fn jobs_behind_a_held_worker_begin_by_priority() {
    within(LIMIT, || {
        let held = Held::new(1, 100);
        held.hold(1);
        held.submit(Low, 200);
        eventually("the low job is the next", || held.pool.waiting() == 0);
        for (from, priority) in [(201, Low), (100, Normal), (0, High)] {
            for id in from..from + 3 {
                held.submit(priority, id);
            }
        }
        let order: Vec<_> = (0..10).map(|_| held.step()).collect();
        assert_eq!(order, [0, 1, 2, 200, 100, 101, 102, 201, 202, 203]);
        held.latch.open();
    });
}

/// Of the jobs of lower priority accepted earlier, at most two per worker begin before a high one,
/// wherever the workers stand in their count of turns.
#[test]
fn a_high_job_waits_for_two_lower_ones_per_worker_at_most() {
    for (workers, lower) in [(1, Low), (3, Low), (1, Normal), (3, Normal)] {
        within(LIMIT, move || {
            let held = Held::new(workers, 10_000);
            held.hold(workers);
            let mut id = 0;
            let mut waiting = 0;
            let mut worst = 0;
            for _ in 0..67 {
                while waiting < 4 * workers {
                    id += 1;
                    held.submit(lower, id);
                    waiting += 1;
                }
                let pool = &held.pool;
                eventually("one is released", || pool.waiting() < waiting);
                held.submit(High, HOLDS);
                // Those that run by now were accepted earlier, too.
                let mut before = workers;
                while held.step() != HOLDS {
                    before += 1;
                    waiting -= 1;
                    assert!(before <= 2 * workers, "{before} {lower:?} for {workers}");
                }
                worst = worst.max(before);
                // The workers' count of turns moves on.
                held.step();
                waiting -= 1;
            }
            // Of several workers, it may always be another one's turn.
            assert!(workers > 1 || worst == 2, "it never was a lower one's turn");
            held.latch.open();
        });
    }
}

/// Begins jobs with a stock of waiting ones kept up, until job 1 begins: after how many?
fn begun_before_job_1(held: &Held, stock: &[Priority], most: usize) -> usize {
    for begun in 0..most {
        let id = held.step();
        if id == 1 {
            return begun;
        }
        // In place of the job that began comes another of its priority.
        let place = id.checked_sub(HOLDS + 100);
        held.submit(place.map_or(High, |place| stock[place as usize]), id);
    }
    panic!("still waiting after {most} others");
}

/// However many high jobs wait at any time, a normal and a low job get their turn.
#[test]
fn a_constant_stream_of_high_jobs_starves_nobody() {
    for (workers, lower) in [(1, Normal), (1, Low), (2, Normal), (2, Low)] {
        within(LIMIT, move || {
            let held = Held::new(workers, 1_000);
            held.hold(workers);
            let stock = [High; 10];
            for place in 0..stock.len() as u64 {
                held.submit(High, HOLDS + 100 + place);
            }
            held.submit(lower, 1);
            // Else the dispatcher may wait for a core during as many turns as there are.
            let high_ones = stock.len();
            eventually("it is released", || held.pool.waiting() == high_ones);
            // One in 32 that each worker takes; a few turns may be missed on the way.
            let begun = begun_before_job_1(&held, &stock, 32 * 8 * workers);
            assert!(begun > 0, "the high ones were first");
            held.latch.open();
        });
    }
}

/// However many high and normal jobs wait at any time, a low job gets its turn.
#[test]
fn constant_streams_of_high_and_normal_jobs_do_not_starve_a_low_one() {
    within(LIMIT, || {
        let held = Held::new(1, 1_000);
        held.hold(1);
        let stock = [High, High, High, Normal, Normal, Normal];
        for (place, priority) in stock.iter().enumerate() {
            held.submit(*priority, HOLDS + 100 + place as u64);
        }
        held.submit(Low, 1);
        begun_before_job_1(&held, &stock, 32 * 32 * 4);
        held.latch.open();
    });
}

/// High jobs that wait when the pool drains are run.
#[test]
fn draining_runs_the_waiting_high_jobs() {
    within(LIMIT, || {
        let held = Held::new(1, 10);
        held.hold(1);
        for id in 0..3 {
            held.submit(High, id);
        }
        held.latch.open();
        held.pool.drain();
        assert_eq!(held.pool.stats().completed, 4);
        assert_eq!(held.failures.len(), 0);
        let late = held.pool.job(4).priority(High).try_enqueue();
        assert_eq!(late.unwrap_err().reason, RejectReason::Closed);
    });
}

/// High jobs that wait when the pool closes, or drains without a worker, are answered "closed".
#[test]
fn closing_answers_the_waiting_high_jobs() {
    within(LIMIT, || {
        for drain in [false, true] {
            let held = Held::new(0, 10);
            let handle = held.pool.job(0).priority(High).enqueue().unwrap();
            held.submit(High, 7);
            if drain {
                held.pool.drain();
            } else {
                held.pool.close();
            }
            assert!(handle.wait().unwrap_err().is_closed());
            let failure = next(&held.failures);
            assert_eq!(failure.id, 7);
            assert!(matches!(failure.error.cause, Failure::Closed));
            assert_eq!(held.pool.stats().closed, 2);
        }
    });
}

/// A high job that is cancelled while it waits never begins; its payload comes back.
#[test]
fn a_high_job_cancelled_while_it_waits_never_begins() {
    within(LIMIT, || {
        let held = Held::new(1, 10);
        held.hold(1);
        let handle = held.pool.job(5).priority(High).enqueue().unwrap();
        held.submit(High, 6);
        assert!(handle.cancel());
        let error = handle.wait().unwrap_err();
        assert!(error.is_cancelled());
        assert_eq!(error.into_payload(), Some(5));
        assert_eq!(held.step(), 6, "the cancelled one is passed over");
        held.latch.open();
        held.pool.drain();
        let stats = held.pool.stats();
        assert_eq!((stats.completed, stats.cancelled), (2, 1));
    });
}

/// A high job that is cancelled while it waits leaves its place in the queue to others, though the
/// worker is held.
#[test]
fn a_cancelled_high_job_frees_its_place() {
    within(LIMIT, || {
        let held = Held::new(1, 1);
        held.hold(1);
        let handle = held.pool.job(5).priority(High).enqueue().unwrap();
        let refused = held.pool.job(6).priority(High).try_enqueue();
        assert_eq!(refused.unwrap_err().reason, RejectReason::Full);
        assert!(handle.cancel());
        eventually("there is room", || held.pool.waiting() == 0);
        held.submit(High, 6);
        held.latch.open();
    });
}

/// High jobs take places in the queue as all others do, and wait for room as all others do.
#[test]
fn high_jobs_count_against_the_capacity() {
    within(LIMIT, || {
        let held = Held::new(0, 3);
        for id in 0..3 {
            held.submit(High, id);
        }
        assert_eq!(held.pool.waiting(), 3);
        for priority in [High, Normal, Low] {
            let refused = held.pool.job(9).priority(priority).try_enqueue();
            assert_eq!(refused.unwrap_err().reason, RejectReason::Full);
        }
        let pool = held.pool.clone();
        let blocked = thread::spawn(move || pool.job(10).priority(High).submit());
        held.latch.open();
        held.add(1);
        assert_eq!(blocked.join().unwrap(), Ok(10));
        held.pool.wait_idle();
        assert_eq!(held.pool.waiting(), 0);
    });
}

/// Jobs of any priority that come to a pool just as it comes to rest begin without another coming
/// after them.
#[test]
fn a_job_of_any_priority_is_never_forgotten() {
    for priority in [Low, Normal, High] {
        within(LIMIT, move || {
            let pool = Pool::new();
            pool.add(|job: Job<u64>| Ok(job.into_payload())).unwrap();
            for round in 0..stress(20_000) as u64 {
                let submit = || pool.job(round).priority(priority).enqueue().unwrap();
                let first = submit();
                // The second comes while the pool is somewhere on its way to rest.
                for _ in 0..(round * 7919) % 1009 {
                    std::hint::spin_loop();
                }
                for mut job in [first, submit()] {
                    // As long as the test has: it is forgotten then.
                    let answer = job.wait_timeout(LIMIT / 4);
                    assert_eq!(answer, Some(Ok(round)), "{priority:?} job {round}");
                }
            }
        });
    }
}

/// A job of any priority that comes to a pool at rest wakes a worker.
#[test]
fn a_job_of_any_priority_wakes_a_sleeping_worker() {
    within(LIMIT, || {
        let pool = Pool::builder().thread_name_prefix("prio-rest").build();
        let pool = pool.unwrap();
        pool.add(|job: Job<u64>| Ok(job.into_payload())).unwrap();
        for round in 0..30 {
            let priority = [Low, Normal, High][round % 3];
            // Five times in a row, since a thread may sleep for a moment on its way.
            let mut times = 0;
            eventually("all are asleep", || {
                let asleep = threads_asleep("prio-rest") == 2;
                times = if asleep { times + 1 } else { 0 };
                times >= 5
            });
            let mut job = pool.job(1).priority(priority).enqueue().unwrap();
            let answer = job.wait_timeout(LIMIT / 2);
            assert_eq!(answer, Some(Ok(1)), "{priority:?}");
        }
    });
}

/// Jobs of all priorities from several threads at once all have their result.
#[test]
fn no_job_is_lost_when_priorities_mix() {
    let rounds = stress(5_000) as u64;
    within(LIMIT, move || {
        let pool = Pool::builder().queue_capacity(16).build().unwrap();
        for _ in 0..2 {
            pool.add(|job: Job<u64>| Ok(job.into_payload())).unwrap();
        }
        let submit = |thread: u64| {
            let pool = pool.clone();
            move || {
                for round in 0..rounds {
                    let priority = [Low, Normal, High][((round + thread) % 3) as usize];
                    let job = pool.job(round).priority(priority).timeout(Duration::MAX);
                    assert_eq!(job.submit(), Ok(round));
                }
            }
        };
        let threads: Vec<_> = (0..3).map(|n| thread::spawn(submit(n))).collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(pool.stats().completed, 3 * rounds);
    });
}
