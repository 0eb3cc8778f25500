//! Who works in the pool: the workers' seats and threads, and which of them wait for the pool itself.

pub(crate) mod current;
pub(crate) mod record;
pub(crate) mod sleep;

use crate::stats::counters::Work;
use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use crate::job::id::WorkerId;
use crate::pool::roster::record::WorkerInfo;
use crate::pool::roster::record::WorkerRecord;
use crate::stats::counters::Runs;
use crate::stats::in_flight::Epoch;
use crate::stats::run_timer::Times;
use crate::sync::park::{Parker, Wake};
use crate::sync::thread_spawn::Joinable;
use crate::sync::{Arc, Mutex};

pub(crate) struct Roster {
    /// Do the workers measure times?
    timed: bool,
    list: Mutex<List>,
}

struct List {
    /// Workers may be added.
    open: bool,
    next: u64,
    members: BTreeMap<WorkerId, Member>,
    /// Workers that block for their own pool.
    blocked: BTreeMap<WorkerId, Wait>,
    /// Numbers the waits.
    waits: u64,
    /// Of workers that are gone.
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

/// A worker that blocks for its own pool: for a job's result, or for room in the queue.
struct Wait {
    parker: Arc<Parker>,
    /// When it gives up by itself.
    deadline: Option<Instant>,
    number: u64,
    /// Parked, or about to.
    parked: bool,
    /// It waits in vain, and shall withdraw.
    deadlocked: bool,
    /// It cannot withdraw: its job runs.
    bound: bool,
}

struct Member {
    record: Arc<WorkerRecord>,
    thread: Joinable,
    /// It was there at least once; `false` while a factory makes it for the first time.
    arrived: bool,
}

/// Who is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddKind {
    /// A worker that is there.
    Made,
    /// One that a factory will make, on its thread.
    ToBeMade,
    /// The same, unless this many workers are there to stay.
    Below(usize),
}

/// Why nobody was added.
#[derive(Debug)]
pub(crate) enum NotAdded {
    /// The roster is closed.
    Closed,
    /// There are enough.
    Enough,
    /// What the system said when the thread was to be started.
    Spawn(io::Error),
}

/// A worker whose thread is at its end.
pub(crate) struct Exited {
    pub(crate) thread: Joinable,
    /// The hooks know of it, and not yet of its end.
    pub(crate) is_counted: bool,
}

impl Roster {
    pub(crate) fn new(timed: bool) -> Self {
        Roster {
            timed,
            list: Mutex::new(List {
                open: true,
                next: 1,
                members: BTreeMap::new(),
                blocked: BTreeMap::new(),
                waits: 0,
                retired: Retired {
                    times: timed.then(Box::default),
                    ..Retired::default()
                },
            }),
        }
    }

    /// Starts a worker's thread and enters it, in one step against [`close`](Self::close). `told` is
    /// called before anybody can see the roster closed.
    pub(crate) fn add(
        &self,
        recruit: AddKind,
        start: impl FnOnce(&Arc<WorkerRecord>) -> io::Result<Joinable>,
        told: impl FnOnce(WorkerId),
    ) -> Result<Arc<WorkerRecord>, NotAdded> {
        let mut list = self.list.lock();
        if !list.open {
            return Err(NotAdded::Closed);
        }
        if let AddKind::Below(enough) = recruit
            && list.staying().count() >= enough
        {
            return Err(NotAdded::Enough);
        }
        let arrived = recruit == AddKind::Made;
        let record = Arc::new(WorkerRecord::new(
            WorkerId::new(list.next),
            !arrived,
            self.timed,
        ));
        let thread = start(&record).map_err(NotAdded::Spawn)?;
        list.next += 1;
        let member = Member {
            record: Arc::clone(&record),
            thread,
            arrived,
        };
        list.members.insert(record.id(), member);
        told(record.id());
        Ok(record)
    }

    /// No worker is added after this call.
    pub(crate) fn close(&self) {
        self.list.lock().open = false;
    }

    /// A factory has made this worker.
    pub(crate) fn arrive(&self, id: WorkerId, told: impl FnOnce()) {
        let mut list = self.list.lock();
        if let Some(member) = list.members.get_mut(&id) {
            member.arrived = true;
            told();
        }
    }

    /// For when a worker has gone: calls `then`, in one step against workers that come, if there is
    /// none. Those that were never made do not count; those that are being made anew do. A closed
    /// roster is not deserted: the pool's end has its own rules.
    pub(crate) fn if_deserted(&self, then: impl FnOnce()) {
        let list = self.list.lock();
        let nobody = !list.members.values().any(|member| member.arrived);
        if list.open && nobody {
            then();
        }
    }

    /// Takes a worker that ran its last job off the roster: its thread, to be joined.
    pub(crate) fn remove(&self, id: WorkerId) -> Option<Exited> {
        let mut list = self.list.lock();
        let member = list.members.remove(&id)?;
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
        Some(Exited {
            thread: member.thread,
            is_counted: !member.record.is_restarting(),
        })
    }

    /// Asks one worker to leave. Is there such a worker?
    pub(crate) fn stop(&self, id: WorkerId) -> bool {
        let list = self.list.lock();
        let member = list.members.get(&id);
        member.inspect(|member| member.record.stop()).is_some()
    }

    /// How many workers are there to stay; and is one of them made for the first time?
    pub(crate) fn staying(&self) -> (usize, bool) {
        let list = self.list.lock();
        let making = list.members.values().any(|member| !member.arrived);
        (list.staying().count(), making)
    }

    /// Asks workers to leave until this many are there to stay: idle ones, or else the newest. `false`
    /// if the roster is closed.
    pub(crate) fn shrink(&self, most: usize) -> bool {
        let list = self.list.lock();
        let mut staying: Vec<_> = list.staying().collect();
        // Those that stay first.
        staying.sort_by_key(|record| (!record.is_busy(), record.id()));
        for record in staying.into_iter().skip(most) {
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

    /// How many workers there are, if none of them is on its way out. Those that are absent hold no
    /// job and do not count.
    pub(crate) fn all_serving(&self) -> Option<usize> {
        let list = self.list.lock();
        let mut present = 0;
        for record in list.members.values().map(|member| &member.record) {
            if !record.is_restarting() {
                if record.is_leaving() {
                    return None;
                }
                present += 1;
            }
        }
        Some(present)
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
        let busy = list.members.values().filter(|one| one.record.is_busy());
        busy.count()
    }

    /// Jobs that workers, also those that are gone, ran to their end.
    pub(crate) fn finished(&self) -> u64 {
        let list = self.list.lock();
        let finished = list
            .members
            .values()
            .map(|one| one.record.runs().finished());
        list.retired.runs.finished() + finished.sum::<u64>()
    }

    pub(crate) fn work(&self) -> Work {
        let (retired, records) = {
            let list = self.list.lock();
            let records = list.members.values().map(|one| Arc::clone(&one.record));
            (list.retired.clone(), records.collect::<Vec<_>>())
        };
        // Without the lock: adding up the times of many workers takes long.
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

    /// Jobs of this epoch that workers, also those that are gone, ended and answered.
    pub(crate) fn settled(&self, epoch: Epoch) -> u64 {
        let list = self.list.lock();
        let mut settled = list.retired.settled;
        for member in list.members.values() {
            add(&mut settled, member.record.settled());
        }
        settled[epoch as usize]
    }

    /// The calling worker is about to block for its own pool, until the guard is dropped.
    pub(crate) fn block(
        &self,
        id: WorkerId,
        parker: &Arc<Parker>,
        deadline: Option<Instant>,
    ) -> BlockedGuard<'_> {
        let mut list = self.list.lock();
        list.waits += 1;
        let wait = Wait {
            parker: Arc::clone(parker),
            deadline,
            number: list.waits,
            parked: false,
            deadlocked: false,
            bound: false,
        };
        list.blocked.insert(id, wait);
        BlockedGuard { roster: self, id }
    }

    /// For the dispatcher, when it has nothing else to do: if every worker blocks for the pool, no
    /// job that waits can begin, until one of them gives up. Then one is told to withdraw: the one with
    /// the earliest deadline, whose job cannot begin before that, or else the last to come.
    pub(crate) fn find_deadlock(&self) {
        let mut list = self.list.lock();
        if list.blocked.is_empty() || list.blocked.len() < list.members.len() {
            return;
        }
        let now = Instant::now();
        // Whoever was woken, or is late, is about to go on.
        let stuck = list.blocked.values().all(|wait| {
            wait.parked && !wait.parker.is_woken() && wait.deadline.is_none_or(|at| now < at)
        });
        let waits = list.blocked.values_mut().filter(|wait| !wait.bound);
        let first = waits.min_by_key(|wait| {
            let forever = wait.deadline.is_none();
            (forever, wait.deadline, std::cmp::Reverse(wait.number))
        });
        if stuck && let Some(wait) = first {
            wait.deadlocked = true;
            wait.parker.wake();
        }
    }
}

impl List {
    /// The workers that are there to stay, or will be made (anew).
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

/// The calling worker blocks for its own pool.
pub(crate) struct BlockedGuard<'a> {
    roster: &'a Roster,
    id: WorkerId,
}

impl BlockedGuard<'_> {
    /// Parks. `ring` wakes the dispatcher, which looks whether all wait in vain. Returns whether
    /// this one shall withdraw.
    pub(crate) fn park(&self, deadline: Option<Instant>, notify: impl FnOnce()) -> bool {
        let parker = self.with(|wait| {
            wait.parked = true;
            Arc::clone(&wait.parker)
        });
        notify();
        // The wake is forgotten in the step in which this one counts as awake: whoever judges
        // sees one or the other.
        parker.park_and_keep(deadline);
        self.with(|wait| {
            wait.parked = false;
            wait.parker.forget_wake();
            std::mem::take(&mut wait.deadlocked)
        })
    }

    /// It was told to withdraw, and could not, since its job runs.
    pub(crate) fn cannot_withdraw(&self) {
        self.with(|wait| wait.bound = true);
    }

    fn with<R>(&self, change: impl FnOnce(&mut Wait) -> R) -> R {
        let mut list = self.roster.list.lock();
        change(list.blocked.get_mut(&self.id).expect("it blocks"))
    }
}

impl Drop for BlockedGuard<'_> {
    fn drop(&mut self) {
        self.roster.list.lock().blocked.remove(&self.id);
    }
}
