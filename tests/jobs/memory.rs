//! Every payload, output and error is dropped exactly once, and a panic in a drop is contained.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Counted, LIMIT, Latch, Tally, eventually, next, stress, within};
use crate::more::{in_time, jitter, wait_until};
use crossbeam_channel::{bounded, unbounded};
use worker_pool::{CancelToken, DetachedError, Failure, Job, Manager, Meter, WorkerHandle};

/// Runs a payload by its number: answers, fails, or panics, and keeps or drops the payload.
fn serve(job: Job<Counted>) -> Result<Counted, Counted> {
    let output = job.payload().tally().make(job.payload().value);
    match job.payload().value % 10 {
        0 => Err(output),
        1 => Err(job.into_payload()),
        2 => Ok(job.into_payload()),
        3 if job.payload().value % 100 == 3 => panic!("boom"),
        _ => Ok(output),
    }
}

/// Runs jobs as [`serve`], and is finished after some of them.
struct Leaving {
    left: u32,
    me: Option<WorkerHandle>,
}

impl worker_pool::Worker<Counted, Counted, Counted> for Leaving {
    fn start(&mut self, handle: &WorkerHandle) {
        self.me = Some(handle.clone());
    }
    fn run(&mut self, job: Job<Counted>) -> Result<Counted, Counted> {
        self.left -= 1;
        if self.left == 0 {
            self.me.as_ref().inspect(|me| me.finish());
        }
        serve(job)
    }
}

type Counting = Manager<Counted, Counted, Counted>;

/// One submitter's jobs, in all forms, waited for, abandoned, cancelled, late or turned away.
fn submit_all_sorts(
    pool: &Counting,
    tally: &Tally,
    errors: &crossbeam_channel::Sender<DetachedError<Counted>>,
    seed: u64,
) {
    let token = CancelToken::new();
    for n in 0..200 {
        let payload = tally.make(n * 7 + seed);
        let soon = Duration::from_micros(n % 90);
        match n % 12 {
            0 => drop(pool.submit(payload)),
            1 => drop(pool.submit_timeout(payload, soon)),
            2 => drop(pool.enqueue(payload)),
            3 => drop(pool.try_enqueue(payload).map(|handle| handle.cancel())),
            4 => drop(
                pool.enqueue(payload)
                    .map(|handle| handle.cancel().then(|| handle.wait())),
            ),
            5 => drop(pool.detach_submit(payload, n, errors)),
            6 => drop(pool.job(payload).timeout(soon).detach(n, errors)),
            7 => drop(
                pool.job(payload)
                    .cancel_token(&token.child())
                    .try_detach(n, errors),
            ),
            8 => drop(
                pool.enqueue(payload)
                    .map(|mut handle| handle.wait_timeout(soon)),
            ),
            9 => drop(
                pool.job(payload)
                    .cancel_token(&token)
                    .timeout(soon)
                    .submit(),
            ),
            10 => drop(pool.enqueue(payload).map(|mut handle| handle.try_wait())),
            _ => drop(pool.job(payload)),
        }
        jitter(n as usize);
        if n == 150 {
            token.cancel();
        }
    }
}

/// Payloads, outputs and errors in every way that a job can go and end, with workers that panic,
/// finish and are removed, and a pool that is closed, drained or dropped in the midst of it.
#[test]
fn what_goes_through_a_pool_is_dropped_exactly_once() {
    let rounds = stress(60) as u64;
    within(LIMIT, move || {
        for round in 0..rounds {
            let tally = Tally::new();
            let pool = Counting::builder().queue_capacity(4).build().unwrap();
            let (errors, failures) = bounded(8);
            thread::scope(|scope| {
                for submitter in 0..3 {
                    let (pool, tally, errors) = (pool.clone(), tally.clone(), errors.clone());
                    scope
                        .spawn(move || submit_all_sorts(&pool, &tally, &errors, submitter + round));
                }
                let ender = pool.clone();
                scope.spawn(move || {
                    for n in 0..12 {
                        let id = ender.add(serve).ok();
                        let leaving = Leaving {
                            left: 1 + n,
                            me: None,
                        };
                        let _ = ender.add(leaving);
                        if n % 3 == 0 {
                            id.map(|id| ender.remove(id));
                        }
                        thread::yield_now();
                    }
                    eventually("enough has run", || {
                        ender.stats().ended() > 10 * (round % 20)
                    });
                    match round % 3 {
                        0 => ender.close(),
                        1 => drop(ender.drain_timeout(Duration::from_micros(50 * round))),
                        _ => drop(ender.close_timeout(Duration::ZERO)),
                    }
                });
            });
            // Joined when the end is heard of.
            assert!(pool.close_signal().wait_timeout(LIMIT));
            let stats = pool.stats();
            assert_eq!(stats.accepted, stats.ended(), "{stats}");
            drop(errors);
            drop(pool);
            let kept = failures.iter().map(|lost| lost.error).collect::<Vec<_>>();
            let held = kept
                .iter()
                .filter(|lost| matches!(lost.cause, Failure::Worker(_)));
            assert_eq!(tally.live(), held.count() as u64, "{} made", tally.made());
            drop(kept);
            assert_eq!(tally.dropped(), tally.made());
        }
    });
}

/// Waiting jobs that nobody can run any more are dropped with the pool, whoever holds their handles.
#[test]
fn jobs_that_never_began_are_dropped_with_the_pool_or_their_handles() {
    within(LIMIT, || {
        let tally = Tally::new();
        let pool = Counting::new();
        let (errors, failures) = unbounded();
        let handles: Vec<_> = (0..10)
            .map(|n| pool.enqueue(tally.make(n)).unwrap())
            .collect();
        drop(pool.enqueue(tally.make(10)).unwrap());
        pool.detach_submit(tally.make(11), 11, &errors).unwrap();
        assert_eq!(tally.live(), 12);
        drop(pool);
        assert!(matches!(next(&failures).error.cause, Failure::Closed));
        assert_eq!(tally.live(), 10, "the handles have theirs");
        let mut handles = handles.into_iter();
        let back = handles
            .next()
            .unwrap()
            .wait()
            .unwrap_err()
            .into_payload()
            .unwrap();
        drop(handles);
        assert_eq!(tally.live(), 1);
        drop(back);
        assert_eq!(tally.live(), 0);
    });
}

/// A payload, output, error or worker whose drop panics, once.
struct Bomb(Arc<AtomicU32>, bool);

impl Bomb {
    fn new(drops: &Arc<AtomicU32>) -> Self {
        Bomb(Arc::clone(drops), true)
    }

    /// No longer dangerous: for what the test itself drops.
    fn defuse(mut self) {
        self.1 = false;
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
        assert!(!self.1 || thread::panicking(), "a bomb");
    }
}

type Bombs = Manager<(u32, Bomb), Bomb, Bomb>;

/// Wherever the pool itself drops a payload, an output or an error, a panic in that drop is contained:
/// the worker serves on, the others are answered, the pool closes.
#[test]
fn a_panic_in_the_drop_of_what_the_pool_drops_is_contained() {
    within(LIMIT, || {
        let (drops, meter) = (Arc::new(AtomicU32::new(0)), Meter::new());
        let pool = Bombs::builder().hook(meter.clone()).build().unwrap();
        let latch = Latch::new();
        let door = latch.door();
        let worker = pool.add(move |job: Job<(u32, Bomb)>| {
            let id = job.id();
            let (what, bomb) = job.into_payload();
            match what {
                0 => Ok(bomb),
                1 => Err(bomb),
                _ => {
                    door.pass(id);
                    Ok(bomb)
                }
            }
        });
        let worker = worker.unwrap();
        let job = |what| (what, Bomb::new(&drops));
        let alive = || {
            pool.submit(job(0))
                .unwrap_or_else(|_| panic!("it serves on"))
                .defuse();
            assert_eq!(pool.workers()[0].id, worker);
        };
        alive();
        // Outputs and errors that nobody wants.
        let (errors, failures) = bounded(0);
        pool.detach_submit(job(0), 0, &errors).unwrap();
        pool.detach_submit(job(1), 0, &errors).unwrap();
        alive();
        drop(failures);
        pool.detach_submit(job(1), 0, &errors).unwrap();
        alive();
        for what in [0, 1] {
            let held = pool.enqueue(job(2)).unwrap();
            latch.wait_for_one();
            drop(pool.enqueue(job(what)).unwrap());
            latch.release(1);
            held.wait().unwrap_or_else(|_| panic!("it ran")).defuse();
            alive();
        }
        // A running job whose caller gave up.
        let held = pool.enqueue(job(2)).unwrap();
        latch.wait_for_one();
        held.cancel();
        drop(held.wait().map(Bomb::defuse));
        latch.release(1);
        alive();
        // Cancelled and late jobs in the queue, awaited or not.
        let held = pool.enqueue(job(2)).unwrap();
        latch.wait_for_one();
        let token = CancelToken::new();
        let (mut late, mut turned_away) = (Instant::now(), 0);
        for _ in 0..3 {
            pool.job(job(0))
                .cancel_token(&token)
                .detach(0, &errors)
                .unwrap();
            drop(pool.job(job(0)).cancel_token(&token).enqueue().unwrap());
            late = in_time(|soon| {
                let detached = pool.job(job(0)).deadline(soon).detach(0, &errors);
                detached.map(|()| soon).map_err(|back| {
                    turned_away += 1;
                    back.payload.1.defuse();
                })
            })
            .max(late);
        }
        token.cancel();
        wait_until(late);
        latch.release(1);
        held.wait().unwrap_or_else(|_| panic!("it ran")).defuse();
        alive();
        // Jobs that are turned away as the pool closes.
        let held = pool.enqueue(job(2)).unwrap();
        latch.wait_for_one();
        for _ in 0..5 {
            drop(pool.enqueue(job(0)).unwrap());
            pool.detach_submit(job(0), 0, &errors).unwrap();
        }
        let closed = Arc::new(AtomicBool::new(false));
        let closer = thread::spawn({
            let (pool, closed) = (pool.clone(), Arc::clone(&closed));
            move || {
                pool.close();
                closed.store(true, SeqCst);
            }
        });
        eventually("the waiting jobs are turned away", || {
            pool.stats().closed == 10
        });
        assert!(!closed.load(SeqCst), "a job still runs");
        latch.open();
        closer.join().unwrap();
        held.wait().unwrap_or_else(|_| panic!("it ran")).defuse();
        let stats = pool.stats();
        assert_eq!(
            (stats.accepted, stats.panicked),
            (stats.ended(), 0),
            "{stats}"
        );
        assert_eq!(
            u64::from(drops.load(SeqCst)),
            stats.accepted + turned_away,
            "each dropped once"
        );
        assert_eq!((meter.snapshot().busy, meter.snapshot().total), (0, 0));
    });
}

/// A payload whose drop panics inside `run` is a panic of that job, and of no other.
#[test]
fn a_panic_in_a_payloads_drop_in_run_is_that_jobs_panic() {
    within(LIMIT, || {
        let drops = Arc::new(AtomicU32::new(0));
        let pool = Manager::<Bomb, u32>::new();
        for _ in 0..2 {
            pool.add(|_: Job<Bomb>| Ok(1)).unwrap();
        }
        let Err(error) = pool.submit(Bomb::new(&drops)) else {
            panic!("its payload was dropped in `run`");
        };
        assert_eq!(error.panic_message(), Some("a bomb"));
        let mut bomb = Bomb::new(&drops);
        bomb.1 = false;
        assert_eq!(pool.submit(bomb).ok(), Some(1), "the other serves on");
        assert_eq!(drops.load(SeqCst), 2);
        pool.close();
    });
}
