//! The workers of a pool: their records and threads, and which of them sleep.

pub(crate) mod current;
pub(crate) mod record;
pub(crate) mod sleep;

use std::collections::BTreeMap;
use std::io;

use crate::job::id::WorkerId;
use crate::pool::roster::record::{WorkerInfo, WorkerRecord};
use crate::pool::waits::PoolWaits;
use crate::stats::counters::{Runs, Work};
use crate::stats::in_flight::Epoch;
use crate::stats::run_timer::Times;
use crate::sync::thread_spawn::Joinable;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering::SeqCst};

pub(crate) struct Roster {
    /// Do the workers measure times?
    timed: bool,
    /// Who waits for the pool, and what its threads wait for.
    pub(crate) waits: PoolWaits,
    list: Mutex<List>,
    /// How often a worker came or went. Changes under the lock of `list` only.
    changes: AtomicU64,
}

struct List {
    /// Workers may be added.
    open: bool,
    next: u64,
    members: BTreeMap<WorkerId, Member>,
    retired: Retired,
}

/// What workers that are gone have done.
#[derive(Default, Clone)]
struct Retired {
    runs: Runs,
    /// Jobs ended and answered, by epoch.
    settled: [u64; 2],
    /// In pools with timings.
    times: Option<Box<Times>>,
}

struct Member {
    record: Arc<WorkerRecord>,
    /// `None` once the reaper joins it.
    thread: Option<Joinable>,
    /// It was made at least once: `false` only while a factory makes it for the first time.
    made: bool,
}

/// How a worker is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddKind {
    /// The worker was made before.
    Made,
    /// A factory will make it, on its thread.
    ToBeMade,
    /// The same, unless at least this many workers are there to stay.
    Below(usize),
}

/// Why no worker was added.
#[derive(Debug)]
pub(crate) enum NotAdded {
    /// The roster is closed.
    Closed,
    /// There are enough workers.
    Enough,
    /// The system could not start the thread.
    Spawn(io::Error),
}

impl Roster {
    pub(crate) fn new(timed: bool, waits: PoolWaits) -> Self {
        Roster {
            timed,
            changes: AtomicU64::new(0),
            waits,
            list: Mutex::new(List {
                open: true,
                next: 1,
                members: BTreeMap::new(),
                retired: Retired {
                    times: timed.then(Box::default),
                    ..Retired::default()
                },
            }),
        }
    }

    /// Starts a worker's thread and adds the worker, in one step with respect to
    /// [`close`](Self::close). `added` is called before any thread can see the roster closed.
    pub(crate) fn add(
        &self,
        kind: AddKind,
        start: impl FnOnce(&Arc<WorkerRecord>) -> io::Result<Joinable>,
        added: impl FnOnce(),
    ) -> Result<Arc<WorkerRecord>, NotAdded> {
        let mut list = self.list.lock();
        if !list.open {
            return Err(NotAdded::Closed);
        }
        if let AddKind::Below(enough) = kind
            && list.staying().count() >= enough
        {
            return Err(NotAdded::Enough);
        }
        let made = kind == AddKind::Made;
        let record = Arc::new(WorkerRecord::new(
            WorkerId::new(list.next),
            !made,
            self.timed,
        ));
        let thread = start(&record).map_err(NotAdded::Spawn)?;
        list.next += 1;
        let member = Member {
            record: Arc::clone(&record),
            thread: Some(thread),
            made,
        };
        list.members.insert(record.id(), member);
        self.waits.worker_added(&record);
        self.changes.fetch_add(1, SeqCst);
        added();
        Ok(record)
    }

    /// No worker is added after this call.
    pub(crate) fn close(&self) {
        self.list.lock().open = false;
    }

    /// A factory has made this worker. `marked` is called in the same step, if the worker is still
    /// on the roster.
    pub(crate) fn mark_made(&self, id: WorkerId, marked: impl FnOnce()) {
        let mut list = self.list.lock();
        if let Some(member) = list.members.get_mut(&id) {
            member.made = true;
            marked();
        }
    }

    /// After a worker has gone: if there is no worker, calls `then`, in one step with respect to
    /// workers that are added. A worker that was never made does not count; one that restarts does.
    /// Does nothing if the roster is closed: the pool's end has its own rules.
    pub(crate) fn if_no_workers(&self, then: impl FnOnce()) {
        let list = self.list.lock();
        let none = !list.members.values().any(|member| member.made);
        if list.open && none {
            then();
        }
    }

    /// Were the hooks told that this worker was added, and not yet that it ended? `None` if it is not
    /// on the roster.
    pub(crate) fn was_made(&self, id: WorkerId) -> Option<bool> {
        let list = self.list.lock();
        Some(!list.members.get(&id)?.record.is_restarting())
    }

    /// Takes a worker whose thread has ended off the roster.
    pub(crate) fn remove(&self, id: WorkerId) {
        let mut list = self.list.lock();
        let Some(member) = list.members.remove(&id) else {
            return;
        };
        self.waits.worker_gone(id);
        let Retired {
            runs,
            settled,
            times,
        } = &mut list.retired;
        runs.add(member.record.runs());
        add(settled, member.record.settled());
        if let (Some(times), Some(timer)) = (times, member.record.run_timer()) {
            timer.add_to(times);
        }
        self.changes.fetch_add(1, SeqCst);
    }

    /// The thread of a worker that is at its end, to be joined before the worker is
    /// [removed](Self::remove).
    pub(crate) fn take_thread(&self, id: WorkerId) -> Option<Joinable> {
        self.list.lock().members.get_mut(&id)?.thread.take()
    }

    /// How many workers there are, if that may have changed since `seen`.
    pub(crate) fn count_if_changed(&self, seen: &mut u64) -> Option<usize> {
        let changes = self.changes.load(SeqCst);
        if std::mem::replace(seen, changes) == changes {
            return None;
        }
        Some(self.list.lock().members.len())
    }

    /// Called first by each worker's thread: it returns once the worker is on the roster.
    pub(crate) fn await_entry(&self) {
        drop(self.list.lock()); // held from before the thread is started until the worker is entered
    }

    /// Asks one worker to leave. Is there such a worker?
    pub(crate) fn stop(&self, id: WorkerId) -> bool {
        let list = self.list.lock();
        let member = list.members.get(&id);
        member.inspect(|member| member.record.stop()).is_some()
    }

    /// How many workers are there to stay, and is one of them being made for the first time?
    pub(crate) fn staying(&self) -> (usize, bool) {
        let list = self.list.lock();
        let making = list.members.values().any(|member| !member.made);
        (list.staying().count(), making)
    }

    /// Asks workers to leave until at most `max` are there to stay: idle ones first, then the
    /// newest. Returns `false` if the roster is closed.
    pub(crate) fn shrink(&self, max: usize) -> bool {
        let list = self.list.lock();
        let mut staying: Vec<_> = list.staying().collect();
        // Those that stay first.
        staying.sort_by_key(|record| (!record.is_busy(), record.id()));
        for record in staying.into_iter().skip(max) {
            record.stop();
        }
        list.open
    }

    pub(crate) fn stop_all(&self) {
        for member in self.list.lock().members.values() {
            member.record.stop();
        }
    }

    pub(crate) fn ids(&self) -> Vec<WorkerId> {
        self.list.lock().members.keys().copied().collect()
    }

    /// How many workers there are.
    pub(crate) fn count(&self) -> usize {
        self.list.lock().members.len()
    }

    /// How many workers there are, if none of them is leaving. Those that are restarting hold no
    /// job and do not count.
    pub(crate) fn all_serving(&self) -> Option<usize> {
        let list = self.list.lock();
        let mut serving = 0;
        for record in list.members.values().map(|member| &member.record) {
            if !record.is_restarting() {
                if record.is_leaving() {
                    return None;
                }
                serving += 1;
            }
        }
        Some(serving)
    }

    /// Does each worker run a job, sleep, or take none?
    pub(crate) fn is_quiet(&self) -> bool {
        let list = self.list.lock();
        list.members.values().all(|member| member.record.is_quiet())
    }

    pub(crate) fn workers(&self) -> Vec<WorkerInfo> {
        let list = self.list.lock();
        let records = list.members.values().map(|member| &member.record);
        records
            .map(|record| WorkerInfo {
                id: record.id(),
                state: record.state(),
            })
            .collect()
    }

    pub(crate) fn busy(&self) -> usize {
        let list = self.list.lock();
        let busy = list
            .members
            .values()
            .filter(|member| member.record.is_busy());
        busy.count()
    }

    /// Jobs that workers ran to their end, including workers that are gone.
    pub(crate) fn finished(&self) -> u64 {
        let list = self.list.lock();
        let finished = list
            .members
            .values()
            .map(|member| member.record.runs().finished());
        list.retired.runs.finished() + finished.sum::<u64>()
    }

    pub(crate) fn work(&self) -> Work {
        let (retired, records) = {
            let list = self.list.lock();
            let records = list
                .members
                .values()
                .map(|member| Arc::clone(&member.record));
            (list.retired.clone(), records.collect::<Vec<_>>())
        };
        // Without the lock, since to add up the times of many workers takes long.
        let mut work = Work {
            runs: retired.runs,
            busy: 0,
            total: records.len() as u64,
            longest: None,
            times: retired.times,
        };
        for record in records {
            let runs = record.runs();
            work.busy += u64::from(runs.busy());
            work.runs.add(runs);
            let Some(timer) = record.run_timer() else {
                continue;
            };
            if let Some((job, since)) = timer.running()
                && work.longest.is_none_or(|(_, _, longest)| since < longest)
            {
                work.longest = Some((job, record.id(), since));
            }
            if let Some(times) = &mut work.times {
                timer.add_to(times);
            }
        }
        work
    }

    /// Jobs of this epoch that workers ended and answered, including workers that are gone.
    pub(crate) fn settled(&self, epoch: Epoch) -> u64 {
        let list = self.list.lock();
        let mut settled = list.retired.settled;
        for member in list.members.values() {
            add(&mut settled, member.record.settled());
        }
        settled[epoch as usize]
    }
}

impl List {
    /// The workers that are there to stay, or will be made or restarted.
    fn staying(&self) -> impl Iterator<Item = &Arc<WorkerRecord>> {
        let records = self.members.values().map(|member| &member.record);
        records.filter(|record| record.stays())
    }
}

fn add<const N: usize>(sum: &mut [u64; N], more: [u64; N]) {
    sum.iter_mut()
        .zip(more)
        .for_each(|(sum, more)| *sum += more);
}
