//! The pool for plain closures.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::common::{
    self, LIMIT, Latch, Recorder, Tally, eventually, next, threads_asleep, threads_named, within,
};
use crossbeam_channel::{bounded, unbounded};
use worker_pool::closures::{JoinError, ThreadPool};
use worker_pool::{BuildError, JobId, Outcome, PoolState, Priority, RejectReason};

/// A pool of one thread that is held at the latch until it opens.
fn held(latch: &Latch, capacity: usize) -> ThreadPool {
    let builder = ThreadPool::builder().num_threads(1);
    let pool = builder.queue_capacity(capacity).build().unwrap();
    let door = latch.door();
    pool.execute(move || door.pass(JobId::new(0))).unwrap();
    latch.wait_for_one();
    pool
}

#[test]
fn each_caller_gets_the_result_of_its_own_closure() {
    within(LIMIT, || {
        let pool = ThreadPool::new(3);
        let texts: Vec<String> = (0..50).map(|n| n.to_string()).collect();
        thread::scope(|scope| {
            for text in &texts {
                let pool = &pool;
                let mine = text.clone();
                scope.spawn(move || {
                    assert_eq!(pool.run(move || mine.repeat(2)).unwrap(), text.repeat(2))
                });
            }
        });
        let tasks: Vec<_> = (0..50)
            .map(|n| pool.spawn(move || n * n).unwrap())
            .collect();
        for (n, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.wait(), Ok(n * n));
        }
    });
}

#[test]
fn a_task_gives_its_result_out_once() {
    within(LIMIT, || {
        let latch = Latch::new();
        let pool = held(&latch, 8);
        let mut task = pool.spawn(|| "result").unwrap();
        assert!(!task.is_done());
        assert_eq!(task.try_wait(), None);
        assert_eq!(task.wait_timeout(std::time::Duration::ZERO), None);
        latch.open();
        assert_eq!(task.wait_timeout(LIMIT), Some(Ok("result")));
        assert!(task.is_done());
        assert_eq!(task.try_wait(), None);
    });
}

/// More panics than threads: each is told or counted, and the same threads go on.
#[test]
fn threads_survive_closures_that_panic() {
    within(LIMIT, || {
        let pool = ThreadPool::with_name("brave", 2);
        for n in 0..5 {
            pool.execute(move || panic!("executed {n}")).unwrap();
            let error = pool.run(move || -> u8 { panic!("run {n}") });
            assert_eq!(error, Err(JoinError::Panicked(format!("run {n}"))));
        }
        assert!(pool.join());
        assert_eq!(pool.panic_count(), 10);
        assert_eq!(pool.max_count(), 2);
        let name = pool.run(|| thread::current().name().map(str::to_owned));
        let name = name.unwrap().unwrap();
        assert!(["brave-1", "brave-2"].contains(&name.as_str()), "{name}");
        let stats = pool.manager().stats();
        assert_eq!((stats.accepted, stats.failed, stats.panicked), (11, 10, 0));
    });
}

#[test]
fn hooks_see_a_panicked_closure_as_failed() {
    within(LIMIT, || {
        let recorder = Recorder::new();
        let builder = ThreadPool::builder().num_threads(1);
        let pool = builder.hook(recorder.clone()).build().unwrap();
        pool.execute(|| panic!("to be seen")).unwrap();
        let finish = recorder.wait_for(|event| matches!(event, common::Event::JobFinish(..)));
        let common::Event::JobFinish(id, _, outcome) = finish else {
            unreachable!()
        };
        assert_eq!((id, outcome), (JobId::new(1), Outcome::Failed));
        drop(pool);
        assert_eq!(recorder.calls().worker_remove, 1);
    });
}

/// Also what was handed in while it waits, by closures that it waits for.
#[test]
fn join_waits_for_closures_of_closures() {
    within(LIMIT, || {
        let pool = ThreadPool::new(1);
        let done = Arc::new(AtomicUsize::new(0));
        let latch = Latch::new();
        let (inner, door, count) = (pool.clone(), latch.door(), Arc::clone(&done));
        pool.execute(move || {
            door.pass(JobId::new(1));
            let next = inner.clone();
            let last = Arc::clone(&count);
            let second = move || {
                let end = move || last.store(1, SeqCst);
                next.execute(end).unwrap();
                door.pass(JobId::new(2));
            };
            inner.execute(second).unwrap();
        })
        .unwrap();
        latch.wait_for_one();
        let (returned, joined) = bounded(1);
        let waiter = thread::Builder::new().name("closure-joiner".to_owned());
        let waiter = waiter.spawn({
            let (pool, done) = (pool.clone(), Arc::clone(&done));
            move || returned.send((pool.join(), done.load(SeqCst))).unwrap()
        });
        eventually("it waits", || threads_asleep("closure-joiner") == 1);
        latch.release(1);
        latch.wait_for_one();
        assert_eq!(joined.len(), 0, "the second is held");
        latch.open();
        assert_eq!(next(&joined), (true, 1));
        waiter.unwrap().join().unwrap();
    });
}

#[test]
fn join_from_inside_does_not_wait_for_itself() {
    within(LIMIT, || {
        let pool = ThreadPool::new(1);
        let inner = pool.clone();
        assert_eq!(pool.run(move || inner.join()), Ok(false));
    });
}

#[test]
fn the_counts_are_those_of_running_and_waiting_closures() {
    within(LIMIT, || {
        let latch = Latch::new();
        let pool = held(&latch, 100);
        let tasks: Vec<_> = (0..20).map(|n| pool.spawn(move || n).unwrap()).collect();
        assert_eq!((pool.active_count(), pool.queued_count()), (1, 20));
        // Of two threads one leaves, and still runs its closure.
        pool.set_num_threads(2).unwrap();
        for task in tasks {
            task.wait().unwrap();
        }
        assert_eq!((pool.active_count(), pool.queued_count()), (1, 0));
        let first = pool.manager().workers()[0].id;
        pool.manager().remove(first).unwrap();
        assert_eq!((pool.active_count(), pool.max_count()), (1, 1));
        latch.open();
        assert!(pool.join());
        assert_eq!((pool.active_count(), pool.queued_count()), (0, 0));
    });
}

#[test]
fn the_number_of_threads_can_change() {
    within(LIMIT, || {
        let pool = ThreadPool::with_name("elastic", 2);
        pool.set_num_threads(5).unwrap();
        assert_eq!(pool.max_count(), 5);
        // All five at once, or none gets through.
        let meeting = Arc::new(std::sync::Barrier::new(5));
        for _ in 0..5 {
            let meeting = Arc::clone(&meeting);
            pool.execute(move || _ = meeting.wait()).unwrap();
        }
        assert!(pool.join());
        pool.set_num_threads(1).unwrap();
        assert_eq!(pool.max_count(), 1);
        eventually("four leave", || threads_named("elastic-") == 2); // the dispatcher stays, too
        assert_eq!(pool.run(|| 1), Ok(1));
        pool.manager().close();
        assert!(pool.set_num_threads(2).is_err());
    });
}

/// A hook that asks for another number while the threads are being added.
#[test]
fn a_hook_may_change_the_number_of_threads() {
    struct OneMore(Arc<Mutex<Option<ThreadPool>>>);
    impl worker_pool::Hook for OneMore {
        fn worker_add(&self, _: worker_pool::WorkerId) {
            let pool = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
            pool.iter()
                .for_each(|pool| pool.set_num_threads(4).unwrap());
        }
    }
    within(LIMIT, || {
        let place = Arc::new(Mutex::new(None));
        let hook = OneMore(Arc::clone(&place));
        let builder = ThreadPool::builder().num_threads(1).hook(hook);
        let pool = builder.build().unwrap();
        *place.lock().unwrap() = Some(pool.clone());
        pool.set_num_threads(2).unwrap();
        assert_eq!(pool.max_count(), 4);
    });
}

#[test]
fn execute_blocks_while_the_queue_is_full() {
    within(LIMIT, || {
        let latch = Latch::new();
        let pool = held(&latch, 1);
        // Fills the queue, and what is already released.
        let (handed_in, accepted) = unbounded();
        let producer = thread::Builder::new().name("closure-maker".to_owned());
        let producer = producer.spawn({
            let pool = pool.clone();
            move || {
                for n in 0..500 {
                    pool.execute(|| ()).unwrap();
                    handed_in.send(n).unwrap();
                }
            }
        });
        eventually("it blocks", || threads_asleep("closure-maker") == 1);
        assert!(accepted.len() < 500);
        latch.open();
        producer.unwrap().join().unwrap();
        assert!(pool.join());
        assert_eq!(pool.manager().stats().completed, 501);
    });
}

/// Every thread waits for room that only they could make: the closure comes back and can be called.
#[test]
fn a_closure_that_would_wait_for_ever_for_room_comes_back() {
    within(LIMIT, || {
        let latch = Latch::new();
        let pool = held(&latch, 1);
        let (inner, ran) = (pool.clone(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&ran);
        let flood = pool.spawn(move || {
            let mut back = 0;
            for _ in 0..100 {
                let count = Arc::clone(&count);
                if let Err(rejected) = inner.execute(move || _ = count.fetch_add(1, SeqCst)) {
                    assert_eq!(rejected.reason, RejectReason::WouldDeadlock);
                    (rejected.payload)();
                    back += 1;
                }
            }
            back
        });
        latch.open();
        let back = flood.unwrap().wait().unwrap();
        assert!(pool.join());
        assert_eq!(ran.load(SeqCst), 100);
        assert!(back > 0, "the queue was never full");
    });
}

#[test]
fn after_close_a_closure_comes_back() {
    within(LIMIT, || {
        let pool = ThreadPool::new(1);
        pool.manager().close();
        let (tell, told) = bounded(1);
        let rejected = pool
            .execute(move || tell.send("called").unwrap())
            .unwrap_err();
        assert_eq!(rejected.reason, RejectReason::Closed);
        (rejected.payload)();
        assert_eq!(next(&told), "called");
        assert_eq!(pool.run(|| 1), Err(JoinError::NotRun(RejectReason::Closed)));
        assert!(matches!(
            pool.spawn(|| 1),
            Err(JoinError::NotRun(RejectReason::Closed))
        ));
    });
}

#[test]
fn close_leaves_out_what_has_not_begun() {
    within(LIMIT, || {
        let latch = Latch::new();
        let pool = held(&latch, 8);
        let tally = Tally::new();
        let captured = tally.make(1);
        let task = pool.spawn(move || drop(captured)).unwrap();
        let closer = thread::spawn({
            let pool = pool.clone();
            move || pool.manager().close()
        });
        assert_eq!(task.wait(), Err(JoinError::NotRun(RejectReason::Closed)));
        assert_eq!(tally.live(), 0);
        latch.open();
        closer.join().unwrap();
    });
}

#[test]
fn dropping_the_last_clone_runs_what_was_accepted() {
    within(LIMIT, || {
        let latch = Latch::new();
        let pool = held(&latch, 100);
        let end = pool.manager().close_signal();
        let (ran, told) = unbounded();
        for n in 0..50 {
            let ran = ran.clone();
            pool.execute(move || ran.send(n).unwrap()).unwrap();
        }
        let clone = pool.clone();
        drop(pool);
        assert_eq!(clone.manager().state(), PoolState::Running);
        let dropper = thread::spawn(move || drop(clone));
        latch.open();
        dropper.join().unwrap();
        assert!(end.is_closed());
        assert_eq!(
            told.try_iter().collect::<Vec<_>>(),
            (0..50).collect::<Vec<_>>()
        );
    });
}

/// The last clone is dropped by a closure: what waits behind it still runs, and the pool ends.
#[test]
fn a_closure_may_own_the_last_clone() {
    within(LIMIT, || {
        let pool = ThreadPool::new(1);
        let end = pool.manager().close_signal();
        let (hold, held) = bounded::<()>(0);
        let (ran, told) = unbounded();
        let inner = pool.clone();
        pool.execute(move || {
            let _ = held.recv(); // until the other clone is gone
            drop(inner);
        })
        .unwrap();
        for n in 0..10 {
            let ran = ran.clone();
            pool.execute(move || ran.send(n).unwrap()).unwrap();
        }
        drop(pool);
        drop(hold);
        assert!(end.wait_timeout(LIMIT));
        assert_eq!(told.try_iter().count(), 10);
    });
}

#[test]
fn a_cancelled_task_is_not_run() {
    within(LIMIT, || {
        let latch = Latch::new();
        let pool = held(&latch, 8);
        let tally = Tally::new();
        let captured = tally.make(1);
        let waiting = pool
            .spawn(move || panic!("it ran, with {captured:?}"))
            .unwrap();
        assert!(waiting.cancel());
        let result: Result<(), _> = waiting.wait();
        assert_eq!(result, Err(JoinError::NotRun(RejectReason::Cancelled)));
        latch.open();
        let (door, second) = (latch.door(), Latch::new());
        let (running, inner) = (second.door(), tally.clone());
        let task = pool.spawn(move || {
            running.pass(JobId::new(1));
            drop(door);
            inner.make(2)
        });
        let task = task.unwrap();
        second.wait_for_one();
        assert!(task.cancel());
        assert_eq!(task.wait().map(|_| ()), Err(JoinError::Cancelled));
        second.open();
        assert!(pool.join());
        // What it captured, and the result that nobody took.
        assert_eq!((tally.made(), tally.live()), (2, 0));
    });
}

#[test]
fn a_result_nobody_wants_may_panic_when_it_is_dropped() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    within(LIMIT, || {
        let latch = Latch::new();
        let pool = held(&latch, 8);
        drop(pool.spawn(|| Bomb).unwrap());
        latch.open();
        assert_eq!(pool.run(|| 1), Ok(1));
        assert_eq!(pool.max_count(), 1);
    });
}

/// One thread is held; a closure inside waits for another.
#[test]
fn waiting_for_oneself_is_an_error() {
    within(LIMIT, || {
        let pool = ThreadPool::new(1);
        let inner = pool.clone();
        let nested = pool.run(move || inner.run(|| 1)).unwrap();
        assert_eq!(nested, Err(JoinError::NotRun(RejectReason::WouldDeadlock)));
    });
}

#[test]
fn the_manager_below_takes_priorities() {
    within(LIMIT, || {
        let latch = Latch::new();
        let pool = held(&latch, 8);
        let (ran, told) = unbounded();
        let tell = |name: &'static str| {
            let ran = ran.clone();
            Box::new(move || ran.send(name).unwrap())
        };
        let manager = pool.manager();
        let low = manager.job(tell("low")).priority(Priority::Low);
        let low = low.enqueue().unwrap();
        let high = manager.job(tell("high")).priority(Priority::High);
        let high = high.enqueue().unwrap();
        latch.open();
        high.wait().unwrap();
        low.wait().unwrap();
        assert_eq!(told.try_iter().collect::<Vec<_>>(), ["high", "low"]);
    });
}

#[test]
fn a_pool_that_cannot_be_is_not_built() {
    let none = ThreadPool::builder().num_threads(0).build();
    assert!(matches!(none, Err(BuildError::ZeroThreads)));
    let full = ThreadPool::builder().queue_capacity(0).build();
    assert!(matches!(full, Err(BuildError::ZeroCapacity)));
    let nul = ThreadPool::builder().thread_name("a\0b").build();
    assert!(matches!(nul, Err(BuildError::NulInName(_))));
    // The dispatcher is there by then, and no thread has room for such a stack.
    let absurd = ThreadPool::builder().name("absurd").num_threads(2);
    let absurd = absurd.thread_stack_size(usize::MAX / 4).build();
    assert!(matches!(absurd, Err(BuildError::Spawn(_))));
    eventually("no thread is left", || threads_named("absurd") == 0);
}

#[test]
#[should_panic(expected = "at least one thread")]
fn no_threads_at_all_is_a_mistake() {
    let _ = ThreadPool::new(0);
}

#[test]
#[should_panic(expected = "at least one thread")]
fn no_threads_any_more_is_a_mistake() {
    let _ = ThreadPool::new(1).set_num_threads(0);
}
