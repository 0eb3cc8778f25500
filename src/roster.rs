//! Who works in the pool: the workers' seats and threads, and which of them wait for the pool itself.

use std::collections::BTreeMap;
use std::io;

use crate::idle::Generation;
use crate::park::{Parker, Wake};
use crate::seat::Seat;
use crate::sync::{Arc, Mutex, thread::JoinHandle};
use crate::worker::{WorkerId, WorkerInfo};

pub(crate) struct Roster {
    list: Mutex<List>,
}

struct List {
    /// Workers may be added.
    open: bool,
    next: u64,
    members: BTreeMap<WorkerId, Member>,
    /// Workers that block for a job of their own pool, and how to wake them.
    blocked: BTreeMap<WorkerId, Arc<Parker>>,
    /// Jobs ended by workers that are gone, by outcome.
    retired: [u64; 3],
    /// The same, by generation.
    retired_settled: [u64; 2],
}

struct Member {
    seat: Arc<Seat>,
    thread: JoinHandle<()>,
}

impl Roster {
    pub(crate) fn new() -> Self {
        Roster {
            list: Mutex::new(List {
                open: true,
                next: 1,
                members: BTreeMap::new(),
                blocked: BTreeMap::new(),
                retired: [0; 3],
                retired_settled: [0; 2],
            }),
        }
    }

    /// Starts a worker's thread and enters it, in one step against [`close`](Self::close). `told` is
    /// called before anybody can see the roster closed.
    ///
    /// # Errors
    /// `None` when the roster is closed, else what the system said.
    pub(crate) fn add(
        &self,
        start: impl FnOnce(Arc<Seat>) -> io::Result<JoinHandle<()>>,
        told: impl FnOnce(WorkerId),
    ) -> Result<Arc<Seat>, Option<io::Error>> {
        let mut list = self.list.lock();
        if !list.open {
            return Err(None);
        }
        let seat = Arc::new(Seat::new(WorkerId::new(list.next)));
        let thread = start(Arc::clone(&seat)).map_err(Some)?;
        list.next += 1;
        let member = Member {
            seat: Arc::clone(&seat),
            thread,
        };
        list.members.insert(seat.id(), member);
        told(seat.id());
        Ok(seat)
    }

    /// No worker is added after this call.
    pub(crate) fn close(&self) {
        self.list.lock().open = false;
    }

    /// Takes a worker that ran its last job off the roster: its thread, to be joined.
    pub(crate) fn remove(&self, id: WorkerId) -> Option<JoinHandle<()>> {
        let mut list = self.list.lock();
        let member = list.members.remove(&id)?;
        add(&mut list.retired, member.seat.ended());
        add(&mut list.retired_settled, member.seat.settled());
        list.wake_if_stuck();
        Some(member.thread)
    }

    /// Asks one worker to leave. Is there such a worker?
    pub(crate) fn dismiss(&self, id: WorkerId) -> bool {
        let list = self.list.lock();
        let member = list.members.get(&id);
        member.inspect(|member| member.seat.dismiss()).is_some()
    }

    pub(crate) fn dismiss_all(&self) {
        for member in self.list.lock().members.values() {
            member.seat.dismiss();
        }
    }

    pub(crate) fn ids(&self) -> Vec<WorkerId> {
        self.list.lock().members.keys().copied().collect()
    }

    /// How many workers there are, if none of them is on its way out.
    pub(crate) fn all_serving(&self) -> Option<usize> {
        let list = self.list.lock();
        let serving = list.members.values().all(|one| !one.seat.dismissed());
        serving.then_some(list.members.len())
    }

    pub(crate) fn workers(&self) -> Vec<WorkerInfo> {
        let list = self.list.lock();
        let seats = list.members.values().map(|member| &member.seat);
        seats
            .map(|seat| WorkerInfo {
                id: seat.id(),
                state: seat.state(),
            })
            .collect()
    }

    /// The workers that have a job in hand.
    pub(crate) fn busy(&self) -> Vec<WorkerId> {
        let list = self.list.lock();
        let seats = list.members.values().map(|member| &member.seat);
        seats
            .filter(|seat| seat.is_busy())
            .map(|seat| seat.id())
            .collect()
    }

    /// Jobs that workers, also those that are gone, ran to their end, by outcome.
    pub(crate) fn ended(&self) -> [u64; 3] {
        let list = self.list.lock();
        let mut ended = list.retired;
        for member in list.members.values() {
            add(&mut ended, member.seat.ended());
        }
        ended
    }

    /// Jobs of this generation that workers, also those that are gone, ended and answered.
    pub(crate) fn settled(&self, generation: Generation) -> u64 {
        let list = self.list.lock();
        let mut settled = list.retired_settled;
        for member in list.members.values() {
            add(&mut settled, member.seat.settled());
        }
        settled[generation as usize]
    }

    /// The calling worker is about to block for its own pool, until the guard is dropped.
    pub(crate) fn block(&self, id: WorkerId, parker: &Arc<Parker>) -> Blocked<'_> {
        let mut list = self.list.lock();
        list.blocked.insert(id, Arc::clone(parker));
        list.wake_if_stuck();
        Blocked { roster: self, id }
    }
}

fn add<const N: usize>(sum: &mut [u64; N], more: [u64; N]) {
    sum.iter_mut()
        .zip(more)
        .for_each(|(sum, more)| *sum += more);
}

impl List {
    /// Does every worker block for the pool? Then no job that waits can ever begin.
    fn is_stuck(&self) -> bool {
        self.blocked.len() >= self.members.len()
    }

    fn wake_if_stuck(&self) {
        if self.is_stuck() {
            self.blocked.values().for_each(|parker| parker.wake());
        }
    }
}

/// The calling worker blocks for its own pool.
pub(crate) struct Blocked<'a> {
    roster: &'a Roster,
    id: WorkerId,
}

impl Blocked<'_> {
    /// If every worker blocks, this one shall not: it counts as serving again, and the answer is
    /// yes. Asked under the lock, so of several one alone withdraws.
    pub(crate) fn must_withdraw(&self) -> bool {
        let mut list = self.roster.list.lock();
        let stuck = list.blocked.contains_key(&self.id) && list.is_stuck();
        if stuck {
            list.blocked.remove(&self.id);
        }
        stuck
    }

    /// It could not withdraw after all, since its job runs: it goes on blocking.
    pub(crate) fn stay(&self, parker: &Arc<Parker>) {
        let mut list = self.roster.list.lock();
        list.blocked.insert(self.id, Arc::clone(parker));
        list.wake_if_stuck(); // another may have looked meanwhile
    }
}

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        self.roster.list.lock().blocked.remove(&self.id);
    }
}
