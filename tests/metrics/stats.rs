//! The numbers of a pool: every outcome counted once, the books balanced at rest, who waits and runs
//! for longest.

use std::time::{Duration, Instant};

use crate::common::{LIMIT, Latch, eventually, next, stress, within};
use crate::more::{self, add_workers, answer, at_latch, run_task, task, tasks, wait_until};
use crossbeam_channel::{bounded, unbounded};
use worker_pool::{CancelToken, Job, Manager, Priority, Stats};

/// The outcomes, in the order of the fields.
fn outcomes(stats: &Stats) -> [u64; 6] {
    [
        stats.completed,
        stats.failed,
        stats.panicked,
        stats.cancelled,
        stats.expired,
        stats.closed,
    ]
}

/// At rest: what came in went out, and nothing is left.
#[track_caller]
fn assert_balanced(stats: &Stats) {
    assert_eq!(stats.accepted, outcomes(stats).iter().sum::<u64>());
    assert_eq!(stats.accepted, stats.ended());
    let run = stats.completed + stats.failed + stats.panicked;
    assert_eq!(stats.started, run);
    assert_eq!((stats.waiting, stats.busy), (0, 0));
    assert_eq!(stats.oldest_waiting, None);
    assert_eq!(stats.longest_running, None);
}

#[test]
fn every_outcome_is_counted_once() {
    within(LIMIT, || {
        let latch = Latch::new();
        let pool = tasks().build().unwrap();
        add_workers(&pool, 2);
        pool.submit(answer(1)).unwrap();
        pool.submit(task(|_| Err("no".to_owned()))).unwrap_err();
        pool.submit(task(|_| panic!("on purpose"))).unwrap_err();
        eventually("it has left", || pool.workers().len() == 1);
        let held = pool.enqueue(at_latch(&latch, 2)).unwrap();
        latch.wait_for_one();
        let cancelled = pool.enqueue(answer(3)).unwrap();
        assert!(cancelled.cancel());
        let late = pool.submit_timeout(answer(4), Duration::from_millis(1));
        assert!(late.unwrap_err().is_deadline_passed());
        let stats = pool.stats();
        assert_eq!((stats.accepted, stats.started), (6, 4));
        assert_eq!(outcomes(&stats), [1, 1, 1, 1, 1, 0]);
        assert_eq!((stats.busy, stats.total), (1, 1));
        // Nobody listens to a detached failure.
        let (errors, _) = bounded(1);
        pool.detach_submit(answer(5), 5, &errors).unwrap();
        // The first is released to the worker, the second waits.
        pool.detach_submit(answer(6), 6, &errors).unwrap();
        let closer = std::thread::spawn({
            let pool = pool.clone();
            move || pool.close()
        });
        eventually("both are turned away", || pool.stats().closed == 2);
        latch.open();
        closer.join().unwrap();
        held.wait().unwrap();
        let stats = pool.stats();
        assert_eq!(outcomes(&stats), [2, 1, 1, 1, 1, 2]);
        assert_eq!((stats.lost_errors, stats.total), (2, 0));
        assert_balanced(&stats);
    });
}

/// Small pseudo-random numbers, the same on every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[test]
fn the_books_balance_at_rest_after_a_random_mix() {
    within(4 * LIMIT, || {
        for round in 0..stress(30) {
            let timed = round % 2 == 0;
            let pool = tasks().queue_capacity(16).timings(timed).build().unwrap();
            add_workers(&pool, 3);
            std::thread::scope(|scope| {
                for submitter in 0..3 {
                    let pool = &pool;
                    scope.spawn(move || mix(pool, round as u64 * 3 + submitter + 1));
                }
                for _ in 0..20 {
                    // At any moment: no more ended than was begun, none more begun than accepted.
                    let stats = pool.stats();
                    assert!(stats.ended() <= stats.accepted, "{stats:?}");
                    let run = stats.completed + stats.failed + stats.panicked;
                    assert!(run <= stats.started && stats.started <= stats.accepted);
                    assert!(stats.busy <= stats.total);
                }
            });
            if round % 3 == 0 {
                pool.close();
            } else {
                pool.drain();
            }
            let stats = pool.stats();
            assert!(stats.accepted > 0);
            assert_balanced(&stats);
            #[cfg(feature = "histograms")]
            if timed {
                let (waited, ran) = (stats.wait_times.unwrap(), stats.run_times.unwrap());
                assert_eq!(
                    (waited.count(), ran.count()),
                    (stats.started, stats.started)
                );
            }
        }
    });
}

/// Jobs of all kinds, some given up, while workers come and go.
fn mix(pool: &more::Tasks, seed: u64) {
    let mut dice = Dice(seed * 0x9E37_79B9);
    let (errors, failures) = unbounded();
    for number in 0..100 {
        let work = match dice.roll(20) {
            0 => task(|_| panic!("on purpose")),
            1..4 => task(|_| Err("no".to_owned())),
            _ => answer(number),
        };
        let token = CancelToken::new();
        let priority = [Priority::Low, Priority::Normal, Priority::High][dice.roll(3) as usize];
        let job = pool.job(work).priority(priority).cancel_token(&token);
        let job = match dice.roll(8) {
            0 => job.timeout(Duration::from_micros(dice.roll(50))),
            // Without workers, this submitter must come to add some.
            _ => job.timeout(Duration::from_millis(20)),
        };
        match dice.roll(4) {
            0 => drop(job.enqueue().map(|handle| handle.cancel())),
            1 => drop(job.try_enqueue()),
            _ => drop(job.detach(number, &errors)),
        }
        if dice.roll(5) == 0 {
            token.cancel();
        }
        if pool.workers().len() < 3 {
            let _ = pool.add(run_task);
        }
        if dice.roll(20) == 0
            && let Some(worker) = pool.workers().first()
        {
            let _ = pool.remove(worker.id);
            let _ = pool.add(run_task);
        }
    }
    drop(failures);
}

/// Two moments between which something happened.
struct Between(Instant, Instant);

impl Between {
    fn of<T>(work: impl FnOnce() -> T) -> (Between, T) {
        let start = Instant::now();
        let result = work();
        (Between(start, Instant::now()), result)
    }

    /// Is this the time from here to that look?
    #[track_caller]
    fn assert_since(&self, time: Duration, look: &Between) {
        assert!(time >= look.0 - self.1, "{time:?} is too short");
        assert!(time <= look.1 - self.0, "{time:?} is too long");
    }
}

#[test]
fn the_oldest_job_is_found_in_every_queue() {
    within(LIMIT, || {
        for priority in [Priority::Low, Priority::Normal, Priority::High] {
            let latch = Latch::new();
            let pool = Manager::<u64, u64>::builder()
                .timings(true)
                .build()
                .unwrap();
            pool.add(latch.worker()).unwrap();
            let mut held = Vec::new();
            held.push(pool.enqueue(0).unwrap());
            latch.wait_for_one();
            assert_eq!(pool.stats().oldest_waiting, None, "one runs, none waits");
            let mut accepted = Vec::new();
            for number in 0..5 {
                let job = pool.job(number).priority(priority);
                let (when, handle) = Between::of(|| job.enqueue().unwrap());
                held.push(handle);
                accepted.push(when);
                wait_until(Instant::now() + Duration::from_millis(3));
            }
            for when in &accepted {
                let (look, stats) = Between::of(|| pool.stats());
                when.assert_since(stats.oldest_waiting.expect("some wait"), &look);
                latch.release(1);
                latch.wait_for_one();
            }
            assert_eq!(pool.stats().oldest_waiting, None, "the last one runs");
            latch.open();
            pool.drain();
            held.into_iter().for_each(|handle| drop(handle.wait()));
        }
    });
}

#[test]
fn a_job_that_was_turned_away_waits_no_more() {
    within(LIMIT, || {
        let pool = Manager::<u64, u64>::builder()
            .queue_capacity(1)
            .timings(true)
            .build()
            .unwrap();
        let token = CancelToken::new();
        let _held = pool.job(1).cancel_token(&token).enqueue().unwrap();
        assert!(pool.stats().oldest_waiting.is_some());
        // Not accepted: it never waited.
        pool.try_enqueue(2).unwrap_err();
        token.cancel();
        eventually("it is swept away", || pool.stats().oldest_waiting.is_none());
        let _waits = pool.enqueue(3).unwrap();
        pool.close();
        assert_eq!(pool.stats().oldest_waiting, None);
    });
}

#[test]
fn the_longest_running_job_is_named() {
    within(LIMIT, || {
        let latch = Latch::new();
        let pool = Manager::<u64, u64>::builder()
            .timings(true)
            .build()
            .unwrap();
        let (errors, _failures) = unbounded();
        let mut begun = Vec::new();
        for number in [7, 8] {
            let worker = pool.add(latch.worker()).unwrap();
            let (when, ()) = Between::of(|| {
                pool.detach_submit(number, number, &errors).unwrap();
                latch.wait_for_one();
            });
            begun.push((number, worker, when));
            wait_until(Instant::now() + Duration::from_millis(3));
        }
        let (look, stats) = Between::of(|| pool.stats());
        let longest = stats.longest_running.expect("two run");
        let (number, worker, when) = &begun[0];
        assert_eq!((longest.job.get(), longest.worker), (*number, *worker));
        when.assert_since(longest.time, &look);
        assert_eq!((stats.busy, stats.total), (2, 2));
        latch.open();
        pool.wait_idle();
        assert_eq!(pool.stats().longest_running, None);
    });
}

#[test]
fn without_timings_no_time_is_told() {
    within(LIMIT, || {
        let latch = Latch::new();
        let pool = Manager::<u64, u64>::new();
        pool.add(latch.worker()).unwrap();
        let _held = [pool.enqueue(1).unwrap(), pool.enqueue(2).unwrap()];
        latch.wait_for_one();
        let stats = pool.stats();
        assert_eq!(stats.busy, 1);
        assert_eq!(stats.oldest_waiting, None);
        assert_eq!(stats.longest_running, None);
        #[cfg(feature = "histograms")]
        assert_eq!((stats.wait_times, stats.run_times), (None, None));
        latch.open();
    });
}

#[test]
fn the_numbers_of_workers_that_left_are_kept() {
    within(LIMIT, || {
        let pool = Manager::<u64, u64>::builder()
            .timings(true)
            .build()
            .unwrap();
        for round in 1..=3 {
            let worker = pool.add(|job: Job<u64>| Ok(job.into_payload())).unwrap();
            pool.submit(round).unwrap();
            pool.remove(worker).unwrap();
            eventually("it has left", || pool.workers().is_empty());
            let stats = pool.stats();
            assert_eq!((stats.started, stats.completed), (round, round));
            assert_eq!(stats.total, 0);
            #[cfg(feature = "histograms")]
            for times in [stats.wait_times, stats.run_times] {
                assert_eq!(times.expect("timings are on").count(), round);
            }
        }
    });
}

#[cfg(feature = "histograms")]
#[test]
fn a_waiting_time_starts_where_the_job_is_accepted() {
    within(LIMIT, || {
        let latch = Latch::new();
        let pool = Manager::<u64, u64>::builder()
            .timings(true)
            .build()
            .unwrap();
        let (accepted, handle) = Between::of(|| pool.enqueue(1).unwrap());
        wait_until(Instant::now() + Duration::from_millis(3));
        let (begun, _) = Between::of(|| {
            pool.add(latch.worker()).unwrap();
            latch.wait_for_one()
        });
        wait_until(Instant::now() + Duration::from_millis(3));
        let (ended, _) = Between::of(|| {
            latch.open();
            handle.wait().unwrap()
        });
        let stats = pool.stats();
        accepted.assert_since(stats.wait_times.unwrap().max(), &begun);
        begun.assert_since(stats.run_times.unwrap().max(), &ended);
    });
}

#[test]
fn since_is_what_happened_between() {
    within(LIMIT, || {
        let pool = tasks().timings(true).build().unwrap();
        add_workers(&pool, 1);
        pool.submit(answer(1)).unwrap();
        pool.submit(task(|_| Err("no".to_owned()))).unwrap_err();
        let before = pool.stats();
        let (ran, runs) = bounded(1);
        for number in 0..3 {
            let ran = ran.clone();
            let tell = task(move |_| {
                ran.send(number).unwrap();
                Ok(number)
            });
            pool.submit(tell).unwrap();
            next(&runs);
        }
        let now = pool.stats();
        let lately = now.since(&before);
        assert_eq!((lately.accepted, lately.started), (3, 3));
        assert_eq!(outcomes(&lately), [3, 0, 0, 0, 0, 0]);
        assert_eq!(lately.total, 1);
        assert_eq!(lately.elapsed, now.elapsed - before.elapsed);
        #[cfg(feature = "histograms")]
        assert_eq!(lately.run_times.unwrap().count(), 3);
        assert_eq!(before.since(&now).accepted, 0, "never below zero");
    });
}

#[test]
fn as_text_it_says_what_there_is_and_no_zeros() {
    within(LIMIT, || {
        let latch = Latch::new();
        let pool = Manager::<u64, u64>::builder()
            .timings(true)
            .build()
            .unwrap();
        let text = pool.stats().to_string();
        assert!(
            text.starts_with("0 jobs accepted; 0 of 0 workers busy; in "),
            "{text}"
        );
        pool.add(latch.worker()).unwrap();
        let (errors, _failures) = unbounded();
        for number in 1..=8 {
            pool.detach_submit(number, number, &errors).unwrap();
        }
        latch.wait_for_one();
        latch.release(1);
        latch.wait_for_one();
        let text = pool.stats().to_string();
        assert!(
            text.starts_with("8 jobs accepted: 1 completed; 1 of 1 workers busy"),
            "{text}"
        );
        assert!(text.contains("the oldest job waits for "), "{text}");
        assert!(text.contains("(job 2, worker 1)"), "{text}");
        assert!(!text.contains(" 0 "), "{text}");
        assert_eq!(
            text.contains("\nwaited: median "),
            cfg!(feature = "histograms")
        );
        latch.open();
    });
}

/// Each input of a batch is timed as a job, and none is left behind as waiting.
#[test]
fn the_inputs_of_a_batch_are_timed_like_single_jobs() {
    within(LIMIT, || {
        let pool = Manager::<u64, u64>::builder()
            .timings(true)
            .build()
            .unwrap();
        for _ in 0..2 {
            pool.add(|job: Job<u64>| Ok(job.into_payload())).unwrap();
        }
        assert_eq!(
            pool.map(0..3_000).map(Result::unwrap).sum::<u64>(),
            1_500 * 2_999
        );
        drop(pool.map(0..3_000).next()); // and what did not begin
        assert!(pool.wait_idle());
        pool.close();
        let stats = pool.stats();
        assert_eq!(
            (stats.oldest_waiting, stats.longest_running),
            (None, None),
            "{stats}"
        );
        #[cfg(feature = "histograms")]
        {
            let (waits, runs) = (stats.wait_times.unwrap(), stats.run_times.unwrap());
            assert_eq!(
                (waits.count(), runs.count()),
                (stats.started, stats.started)
            );
        }
    });
}
