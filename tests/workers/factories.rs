//! Workers that a factory makes: on their own thread, and not at all if it fails.

use std::cell::RefCell;
use std::rc::Rc;
use std::thread::{self, ThreadId};
use std::time::Duration;

use crate::common::{self, Calls, Event, LIMIT, Latch, Recorder, next, threads_named, within};
use crate::more::{self, Task, add_workers, answer, run_task, task, tasks};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use worker_pool::{
    FactoryError, Job, JobId, Manager, Meter, Restarts, Worker, WorkerHandle, WorkerId, WorkerState,
};

/// What cannot leave its thread, and tells where it was.
struct Homebody {
    tells: Sender<(&'static str, ThreadId)>,
    /// Not `Send`.
    home: Rc<ThreadId>,
}

impl Homebody {
    fn new(tells: Sender<(&'static str, ThreadId)>) -> Self {
        let home = Rc::new(thread::current().id());
        let made = Homebody { tells, home };
        made.tell("made");
        made
    }

    fn tell(&self, what: &'static str) {
        assert_eq!(*self.home, thread::current().id());
        let _ = self.tells.send((what, *self.home));
    }
}

impl Worker<(), (), String> for Homebody {
    fn start(&mut self, _: &WorkerHandle) {
        self.tell("start");
    }
    fn run(&mut self, _: Job<()>) -> Result<(), String> {
        self.tell("run");
        Ok(())
    }
    fn close(&mut self) {
        self.tell("close");
    }
}

impl Drop for Homebody {
    fn drop(&mut self) {
        self.tell("drop");
    }
}

/// A worker that is not `Send` is made, used and dropped on its own thread.
#[test]
fn a_worker_that_cannot_leave_its_thread_lives_on_it() {
    within(LIMIT, || {
        let pool = Manager::<(), (), String>::new();
        let (tells, told) = unbounded();
        let id = pool.add_factory(move |id| {
            assert_eq!(id, WorkerId::new(1));
            Ok::<_, String>(Homebody::new(tells.clone()))
        });
        assert_eq!(id.unwrap(), WorkerId::new(1));
        assert_eq!(next(&told).0, "made", "before `add_factory` returned");
        pool.submit(()).unwrap();
        pool.close();
        let (what, places): (Vec<_>, Vec<_>) = told.iter().unzip();
        assert_eq!(what, ["start", "run", "close", "drop"]);
        assert_ne!(places[0], thread::current().id());
    });
}

/// The factory's error, or its panic, comes back; no hook was told, no thread is left, and the pool
/// is as before.
#[test]
fn a_factory_that_fails_leaves_nothing_behind() {
    within(LIMIT, || {
        let (meter, recorder) = (Meter::new(), Recorder::new());
        let builder = tasks().hook(meter.clone()).hook(recorder.clone());
        let pool = builder.thread_name_prefix("barren").build().unwrap();
        let failed = pool.add_factory(|_| Err::<fn(Job<Task>) -> _, _>("no model".to_owned()));
        let error = failed.unwrap_err();
        assert_eq!(error.to_string(), "the worker could not be made: no model");
        assert!(matches!(error, FactoryError::Failed(text) if text == "no model"));
        let panicked = pool
            .add_factory(|id| -> Result<fn(Job<Task>) -> _, String> { panic!("no luck for {id}") });
        let error = panicked.unwrap_err();
        assert!(matches!(error, FactoryError::Panicked(text) if text == "no luck for 2"));
        assert_eq!(
            recorder.calls(),
            Calls {
                pool_start: 1,
                ..Calls::default()
            }
        );
        assert_eq!(meter.snapshot().total, 0);
        assert!(pool.workers().is_empty());
        // Joined; the system may list a thread for a moment longer.
        common::eventually("only the dispatcher is left", || {
            threads_named("barren") == 1
        });
        let heir = add_workers(&pool, 1)[0];
        assert_eq!(heir, WorkerId::new(3));
        assert_eq!(pool.submit(answer(1)).unwrap(), 1);
        pool.drain();
        assert_eq!(
            (recorder.calls().worker_add, recorder.calls().worker_remove),
            (1, 1)
        );
    });
}

thread_local! {
    static LAST_WORDS: RefCell<Option<LastWords>> = const { RefCell::new(None) };
}

/// As its thread ends, says whether `add_factory` had returned by then.
struct LastWords {
    returned: Receiver<()>,
    said: Sender<bool>,
}

impl Drop for LastWords {
    fn drop(&mut self) {
        // Time enough for a call that does not join the thread to show it: with one that does, this
        // waits in vain.
        let returned = self.returned.recv_timeout(Duration::from_millis(200));
        let _ = self.said.send(returned.is_ok());
    }
}

/// The thread of a worker that was not made is joined before the error comes back.
#[test]
fn a_failed_workers_thread_is_joined() {
    within(LIMIT, || {
        let pool = tasks().build().unwrap();
        let (tell, returned) = bounded(1);
        let (said, words) = bounded(1);
        let failed = pool.add_factory(move |_| {
            let (returned, said) = (returned.clone(), said.clone());
            LAST_WORDS.set(Some(LastWords { returned, said }));
            Err::<fn(Job<Task>) -> _, _>("no")
        });
        let _ = tell.send(());
        failed.unwrap_err();
        assert!(!next(&words), "the thread still ran");
    });
}

/// A pool that is closed takes no factory, and does not call it.
#[test]
fn a_closed_pool_calls_no_factory() {
    within(LIMIT, || {
        let pool = tasks().build().unwrap();
        pool.close();
        let made = pool.add_factory(|_| -> Result<fn(Job<Task>) -> _, String> { unreachable!() });
        assert!(matches!(made, Err(FactoryError::Closed)));
    });
}

/// A thread that the system refuses is an error, and the pool goes on.
#[test]
fn a_thread_that_cannot_be_started_is_an_error() {
    within(LIMIT, || {
        let pool = tasks().stack_size(1 << 62).build().unwrap();
        let made = pool.add_factory(|_| Ok::<_, String>(run_task));
        assert!(matches!(made, Err(FactoryError::Spawn(_))));
        assert!(pool.workers().is_empty());
        pool.drain();
    });
}

/// While a factory blocks, its worker is said to start, does not count, and is waited for by close.
#[test]
fn a_factory_that_blocks_is_waited_for() {
    within(LIMIT, || {
        let (meter, recorder, latch) = (Meter::new(), Recorder::new(), Latch::new());
        let builder = tasks().hook(meter.clone()).hook(recorder.clone());
        let pool = builder.build().unwrap();
        thread::scope(|scope| {
            let door = latch.door();
            let adder = scope.spawn(|| {
                pool.add_factory(move |id| {
                    door.pass(JobId::new(id.get()));
                    Ok::<_, String>(run_task)
                })
            });
            latch.wait_for_one();
            assert_eq!(pool.workers()[0].state, WorkerState::Starting);
            assert_eq!(meter.snapshot().total, 0);
            let error = pool.close_timeout(more::SHORT).unwrap_err();
            assert_eq!(error.running, [WorkerId::new(1)]);
            assert!(!adder.is_finished());
            latch.open();
            // It came too late to work, but it was made: it is closed with the pool.
            assert_eq!(adder.join().unwrap().unwrap(), WorkerId::new(1));
            pool.close();
        });
        let calls = recorder.calls();
        assert_eq!(
            (calls.worker_add, calls.worker_remove, calls.closed),
            (1, 1, 1)
        );
        assert_eq!(meter.snapshot().total, 0);
    });
}

/// A factory that fails only after the pool began to close holds up nothing.
#[test]
fn a_factory_that_fails_while_the_pool_closes_lets_it_close() {
    within(LIMIT, || {
        let latch = Latch::new();
        let pool = tasks().build().unwrap();
        thread::scope(|scope| {
            let door = latch.door();
            let adder = scope.spawn(|| {
                pool.add_factory(move |_| {
                    door.pass(JobId::new(1));
                    Err::<fn(Job<Task>) -> _, _>("too late")
                })
            });
            latch.wait_for_one();
            let drainer = scope.spawn(|| pool.drain());
            latch.open();
            assert!(matches!(
                adder.join().unwrap(),
                Err(FactoryError::Failed("too late"))
            ));
            drainer.join().unwrap();
        });
    });
}

/// The thread, its name and the id stay the same when the worker is made anew.
#[test]
fn a_worker_made_anew_has_its_predecessors_thread_name_and_id() {
    within(LIMIT, || {
        let recorder = Recorder::new();
        let soon = Restarts::default().back_off(more::SHORT, more::SHORT);
        let builder = tasks().thread_name_prefix("heir").restarts(soon);
        let pool = builder.hook(recorder.clone()).build().unwrap();
        let id = pool.add_factory(|_| Ok::<_, String>(run_task)).unwrap();
        let (say, said) = bounded(2);
        let whoami = |say: &Sender<_>| {
            let say = say.clone();
            task(move |_| {
                let here = thread::current();
                say.send((here.id(), here.name().map(str::to_owned)))
                    .unwrap();
                panic!("made to fail")
            })
        };
        for _ in 0..2 {
            let error = more::failed(pool.submit(whoami(&say)).unwrap_err());
            assert_eq!(error.worker, Some(id));
        }
        let (first, second) = (next(&said), next(&said));
        assert_eq!(first, second);
        assert_eq!(first.1.as_deref(), Some("heir-1"));
        for _ in 0..2 {
            recorder.wait_for(|event| *event == Event::WorkerRemove(id));
            recorder.wait_for(|event| *event == Event::WorkerAdd(id));
        }
    });
}
