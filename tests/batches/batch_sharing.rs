//! How a batch shares the pool: with urgent jobs, with other submitters, with a pause, and among the
//! workers, some of which leave between two of its jobs.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::common::{Event, LIMIT, Latch, Recorder, eventually, stress, within};
use parking_lot::Mutex;
use worker_pool::{
    Failure, Job, JobId, Manager, Meter, Outcome, Priority, SubmitError, Worker, WorkerHandle,
    WorkerId,
};

type Pool = Manager<u64, u64, String>;

/// Answers with its payload; waits at the latch with those in a range; says what it begins.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u64>>>);

impl Log {
    fn worker(
        &self,
        held: std::ops::Range<u64>,
        latch: &Latch,
    ) -> impl FnMut(Job<u64>) -> Result<u64, String> + Send + use<> {
        let (log, door) = (self.clone(), latch.door());
        move |job| {
            log.0.lock().push(*job.payload());
            if held.contains(job.payload()) {
                door.pass(job.id());
            }
            Ok(job.into_payload())
        }
    }

    fn begun(&self) -> Vec<u64> {
        self.0.lock().clone()
    }
}

/// The payload of jobs that are no part of the batch.
const OTHER: u64 = 1_000_000;

/// An urgent job that comes while a batch runs begins after the job in hand, wherever in a chunk that is,
/// or after one more if it was the turn of the others; so it does beside a batch of low priority.
#[test]
fn an_urgent_job_begins_between_two_jobs_of_a_chunk() {
    within(LIMIT, || {
        for priority in [Priority::Normal, Priority::Low] {
            for held in 5_000..5_008 {
                let pool = Pool::new();
                let (log, latch) = (Log::default(), Latch::new());
                pool.add(log.worker(held..held + 1, &latch)).unwrap();
                let results = pool.batch().priority(priority).map(0..10_000);
                let consumer = thread::spawn(move || results.filter(Result::is_ok).count());
                latch.wait_for_one();
                let urgent = pool.job(OTHER).priority(Priority::High).enqueue().unwrap();
                latch.open();
                assert_eq!(urgent.wait(), Ok(OTHER));
                assert_eq!(consumer.join().unwrap(), 10_000);
                // One worker, so everything else in the order of the inputs.
                let begun = log.begun();
                let place = begun.iter().position(|&payload| payload == OTHER).unwrap();
                let before = begun[place - 1];
                assert!([held, held + 1].contains(&before), "after {before}");
                let rest = begun.into_iter().filter(|&payload| payload != OTHER);
                assert!(rest.eq(0..10_000));
            }
        }
    });
}

/// Its chunks do not overtake each other in the urgent lane.
#[test]
fn an_urgent_batch_keeps_its_order() {
    within(LIMIT, || {
        let pool = Pool::new();
        let (log, latch) = (Log::default(), Latch::new());
        pool.add(log.worker(0..0, &latch)).unwrap();
        let batch = pool.batch().priority(Priority::High);
        assert_eq!(batch.map(0..20_000).filter(Result::is_ok).count(), 20_000);
        assert!(log.begun().into_iter().eq(0..20_000));
    });
}

/// Urgent jobs each of which submits the next: those of the batch have their turn.
#[test]
fn urgent_jobs_do_not_starve_a_batch() {
    within(LIMIT, || {
        let pool = Pool::new();
        let over = Arc::new(AtomicBool::new(false));
        let (done, weak) = (Arc::clone(&over), pool.downgrade());
        pool.add(move |job: Job<u64>| {
            if *job.payload() == OTHER
                && !done.load(SeqCst)
                && let Some(pool) = weak.upgrade()
            {
                drop(pool.job(OTHER).priority(Priority::High).enqueue());
            }
            Ok(job.into_payload())
        })
        .unwrap();
        for _ in 0..3 {
            drop(pool.job(OTHER).priority(Priority::High).enqueue().unwrap());
        }
        let ordered = pool.map(0..300).filter(Result::is_ok).count();
        let any = pool
            .map_unordered(0..300)
            .filter(|(_, result)| result.is_ok());
        assert_eq!((ordered, any.count()), (300, 300));
        over.store(true, SeqCst);
    });
}

/// Other submitters have their turn beside a batch without end.
#[test]
fn single_jobs_come_in_between_the_chunks_of_a_long_batch() {
    within(LIMIT, || {
        let pool = Pool::new();
        let (log, latch) = (Log::default(), Latch::new());
        pool.add(log.worker(0..0, &latch)).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&over);
        let results = pool.map((0..).take_while(move |_| !done.load(SeqCst)));
        let consumer = thread::spawn(move || results.filter(Result::is_ok).count());
        for priority in [Priority::Normal, Priority::High] {
            assert_eq!(pool.job(OTHER).priority(priority).submit(), Ok(OTHER));
        }
        over.store(true, SeqCst);
        let count = consumer.join().unwrap();
        assert_eq!(log.begun().len(), count + 2);
    });
}

/// With jobs that turn out to be slow, every worker comes to help, within a chunk too.
#[test]
fn idle_workers_join_a_chunk_whose_jobs_are_slow() {
    within(LIMIT, || {
        for ordered in [true, false] {
            let pool = Pool::new();
            let (log, latch) = (Log::default(), Latch::new());
            for _ in 0..3 {
                pool.add(log.worker(20_000..20_064, &latch)).unwrap();
            }
            let batch = pool.batch();
            let results: Box<dyn Iterator<Item = _> + Send> = match ordered {
                true => Box::new(batch.map(0..40_000)),
                false => Box::new(batch.map_unordered(0..40_000).map(|(_, result)| result)),
            };
            let consumer = thread::spawn(move || results.filter(Result::is_ok).count());
            latch.wait_for(3);
            latch.open();
            assert_eq!(consumer.join().unwrap(), 40_000);
        }
    });
}

/// In a pause no job begins, also in the midst of a chunk.
#[test]
fn a_pause_comes_between_two_jobs_of_a_chunk() {
    within(LIMIT, || {
        let pool = Pool::new();
        let (log, latch) = (Log::default(), Latch::new());
        pool.add(log.worker(20_000..20_001, &latch)).unwrap();
        let results = pool.map(0..40_000);
        let consumer = thread::spawn(move || results.filter(Result::is_ok).count());
        latch.wait_for_one();
        pool.pause();
        latch.open();
        eventually("it has ended", || pool.stats().ended() == 20_001);
        assert!(!pool.wait_idle_timeout(Duration::from_millis(20)));
        assert_eq!(log.begun().len(), 20_001);
        pool.resume();
        assert_eq!(consumer.join().unwrap(), 40_000);
        assert!(log.begun().into_iter().eq(0..40_000));
    });
}

/// A worker added in a pause does not join a chunk before the resume, and does so then.
#[test]
fn after_a_pause_others_join_a_chunk_whose_job_goes_on() {
    within(LIMIT, || {
        let pool = Pool::new();
        let (log, latch) = (Log::default(), Latch::new());
        pool.add(log.worker(20_000..20_001, &latch)).unwrap();
        let results = pool.map_unordered(0..40_000);
        let consumer = thread::spawn(move || results.filter(|(_, result)| result.is_ok()).count());
        latch.wait_for_one();
        pool.pause();
        pool.add(log.worker(0..0, &latch)).unwrap();
        assert!(!pool.wait_idle_timeout(Duration::from_millis(20)));
        assert_eq!(log.begun().len(), 20_001);
        pool.resume();
        // All but what the held worker had claimed, by the other.
        eventually("the other has run the rest", || {
            log.begun().len() >= 40_000 - 63
        });
        latch.open();
        assert_eq!(consumer.join().unwrap(), 40_000);
    });
}

/// Ends in one way or the other in the midst of a chunk.
struct Ending {
    at: u64,
    how: u64,
    me: Option<WorkerHandle>,
    id: Arc<Mutex<Option<WorkerId>>>,
    pool: worker_pool::WeakManager<u64, u64, String>,
}

impl Worker<u64, u64, String> for Ending {
    fn start(&mut self, handle: &WorkerHandle) {
        self.me = Some(handle.clone());
    }
    fn run(&mut self, job: Job<u64>) -> Result<u64, String> {
        if *job.payload() == self.at {
            match self.how {
                0 => panic!("in the midst"),
                1 => self.me.as_ref().unwrap().finish(),
                _ => {
                    let id = self.id.lock().expect("it was added");
                    self.pool.upgrade().unwrap().remove(id).unwrap();
                }
            }
        }
        Ok(job.into_payload())
    }
}

/// A worker that panics, is finished or removed in the midst of a chunk leaves the rest to the next.
#[test]
fn the_rest_of_a_chunk_goes_to_other_workers() {
    within(LIMIT, || {
        for how in 0..3 {
            let pool = Pool::new();
            let id = Arc::new(Mutex::new(None));
            let ending = Ending {
                at: 5_000,
                how,
                me: None,
                id: Arc::clone(&id),
                pool: pool.downgrade(),
            };
            *id.lock() = Some(pool.add(ending).unwrap());
            let results = pool.map(0..10_000);
            let consumer = thread::spawn(move || results.collect::<Vec<_>>());
            eventually("it has left", || pool.workers().is_empty());
            assert_eq!(pool.stats().ended(), 5_001, "none after it");
            let (log, latch) = (Log::default(), Latch::new());
            pool.add(log.worker(0..0, &latch)).unwrap();
            for (n, result) in (0..).zip(consumer.join().unwrap()) {
                match result {
                    Ok(output) => assert_eq!(output, n),
                    Err(SubmitError::Failed(error)) => {
                        assert_eq!((n, how), (5_000, 0));
                        assert_eq!(error.cause, Failure::Panicked("in the midst".to_owned()));
                    }
                    Err(SubmitError::Rejected(rejected)) => panic!("{:?}", rejected.reason),
                }
            }
            assert!(log.begun().into_iter().eq(5_001..10_000));
        }
    });
}

/// Each job has its own id, its own pair of hook calls, and its part in the meter, all of it before
/// its result is there.
#[test]
fn hooks_and_meter_see_single_jobs() {
    let rounds = stress(3);
    within(LIMIT, move || {
        for _ in 0..rounds {
            let (recorder, meter) = (Recorder::new(), Meter::new());
            let builder = Pool::builder().hook(recorder.clone()).hook(meter.clone());
            let pool = builder.build().unwrap();
            let seen = Arc::new(Mutex::new(HashMap::new()));
            let (most, workers) = (Arc::new(AtomicU64::new(0)), 3);
            for _ in 0..workers {
                let (seen, most, meter) = (Arc::clone(&seen), Arc::clone(&most), meter.clone());
                pool.add(move |job: Job<u64>| {
                    let snapshot = meter.snapshot();
                    assert!(snapshot.busy >= 1 && snapshot.busy <= snapshot.total);
                    most.fetch_max(snapshot.busy as u64, SeqCst);
                    seen.lock().insert(job.id(), *job.payload());
                    match *job.payload() % 7 {
                        0 => Err("seven".to_owned()),
                        _ => Ok(job.into_payload()),
                    }
                })
                .unwrap();
            }
            let inputs = 4_000;
            for (yielded, _) in (1..).zip(pool.map(0..inputs)) {
                assert!(recorder.calls().job_finish >= yielded);
            }
            let snapshot = meter.snapshot();
            assert_eq!((snapshot.busy, snapshot.total), (0, workers));
            assert!(most.load(SeqCst) >= 1);
            // From 1 on, in the order of the inputs.
            let seen = seen.lock();
            assert_eq!(seen.len() as u64, inputs);
            for payload in 0..inputs {
                assert_eq!(seen[&JobId::new(payload + 1)], payload);
            }
            let calls = recorder.calls();
            assert_eq!((calls.job_start, calls.job_finish), (4_000, 4_000));
            let (mut running, mut ended) = (HashMap::new(), BTreeSet::new());
            for event in recorder.events().try_iter() {
                match event {
                    Event::JobStart(job, worker) => assert!(running.insert(worker, job).is_none()),
                    Event::JobFinish(job, worker, outcome) => {
                        assert_eq!(running.remove(&worker), Some(job));
                        assert!(ended.insert(job));
                        let failed = (job.get() - 1) % 7 == 0;
                        assert_eq!(outcome == Outcome::Failed, failed);
                    }
                    _ => {}
                }
            }
            assert!(running.is_empty() && ended.len() == 4_000);
        }
    });
}
