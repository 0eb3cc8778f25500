//! Which threads wait for each other: the judgement, without thread, lock or clock.
//!
//! The graph holds only threads that wait. All others are awake, and go on. Several threads may have
//! to do with one worker: its own, and the one that adds it, for as long as that one calls hooks.
//!
//! # What a wait needs
//!
//! | wait | goes on if |
//! |---|---|
//! | `Job` | *any* worker of the pool goes on, or another may come, or a pause may end |
//! | `Worker` | that one worker's thread goes on |
//! | `Idle` | *all* workers that hold a job go on, and so does any worker, as for `Job` |
//! | `End` | *all* threads that have to do with the pool go on |
//!
//! In addition, a wait that a dispatcher has not looked at since it began is not judged: that
//! dispatcher may be about to move a job, and so to make room. Only if the dispatcher itself waits in
//! vain is there nothing to be hoped for.
//!
//! # The judgement
//!
//! At first all threads of the graph are taken to be stuck. Then each that goes on by the table is
//! struck out, until none does. What is left is the largest set of threads that wait only for each
//! other. The *victim* is chosen among those that wait for themselves by some way round: a thread
//! that waits for such a circle and is no part of it may well go on afterwards.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Tells pools apart.
pub(crate) type PoolKey = u64;

/// What a thread is to a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// The thread of this worker.
    Worker(u64),
    /// It adds this worker, and calls hooks, before the worker may begin.
    Adder(u64),
    /// The dispatcher.
    Dispatcher,
    /// The thread of a worker that has ended: the pool's end waits for it, and no job does.
    Departed,
}

/// What a thread waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// A job of the pool that has not begun: its result, or room for it. Or some jobs of a batch.
    Job(PoolKey),
    /// This worker: it is being made, or runs a job that is waited for.
    Worker(PoolKey, u64),
    /// The jobs of the pool end.
    Idle(PoolKey),
    /// The pool ends.
    End(PoolKey),
}

/// A pool that is waited for.
#[derive(Debug, Default)]
pub(crate) struct PoolNode {
    /// Its workers, and which of them may hold a job.
    pub(crate) workers: BTreeMap<u64, bool>,
    /// Another worker may come by the pool's own rules, or the pool is paused and somebody may resume
    /// it.
    pub(crate) open: bool,
}

/// A thread that waits.
#[derive(Debug)]
pub(crate) struct ThreadNode {
    pub(crate) roles: Vec<(PoolKey, Role)>,
    pub(crate) wait: Wait,
    /// The pools whose dispatchers have not looked since the wait began.
    pub(crate) unseen: BTreeSet<PoolKey>,
    /// It cannot withdraw, since its job runs.
    pub(crate) bound: bool,
    /// When it gives up by itself.
    pub(crate) deadline: Option<Instant>,
    /// In the order in which the waits began.
    pub(crate) number: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) pools: BTreeMap<PoolKey, PoolNode>,
    pub(crate) threads: Vec<ThreadNode>,
}

impl Graph {
    /// The thread that is to withdraw, if some are stuck: the one with the earliest deadline, whose
    /// wait can end well only before that, or else the one that came last. Only if none can withdraw,
    /// one is to give up although its job runs.
    pub(crate) fn find_victim(&self) -> Option<usize> {
        let stuck = Stuck::of(self);
        let mut candidates: Vec<_> = (0..self.threads.len())
            .filter(|thread| stuck.threads[*thread])
            .collect();
        candidates.sort_by_key(|thread| {
            let thread = &self.threads[*thread];
            let forever = thread.deadline.is_none();
            (
                thread.bound,
                forever,
                thread.deadline,
                Reverse(thread.number),
            )
        });
        let mut candidates = candidates.into_iter();
        candidates.find(|thread| stuck.waits_for_itself(*thread))
    }
}

/// The threads that are still taken to be stuck.
struct Stuck<'a> {
    graph: &'a Graph,
    threads: Vec<bool>,
    /// The threads that have to do with a pool.
    of_pool: BTreeMap<PoolKey, Vec<usize>>,
    /// The threads without which a worker does not go on.
    of_worker: BTreeMap<(PoolKey, u64), Vec<usize>>,
}

impl<'a> Stuck<'a> {
    fn of(graph: &'a Graph) -> Self {
        let mut of_pool: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        let mut of_worker: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (number, thread) in graph.threads.iter().enumerate() {
            for (pool, role) in &thread.roles {
                of_pool.entry(*pool).or_default().push(number);
                if let Role::Worker(id) | Role::Adder(id) = role {
                    of_worker.entry((*pool, *id)).or_default().push(number);
                }
            }
        }
        let mut stuck = Stuck {
            graph,
            threads: vec![true; graph.threads.len()],
            of_pool,
            of_worker,
        };
        while stuck.strike_out() {}
        stuck
    }

    /// Strikes out the threads that go on. Were there any?
    fn strike_out(&mut self) -> bool {
        // Of each pool only once, for the sake of pools with many workers.
        let served: BTreeMap<_, _> = self
            .graph
            .threads
            .iter()
            .map(|thread| (thread.wait.pool(), Cell::new(None)))
            .collect();
        let served = |pool: PoolKey| {
            let known = &served[&pool];
            let serves = known.get().unwrap_or_else(|| self.is_served(pool));
            known.set(Some(serves));
            serves
        };
        let freed: Vec<_> = (0..self.threads.len())
            .filter(|thread| self.threads[*thread] && self.goes_on(*thread, served))
            .collect();
        for thread in &freed {
            self.threads[*thread] = false;
        }
        !freed.is_empty()
    }

    fn goes_on(&self, thread: usize, served: impl Fn(PoolKey) -> bool) -> bool {
        let ThreadNode { wait, unseen, .. } = &self.graph.threads[thread];
        if unseen.iter().any(|pool| !self.has_stuck_dispatcher(*pool)) {
            return true;
        }
        match *wait {
            Wait::Job(pool) => served(pool),
            Wait::Worker(pool, worker) => !self.is_stuck(pool, worker),
            Wait::Idle(pool) => served(pool) && !self.holds_up_job(pool),
            Wait::End(pool) => !self.any(&self.of_pool, &pool),
        }
    }

    /// A job of this pool may yet begin.
    fn is_served(&self, pool: PoolKey) -> bool {
        let Some(node) = self.graph.pools.get(&pool) else {
            return true; // it has ended, and has answered
        };
        let mut workers = node.workers.keys();
        // Somebody may add one; unless a thread of the pool itself waits for that.
        let none = workers.len() == 0 && !self.any(&self.of_pool, &pool);
        none || node.open || workers.any(|worker| !self.is_stuck(pool, *worker))
    }

    fn holds_up_job(&self, pool: PoolKey) -> bool {
        let workers = self.graph.pools.get(&pool).map(|node| &node.workers);
        let mut workers = workers.into_iter().flatten();
        workers.any(|(worker, has_job)| *has_job && self.is_stuck(pool, *worker))
    }

    fn is_stuck(&self, pool: PoolKey, worker: u64) -> bool {
        self.any(&self.of_worker, &(pool, worker))
    }

    fn has_stuck_dispatcher(&self, pool: PoolKey) -> bool {
        let threads = self.of_pool.get(&pool).into_iter().flatten();
        let mut stuck = threads.filter(|thread| self.threads[**thread]);
        stuck.any(|thread| {
            self.graph.threads[*thread]
                .roles
                .contains(&(pool, Role::Dispatcher))
        })
    }

    fn any<K: Ord>(&self, threads: &BTreeMap<K, Vec<usize>>, key: &K) -> bool {
        let threads = threads.get(key).into_iter().flatten();
        threads.into_iter().any(|thread| self.threads[*thread])
    }

    /// The stuck threads that this stuck thread waits for.
    fn waited_for(&self, thread: usize) -> impl Iterator<Item = usize> {
        let ThreadNode { wait, unseen, .. } = &self.graph.threads[thread];
        let of_pool = |pool| self.of_pool.get(&pool);
        let threads = match *wait {
            Wait::Worker(pool, worker) => self.of_worker.get(&(pool, worker)),
            Wait::Job(pool) | Wait::Idle(pool) | Wait::End(pool) => of_pool(pool),
        };
        let dispatchers = unseen.iter().filter_map(move |pool| of_pool(*pool));
        let threads = threads.into_iter().chain(dispatchers).flatten().copied();
        threads.filter(|other| self.threads[*other])
    }

    fn waits_for_itself(&self, thread: usize) -> bool {
        let mut seen = vec![false; self.threads.len()];
        let mut next = vec![thread];
        while let Some(one) = next.pop() {
            for other in self.waited_for(one) {
                if other == thread {
                    return true;
                }
                if !std::mem::replace(&mut seen[other], true) {
                    next.push(other);
                }
            }
        }
        false
    }
}

impl Wait {
    pub(crate) fn pool(self) -> PoolKey {
        match self {
            Wait::Job(pool) | Wait::Worker(pool, _) | Wait::Idle(pool) | Wait::End(pool) => pool,
        }
    }
}

#[cfg(test)]
#[path = "deadlock_tests.rs"]
mod tests;
