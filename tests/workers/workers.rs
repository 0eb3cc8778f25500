//! Workers come and go while the pool runs: added, removed, finished by their own word.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::common::{Event, LIMIT, Latch, Recorder, eventually, next, stress, within};
use crate::more::{add_workers, answer, at_latch, jitter, task, tasks};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use worker_pool::{
    Hook, Job, Manager, Meter, Outcome, Worker, WorkerHandle, WorkerId, WorkerState,
};

/// A worker that hands out its handle, counts its jobs, and counts its `start`s and `close`s.
#[derive(Default)]
struct Member {
    lives: Arc<Lives>,
    handle: Option<Sender<WorkerHandle>>,
    busy: usize,
    /// Its jobs are as short as can be.
    quick: bool,
}

#[derive(Default)]
struct Lives {
    started: AtomicU32,
    closed: AtomicU32,
    dropped: AtomicU32,
    leaving: AtomicBool,
}

impl Lives {
    fn counts(&self) -> [u32; 3] {
        [&self.started, &self.closed, &self.dropped].map(|count| count.load(SeqCst))
    }
}

/// Each job adds one to its payload's counter and returns how often that ran.
type Count = Arc<AtomicU32>;

impl Worker<Count, u32, String> for Member {
    fn start(&mut self, handle: &WorkerHandle) {
        self.lives.started.fetch_add(1, SeqCst);
        if let Some(give) = &self.handle {
            let _ = give.send(handle.clone());
        }
    }
    fn run(&mut self, job: Job<Count>) -> Result<u32, String> {
        assert_eq!(self.lives.counts(), [1, 0, 0], "between start and close");
        self.busy += 1;
        if !self.quick {
            jitter(self.busy);
        }
        Ok(job.payload().fetch_add(1, SeqCst) + 1)
    }
    fn close(&mut self) {
        self.lives.closed.fetch_add(1, SeqCst);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.lives.dropped.fetch_add(1, SeqCst);
    }
}

/// A new member, its lives, and where its handle will come out.
fn member() -> (Member, Arc<Lives>, Receiver<WorkerHandle>) {
    let (give, handles) = bounded(1);
    let lives = Arc::new(Lives::default());
    let member = Member {
        lives: Arc::clone(&lives),
        handle: Some(give),
        busy: 0,
        quick: false,
    };
    (member, lives, handles)
}

/// A worker that is removed while it runs a job finishes that job and takes no other, though many
/// wait; it counts in `total` until it is done.
#[test]
fn a_removed_busy_worker_finishes_its_job_and_takes_no_more() {
    within(LIMIT, || {
        let (meter, recorder) = (Meter::new(), Recorder::new());
        let builder = tasks().hook(meter.clone()).hook(recorder.clone());
        let pool = builder.build().unwrap();
        let latch = Latch::new();
        let leaver = add_workers(&pool, 1)[0];
        let held = pool.enqueue(at_latch(&latch, 1)).unwrap();
        latch.wait_for_one();
        let rest: Vec<_> = (0..20).map(|n| pool.enqueue(answer(n)).unwrap()).collect();
        pool.remove(leaver).unwrap();
        let line = pool.workers()[0];
        assert_eq!((line.id, line.state), (leaver, WorkerState::Leaving));
        assert_eq!((meter.snapshot().busy, meter.snapshot().total), (1, 1));
        assert!(!held.is_done(), "the job in hand goes on");
        latch.open();
        assert_eq!(held.wait().unwrap(), 1);
        recorder.wait_for(|event| *event == Event::WorkerRemove(leaver));
        assert_eq!((meter.snapshot().busy, meter.snapshot().total), (0, 0));
        assert_eq!(recorder.calls().job_start, 1, "it took no other");
        assert!(pool.workers().is_empty());
        assert_eq!(pool.remove(leaver).unwrap_err().0, leaver);
        // The others do the rest.
        let heir = add_workers(&pool, 1)[0];
        assert_ne!(heir, leaver, "ids are used once");
        for (n, handle) in (0..).zip(rest) {
            assert_eq!(handle.wait().unwrap(), n);
        }
        assert_eq!(recorder.calls().worker_remove, 1);
    });
}

thread_local! {
    static LAST_WORDS: RefCell<Option<LastWords>> = const { RefCell::new(None) };
}

/// Speaks as its thread ends, after the worker itself is gone.
struct LastWords {
    recorder: Recorder,
    said: Sender<bool>,
}

impl Drop for LastWords {
    fn drop(&mut self) {
        // Time enough for a pool that does not join the thread to show it: with one that does, this
        // waits in vain.
        let told = self
            .recorder
            .events()
            .recv_timeout(Duration::from_millis(200));
        let _ = self.said.send(told.is_ok());
    }
}

/// A worker that sleeps is woken by its removal, closes, and its thread is joined before the hooks
/// hear that it is gone.
#[test]
fn a_removed_idle_worker_wakes_and_is_joined() {
    within(LIMIT, || {
        let recorder = Recorder::new();
        let pool = tasks().hook(recorder.clone()).build().unwrap();
        let (said, words) = unbounded();
        let workers = add_workers(&pool, 3);
        let (latch, ours) = (Latch::new(), recorder.clone());
        let door = latch.door();
        let last_words = move |_: &_| {
            let words = LastWords {
                recorder: ours,
                said,
            };
            LAST_WORDS.set(Some(words));
            door.pass(worker_pool::JobId::new(0));
            Ok(0)
        };
        let handle = pool.enqueue(task(last_words)).unwrap();
        recorder.wait_for(|event| matches!(event, Event::WorkerAdd(id) if *id == workers[2]));
        let Event::JobStart(_, chosen) =
            recorder.wait_for(|event| matches!(event, Event::JobStart(..)))
        else {
            unreachable!()
        };
        latch.open();
        handle.wait().unwrap();
        recorder.wait_for(|event| matches!(event, Event::JobFinish(..)));
        let all_idle = || {
            pool.workers()
                .iter()
                .all(|one| one.state == WorkerState::Idle)
        };
        eventually("all of them are idle", all_idle);

        pool.remove(chosen).unwrap();
        assert!(
            !next(&words),
            "told of the removal before the thread had ended"
        );
        recorder.wait_for(|event| *event == Event::WorkerRemove(chosen));
        assert_eq!(pool.workers().len(), 2);
        for other in workers.into_iter().filter(|id| *id != chosen) {
            pool.remove(other).unwrap();
            recorder.wait_for(|event| *event == Event::WorkerRemove(other));
        }
        assert_eq!(recorder.calls().worker_remove, 3);
    });
}

/// A worker that says it is finished leaves: while idle, by another thread's word, and while busy by
/// its own. `total` falls by one, one `worker_remove` is called, subscribers are told.
#[test]
fn a_worker_that_says_it_is_finished_leaves() {
    within(LIMIT, || {
        let (meter, recorder) = (Meter::new(), Recorder::new());
        let builder = Manager::<Count, u32, String>::builder();
        let pool = builder
            .hook(meter.clone())
            .hook(recorder.clone())
            .build()
            .unwrap();
        let (first, first_lives, handles) = member();
        let id = pool.add(first).unwrap();
        let stays = pool.add(member().0).unwrap();
        let handle = next(&handles);
        assert_eq!(handle.id(), id);
        assert!(!handle.is_finishing());
        let mut news = meter.subscribe();
        assert_eq!(news.recv().unwrap().total, 2);

        // Idle: somebody else, who watches what the worker depends on, pulls its handle.
        let theirs = handle.clone();
        thread::spawn(move || theirs.finish()).join().unwrap();
        assert!(handle.is_finishing());
        let told = news.recv_timeout(LIMIT).unwrap();
        assert_eq!((told.busy, told.total), (0, 1));
        recorder.wait_for(|event| *event == Event::WorkerRemove(id));
        assert_eq!(first_lives.counts(), [1, 1, 1]);
        handle.finish();
        assert_eq!(pool.remove(id).unwrap_err().0, id);
        assert_eq!(pool.workers().len(), 1);
        assert_eq!(recorder.calls().worker_remove, 1);
        assert_eq!(pool.submit(Count::default()).unwrap(), 1);

        // Busy: it says so in the job that will be its last.
        pool.remove(stays).unwrap();
        recorder.wait_for(|event| *event == Event::WorkerRemove(stays));
        let id = pool.add(Last(None)).unwrap();
        let [one, two] = [(); 2].map(|()| pool.enqueue(Count::default()).unwrap());
        assert_eq!(one.wait().unwrap(), 1, "its last job has its result");
        recorder.wait_for(|event| *event == Event::WorkerRemove(id));
        assert!(!two.is_done(), "it took no other");
        assert_eq!(recorder.calls().worker_remove, 3);
        assert_eq!(meter.snapshot().total, 0);
        pool.add(member().0).unwrap();
        assert_eq!(two.wait().unwrap(), 1);
    });
}

/// Finishes in its first job.
struct Last(Option<WorkerHandle>);

impl Worker<Count, u32, String> for Last {
    fn start(&mut self, handle: &WorkerHandle) {
        self.0 = Some(handle.clone());
    }
    fn run(&mut self, job: Job<Count>) -> Result<u32, String> {
        self.0.as_ref().unwrap().finish();
        Ok(job.payload().fetch_add(1, SeqCst) + 1)
    }
}

/// Workers finish all the time while jobs are handed out, one at a time or many at once: each job runs
/// exactly once, on whoever is left or comes next, and answers its caller.
#[test]
fn jobs_of_workers_that_finish_go_to_the_others() {
    let rounds = stress(1_000);
    within(LIMIT, move || {
        for (submitters, always_one) in [(1, true), (2, true), (1, false), (2, false)] {
            let recorder = Recorder::new();
            let builder = Manager::<Count, u32, String>::builder();
            let pool = builder.hook(Roll(recorder.clone())).build().unwrap();
            let stop = AtomicBool::new(false);
            let lives = thread::scope(|scope| {
                for submitter in 0..submitters {
                    let (pool, stop) = (&pool, &stop);
                    scope.spawn(move || {
                        while !stop.load(SeqCst) {
                            assert_eq!(pool.submit(Count::default()).unwrap(), 1);
                            let more = 3 * submitter;
                            let counts: Vec<_> = (0..more).map(|_| Count::default()).collect();
                            let enqueue = |count| pool.enqueue(Arc::clone(count)).unwrap();
                            let handles: Vec<_> = counts.iter().map(enqueue).collect();
                            for handle in handles {
                                assert_eq!(handle.wait().unwrap(), 1);
                            }
                        }
                    });
                }
                let mut lives = Vec::new();
                let mut come = |quick| {
                    let (mut member, life, handle) = member();
                    member.quick = quick;
                    pool.add(member).unwrap();
                    lives.push(life);
                    next(&handle)
                };
                let last = always_one.then(|| come(true));
                for round in 0..rounds / 4 {
                    let leaver = come(true);
                    jitter(round);
                    leaver.finish();
                }
                // Jobs may wait for this one.
                let last = last.unwrap_or_else(|| come(false));
                stop.store(true, SeqCst);
                assert!(!last.is_finishing());
                lives
            });
            pool.drain();
            assert!(lives.iter().all(|life| life.counts() == [1, 1, 1]));
            assert_eq!(recorder.calls().worker_remove, lives.len());
            let stats = pool.stats();
            assert_eq!(stats.completed, stats.accepted, "{stats}");
        }
    });
}

/// Records who comes and goes, but not the many jobs.
struct Roll(Recorder);

impl Hook for Roll {
    fn worker_remove(&self, worker: WorkerId) {
        self.0.worker_remove(worker);
    }
}

/// Finished, removed and closed with the pool at once, mid-job or idle: each worker's `close` runs
/// exactly once, and then it is dropped.
#[test]
fn a_worker_closes_once_whoever_ends_it() {
    let rounds = stress(250);
    within(LIMIT, move || {
        for round in 0..rounds {
            let recorder = Recorder::new();
            let builder = Manager::<Count, u32, String>::builder();
            let pool = builder.hook(recorder.clone()).build().unwrap();
            let mut lives = Vec::new();
            let mut ends = Vec::new();
            for _ in 0..3 {
                let (member, life, handle) = member();
                let id = pool.add(member).unwrap();
                ends.push((id, next(&handle)));
                lives.push(life);
            }
            let (errors, _failures) = unbounded();
            for id in 0..8 {
                pool.detach_submit(Count::default(), id, &errors).unwrap();
            }
            thread::scope(|scope| {
                scope.spawn(|| ends.iter().for_each(|(_, handle)| handle.finish()));
                scope.spawn(|| ends.iter().rev().for_each(|(id, _)| _ = pool.remove(*id)));
                scope.spawn(|| pool.close());
                jitter(round);
                pool.close();
            });
            assert!(lives.iter().all(|life| life.counts() == [1, 1, 1]));
            let calls = recorder.calls();
            assert_eq!((calls.worker_add, calls.worker_remove), (3, 3));
            assert_eq!((calls.draining, calls.closed), (1, 1));
            assert_eq!(pool.stats().accepted, pool.stats().ended());
        }
    });
}

/// Workers that are added while the pool closes either serve and are closed with it, or come back in
/// the error, untouched.
#[test]
fn a_worker_added_while_the_pool_closes_is_closed_with_it_or_comes_back() {
    let rounds = stress(300);
    within(LIMIT, move || {
        let mut refused = 0;
        for round in 0..rounds {
            let recorder = Recorder::new();
            let builder = Manager::<Count, u32, String>::builder();
            let pool = builder.hook(recorder.clone()).build().unwrap();
            let lives: Vec<_> = thread::scope(|scope| {
                let adders = [(); 2].map(|()| {
                    scope.spawn(|| {
                        let add = |_| {
                            let (member, life, _) = member();
                            let back = pool.add(member).err();
                            if let Some(error) = &back {
                                assert!(error.spawn.is_none());
                                assert!(Arc::ptr_eq(&error.worker.lives, &life));
                                assert_eq!(life.counts(), [0, 0, 0], "untouched");
                            }
                            life.leaving.store(back.is_some(), SeqCst);
                            life
                        };
                        (0..4).map(add).collect::<Vec<_>>()
                    })
                });
                for _ in 0..round % 16 {
                    jitter(round);
                }
                if round % 3 == 0 {
                    pool.drain();
                } else {
                    pool.close();
                }
                adders
                    .into_iter()
                    .flat_map(|adder| adder.join().unwrap())
                    .collect()
            });
            let accepted = lives.iter().filter(|life| !life.leaving.load(SeqCst));
            let mut count = 0;
            for life in accepted {
                assert_eq!(life.counts(), [1, 1, 1], "closed with the pool");
                count += 1;
            }
            refused += lives.len() - count;
            let calls = recorder.calls();
            assert_eq!((calls.worker_add, calls.worker_remove), (count, count));
            assert_eq!(pool.workers().len(), 0);
        }
        assert!(refused > 0, "the closes came too late to refuse any");
    });
}

/// A worker's jobs are bracketed by its start and close, all on its own thread.
#[test]
fn a_worker_lives_on_one_thread_from_start_to_drop() {
    struct Diary(Sender<(&'static str, thread::ThreadId)>);
    impl Diary {
        fn note(&self, what: &'static str) {
            let _ = self.0.send((what, thread::current().id()));
        }
    }
    impl Worker<(), (), String> for Diary {
        fn start(&mut self, _: &WorkerHandle) {
            self.note("start");
        }
        fn run(&mut self, _: Job<()>) -> Result<(), String> {
            self.note("run");
            Ok(())
        }
        fn close(&mut self) {
            self.note("close");
        }
    }
    impl Drop for Diary {
        fn drop(&mut self) {
            self.note("drop");
        }
    }
    within(LIMIT, || {
        let recorder = Recorder::new();
        let builder = Manager::<(), (), String>::builder();
        let pool = builder.hook(recorder.clone()).build().unwrap();
        let (write, diary) = unbounded();
        let id = pool.add(Diary(write)).unwrap();
        pool.submit(()).unwrap();
        pool.submit(()).unwrap();
        pool.close();
        let (notes, threads): (Vec<_>, Vec<_>) = diary.try_iter().unzip();
        assert_eq!(notes, ["start", "run", "run", "close", "drop"]);
        assert!(threads.iter().all(|one| *one == threads[0]));
        assert_ne!(threads[0], thread::current().id());
        let events: Vec<_> = recorder.events().try_iter().collect();
        assert_eq!(events[0], Event::WorkerAdd(id));
        assert!(matches!(events[2], Event::JobFinish(_, by, Outcome::Completed) if by == id));
        let removed = events
            .iter()
            .position(|one| *one == Event::WorkerRemove(id));
        let last_job = events
            .iter()
            .rposition(|one| matches!(one, Event::JobFinish(..)));
        assert!(last_job < removed, "{events:?}");
    });
}
