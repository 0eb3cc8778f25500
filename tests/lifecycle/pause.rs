//! Pause and resume: nothing begins, nothing is lost, and a paused pool still ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::common::{LIMIT, Latch, eventually, next, stress, threads_asleep, within};
use crossbeam_channel::unbounded;
use worker_pool::{
    Failure, Job, Manager, PoolState,
    Priority::{High, Low, Normal},
    RejectReason,
};

type Pool = Manager<u64, u64, String>;

fn echo(job: Job<u64>) -> Result<u64, String> {
    Ok(job.into_payload())
}

/// A pool whose threads are named so.
fn pool(name: &str, capacity: usize) -> Pool {
    let builder = Pool::builder().thread_name_prefix(name);
    builder.queue_capacity(capacity).build().unwrap()
}

/// Waits until that pool's dispatcher and its workers have nothing to do.
fn at_rest(name: &str, workers: usize) {
    // Twice in a row, since a thread may sleep for a moment on its way.
    let mut times = 0;
    eventually("all are asleep", || {
        let asleep = threads_asleep(name) == workers + 1;
        times = if asleep { times + 1 } else { 0 };
        times >= 5
    });
}

/// After a pause the running job finishes and none of those that wait begins, of any priority;
/// after the resume they all run, without a further submit.
#[test]
fn a_pause_lets_running_jobs_finish_and_none_begin() {
    within(2 * LIMIT, || {
        let pool = pool("pause-a", 10);
        let latch = Latch::new();
        for _ in 0..2 {
            pool.add(latch.worker()).unwrap();
        }
        let running = pool.enqueue(1).unwrap();
        latch.wait_for_one();
        let before = pool.enqueue(2).unwrap();
        latch.wait_for_one();
        // One released ahead of the workers, before the pause.
        let released = pool.enqueue(3).unwrap();
        assert!(!pool.is_paused());
        pool.pause();
        assert!(pool.is_paused());
        assert_eq!(pool.state(), PoolState::Running);
        let waiting = [Low, Normal, High].map(|priority| {
            let job = pool.job(4).priority(priority);
            job.enqueue().unwrap()
        });
        latch.open();
        assert_eq!(running.wait(), Ok(1));
        assert_eq!(before.wait(), Ok(2));
        at_rest("pause-a", 2);
        assert_eq!(latch.arrivals(), 0, "none has begun");
        assert!(!released.is_done());
        pool.resume();
        assert!(!pool.is_paused());
        assert_eq!(released.wait(), Ok(3));
        for job in waiting {
            assert_eq!(job.wait(), Ok(4));
        }
    });
}

/// A job submitted to a paused pool whose workers are idle does not begin, of whatever priority;
/// the resume alone makes it begin.
#[test]
fn the_resume_alone_begins_what_was_submitted_in_the_pause() {
    within(LIMIT, || {
        for priority in [Low, Normal, High] {
            let pool = pool("pause-b", 10);
            pool.add(echo).unwrap();
            at_rest("pause-b", 1);
            pool.pause();
            pool.pause();
            let mut job = pool.job(1).priority(priority).enqueue().unwrap();
            at_rest("pause-b", 1);
            assert!(job.try_wait().is_none(), "{priority:?}");
            assert!(!pool.wait_idle_timeout(Duration::from_millis(1)));
            // However often it was paused.
            pool.resume();
            assert_eq!(job.wait(), Ok(1));
            pool.resume();
            assert_eq!(pool.submit(2), Ok(2));
            drop(pool);
            eventually("its threads are gone", || threads_asleep("pause-b") == 0);
        }
    });
}

/// A worker added in a pause takes nothing before the resume, and one removed leaves.
#[test]
fn workers_come_and_go_in_a_pause() {
    within(LIMIT, || {
        let pool = pool("pause-c", 10);
        let first = pool.add(echo).unwrap();
        pool.pause();
        let mut job = pool.enqueue(1).unwrap();
        let second = pool.add(echo).unwrap();
        pool.remove(first).unwrap();
        eventually("the first has left", || pool.workers().len() == 1);
        at_rest("pause-c", 1);
        assert!(job.try_wait().is_none());
        assert_eq!(pool.workers()[0].id, second);
        pool.resume();
        assert_eq!(job.wait(), Ok(1));
    });
}

/// Toggles that race submits of all priorities lose no job: all run, with no submit after the last
/// resume.
#[test]
fn no_job_is_lost_while_the_pause_is_toggled() {
    let toggles = stress(10_000);
    within(2 * LIMIT, move || {
        let pool = Pool::builder().queue_capacity(8).build().unwrap();
        let (ran, runs) = unbounded();
        for _ in 0..2 {
            let ran = ran.clone();
            pool.add(move |job: Job<u64>| {
                ran.send(job.into_payload()).unwrap();
                Ok(0)
            })
            .unwrap();
        }
        let over = Arc::new(AtomicBool::new(false));
        let submitters: Vec<_> = (0..2)
            .map(|submitter| {
                let (pool, over) = (pool.clone(), Arc::clone(&over));
                thread::spawn(move || {
                    let (errors, _) = unbounded();
                    let mut sent = 0;
                    while !over.load(SeqCst) {
                        let priority = [Low, Normal, Normal, High][sent % 4];
                        let id = (2 * sent + submitter) as u64;
                        let job = pool.job(id).priority(priority);
                        job.detach(id, &errors).unwrap();
                        sent += 1;
                    }
                    sent
                })
            })
            .collect();
        for toggle in 0..toggles {
            pool.pause();
            for _ in 0..(toggle * 7919) % 257 {
                std::hint::spin_loop();
            }
            pool.resume();
            if toggle % 16 == 0 {
                thread::yield_now();
            }
        }
        over.store(true, SeqCst);
        // One may wait for room, so the last toggle is a resume.
        let sent: usize = submitters.into_iter().map(|s| s.join().unwrap()).sum();
        let mut seen: Vec<_> = (0..sent).map(|_| next(&runs)).collect();
        assert!(pool.wait_idle());
        assert_eq!(runs.len(), 0, "each once");
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), sent);
    });
}

/// The last of a few toggles from several threads counts: after a resume that nothing follows, all
/// that was submitted in between runs.
#[test]
fn each_resume_begins_what_came_just_before_it() {
    within(LIMIT, || {
        let pool = pool("pause-e", 100);
        pool.add(echo).unwrap();
        for round in 0..stress(3_000) as u64 {
            pool.pause();
            let other = pool.clone();
            let priority = [Low, Normal, High][(round % 3) as usize];
            thread::scope(|scope| {
                scope.spawn(move || other.resume());
                let mut job = pool.job(round).priority(priority).enqueue().unwrap();
                assert_eq!(job.wait_timeout(LIMIT / 2), Some(Ok(round)));
            });
        }
    });
}

/// The queue's capacity holds in a pause: as many as may wait are accepted, and those released ahead
/// of the workers, one for each; a caller that waits for room gets it after the resume.
#[test]
fn the_capacity_holds_in_a_pause() {
    within(LIMIT, || {
        let pool = pool("pause-f", 3);
        pool.add(echo).unwrap();
        at_rest("pause-f", 1);
        pool.pause();
        let mut handles = Vec::new();
        // The dispatcher may release one more while the queue fills.
        for _ in 0..5 {
            while let Ok(handle) = pool.try_enqueue(1) {
                handles.push(handle);
                assert!(handles.len() <= 4, "more than may wait");
            }
            at_rest("pause-f", 1);
        }
        assert!(handles.len() >= 3);
        assert_eq!(pool.try_enqueue(1).unwrap_err().reason, RejectReason::Full);
        assert_eq!(pool.waiting(), 3);
        let other = pool.clone();
        let blocked = thread::spawn(move || other.submit(2));
        pool.resume();
        assert_eq!(blocked.join().unwrap(), Ok(2));
        for handle in handles {
            assert_eq!(handle.wait(), Ok(1));
        }
    });
}

/// Draining a paused pool resumes it: all that was accepted runs. So it is when the pause comes
/// while it drains.
#[test]
fn draining_a_paused_pool_runs_all() {
    within(LIMIT, || {
        for late_pause in [false, true] {
            let pool = Pool::new();
            let latch = Latch::new();
            pool.add(latch.worker()).unwrap();
            let first = pool.enqueue(0).unwrap();
            latch.wait_for_one();
            pool.pause();
            let jobs = [Low, Normal, High].map(|priority| {
                let job = pool.job(1).priority(priority);
                job.enqueue().unwrap()
            });
            let other = pool.clone();
            let draining = thread::spawn(move || other.drain());
            eventually("it drains", || pool.state() == PoolState::Draining);
            if late_pause {
                pool.pause();
            }
            latch.open();
            draining.join().unwrap();
            assert!(!pool.is_paused());
            assert_eq!(first.wait(), Ok(0));
            for job in jobs {
                assert_eq!(job.wait(), Ok(1));
            }
            let stats = pool.stats();
            assert_eq!((stats.accepted, stats.completed), (4, 4));
        }
    });
}

/// Closing a paused pool, or dropping it, answers what waits with "closed"; nothing of it begins.
#[test]
fn closing_a_paused_pool_answers_what_waits() {
    within(LIMIT, || {
        for dropped in [false, true] {
            let pool = Pool::new();
            pool.add(|_: Job<u64>| panic!("nothing begins")).unwrap();
            pool.pause();
            let (errors, failures) = unbounded();
            let mut handles = Vec::new();
            for (id, priority) in [(0, Low), (1, Normal), (2, High)] {
                let job = pool.job(id).priority(priority);
                job.detach(id, &errors).unwrap();
                handles.push(pool.job(id).priority(priority).enqueue().unwrap());
            }
            if dropped {
                drop(pool);
            } else {
                pool.close();
                let stats = pool.stats();
                assert_eq!((stats.accepted, stats.closed), (6, 6));
            }
            for handle in handles {
                assert!(handle.wait().unwrap_err().is_closed());
            }
            let mut told: Vec<_> = failures.try_iter().collect();
            told.sort_by_key(|failure| failure.id);
            assert_eq!(told.iter().map(|f| f.id).collect::<Vec<_>>(), [0, 1, 2]);
            let closed = |cause: &Failure<String>| matches!(cause, Failure::Closed);
            assert!(told.iter().all(|failure| closed(&failure.error.cause)));
        }
    });
}

/// Pausing and resuming a pool that is closed does nothing: it stays closed, and is not paused.
#[test]
fn a_pause_after_the_close_is_harmless() {
    within(LIMIT, || {
        let pool = Pool::new();
        pool.add(echo).unwrap();
        assert_eq!(pool.submit(1), Ok(1));
        pool.close();
        pool.pause();
        assert!(!pool.is_paused());
        assert_eq!(
            pool.try_enqueue(2).unwrap_err().reason,
            RejectReason::Closed
        );
        assert!(pool.wait_idle());
        pool.resume();
        pool.close();
        pool.drain();
        assert_eq!(pool.state(), PoolState::Closed);
    });
}
