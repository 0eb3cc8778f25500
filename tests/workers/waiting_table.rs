//! A table: every way of waiting for a pool, at every place where user code runs on a thread of that
//! pool. Each call has an answer: a value, or the error that says that it would deadlock.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use worker_pool::{
    FactoryError, Hook, Job, JobId, Manager, Outcome, ResizeError, SubmitError, WeakManager,
    Worker, WorkerHandle, WorkerId,
};

/// How long a cell may take. It takes milliseconds.
const CELL: Duration = Duration::from_secs(60);
/// A deadline that is not to be reached.
const FAR: Duration = Duration::from_secs(3_600);

type Pool = Manager<Load, Output, Failed>;

/// Where the call comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Run,
    Start,
    Close,
    AddHook,
    FactoryHook,
    RemoveHook,
    JobStart,
    JobFinish,
    Factory,
    Inputs,
    Callback,
    WorkerDrop,
    PayloadDrop,
    OutputDrop,
    ErrorDrop,
    ThreadLocal,
}

const PLACES: [Place; 16] = [
    Place::Run,
    Place::Start,
    Place::Close,
    Place::AddHook,
    Place::FactoryHook,
    Place::RemoveHook,
    Place::JobStart,
    Place::JobFinish,
    Place::Factory,
    Place::Inputs,
    Place::Callback,
    Place::WorkerDrop,
    Place::PayloadDrop,
    Place::OutputDrop,
    Place::ErrorDrop,
    Place::ThreadLocal,
];

/// Waits. Was it served?
type Way = fn(&Pool, &Arc<Cell>) -> bool;

const WAYS: [(&str, Way); 19] = [
    ("submit", |pool, cell| served(pool.submit(leaf(cell)))),
    ("submit_timeout", |pool, cell| {
        served(pool.submit_timeout(leaf(cell), FAR))
    }),
    ("enqueue and wait", |pool, cell| {
        let handles: Vec<_> = (0..5).map(|_| pool.enqueue(leaf(cell))).collect();
        let mut all = true;
        for handle in handles {
            all &= served(handle.map_err(SubmitError::from).and_then(|it| it.wait()));
        }
        all
    }),
    ("the forms that do not block", |pool, cell| {
        let (errors, _) = bounded(0);
        for _ in 0..100 {
            let Ok(mut handle) = pool.try_enqueue(leaf(cell)) else {
                break;
            };
            drop(handle.try_wait());
            drop(handle.wait_timeout(Duration::ZERO));
            if pool.job(leaf(cell)).try_detach(1, &errors).is_err() {
                break;
            }
        }
        true
    }),
    ("detach", |pool, cell| {
        let (errors, _) = bounded(0);
        let mut detached = (0..20).map(|id| pool.detach_submit(leaf(cell), id, &errors));
        detached.all(|it| served(it.map_err(SubmitError::from)))
    }),
    ("map", |pool, cell| all_served(pool.map(leaves(cell)))),
    ("map_unordered", |pool, cell| {
        all_served(pool.map_unordered(leaves(cell)).map(|(_, it)| it))
    }),
    ("for_each", |pool, cell| {
        let mut all = true;
        pool.for_each(leaves(cell), |_, it| all &= served(it));
        all
    }),
    ("wait_idle", |pool, _| {
        pool.wait_idle();
        true
    }),
    ("close", |pool, _| {
        pool.close();
        true
    }),
    ("drain", |pool, _| {
        pool.drain();
        true
    }),
    ("close_timeout", |pool, _| {
        let _ = pool.close_timeout(FAR);
        true
    }),
    ("drain_timeout", |pool, _| {
        let _ = pool.drain_timeout(FAR);
        true
    }),
    ("add", |pool, cell| pool.add(Hand::new(cell)).is_ok()),
    ("add_factory", |pool, cell| {
        let cell = Arc::clone(cell);
        made(pool.add_factory(move |_| Ok::<_, String>(Hand::new(&cell))))
    }),
    ("add_factory that submits", |pool, cell| {
        let (cell, inner) = (Arc::clone(cell), pool.downgrade());
        made(pool.add_factory(move |_| {
            let pool = inner.upgrade().expect("the caller has one");
            served(pool.submit(leaf(&cell)));
            Ok::<_, String>(Hand::new(&cell))
        }))
    }),
    ("resize", |pool, _| match pool.resize(5) {
        Ok(()) => true,
        Err(ResizeError::Incomplete { error, .. }) => made::<()>(Err(error)),
        Err(error) => panic!("{error:?}"),
    }),
    ("remove", |pool, _| {
        let workers = pool.workers();
        workers
            .iter()
            .for_each(|worker| pool.remove(worker.id).unwrap_or_default());
        true
    }),
    ("a pause", |pool, cell| {
        pool.pause();
        let handle = pool.try_enqueue(leaf(cell));
        pool.resume();
        handle.map_or(true, |handle| served(handle.wait()))
    }),
];

#[track_caller]
fn served<T>(answer: Result<T, SubmitError<Load, Failed>>) -> bool {
    if let Err(error) = &answer {
        assert!(error.is_would_deadlock(), "{error:?}");
    }
    answer.is_ok()
}

fn all_served(answers: impl Iterator<Item = Result<Output, SubmitError<Load, Failed>>>) -> bool {
    answers.map(served).fold(true, |all, one| all & one)
}

#[track_caller]
fn made<T>(answer: Result<T, FactoryError<String>>) -> bool {
    if let Err(error) = &answer {
        assert!(matches!(error, FactoryError::WouldDeadlock), "{error:?}");
    }
    answer.is_ok()
}

/// One cell of the table.
struct Cell {
    place: Place,
    way: Way,
    /// The next time that the place is reached counts.
    armed: AtomicBool,
    pool: OnceLock<WeakManager<Load, Output, Failed>>,
    returned: Sender<bool>,
}

impl Cell {
    fn at(self: &Arc<Self>, place: Place) {
        if place == self.place && self.armed.swap(false, SeqCst) {
            let pool = self.pool.get().and_then(WeakManager::upgrade);
            let served = (self.way)(&pool.expect("the test has one"), self);
            self.returned.send(served).expect("the test listens");
        }
    }

    /// What a job of this place does.
    fn work(self: &Arc<Self>) {
        self.at(Place::Run);
        if !self.armed.load(SeqCst) {
            return;
        }
        let pool = || self.pool.get().and_then(WeakManager::upgrade).unwrap();
        if self.place == Place::Inputs {
            let inputs = leaves(self).inspect(|_| self.at(Place::Inputs));
            pool().map(inputs).for_each(drop);
        } else if self.place == Place::Callback {
            pool().for_each(leaves(self), |_, _| self.at(Place::Callback));
        }
    }
}

/// Calls at `.1` when it is dropped.
struct AtDrop(Arc<Cell>, Place);

impl Drop for AtDrop {
    fn drop(&mut self) {
        self.0.at(self.1);
    }
}

impl std::fmt::Debug for AtDrop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AtDrop").field(&self.1).finish()
    }
}

type Output = AtDrop;
type Failed = AtDrop;

struct Load {
    cell: Arc<Cell>,
    /// It is the job that the test began with.
    first: bool,
    _end: AtDrop,
}

fn load(cell: &Arc<Cell>, first: bool) -> Load {
    Load {
        cell: Arc::clone(cell),
        first,
        _end: AtDrop(Arc::clone(cell), Place::PayloadDrop),
    }
}

fn leaf(cell: &Arc<Cell>) -> Load {
    load(cell, false)
}

fn leaves(cell: &Arc<Cell>) -> impl Iterator<Item = Load> {
    (0..8).map(|_| leaf(cell))
}

thread_local! {
    static LAST: RefCell<Option<AtDrop>> = const { RefCell::new(None) };
}

struct Hand {
    cell: Arc<Cell>,
    _end: AtDrop,
}

impl Hand {
    fn new(cell: &Arc<Cell>) -> Self {
        Hand {
            cell: Arc::clone(cell),
            _end: AtDrop(Arc::clone(cell), Place::WorkerDrop),
        }
    }
}

impl Worker<Load, Output, Failed> for Hand {
    fn start(&mut self, _: &WorkerHandle) {
        LAST.set(Some(AtDrop(Arc::clone(&self.cell), Place::ThreadLocal)));
        self.cell.at(Place::Start);
    }
    fn run(&mut self, job: Job<Load>) -> Result<Output, Failed> {
        let Load { cell, first, .. } = job.payload();
        if *first {
            cell.work();
            if cell.place == Place::ErrorDrop {
                return Err(AtDrop(Arc::clone(cell), Place::ErrorDrop));
            }
        }
        Ok(AtDrop(Arc::clone(cell), Place::OutputDrop))
    }
    fn close(&mut self) {
        self.cell.at(Place::Close);
    }
}

struct Hooked(Arc<Cell>);

impl Hook for Hooked {
    fn job_start(&self, _: JobId, _: WorkerId) {
        self.0.at(Place::JobStart);
    }
    fn job_finish(&self, _: JobId, _: WorkerId, _: Outcome) {
        self.0.at(Place::JobFinish);
    }
    fn worker_add(&self, _: WorkerId) {
        self.0.at(Place::AddHook);
        self.0.at(Place::FactoryHook);
    }
    fn worker_remove(&self, _: WorkerId) {
        self.0.at(Place::RemoveHook);
    }
}

/// Lets a pool with so many workers come to the place.
fn run(place: Place, way: Way, workers: usize) {
    let (returned, has_returned) = bounded(1);
    let cell = Arc::new(Cell {
        place,
        way,
        armed: AtomicBool::new(false),
        pool: OnceLock::new(),
        returned,
    });
    let makes = Arc::clone(&cell);
    let pool = Pool::builder()
        .queue_capacity(1)
        .hook(Hooked(Arc::clone(&cell)))
        .factory(move |_| Ok::<_, String>(Hand::new(&makes)))
        .build()
        .unwrap();
    cell.pool.set(pool.downgrade()).unwrap();
    let mut ids = Vec::new();
    for _ in 1..workers {
        ids.push(pool.add(Hand::new(&cell)).unwrap());
    }
    // The place may be reached as the last worker comes,
    let as_it_comes = [
        Place::Start,
        Place::AddHook,
        Place::FactoryHook,
        Place::Factory,
    ];
    let arm = || cell.armed.store(true, SeqCst);
    if as_it_comes.contains(&place) {
        arm();
    }
    if matches!(place, Place::FactoryHook | Place::Factory) {
        let makes = Arc::clone(&cell);
        let factory = move |_| {
            makes.at(Place::Factory);
            Ok::<_, String>(Hand::new(&makes))
        };
        let _ = pool.add_factory(factory); // the pool may be closed by then
    } else {
        let added = pool.add(Hand::new(&cell));
        // A worker that starts late may reach the place before, and close the pool.
        assert!(added.is_ok() || place == Place::Start, "{added:?}");
        ids.extend(added.ok());
    }
    let as_it_leaves = [
        Place::Close,
        Place::RemoveHook,
        Place::WorkerDrop,
        Place::ThreadLocal,
    ];
    if as_it_leaves.contains(&place) {
        // as one leaves that has started,
        if workers == 1 {
            pool.submit(leaf(&cell)).unwrap();
        }
        pool.wait_idle();
        arm();
        pool.remove(ids[0]).unwrap();
    } else if !as_it_comes.contains(&place) {
        // or with a job.
        arm();
        let (errors, _) = bounded(0);
        pool.detach_submit(load(&cell, true), 1, &errors).unwrap();
    }
    let served = has_returned.recv().expect("the cell holds the other end");
    // Two more workers are free, unless the call must not block at all.
    let may_block = !matches!(place, Place::RemoveHook | Place::ThreadLocal);
    assert!(served || workers == 1 || !may_block, "not served");
    pool.close();
}

#[test]
fn every_wait_at_every_place_has_an_answer() {
    let mut failed = BTreeSet::new();
    for workers in [1, 3] {
        for place in PLACES {
            for (name, way) in WAYS {
                let (done, is_done) = bounded(1);
                let cell = thread::Builder::new().name("cell".to_owned());
                let body = move || {
                    run(place, way, workers);
                    done.send(()).expect("the test listens");
                };
                cell.spawn(body).expect("a thread for the cell");
                if let Err(error) = is_done.recv_timeout(CELL) {
                    failed.insert(format!(
                        "{name} in {place:?} with {workers} workers: {error}"
                    ));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
