//! Workers pinned to cores.

use crate::common::{self, LIMIT, within};
use crate::more::{run_task, task, tasks};

/// The cores on which the calling thread may run, as Linux lists them.
fn allowed() -> Vec<u64> {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("Linux tells");
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .expect("it lists the cores");
    let ranges = list.trim().split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse::<u64>().unwrap()..=last.parse().unwrap()
    });
    ranges.flatten().collect()
}

/// Each worker runs on the core that is its turn, round and round, also when it is added by another
/// that is pinned, and when it is made anew; without the setting on any.
#[test]
fn each_worker_has_its_core() {
    within(LIMIT, || {
        let cores = allowed();
        let places = |pin| {
            let builder = tasks().factory(|_| Ok::<_, String>(run_task));
            let pool = builder.pin_to_cores(pin).build().unwrap();
            let mut places = Vec::new();
            for _ in 0..=cores.len() {
                pool.resize(0).unwrap();
                common::eventually("the one before is gone", || pool.workers().is_empty());
                pool.resize(1).unwrap();
                let (tell, told) = crossbeam_channel::bounded(2);
                let place = move || tell.send(allowed()).unwrap();
                let again = place.clone();
                let boom = task(move |_| {
                    place();
                    panic!("boom")
                });
                pool.submit(boom).unwrap_err();
                pool.submit(task(move |_| {
                    again();
                    Ok(0)
                }))
                .unwrap();
                let [first, second] = [(); 2].map(|()| common::next(&told));
                assert_eq!(first, second, "its successor is on the same core");
                places.push(first);
            }
            places
        };
        let turns = (0..=cores.len()).map(|turn| vec![cores[turn % cores.len()]]);
        assert_eq!(places(true), turns.collect::<Vec<_>>());
        assert!(places(false).iter().all(|place| *place == cores));
    });
}

/// A worker that is added from a pinned thread gets its own turn, not that thread's core.
#[test]
fn a_worker_added_by_a_pinned_one_has_its_own_core() {
    within(LIMIT, || {
        let cores = allowed();
        let builder = tasks().pin_to_cores(true);
        let pool = builder.build().unwrap();
        let first = pool.add(run_task).unwrap();
        let weak = pool.downgrade();
        let add = task(move |_| {
            let pool = weak.upgrade().expect("it lives");
            pool.add(run_task).unwrap();
            Ok(0)
        });
        pool.submit(add).unwrap();
        pool.remove(first).unwrap();
        common::eventually("the first is gone", || pool.workers().len() == 1);
        let (tell, told) = crossbeam_channel::bounded(1);
        let place = task(move |_| {
            tell.send(allowed()).unwrap();
            Ok(0)
        });
        pool.submit(place).unwrap();
        assert_eq!(common::next(&told), [cores[1 % cores.len()]]);
    });
}
