//! The life of a pool: built, used, closed, and nothing of it left behind.

use std::cell::Cell;
use std::process::Command;
use std::sync::Arc;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::common::{
    Calls, Event, LIMIT, Latch, Recorder, eventually, stress, threads_named, within,
};
use worker_pool::{BuildError, Builder, Hook, Job, JobHandle, Manager, PoolState, Worker};

/// What a thread says when it ends; kept in a thread-local.
struct LastWords(Arc<AtomicUsize>);

impl Drop for LastWords {
    fn drop(&mut self) {
        // Slow on purpose: who does not wait for this thread's end counts too few.
        thread::sleep(Duration::from_millis(20));
        self.0.fetch_add(1, SeqCst);
    }
}

thread_local! {
    static LAST_WORDS: Cell<Option<LastWords>> = const { Cell::new(None) };
}

/// Counts this thread in `gone` when it ends.
fn count_when_gone(gone: &Arc<AtomicUsize>) {
    LAST_WORDS.set(Some(LastWords(Arc::clone(gone))));
}

/// A worker whose thread is counted when it ends, and whose jobs run until their token fires.
struct Patient(Arc<AtomicUsize>);

impl Worker<(), bool, ()> for Patient {
    fn start(&mut self, _me: &worker_pool::WorkerHandle) {
        count_when_gone(&self.0);
    }
    fn run(&mut self, job: Job<()>) -> Result<bool, ()> {
        Ok(job.cancel_token().wait_timeout(2 * LIMIT))
    }
}

/// Counts the thread that announces the pool's end, the dispatcher's, when that is gone.
struct DispatcherGone(Arc<AtomicUsize>);

impl Hook for DispatcherGone {
    fn pool_state(&self, state: PoolState) {
        if state == PoolState::Closed {
            count_when_gone(&self.0);
        }
    }
}

/// Drops a pool of 22 workers of which so many are busy: how many threads ended before that?
fn threads_gone_after_drop(busy: usize) -> usize {
    let gone = Arc::new(AtomicUsize::new(0));
    let recorder = Recorder::new();
    let hooks = Manager::builder().hook(recorder.clone());
    let pool = hooks.hook(DispatcherGone(Arc::clone(&gone))).build();
    let pool = pool.unwrap();
    for _ in 0..22 {
        pool.add(Patient(Arc::clone(&gone))).unwrap();
    }
    let handles: Vec<JobHandle<_, _, _>> = (0..busy).map(|_| pool.enqueue(()).unwrap()).collect();
    for _ in 0..busy {
        recorder.wait_for(|event| matches!(event, Event::JobStart(..)));
    }
    drop(pool);
    let gone = gone.load(SeqCst);
    for handle in handles {
        assert!(handle.is_done());
        assert_eq!(handle.wait(), Ok(true), "its token fired");
    }
    gone
}

/// Dropping the pool joins every thread of sleeping workers, and the dispatcher's.
#[test]
fn dropping_the_pool_joins_the_threads_of_sleeping_workers() {
    assert_eq!(within(LIMIT, || threads_gone_after_drop(0)), 23);
}

/// Dropping the pool tells busy workers through their jobs' tokens, and joins every thread.
#[test]
fn dropping_the_pool_joins_the_threads_of_busy_workers() {
    assert_eq!(within(LIMIT, || threads_gone_after_drop(22)), 23);
}

/// The pool lives as long as one clone of its manager does.
#[test]
fn dropping_a_clone_that_is_not_the_last_leaves_the_pool_open() {
    within(LIMIT, || {
        let pool = Manager::<u32, u32>::new();
        pool.add(|job: Job<u32>| Ok(job.into_payload())).unwrap();
        let signal = pool.close_signal();
        drop(pool.clone());
        assert_eq!(pool.state(), PoolState::Running);
        assert_eq!(pool.submit(3).unwrap(), 3);
        assert!(!signal.is_closed());
        drop(pool);
        assert!(signal.is_closed());
    });
}

fn recorded_pool(workers: usize) -> (Manager<u32, u32>, Recorder) {
    let recorder = Recorder::new();
    let pool = Builder::hook(Manager::builder(), recorder.clone()).build();
    let pool = pool.unwrap();
    for _ in 0..workers {
        pool.add(|job: Job<u32>| Ok(job.into_payload())).unwrap();
    }
    (pool, recorder)
}

/// The hooks heard of the one end of a pool of two workers, and of nothing twice.
#[track_caller]
fn ended_once(pool: &Manager<u32, u32>, recorder: &Recorder) {
    let expected = Calls {
        pool_start: 1,
        draining: 1,
        closed: 1,
        worker_add: 2,
        worker_remove: 2,
        ..Calls::default()
    };
    assert_eq!(recorder.calls(), expected);
    let last = recorder.events().try_iter().last();
    assert_eq!(last, Some(Event::State(PoolState::Closed)), "the last call");
    assert_eq!(pool.state(), PoolState::Closed);
    assert!(pool.workers().is_empty());
}

/// Closing a closed pool, in any way, is harmless, and its end is announced once.
#[test]
fn closing_again_is_harmless_and_the_end_is_announced_once() {
    within(LIMIT, || {
        let (pool, recorder) = recorded_pool(2);
        pool.close();
        pool.close();
        pool.drain();
        pool.close_timeout(Duration::ZERO).unwrap();
        pool.drain_timeout(Duration::ZERO).unwrap();
        ended_once(&pool, &recorder);
        drop(pool.clone());
        ended_once_more(pool, &recorder);
    });
}

/// Also dropping the last handle of a closed pool announces nothing more.
#[track_caller]
fn ended_once_more(pool: Manager<u32, u32>, recorder: &Recorder) {
    let before = recorder.calls();
    drop(pool);
    assert_eq!(recorder.calls(), before);
}

/// Closing after a drain is harmless, and the end is announced once.
#[test]
fn closing_after_a_drain_is_harmless_and_the_end_is_announced_once() {
    within(LIMIT, || {
        let (pool, recorder) = recorded_pool(2);
        pool.drain();
        pool.close();
        pool.drain();
        ended_once(&pool, &recorder);
        ended_once_more(pool, &recorder);
    });
}

/// Closing from several threads at once, some of them draining: all return when the pool is closed,
/// and its end is announced once.
#[test]
fn closing_from_several_threads_announces_the_end_once() {
    within(LIMIT, || {
        for _ in 0..stress(100) {
            let (pool, recorder) = recorded_pool(2);
            let start = Barrier::new(4);
            thread::scope(|scope| {
                for number in 0..4 {
                    let (pool, start) = (&pool, &start);
                    scope.spawn(move || {
                        start.wait();
                        match number {
                            0 => pool.drain(),
                            1 => pool.close_timeout(LIMIT).unwrap(),
                            _ => pool.close(),
                        }
                        assert_eq!(pool.state(), PoolState::Closed);
                    });
                }
            });
            ended_once(&pool, &recorder);
        }
    });
}

/// Whoever asks for the close signal before, while or after the pool closes is told of the end.
#[test]
fn a_close_signal_taken_while_the_pool_closes_is_always_told() {
    within(2 * LIMIT, || {
        for _ in 0..stress(500) {
            let pool = Manager::<u32, u32>::new();
            pool.add(|job: Job<u32>| Ok(job.into_payload())).unwrap();
            let early = pool.close_signal();
            assert!(!early.is_closed());
            let start = Barrier::new(3);
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        start.wait();
                        let signal = pool.close_signal();
                        assert!(signal.wait_timeout(LIMIT), "the waiter is told");
                        assert!(signal.is_closed());
                    });
                }
                start.wait();
                pool.close();
            });
            early.wait();
            pool.close_signal().wait();
        }
    });
}

/// A signal outlives the pool and disconnects its channel, for `select!`.
#[test]
fn a_close_signal_outlives_the_pool() {
    within(LIMIT, || {
        let pool = Manager::<u32, u32>::new();
        let signal = pool.close_signal();
        assert!(!signal.wait_timeout(Duration::from_millis(1)));
        drop(pool);
        assert!(signal.clone().is_closed());
        assert!(signal.receiver().recv().is_err());
    });
}

/// A pool is refused whole or built whole: a wrong setting is an error, and starts no thread.
#[test]
fn a_wrong_setting_is_an_error_and_starts_no_thread() {
    within(LIMIT, || {
        let recorder = Recorder::new();
        let builder = || {
            Manager::<u32>::builder()
                .name("wrongset")
                .hook(recorder.clone())
        };
        let error = builder().queue_capacity(0).build().unwrap_err();
        assert!(matches!(error, BuildError::ZeroCapacity), "{error}");
        let error = builder().queue_capacity(usize::MAX).build().unwrap_err();
        assert!(matches!(error, BuildError::CapacityTooLarge(usize::MAX)));
        for named in [
            builder().name("wrongset\0"),
            builder().thread_name_prefix("wrong\0set"),
        ] {
            let error = named.build().unwrap_err();
            assert!(matches!(error, BuildError::NulInName(_)), "{error}");
        }
        assert_eq!(threads_named("wrong"), 0);
        assert_eq!(recorder.calls(), Calls::default());
        // A name that never names a thread may hold what it likes.
        let pool = builder().name("a\0b").thread_name_prefix("rightset");
        assert_eq!(pool.build().unwrap().name(), "a\0b");
    });
}

/// Set for a child of this test, which runs with little address space.
const CHILD: &str = "WORKER_POOL_TEST_FEW_THREADS";

/// When the system has no thread for the n-th worker, `add` gives the worker back, nothing has been
/// counted or announced, and the others serve on. The pool closes as ever.
#[test]
fn a_worker_without_a_thread_is_an_error_and_the_others_serve_on() {
    if std::env::var_os(CHILD).is_some() {
        return within(LIMIT, add_until_there_is_no_thread);
    }
    let name = "lifecycle::a_worker_without_a_thread_is_an_error_and_the_others_serve_on";
    // Room for a few stacks of a quarter of a GiB each.
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 2500000 && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("a shell starts this test again");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        // A name that fits no test is a success, too.
        output.status.success() && told.contains("test result: ok. 1 passed"),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn add_until_there_is_no_thread() {
    let recorder = Recorder::new();
    let builder = Manager::<u32, u32>::builder().hook(recorder.clone());
    let pool = builder.stack_size(256 << 20).build().unwrap();
    let mut served = Vec::new();
    let error = loop {
        let number = served.len() as u32;
        match pool.add(move |job: Job<u32>| Ok(job.into_payload() + number)) {
            Ok(id) => served.push(id),
            Err(error) => break error,
        }
        assert!(served.len() < 100, "a hundred stacks fitted in");
    };
    assert!(!served.is_empty(), "the first had room");
    assert!(error.spawn.is_some(), "the system said why");
    let _worker_is_back = error.worker;
    let listed: Vec<_> = pool.workers().iter().map(|info| info.id).collect();
    assert_eq!(listed, served);
    assert_eq!(recorder.calls().worker_add, served.len());
    for payload in 0..20 {
        assert!(pool.submit(payload).unwrap() >= payload);
    }
    pool.close();
    let calls = recorder.calls();
    assert_eq!((calls.worker_remove, calls.closed), (served.len(), 1));
}

/// While it lives, a pool has a thread per worker and two more, whatever it is asked to do: the
/// dispatcher's, and the reaper's, which is not counted here.
#[test]
fn a_pool_has_a_thread_per_worker_and_two_more() {
    within(LIMIT, || {
        let builder = Manager::<u32, u32>::builder().name("threadper");
        let pool = builder.build().unwrap();
        let latch = Latch::new();
        for _ in 0..4 {
            pool.add(latch.worker()).unwrap();
        }
        let handles: Vec<_> = (0..60).map(|n| pool.enqueue(n).unwrap()).collect();
        latch.wait_for(4);
        // A thread takes its name as it starts; the dispatcher's may have been late.
        eventually("all are up", || threads_named("threadper") == 5);
        latch.release(30);
        latch.wait_for(30);
        assert_eq!(threads_named("threadper"), 5, "and no more");
        latch.open();
        for (number, handle) in (0..).zip(handles) {
            assert_eq!(handle.wait().unwrap(), number);
        }
        pool.close();
        eventually("its threads are gone", || threads_named("threadper") == 0);
    });
}
