//! No worker sleeps while a job is ready, and the count is that of the workers.

use std::collections::VecDeque;

use super::*;
use crate::sync::modelled::run::check;
use crate::sync::park::Parker;
use crate::sync::{AtomicUsize, fence, thread};

struct Model {
    sleep: Sleep,
    ready: Mutex<VecDeque<usize>>,
    records: Vec<Arc<WorkerRecord>>,
    ran: AtomicUsize,
    /// Woken for each job that ran.
    main: Parker,
}

impl Model {
    fn new(workers: u64) -> Self {
        let record = |id| Arc::new(WorkerRecord::new(WorkerId::new(id), false, false));
        Model {
            sleep: Sleep::default(),
            ready: Mutex::default(),
            records: (1..=workers).map(record).collect(),
            ran: AtomicUsize::new(0),
            main: Parker::new(),
        }
    }

    fn has_work(&self) -> bool {
        !self.ready.lock().is_empty()
    }

    fn release(&self, job: usize) {
        self.ready.lock().push_back(job);
        fence(SeqCst);
        self.sleep.wake_for(|| self.ready.lock().len());
    }

    fn stop_search(&self, searching: &mut bool) {
        if std::mem::take(searching) {
            self.sleep.stop_search();
            if self.has_work() {
                self.sleep.wake_one();
            }
        }
    }

    /// A worker's loop, as in `worker/find_work.rs`.
    fn work(&self, record: &Arc<WorkerRecord>) {
        let mut searching = false;
        while !record.is_leaving() {
            let job = self.ready.lock().pop_front();
            if let Some(job) = job {
                self.stop_search(&mut searching);
                if record.is_leaving() {
                    self.ready.lock().push_front(job);
                    fence(SeqCst);
                    self.sleep.wake_one();
                    break;
                }
                self.ran.fetch_add(1, SeqCst);
                self.main.wake();
                continue;
            }
            if !searching {
                searching = self.sleep.try_search();
                if searching {
                    continue; // one more look
                }
            }
            let work = || self.has_work() || record.is_leaving();
            let began = searching.then(time::now);
            self.sleep.sleep(record, began, work);
            searching = true;
        }
        self.stop_search(&mut searching);
    }

    /// So many workers leave meanwhile; the others run all jobs.
    fn run(&self, submitters: usize, jobs: usize, leaving: usize) {
        thread::scope(|scope| {
            for record in &self.records {
                scope.spawn(move || self.work(record));
            }
            for _ in 0..submitters {
                scope.spawn(move || (0..jobs).for_each(|job| self.release(job)));
            }
            for record in &self.records[..leaving] {
                scope.spawn(move || record.stop());
            }
            while self.ran.load(SeqCst) < submitters * jobs {
                self.main.park(None);
            }
            self.records.iter().for_each(|record| record.stop());
        });
        assert_eq!(self.sleep.word.count.load(SeqCst), 0, "all have left");
        assert!(self.sleep.sleepers.lock().stack.is_empty());
    }
}

#[test]
fn every_job_runs_while_workers_sleep_and_wake() {
    check(|| Model::new(3).run(4, 2, 0));
}

#[test]
fn every_job_runs_while_workers_leave() {
    check(|| Model::new(3).run(2, 1, 2));
}
