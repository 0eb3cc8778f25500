//! Pools whose payloads, outputs and workers borrow from the caller's stack.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::common::{
    LIMIT, Latch, Recorder, Tally, eventually, next, stress, threads_named, within,
};
use crossbeam_channel::{Receiver, bounded, unbounded};
use worker_pool::{
    CloseSignal, Job, Manager, Meter, PoolState, RejectReason, ScopedManager, Worker, WorkerHandle,
    WorkerId, scope,
};

/// Counts its jobs in a place that somebody else owns, and says at its end what it was.
struct Clerk<'a> {
    jobs: &'a mut usize,
    closed: &'a AtomicUsize,
}

impl<'text> Worker<&'text str, &'text str, String> for Clerk<'_> {
    fn run(&mut self, job: Job<&'text str>) -> Result<&'text str, String> {
        *self.jobs += 1;
        let text = job.into_payload();
        text.split_whitespace().next().ok_or(format!("{text:?}"))
    }

    fn close(&mut self) {
        self.closed.fetch_add(1, SeqCst);
    }
}

#[test]
fn payloads_outputs_and_workers_may_borrow() {
    within(LIMIT, || {
        let text = "first second\nthird fourth\nfifth\n   ".to_owned();
        let mut jobs = [0; 3];
        let closed = AtomicUsize::new(0);
        let first_words = scope(|scope| {
            let pool = scope.pool().unwrap();
            for jobs in &mut jobs {
                let closed = &closed;
                pool.add(Clerk { jobs, closed }).unwrap();
            }
            let handles: Vec<_> = text.lines().map(|line| pool.enqueue(line)).collect();
            let wait = |handle: Result<worker_pool::JobHandle<_, _, _>, _>| handle.unwrap().wait();
            handles.into_iter().map(wait).collect::<Vec<_>>()
        });
        assert_eq!(jobs.iter().sum::<usize>(), 4);
        assert_eq!(closed.into_inner(), 3);
        let words: Vec<&str> = first_words[..3]
            .iter()
            .map(|word| *word.as_ref().unwrap())
            .collect();
        assert_eq!(words, ["first", "third", "fifth"]);
        // They are what they were borrowed from, not copies.
        assert!(text.as_bytes().as_ptr_range().contains(&words[1].as_ptr()));
        let error = first_words[3].clone().unwrap_err();
        assert_eq!(error.into_worker_error().as_deref(), Some("\"   \""));
    });
}

#[test]
fn jobs_may_fill_a_buffer_in_parts() {
    within(LIMIT, || {
        let mut buffer = vec![0_usize; 1000];
        scope(|scope| {
            let builder = Manager::builder().queue_capacity(2);
            let pool = scope.build::<_, (), ()>(builder).unwrap();
            for _ in 0..2 {
                let fill = |job: Job<(usize, &mut [usize])>| {
                    let (first, part) = job.into_payload();
                    part.iter_mut()
                        .enumerate()
                        .for_each(|(i, n)| *n = first + i);
                    Ok(())
                };
                pool.add(fill).unwrap();
            }
            let (errors, failures) = unbounded();
            for (number, part) in buffer.chunks_mut(30).enumerate() {
                pool.detach_submit((number * 30, part), 0, &errors).unwrap();
            }
            pool.drain();
            assert!(failures.is_empty());
        });
        assert!(buffer.into_iter().eq(0..1000));
    });
}

/// What a scope's pool leaves behind when `body` ends while one job runs and another waits; the
/// running one ends only once it sees that the pool closes.
#[track_caller]
fn ends_when(name: &str, body: impl FnOnce(ScopedManager<'_, '_, u64, u64, ()>)) {
    let hook = Recorder::new();
    let tally = Tally::new();
    let (started, running) = bounded(1);
    let mut signal: Option<CloseSignal> = None;
    let mut handles = Vec::new();
    let ended = catch_unwind(AssertUnwindSafe(|| {
        scope(|scope| {
            let builder = Manager::builder().name(name).hook(hook.clone());
            let pool = scope.build(builder).unwrap();
            signal = Some(pool.close_signal());
            let state = tally.make(1);
            pool.add(move |job: Job<u64>| {
                started.send(state.value).unwrap();
                let token = job.cancel_token();
                assert!(token.wait_timeout(LIMIT), "the pool does not close");
                Ok(job.into_payload())
            })
            .unwrap();
            handles.push(pool.enqueue(1).unwrap());
            next(&running);
            handles.push(pool.enqueue(2).unwrap());
            body(pool);
        });
    }));
    let panicked = ended.err().map(worker_pool_message);
    assert!(panicked.is_none_or(|message| message == "the body's own"));
    assert!(signal.unwrap().is_closed());
    assert_eq!(tally.live(), 0);
    assert_eq!(hook.calls().worker_remove, 1);
    assert_eq!(hook.calls().closed, 1);
    let second = handles.pop().unwrap().wait().unwrap_err();
    assert!(second.is_closed(), "{second:?}");
    assert_eq!(second.into_payload(), Some(2));
    assert_eq!(handles.pop().unwrap().wait().unwrap(), 1);
    eventually("no thread is left", || threads_named(name) == 0);
}

fn worker_pool_message(panic: Box<dyn std::any::Any + Send>) -> &'static str {
    panic.downcast_ref::<&'static str>().unwrap()
}

#[test]
fn the_scope_closes_its_pools_when_the_body_returns() {
    within(LIMIT, || ends_when("scoped-a", |pool| drop(pool)));
}

#[test]
fn the_scope_closes_its_pools_when_the_body_panics() {
    within(LIMIT, || {
        ends_when("scoped-b", |_pool| panic!("the body's own"))
    });
}

#[test]
fn the_scope_closes_a_pool_whose_handle_is_leaked() {
    within(LIMIT, || {
        ends_when("scoped-c", |pool| std::mem::forget(pool))
    });
}

#[test]
fn the_scope_closes_a_leaked_pool_when_the_body_panics() {
    within(LIMIT, || {
        ends_when("scoped-d", |pool| {
            std::mem::forget(pool);
            panic!("the body's own")
        });
    });
}

#[test]
fn the_scope_closes_a_pool_whose_handle_is_kept_elsewhere() {
    within(LIMIT, || {
        let mut kept: Option<Manager<u64, u64, ()>> = None;
        ends_when("scoped-e", |pool| kept = Some(Manager::clone(&pool)));
        let kept = kept.unwrap();
        assert_eq!(kept.state(), PoolState::Closed);
        let rejected = kept.try_enqueue(1).unwrap_err();
        assert_eq!(
            (rejected.reason, rejected.payload),
            (RejectReason::Closed, 1)
        );
        assert!(kept.add(|job: Job<u64>| Ok(job.into_payload())).is_err());
        kept.close();
    });
}

/// The pool's own worker holds a handle, which is dropped only when the worker is.
#[test]
fn a_worker_may_hold_a_handle_to_its_pool() {
    within(LIMIT, || {
        let text = "borrowed".to_owned();
        scope(|scope| {
            let pool = scope.pool::<&str, usize, ()>().unwrap();
            let mine = pool.clone();
            pool.add(move |job: Job<&str>| {
                let len = job.payload().len();
                mine.add(move |_: Job<&str>| Ok(len)).unwrap();
                Ok(len)
            })
            .unwrap();
            assert_eq!(pool.submit(&text).unwrap(), 8);
            assert_eq!(pool.workers().len(), 2);
        });
    });
}

/// A job waits for a channel whose sender the body owns, and drops after its handle.
#[test]
fn a_job_may_wait_for_what_the_body_drops() {
    within(LIMIT, || {
        let ended = Mutex::new(Vec::new());
        for panics in [false, true] {
            let result = catch_unwind(AssertUnwindSafe(|| {
                scope(|scope| {
                    let (_hold, held) = bounded::<()>(0);
                    let (started, running) = bounded(1);
                    let pool = scope.pool::<Receiver<()>, (), ()>().unwrap();
                    let ended = &ended;
                    pool.add(move |job: Job<Receiver<()>>| {
                        started.send(()).unwrap();
                        assert!(
                            job.payload()
                                .recv_timeout(LIMIT)
                                .unwrap_err()
                                .is_disconnected()
                        );
                        ended.lock().unwrap().push(panics);
                        Ok(())
                    })
                    .unwrap();
                    let _handle = pool.enqueue(held).unwrap();
                    next(&running);
                    assert!(!panics, "as asked");
                });
            }));
            assert_eq!(result.is_err(), panics);
        }
        assert_eq!(*ended.lock().unwrap(), [false, true]);
    });
}

#[test]
fn scopes_may_be_nested() {
    within(LIMIT, || {
        let words = ["one".to_owned(), "three".to_owned(), "eleven".to_owned()];
        let mut outer_runs = 0;
        let total = scope(|outer| {
            let lengths = outer.pool::<&str, usize, ()>().unwrap();
            let runs = &mut outer_runs;
            let count = move |job: Job<&str>| {
                *runs += 1;
                Ok(job.payload().len())
            };
            lengths.add(count).unwrap();
            let mut sums = [0];
            // Its workers borrow what belongs to the body of the outer one.
            scope(|inner| {
                let adders = inner.pool::<&[String], (), ()>().unwrap();
                let (lengths, sum) = (&lengths, &mut sums[0]);
                let add = move |job: Job<_>| {
                    // And a scope within a job, whose workers borrow from it.
                    let part: &[String] = job.into_payload();
                    *sum += scope(|innermost| {
                        let pool = innermost.pool::<usize, usize, ()>().unwrap();
                        pool.add(|job: Job<usize>| {
                            Ok(lengths.submit(&part[*job.payload()]).unwrap())
                        })
                        .unwrap();
                        (0..part.len())
                            .map(|n| pool.submit(n).unwrap())
                            .sum::<usize>()
                    });
                    Ok(())
                };
                adders.add(add).unwrap();
                adders.submit(&words[..2]).unwrap();
                adders.submit(&words[2..]).unwrap();
            });
            sums[0]
        });
        assert_eq!((total, outer_runs), (14, 3));
    });
}

#[test]
fn a_pool_may_be_closed_before_its_scope_ends() {
    within(LIMIT, || {
        let mut seen = Vec::new();
        scope(|scope| {
            let pool = scope.pool::<u64, u64, ()>().unwrap();
            let seen = &mut seen;
            let id = pool.add(move |job: Job<u64>| {
                seen.push(*job.payload());
                Ok(job.into_payload())
            });
            let id = id.unwrap();
            let handle = pool.enqueue(7).unwrap();
            pool.drain();
            assert_eq!(handle.wait().unwrap(), 7);
            assert_eq!(pool.state(), PoolState::Closed);
            pool.close();
            assert!(pool.remove(id).is_err());
            let error = pool
                .add(|job: Job<u64>| Ok(job.into_payload()))
                .unwrap_err();
            assert!(error.spawn.is_none());
            assert!(pool.submit(8).unwrap_err().is_closed());
        });
        assert_eq!(seen, [7]);
    });
}

/// As with any pool: no thread of it keeps the hooks a moment longer.
#[test]
fn when_close_returns_nothing_of_the_pool_is_left_but_its_handles() {
    struct Witness(#[expect(dead_code, reason = "only its drop counts")] Arc<()>);
    impl worker_pool::Hook for Witness {}
    within(LIMIT, || {
        let life = Arc::new(());
        scope(|scope| {
            for round in 0..stress(300) {
                let builder = Manager::builder().hook(Witness(Arc::clone(&life)));
                let pool = scope.build::<u64, u64, ()>(builder).unwrap();
                for _ in 0..3 {
                    pool.add(|job: Job<u64>| Ok(job.into_payload())).unwrap();
                }
                pool.close();
                drop(pool);
                assert_eq!(Arc::strong_count(&life), 1, "in round {round}");
            }
        });
    });
}

/// A removed worker's borrow lasts as long as the scope; its thread ends at once.
#[test]
fn a_removed_worker_leaves_before_the_scope_ends() {
    within(LIMIT, || {
        let meter = Meter::new();
        let mut changes = meter.subscribe();
        let closed = AtomicUsize::new(0);
        let mut jobs = [0, 0];
        scope(|scope| {
            let builder = Manager::builder().name("scoped-f").hook(meter.clone());
            let pool = scope.build(builder).unwrap();
            let [one, other] = &mut jobs;
            let closed = &closed;
            let id = pool.add(Clerk { jobs: one, closed }).unwrap();
            pool.add(Clerk {
                jobs: other,
                closed,
            })
            .unwrap();
            pool.remove(id).unwrap();
            while changes.recv_timeout(LIMIT).unwrap().total != 1 || pool.remove(id).is_ok() {}
            assert_eq!(closed.load(SeqCst), 1);
            assert_eq!(pool.submit("still here").unwrap(), "still");
        });
        assert_eq!(jobs, [0, 1]);
    });
}

/// Two threads of the caller's own submit what they borrow, to one pool, by its reference.
#[test]
fn scoped_threads_may_submit() {
    within(LIMIT, || {
        let texts = [vec!["a b".to_owned(); 200], vec!["c".to_owned(); 200]];
        let mut jobs = [0; 2];
        let closed = AtomicUsize::new(0);
        scope(|scope| {
            let pool = scope.pool().unwrap();
            for jobs in &mut jobs {
                let closed = &closed;
                pool.add(Clerk { jobs, closed }).unwrap();
            }
            thread::scope(|threads| {
                for (mine, first) in texts.iter().zip(["a", "c"]) {
                    let pool = &pool;
                    threads.spawn(move || {
                        for text in mine {
                            assert_eq!(pool.submit(text.as_str()).unwrap(), first);
                        }
                    });
                }
            });
            assert_eq!(pool.stats().completed, 400);
        });
        assert_eq!(jobs[0] + jobs[1], 400);
    });
}

/// The hooks' gauge, the meter and a worker's handle are all that may outlive the scope, and do no
/// harm.
#[test]
fn what_outlives_the_scope_tells_that_the_pool_is_closed() {
    struct Keeper<'a>(&'a mut Option<WorkerHandle>);
    impl Worker<&u8, u8, ()> for Keeper<'_> {
        fn start(&mut self, handle: &WorkerHandle) {
            *self.0 = Some(handle.clone());
        }
        fn run(&mut self, job: Job<&u8>) -> Result<u8, ()> {
            Ok(**job.payload())
        }
    }
    within(LIMIT, || {
        let meter = Meter::new();
        let mut handle = None;
        {
            let byte = 3;
            scope(|scope| {
                let pool = scope.build(Manager::builder().hook(meter.clone())).unwrap();
                pool.add(Keeper(&mut handle)).unwrap();
                assert_eq!(pool.submit(&byte).unwrap(), 3);
                assert_eq!(meter.snapshot().finished, 1);
                std::mem::forget(pool);
            });
        }
        let handle = handle.unwrap();
        assert_eq!(handle.id(), WorkerId::new(1));
        assert!(handle.is_finishing());
        handle.finish();
        let snapshot = meter.snapshot();
        assert_eq!((snapshot.total, snapshot.state), (0, PoolState::Closed));
    });
}

/// A worker that panics takes nobody along: the scope returns as if nothing had been.
#[test]
fn a_workers_panic_stays_in_its_scope() {
    within(LIMIT, || {
        let mut left = 0;
        scope(|scope| {
            let pool = scope.pool::<&str, (), ()>().unwrap();
            let left = &mut left;
            pool.add(move |job: Job<&str>| {
                *left += 1;
                panic!("{}", job.payload())
            })
            .unwrap();
            let error = pool.submit("worker's own").unwrap_err();
            assert_eq!(error.panic_message(), Some("worker's own"));
        });
        assert_eq!(left, 1);
    });
}

/// The body's value is there when all is joined; a pool that was never used ends as well.
#[test]
fn a_scope_returns_what_its_body_does() {
    within(LIMIT, || {
        assert_eq!(scope(|_| "nothing in it"), "nothing in it");
        let latch = Latch::new();
        let signal = scope(|scope| {
            let unused = scope.pool::<u64, u64, ()>().unwrap();
            let used = scope.pool::<u64, u64, ()>().unwrap();
            used.add(latch.worker()).unwrap();
            let _running = used.enqueue(1).unwrap();
            latch.wait_for_one();
            drop(used);
            latch.open();
            unused.close_signal()
        });
        assert!(signal.is_closed());
    });
}
