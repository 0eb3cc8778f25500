//! Each kind of edge, and the judgement against a naive one.

use super::*;
use std::time::Duration;

/// A pool whose workers have these ids, and hold jobs.
fn pool(workers: impl IntoIterator<Item = u64>) -> PoolNode {
    PoolNode {
        workers: workers.into_iter().map(|id| (id, true)).collect(),
        open: false,
    }
}

fn thread(number: u64, roles: &[(PoolKey, Role)], wait: Wait) -> ThreadNode {
    ThreadNode {
        roles: roles.to_vec(),
        wait,
        unseen: BTreeSet::new(),
        bound: false,
        deadline: None,
        number,
    }
}

fn graph(
    pools: impl IntoIterator<Item = PoolNode>,
    threads: impl IntoIterator<Item = ThreadNode>,
) -> Graph {
    Graph {
        pools: (1..).zip(pools).collect(),
        threads: threads.into_iter().collect(),
    }
}

const A: (PoolKey, Role) = (1, Role::Worker(1));
const B: (PoolKey, Role) = (1, Role::Worker(2));

#[test]
fn a_job_can_be_served_by_any_worker_that_goes_on() {
    let mut two = graph([pool([1, 2])], [thread(1, &[A], Wait::Job(1))]);
    assert_eq!(two.find_victim(), None);
    two.threads.push(thread(2, &[B], Wait::Job(1)));
    assert_eq!(two.find_victim(), Some(1), "the one that came last");
    two.threads[0].deadline = Some(Instant::now());
    assert_eq!(two.find_victim(), Some(0), "the one with a deadline");
    two.threads[1].deadline = two.threads[0]
        .deadline
        .map(|at| at - Duration::from_secs(1));
    assert_eq!(two.find_victim(), Some(1), "the one with the earlier one");
    two.threads[1].bound = true;
    assert_eq!(two.find_victim(), Some(0), "the other cannot withdraw");
    two.threads[0].bound = true;
    assert_eq!(two.find_victim(), Some(1), "neither can, so one gives up");
}

#[test]
fn a_pool_that_may_grow_or_is_paused_or_empty_may_yet_serve() {
    let mut one = graph([pool([1])], [thread(1, &[A], Wait::Job(1))]);
    one.pools.get_mut(&1).unwrap().open = true;
    assert_eq!(one.find_victim(), None);
    let stranger = [(2, Role::Worker(1))];
    let empty = graph([pool([]), pool([1])], [thread(1, &stranger, Wait::Job(1))]);
    assert_eq!(empty.find_victim(), None, "somebody may add a worker");
    let ended = graph([], [thread(1, &[A], Wait::Job(1))]);
    assert_eq!(ended.find_victim(), None);
}

#[test]
fn a_worker_waits_for_the_thread_that_adds_it() {
    let adder = [(1, Role::Adder(1))];
    let mut adding = graph([pool([1])], [thread(1, &adder, Wait::Job(1))]);
    assert_eq!(adding.find_victim(), Some(0));
    adding.pools.get_mut(&1).unwrap().workers.insert(2, false);
    assert_eq!(adding.find_victim(), None, "another worker serves");
}

#[test]
fn a_worker_that_is_made_is_the_only_one_to_wait_for() {
    let made = Wait::Worker(1, 2);
    let mut two = graph([pool([1, 2, 3])], [thread(1, &[A], made)]);
    assert_eq!(two.find_victim(), None);
    two.threads.push(thread(2, &[B], Wait::Job(1)));
    assert_eq!(two.find_victim(), None, "the third serves");
    two.threads[1].wait = Wait::Worker(1, 1);
    assert_eq!(two.find_victim(), Some(1));
}

#[test]
fn a_pool_is_idle_when_all_that_hold_jobs_go_on() {
    let other = [(2, Role::Worker(1))];
    let mut idle = graph(
        [pool([1, 2]), pool([1])],
        [
            thread(1, &[A], Wait::Job(2)),
            thread(2, &other, Wait::Idle(1)),
        ],
    );
    assert_eq!(idle.find_victim(), Some(1));
    idle.pools.get_mut(&1).unwrap().workers.insert(1, false);
    assert_eq!(idle.find_victim(), None, "it holds no job");
}

#[test]
fn a_pool_ends_when_all_its_threads_go_on() {
    for role in [
        Role::Worker(1),
        Role::Adder(1),
        Role::Dispatcher,
        Role::Departed,
    ] {
        let other = [(2, Role::Worker(1))];
        let mut end = graph(
            [pool([1, 2]), pool([1])],
            [
                thread(1, &[(1, role)], Wait::Job(2)),
                thread(2, &other, Wait::End(1)),
            ],
        );
        assert_eq!(end.find_victim(), Some(1), "{role:?}");
        end.pools.get_mut(&2).unwrap().workers.insert(2, false);
        assert_eq!(end.find_victim(), None, "{role:?}");
    }
}

#[test]
fn a_wait_is_judged_once_the_dispatchers_have_looked() {
    let mut one = graph([pool([1])], [thread(1, &[A], Wait::Job(1))]);
    one.threads[0].unseen.insert(1);
    assert_eq!(one.find_victim(), None);
    let dispatcher = [(1, Role::Dispatcher)];
    one.threads.push(thread(2, &dispatcher, Wait::Job(1)));
    assert_eq!(one.find_victim(), Some(1), "it looks no more");
}

#[test]
fn who_waits_for_a_circle_is_not_told_in_its_place() {
    let outer = [(2, Role::Worker(1))];
    let hanging = graph(
        [pool([1]), pool([1])],
        [
            thread(1, &[A], Wait::Job(1)),
            thread(2, &outer, Wait::Job(1)),
        ],
    );
    assert_eq!(hanging.find_victim(), Some(0));
    let mut bound = hanging;
    bound.threads[0].bound = true;
    assert_eq!(bound.find_victim(), Some(0));
}

/// Does a thread go on, if these are stuck? In the words of the table.
fn goes_on(graph: &Graph, stuck: &[bool], at: usize) -> bool {
    let threads = || graph.threads.iter().zip(stuck).filter(|(_, stuck)| **stuck);
    let has = |role| threads().any(|(thread, _)| thread.roles.contains(&role));
    let thread = &graph.threads[at];
    if thread
        .unseen
        .iter()
        .any(|pool| !has((*pool, Role::Dispatcher)))
    {
        return true;
    }
    let blocked = |pool, id| has((pool, Role::Worker(id))) || has((pool, Role::Adder(id)));
    let involved = |key: PoolKey| {
        threads().any(|(thread, _)| thread.roles.iter().any(|(pool, _)| *pool == key))
    };
    let key = thread.wait.pool();
    let node = &graph.pools[&key];
    let served = node.open
        || (node.workers.is_empty() && !involved(key))
        || !node.workers.keys().all(|id| blocked(key, *id));
    match thread.wait {
        Wait::Job(_) => served,
        Wait::Worker(_, id) => !blocked(key, id),
        Wait::Idle(_) => {
            served
                && node
                    .workers
                    .iter()
                    .all(|(id, has_job)| !has_job || !blocked(key, *id))
        }
        Wait::End(_) => !involved(key),
    }
}

/// The union of all sets of threads of which none goes on while the others are stuck.
fn naively_stuck(graph: &Graph) -> Vec<bool> {
    let len = graph.threads.len();
    let mut all = vec![false; len];
    for set in 0..1_u32 << len {
        let stuck: Vec<_> = (0..len).map(|at| set & 1 << at != 0).collect();
        if (0..len).all(|at| !stuck[at] || !goes_on(graph, &stuck, at)) {
            all.iter_mut().zip(stuck).for_each(|(all, one)| *all |= one);
        }
    }
    all
}

#[test]
fn the_judgement_agrees_with_a_naive_one() {
    let mut state = 1_u64;
    let mut below = |limit: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % limit
    };
    let (mut found, mut none) = (0, 0);
    for _ in 0..20_000 {
        let pools = 1 + below(3);
        let nodes: Vec<_> = (0..pools)
            .map(|_| PoolNode {
                workers: (0..below(4)).map(|id| (id, below(2) == 0)).collect(),
                open: below(8) == 0,
            })
            .collect();
        let threads: Vec<_> = (0..below(7))
            .map(|number| {
                let roles: Vec<_> = (0..1 + below(2))
                    .map(|_| {
                        let role = match below(10) {
                            0 => Role::Dispatcher,
                            1 => Role::Departed,
                            2 | 3 => Role::Adder(below(3)),
                            _ => Role::Worker(below(3)),
                        };
                        (1 + below(pools), role)
                    })
                    .collect();
                let key = 1 + below(pools);
                let wait = match below(8) {
                    0 => Wait::Worker(key, below(3)),
                    1 => Wait::Idle(key),
                    2 => Wait::End(key),
                    _ => Wait::Job(key),
                };
                let mut thread = thread(number, &roles, wait);
                if below(8) == 0 {
                    thread.unseen.insert(1 + below(pools));
                }
                thread.bound = below(4) == 0;
                thread
            })
            .collect();
        let graph = graph(nodes, threads);
        let stuck = naively_stuck(&graph);
        assert_eq!(Stuck::of(&graph).threads, stuck, "{graph:?}");
        let victim = graph.find_victim();
        assert!(victim.is_none_or(|at| stuck[at]), "{graph:?}");
        assert_eq!(victim.is_some(), stuck.contains(&true), "{graph:?}");
        *if victim.is_some() {
            &mut found
        } else {
            &mut none
        } += 1;
    }
    assert!(found > 1_000 && none > 1_000, "{found} {none}");
}
