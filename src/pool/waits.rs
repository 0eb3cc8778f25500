//! The registry of who waits for what, of all pools: the threads of pools that park, in whatever form
//! of waiting. A thread that has nothing to do with any pool pays nothing, and is not in it.
//!
//! If some threads wait only for each other (see [the judgement](crate::policy::deadlock)), one of
//! them is told to withdraw.
//!
//! # States of a wait
//!
//! | state | set by |
//! |---|---|
//! | parked, unseen by some dispatchers | the thread, in [`Waiting::enter`], before it parks |
//! | parked and seen | the dispatchers, each when it has nothing else to do |
//! | told | who judges |
//! | awake, off the registry | the thread |
//!
//! # Why no deadlock is missed, and none is seen where there is none
//!
//! Everything is under one lock, and the lock of no other part is taken under it. A thread notes that
//! it parks, *then* notifies the dispatchers that could still help it, and *then* parks. Each of these
//! looks for something to move and, when there is nothing, marks the wait as seen and judges. It marks
//! only waits that were noted before its look began: room that a job made before its worker parked is
//! handed on first. So after the last thread of a circle has noted that it parks, there is one more
//! judgement. The same is done when a worker is gone, and when a pause ends: then fewer can help.
//!
//! A thread that was woken is about to go on, and so is one whose deadline has passed. Its parker keeps
//! the wake-up until the thread is off the registry. So who judges sees either that it was woken, or
//! that it is not there.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::job::id::WorkerId;
use crate::policy::deadlock::{Graph, PoolKey, PoolNode, Role, ThreadNode, Wait};
use crate::pool::queue::Admission;
use crate::pool::roster::current;
use crate::pool::roster::record::WorkerRecord;
use crate::pool::signal::DispatcherSignal;
use crate::sync::channel::{Receiver, Sender, TryRecvError, bounded};
#[cfg(not(worker_pool_shuttle))]
use crate::sync::channel::{at, never, select};
use crate::sync::park::{Parker, Wake};
use crate::sync::time;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering::SeqCst};

static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
    pools: BTreeMap::new(),
    parked: BTreeMap::new(),
    away: BTreeSet::new(),
});
/// Numbers the pools.
static POOLS: AtomicU64 = AtomicU64::new(1);
/// Numbers the waits.
static WAITS: AtomicU64 = AtomicU64::new(1);
/// Numbers the parks: how many there were. Changes only under the lock.
static PARKS: AtomicU64 = AtomicU64::new(0);

struct Registry {
    pools: BTreeMap<PoolKey, PoolEntry>,
    /// By the number of the park.
    parked: BTreeMap<u64, Parked>,
    /// The pools whose dispatchers are parked here: in a hook, or in a drop.
    away: BTreeSet<PoolKey>,
}

struct PoolEntry {
    facts: Arc<PoolFacts>,
    workers: BTreeMap<WorkerId, Arc<WorkerRecord>>,
}

struct PoolFacts {
    key: PoolKey,
    admission: Arc<Admission>,
    signal: Arc<DispatcherSignal>,
    /// How many workers an elastic pool may have.
    most: Option<usize>,
    /// The dispatcher is to judge when it has nothing else to do.
    asked: AtomicBool,
}

/// How a thread that waits is told.
pub(crate) enum Caller {
    Parker(Arc<Parker>),
    Channel(Sender<()>),
}

/// A thread that parks, or is about to.
struct Parked {
    node: ThreadNode,
    caller: Caller,
    /// It is to withdraw.
    told: bool,
}

/// A pool's place in the registry, from its beginning to its end.
pub(crate) struct PoolWaits(Arc<PoolFacts>);

impl PoolWaits {
    pub(crate) fn new(
        admission: &Arc<Admission>,
        signal: &Arc<DispatcherSignal>,
        most: Option<usize>,
    ) -> Self {
        let facts = Arc::new(PoolFacts {
            key: POOLS.fetch_add(1, SeqCst),
            admission: Arc::clone(admission),
            signal: Arc::clone(signal),
            most,
            asked: AtomicBool::new(false),
        });
        let entry = PoolEntry {
            facts: Arc::clone(&facts),
            workers: BTreeMap::new(),
        };
        REGISTRY.lock().pools.insert(facts.key, entry);
        PoolWaits(facts)
    }

    /// A number that no other pool has.
    pub(crate) fn key(&self) -> PoolKey {
        self.0.key
    }

    /// This worker's thread was started.
    pub(crate) fn worker_added(&self, record: &Arc<WorkerRecord>) {
        self.with_workers(|workers| workers.insert(record.id(), Arc::clone(record)));
    }

    /// This worker runs no job any more.
    pub(crate) fn worker_gone(&self, id: WorkerId) {
        self.with_workers(|workers| workers.remove(&id));
        self.help_left();
    }

    fn with_workers<R>(
        &self,
        change: impl FnOnce(&mut BTreeMap<WorkerId, Arc<WorkerRecord>>) -> R,
    ) {
        let mut registry = REGISTRY.lock();
        let entry = registry.pools.get_mut(&self.0.key);
        change(&mut entry.expect("the pool is there").workers);
    }

    /// Fewer can help those that wait for this pool than before.
    pub(crate) fn help_left(&self) {
        let mut registry = REGISTRY.lock();
        for parked in registry.parked.values_mut() {
            if needs_look(&parked.node.roles, parked.node.wait).any(|pool| pool == self.0.key) {
                parked.node.unseen.insert(self.0.key);
            }
        }
        if registry.parked.is_empty() {
            return;
        }
        drop(registry);
        self.0.ask();
    }

    /// For the dispatcher, before it looks for something to do: is it to judge afterwards?
    pub(crate) fn take_question(&self) -> Option<Question> {
        let asked = self.0.asked.load(SeqCst) && self.0.asked.swap(false, SeqCst);
        asked.then(|| Question(PARKS.load(SeqCst)))
    }

    /// For the dispatcher, when it has looked and found nothing to do.
    pub(crate) fn answer(&self, question: Question) {
        let mut registry = REGISTRY.lock();
        for parked in registry.parked.range_mut(..=question.0) {
            parked.1.node.unseen.remove(&self.0.key);
        }
        registry.judge();
    }
}

impl Drop for PoolWaits {
    fn drop(&mut self) {
        REGISTRY.lock().pools.remove(&self.0.key);
    }
}

/// A dispatcher is to judge the waits up to this one.
#[derive(Clone, Copy)]
pub(crate) struct Question(u64);

impl PoolFacts {
    fn ask(&self) {
        self.asked.store(true, SeqCst);
        self.signal.notify();
    }
}

/// The pools whose dispatchers may still do something for such a wait.
fn needs_look(roles: &[(PoolKey, Role)], wait: Wait) -> impl Iterator<Item = PoolKey> {
    let own = roles
        .iter()
        .filter(|(_, role)| matches!(role, Role::Worker(_)))
        .map(|(pool, _)| *pool);
    let other = match wait {
        Wait::Job(pool) | Wait::Idle(pool) => Some(pool),
        Wait::Worker(..) | Wait::End(_) => None,
    };
    own.chain(other)
}

/// The pools whose dispatcher has these roles.
fn dispatched_by(roles: &[(PoolKey, Role)]) -> impl Iterator<Item = PoolKey> {
    let roles = roles.iter().filter(|(_, role)| *role == Role::Dispatcher);
    roles.map(|(pool, _)| *pool)
}

impl Registry {
    /// Tells threads to withdraw until nobody is stuck any more.
    fn judge(&mut self) {
        let mut numbers = Vec::new();
        let mut graph = self.graph(&mut numbers);
        while let Some(victim) = graph.find_victim() {
            let parked = self.parked.get_mut(&numbers[victim]).expect("it is parked");
            parked.told = true;
            match &parked.caller {
                Caller::Parker(parker) => parker.wake(),
                Caller::Channel(told) => drop(told.try_send(())),
            }
            graph.threads.swap_remove(victim);
            numbers.swap_remove(victim);
        }
    }

    /// The threads that are not about to go on, and the pools that they wait for. The numbers are those
    /// of the threads.
    fn graph(&self, numbers: &mut Vec<u64>) -> Graph {
        let now = time::now();
        let mut graph = Graph::default();
        for (number, parked) in &self.parked {
            if !parked.is_awake(now) {
                let node = &parked.node;
                numbers.push(*number);
                graph.threads.push(ThreadNode {
                    roles: node.roles.clone(),
                    unseen: node.unseen.clone(),
                    ..*node
                });
                let key = node.wait.pool();
                if let Some(entry) = self.pools.get(&key) {
                    graph.pools.entry(key).or_insert_with(|| entry.node());
                }
            }
        }
        graph
    }
}

impl PoolEntry {
    fn node(&self) -> PoolNode {
        let PoolFacts {
            admission, most, ..
        } = &*self.facts;
        let staying = || {
            self.workers
                .values()
                .filter(|record| record.stays())
                .count()
        };
        let grows = most.is_some_and(|most| !admission.is_shut() && staying() < most);
        let workers = self.workers.iter();
        PoolNode {
            // Who waits and is not being made may well do so in a job.
            workers: workers
                .map(|(id, record)| (id.get(), !record.is_restarting()))
                .collect(),
            open: grows || admission.is_paused(),
        }
    }
}

impl Parked {
    /// It is about to go on.
    fn is_awake(&self, now: Instant) -> bool {
        let woken = match &self.caller {
            Caller::Parker(parker) => parker.is_woken(),
            Caller::Channel(_) => false, // what it waits for is not in vain in the graph either
        };
        self.told || woken || self.node.deadline.is_some_and(|at| at <= now)
    }
}

/// A wait of a thread of a pool, which may park several times.
pub(crate) struct Waiting {
    roles: Vec<(PoolKey, Role)>,
    wait: Cell<Wait>,
    deadline: Option<Instant>,
    number: u64,
    bound: Cell<bool>,
}

impl Waiting {
    /// `None` if the calling thread has nothing to do with a pool.
    pub(crate) fn begin(wait: Wait, deadline: Option<Instant>) -> Option<Self> {
        let roles = current::roles();
        (!roles.is_empty()).then(|| Waiting {
            roles,
            wait: Cell::new(wait),
            deadline,
            number: WAITS.fetch_add(1, SeqCst),
            bound: Cell::new(false),
        })
    }

    /// From now on, the wait is for this worker, which runs the job.
    pub(crate) fn runs_on(&self, pool: PoolKey, worker: WorkerId) {
        self.wait.set(Wait::Worker(pool, worker.get()));
        self.bound.set(true);
    }

    /// From now on, the wait is for any worker of the pool.
    pub(crate) fn not_begun(&self, pool: PoolKey) {
        self.wait.set(Wait::Job(pool));
        self.bound.set(false);
    }

    /// It was told to withdraw and could not: its job runs.
    pub(crate) fn cannot_withdraw(&self) {
        self.bound.set(true);
    }

    /// It could not when it was told before. Once it is told again, nobody else can.
    pub(crate) fn is_bound(&self) -> bool {
        self.bound.get()
    }

    /// Parks until a wake or the deadline. Is this thread to withdraw?
    pub(crate) fn park(&self, parker: &Arc<Parker>) -> bool {
        let place = self.enter(Caller::Parker(Arc::clone(parker)));
        parker.park_and_keep(self.deadline);
        place.leave()
    }

    fn enter(&self, caller: Caller) -> Place {
        let unseen: BTreeSet<_> = needs_look(&self.roles, self.wait.get()).collect();
        let mut registry = REGISTRY.lock();
        let number = PARKS.load(SeqCst) + 1;
        let facts: Vec<_> = unseen
            .iter()
            .filter_map(|pool| registry.pools.get(pool))
            .map(|entry| Arc::clone(&entry.facts))
            .collect();
        let node = ThreadNode {
            roles: self.roles.clone(),
            wait: self.wait.get(),
            unseen,
            bound: self.bound.get(),
            deadline: self.deadline,
            number: self.number,
        };
        let told = false;
        registry
            .parked
            .insert(number, Parked { node, caller, told });
        PARKS.store(number, SeqCst);
        registry.away.extend(dispatched_by(&self.roles));
        if facts.iter().all(|facts| registry.away.contains(&facts.key)) {
            registry.judge(); // no dispatcher will
        }
        drop(registry);
        facts.iter().for_each(|facts| facts.ask());
        Place(number)
    }
}

/// A thread's place in the registry, while it parks.
struct Place(u64);

impl Place {
    /// Both in one step: the thread is awake, and forgets the wake-up. Is it to withdraw?
    fn leave(self) -> bool {
        let mut registry = REGISTRY.lock();
        let parked = registry.parked.remove(&self.0);
        let parked = parked.expect("it was not yet removed");
        for pool in dispatched_by(&parked.node.roles) {
            registry.away.remove(&pool);
        }
        if let Caller::Parker(parker) = &parked.caller {
            parker.forget_wake();
        }
        parked.told
    }
}

/// Why a channel brought no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoMessage {
    Disconnected,
    Timeout,
    WouldDeadlock,
}

/// Receives a message. Until it comes, the calling thread counts as waiting.
pub(crate) fn receive<T>(
    wait: Wait,
    channel: &Receiver<T>,
    deadline: Option<Instant>,
) -> Result<T, NoMessage> {
    let (tell, told) = bounded(1);
    let waiting = Waiting::begin(wait, deadline);
    let place = waiting.map(|waiting| waiting.enter(Caller::Channel(tell.clone())));
    let message = first(channel, &told, deadline);
    place.map(Place::leave);
    if message.is_ok() {
        return message;
    }
    // It may have come at the same time.
    match channel.try_recv() {
        Ok(message) => Ok(message),
        Err(TryRecvError::Disconnected) => Err(NoMessage::Disconnected),
        Err(TryRecvError::Empty) => message,
    }
}

/// What comes first: a message, that it would deadlock, or the deadline.
#[cfg(not(worker_pool_shuttle))]
fn first<T>(
    channel: &Receiver<T>,
    told: &Receiver<()>,
    deadline: Option<Instant>,
) -> Result<T, NoMessage> {
    let late = deadline.map_or_else(never, at);
    select! {
        recv(channel) -> message => message.map_err(|_| NoMessage::Disconnected),
        recv(told) -> _ => Err(NoMessage::WouldDeadlock),
        recv(late) -> _ => Err(NoMessage::Timeout),
    }
}

/// The model checker's channels cannot be waited for together. No model has a deadlock here.
#[cfg(worker_pool_shuttle)]
fn first<T>(
    channel: &Receiver<T>,
    _told: &Receiver<()>,
    _deadline: Option<Instant>,
) -> Result<T, NoMessage> {
    channel.recv().map_err(|_| NoMessage::Disconnected)
}
