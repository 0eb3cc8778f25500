//! Submitting: a full queue, a closed pool, and callers that give up.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{
    Counted, LIMIT, Latch, Tally, eventually, next, stress, threads_asleep, within,
};
use crossbeam_channel::{bounded, unbounded};
use worker_pool::{
    CancelToken, Failure, Job, JobBuilder, JobHandle, Manager, RejectReason, RejectedError,
    SubmitError,
};

type Payload = Box<u64>;
type Pool = Manager<Payload, Payload, String>;

fn small_pool(capacity: usize) -> Pool {
    let builder = Manager::builder().queue_capacity(capacity);
    builder.build().unwrap()
}

fn echo(job: Job<Payload>) -> Result<Payload, String> {
    Ok(job.into_payload())
}

/// Submits without blocking until the queue is full: the handles, and the refusal.
fn fill(
    pool: &Pool,
) -> (
    Vec<JobHandle<Payload, Payload, String>>,
    RejectedError<Payload>,
) {
    let mut handles = Vec::new();
    loop {
        match pool.try_enqueue(Box::new(0)) {
            Ok(handle) => handles.push(handle),
            Err(rejected) => return (handles, rejected),
        }
        // As many as may wait, and those that are released ahead of the workers: 1,024 at most.
        assert!(handles.len() < 2_000, "the queue never is full");
    }
}

/// A pool of one worker that is held at a latch, with a full queue.
fn full_pool() -> (Pool, Latch, Vec<JobHandle<Payload, Payload, String>>) {
    let pool = small_pool(1);
    let latch = Latch::new();
    pool.add(latch.worker()).unwrap();
    let mut handles = vec![pool.enqueue(Box::new(0)).unwrap()];
    latch.wait_for_one();
    // The dispatcher may release one more while the queue fills: full for good when it has.
    eventually("the queue is full for good", || {
        handles.extend(fill(&pool).0);
        handles.len() >= 3
    });
    (pool, latch, handles)
}

/// A submit that does not wait for room gives the very same payload back when the queue is full, and
/// the pool counts it as never accepted.
#[test]
fn a_full_queue_gives_the_same_payload_back() {
    within(LIMIT, || {
        let (pool, latch, handles) = full_pool();
        assert_eq!(pool.waiting(), 1, "as many as may wait");
        let payload = Box::new(42);
        let address = &raw const *payload;
        let rejected = pool.try_enqueue(payload).unwrap_err();
        assert_eq!(rejected.reason, RejectReason::Full);
        let (errors, failures) = unbounded();
        let rejected = pool.job(rejected.payload).try_detach(7, &errors);
        let rejected = rejected.unwrap_err();
        assert_eq!(rejected.reason, RejectReason::Full);
        assert_eq!(&raw const *rejected.payload, address, "the same payload");
        assert_eq!(*rejected.payload, 42);
        let accepted = handles.len() as u64;
        latch.open();
        for handle in handles {
            handle.wait().unwrap();
        }
        pool.drain();
        let stats = pool.stats();
        assert_eq!((stats.accepted, stats.completed), (accepted, accepted));
        assert!(failures.is_empty(), "what is not accepted sends nothing");
    });
}

/// The queue holds jobs that wait: one that runs takes no place in it.
#[test]
fn a_job_that_runs_takes_no_place_in_the_queue() {
    within(LIMIT, || {
        for round in 0..stress(300) {
            let pool = small_pool(1);
            let latch = Latch::new();
            pool.add(latch.worker()).unwrap();
            let running = pool.enqueue(Box::new(1)).unwrap();
            latch.wait_for_one();
            let waits = pool.try_enqueue(Box::new(2));
            let waits = waits.unwrap_or_else(|full| panic!("round {round}: {full}"));
            latch.open();
            assert_eq!(running.wait(), Ok(Box::new(1)));
            assert_eq!(waits.wait(), Ok(Box::new(2)));
        }
    });
}

/// A way of submitting that blocks while the queue is full, and gives what came back.
type Blocks = fn(JobBuilder<'_, Payload, Payload, String>) -> Option<RejectedError<Payload>>;

const BLOCKING: [Blocks; 3] = [
    |job| match job.submit() {
        Err(SubmitError::Rejected(rejected)) => Some(rejected),
        _ => None,
    },
    |job| job.enqueue().err(),
    |job| job.detach(1, &unbounded().0).err(),
];

/// Submitters that block on a full queue when the pool closes get their payloads back, while the
/// worker that keeps the pool from closing is still held.
#[test]
fn a_submitter_that_waits_for_room_is_told_at_once_that_the_pool_closes() {
    within(2 * LIMIT, || {
        for round in 0..stress(40) {
            let (pool, latch, handles) = full_pool();
            let (tell, told) = unbounded();
            thread::scope(|scope| {
                for (number, submit) in (0..).zip(BLOCKING) {
                    let (tell, pool) = (tell.clone(), &pool);
                    let thread = thread::Builder::new().name("waitsroom".to_owned());
                    let blocks = move || {
                        let rejected = submit(pool.job(Box::new(number)));
                        tell.send((number, rejected)).unwrap();
                    };
                    thread.spawn_scoped(scope, blocks).unwrap();
                }
                // Every other round races the close against the submitters on their way.
                if round % 2 == 0 {
                    eventually("all block", || threads_asleep("waitsroom") == 3);
                }
                scope.spawn(|| pool.close());
                for _ in BLOCKING {
                    let (number, rejected) = next(&told);
                    let rejected = rejected.expect("it is not accepted");
                    assert_eq!(rejected.reason, RejectReason::Closed);
                    assert_eq!(*rejected.payload, number);
                }
                assert!(!pool.close_signal().is_closed(), "a worker is held");
                latch.open();
            });
            let ran = handles.into_iter().filter_map(|handle| handle.wait().ok());
            assert_eq!(ran.count(), 1, "the one that ran");
        }
    });
}

/// Every form of submit to a closed pool is an error with the payload in it, never a panic.
#[test]
fn every_form_of_submit_to_a_closed_pool_gives_the_payload_back() {
    within(LIMIT, || {
        for end in [Pool::close, Pool::drain] {
            let pool = small_pool(4);
            pool.add(echo).unwrap();
            end(&pool);
            let (errors, failures) = unbounded();
            let far = Instant::now() + 10 * LIMIT;
            let token = CancelToken::new();
            let answers = [
                pool.submit(Box::new(9)),
                pool.submit_timeout(Box::new(9), LIMIT),
            ];
            for error in answers.map(Result::unwrap_err) {
                assert!(error.is_closed(), "{error:?}");
                assert_eq!(error.into_payload(), Some(Box::new(9)));
            }
            let rejected = [
                pool.try_enqueue(Box::new(9)).unwrap_err(),
                pool.enqueue(Box::new(9)).unwrap_err(),
                pool.detach_submit(Box::new(9), 1, &errors).unwrap_err(),
                pool.job(Box::new(9)).try_detach(2, &errors).unwrap_err(),
                pool.job(Box::new(9)).deadline(far).enqueue().unwrap_err(),
                pool.job(Box::new(9))
                    .cancel_token(&token)
                    .try_enqueue()
                    .unwrap_err(),
            ];
            for rejected in rejected {
                assert_eq!(rejected.reason, RejectReason::Closed);
                assert_eq!(*rejected.payload, 9);
            }
            let error = pool.add(echo).unwrap_err();
            assert!(error.spawn.is_none(), "the pool is closed");
            assert!(failures.is_empty());
            let stats = pool.stats();
            assert_eq!((stats.accepted, stats.ended()), (0, 0));
        }
    });
}

/// What many submitters heard of their jobs.
#[derive(Default)]
struct Heard {
    turned_away: AtomicU64,
    completed: AtomicU64,
    closed: AtomicU64,
    detached: AtomicU64,
}

type CountedPool = Manager<Counted, Counted, String>;

impl Heard {
    fn turned_away(&self, rejected: &RejectedError<Counted>) {
        assert!(matches!(
            rejected.reason,
            RejectReason::Closed | RejectReason::Full
        ));
        self.turned_away.fetch_add(1, SeqCst);
    }

    fn submit(&self, pool: &CountedPool, tally: &Tally, number: u64) {
        let payload = tally.make(number);
        let counter = match number % 3 {
            // A blocking caller cannot tell a job that was never accepted from one that was refused
            // later: the pool's own books decide below.
            0 => match pool.submit(payload) {
                Ok(output) => {
                    assert_eq!(output.value, number, "its own answer");
                    &self.completed
                }
                Err(error) => {
                    assert!(error.is_closed(), "{error:?}");
                    assert_eq!(error.into_payload().unwrap().value, number);
                    return;
                }
            },
            1 => match pool.try_enqueue(payload) {
                Err(rejected) => return self.turned_away(&rejected),
                Ok(handle) => match handle.wait() {
                    Ok(output) => {
                        assert_eq!(output.value, number, "its own answer");
                        &self.completed
                    }
                    Err(error) => {
                        assert!(error.is_closed(), "{error:?}");
                        assert_eq!(error.into_payload().unwrap().value, number);
                        &self.closed
                    }
                },
            },
            _ => {
                let (errors, failures) = bounded(1);
                match pool.detach_submit(payload, number, &errors) {
                    Err(rejected) => return self.turned_away(&rejected),
                    Ok(()) => drop(errors),
                }
                // Ends with the job: with its failure, or with nothing.
                match failures.recv_timeout(LIMIT) {
                    Ok(failure) => {
                        assert_eq!(failure.id, number);
                        assert!(matches!(failure.error.cause, Failure::Closed));
                        &self.closed
                    }
                    Err(error) => {
                        assert!(error.is_disconnected(), "no word of an accepted job");
                        self.detached.fetch_add(1, SeqCst);
                        &self.completed
                    }
                }
            }
        };
        counter.fetch_add(1, SeqCst);
    }
}

/// Ten thousand submits race a close: each hears its own result or "closed", the pool's books
/// balance, and every payload and output is dropped exactly once.
#[test]
fn ten_thousand_submits_race_a_close_and_each_is_answered() {
    const SUBMITS: u64 = 10_000;
    const THREADS: u64 = 8;
    within(2 * LIMIT, || {
        for round in 0..stress(4) as u64 {
            let tally = Tally::new();
            let builder = Manager::builder().queue_capacity(16);
            let pool: CountedPool = builder.build().unwrap();
            for _ in 0..2 {
                let run = |job: Job<Counted>| Ok(job.payload().tally().make(job.payload().value));
                pool.add(run).unwrap();
            }
            let heard = Heard::default();
            let under_way = AtomicU64::new(0);
            thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        loop {
                            let number = under_way.fetch_add(1, SeqCst);
                            if number >= SUBMITS {
                                break;
                            }
                            heard.submit(&pool, &tally, number);
                        }
                    });
                }
                let enough = SUBMITS / 5 * (round % 4 + 1);
                eventually("jobs are under way", || under_way.load(SeqCst) >= enough);
                if round % 2 == 0 {
                    pool.close()
                } else {
                    pool.drain()
                }
            });
            let stats = pool.stats();
            assert_eq!(stats.accepted, stats.ended(), "{stats}");
            assert_eq!(stats.completed, heard.completed.load(SeqCst), "{stats}");
            // Blocking submits that were accepted and refused later are in the books only.
            assert!(stats.closed >= heard.closed.load(SeqCst), "{stats}");
            assert_eq!(stats.completed + stats.closed, stats.accepted, "{stats}");
            drop(pool);
            assert_eq!(tally.live(), 0, "of {} payloads and outputs", tally.made());
            assert_eq!(tally.made(), SUBMITS + stats.completed);
        }
    });
}

/// How a caller gives up: its token fires, or its deadline passes.
#[derive(Clone, Copy, PartialEq)]
enum GivesUp {
    Token,
    Deadline,
}

/// Submits to `pool` on another thread, of this name. A caller with a token gives up once it is
/// blocked and `ready` holds; one with a deadline when that passes.
fn give_up(
    pool: &Pool,
    how: GivesUp,
    name: &str,
    mut ready: impl FnMut() -> bool,
) -> SubmitError<Payload, String> {
    let token = CancelToken::new();
    let (tell, told) = bounded(1);
    thread::scope(|scope| {
        let caller = || {
            let job = pool.job(Box::new(5));
            let job = match how {
                GivesUp::Token => job.cancel_token(&token),
                GivesUp::Deadline => job.timeout(Duration::from_millis(50)),
            };
            tell.send(job.submit()).unwrap();
        };
        let thread = thread::Builder::new().name(name.to_owned());
        thread.spawn_scoped(scope, caller).unwrap();
        if how == GivesUp::Token {
            eventually("the caller is blocked", || {
                ready() && threads_asleep(name) == 1
            });
            token.cancel();
        }
        next(&told).expect_err("the worker is held")
    })
}

#[track_caller]
fn gave_up_unbegun(error: SubmitError<Payload, String>, how: GivesUp) {
    match how {
        GivesUp::Token => assert!(error.is_cancelled(), "{error:?}"),
        GivesUp::Deadline => assert!(error.is_deadline_passed(), "{error:?}"),
    }
    assert_eq!(error.into_payload(), Some(Box::new(5)), "it never began");
}

/// A caller that waits for room in a full queue returns when its token fires or its deadline passes,
/// with its payload, though the worker is still held.
#[test]
fn a_caller_that_waits_for_room_returns_when_it_gives_up() {
    within(LIMIT, || {
        for how in [GivesUp::Token, GivesUp::Deadline] {
            let (pool, latch, handles) = full_pool();
            let before = pool.stats().accepted;
            gave_up_unbegun(give_up(&pool, how, "forroom", || true), how);
            assert_eq!(latch.arrivals(), 0, "the worker is held in its first job");
            assert_eq!(pool.stats().accepted, before, "it was never accepted");
            latch.open();
            for handle in handles {
                handle.wait().unwrap();
            }
        }
    });
}

/// A caller whose job waits returns when its token fires or its deadline passes, with its payload,
/// though the worker is still held; the job never runs and its place is free again.
#[test]
fn a_caller_whose_job_waits_returns_when_it_gives_up() {
    within(LIMIT, || {
        for how in [GivesUp::Token, GivesUp::Deadline] {
            let pool = small_pool(8);
            let latch = Latch::new();
            pool.add(latch.worker()).unwrap();
            let first = pool.enqueue(Box::new(1)).unwrap();
            latch.wait_for_one();
            // This one is released to the worker, so that the next waits in the queue.
            let second = pool.enqueue(Box::new(2)).unwrap();
            // On a machine so slow that the deadline passed before the submit, once more.
            while pool.stats().accepted == 2 {
                gave_up_unbegun(give_up(&pool, how, "queued", || true), how);
            }
            eventually("its place is free", || pool.waiting() == 0);
            latch.open();
            assert_eq!(first.wait(), Ok(Box::new(1)));
            assert_eq!(second.wait(), Ok(Box::new(2)));
            pool.drain();
            let stats = pool.stats();
            assert_eq!((stats.completed, stats.cancelled + stats.expired), (2, 1));
            assert_eq!(latch.arrivals(), 1, "only the second came after the first");
        }
    });
}

/// A caller whose job runs returns when its token fires or its deadline passes, though the worker
/// goes on: the error names it, and the worker serves on afterwards.
#[test]
fn a_caller_whose_job_runs_returns_when_it_gives_up() {
    within(LIMIT, || {
        for how in [GivesUp::Token, GivesUp::Deadline] {
            let pool = small_pool(8);
            let latch = Latch::new();
            let worker = pool.add(latch.worker()).unwrap();
            let error = give_up(&pool, how, "runs", || latch.arrivals() == 1);
            let SubmitError::Failed(error) = error else {
                // A machine so slow that the deadline passed first is no failure of the pool.
                assert!(how == GivesUp::Deadline, "{error:?}");
                continue;
            };
            assert_eq!(error.worker, Some(worker));
            let cause = match how {
                GivesUp::Token => Failure::Cancelled,
                GivesUp::Deadline => Failure::DeadlinePassed,
            };
            assert_eq!(error.cause, cause);
            let states: Vec<_> = pool.workers().iter().map(|info| info.state).collect();
            assert_eq!(
                states,
                [worker_pool::WorkerState::Busy],
                "it is still at it"
            );
            latch.open();
            assert_eq!(pool.submit(Box::new(6)), Ok(Box::new(6)));
            pool.drain();
            assert_eq!(pool.stats().completed, 2, "the first ran to its end");
        }
    });
}

/// A caller whose token has fired, or whose deadline has passed, is not even accepted.
#[test]
fn a_caller_that_gave_up_before_is_turned_away_at_once() {
    within(LIMIT, || {
        let pool = small_pool(8); // no worker: whatever is accepted would wait
        let fired = CancelToken::new();
        fired.cancel();
        let error = pool.job(Box::new(5)).cancel_token(&fired).submit();
        gave_up_unbegun(error.unwrap_err(), GivesUp::Token);
        let error = pool.submit_timeout(Box::new(5), Duration::ZERO);
        gave_up_unbegun(error.unwrap_err(), GivesUp::Deadline);
        assert_eq!(pool.stats().accepted, 0);
    });
}
