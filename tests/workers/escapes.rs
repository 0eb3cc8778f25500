//! What users hand to a pool panics as it is dropped: the panic goes no further than that drop.

use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::common::{LIMIT, eventually, next, within};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use worker_pool::closures::ThreadPool;
use worker_pool::{Hook, Job, JobId, Manager, NoWorkers, Outcome, Worker, WorkerId};

/// Counts its drop, and then panics, with a payload that panics in its turn.
struct Bomb(Arc<AtomicUsize>);

struct Payload;

impl Drop for Payload {
    fn drop(&mut self) {
        panic!("the payload of a panic panics as it is dropped");
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
        panic_any(Payload);
    }
}

#[derive(Clone, Default)]
struct Drops(Arc<AtomicUsize>);

impl Drops {
    fn bomb(&self) -> Bomb {
        Bomb(Arc::clone(&self.0))
    }

    #[track_caller]
    fn assert_is(&self, dropped: usize) {
        eventually("the bombs are dropped", || self.0.load(SeqCst) >= dropped);
        assert_eq!(self.0.load(SeqCst), dropped);
    }
}

impl Hook for Bomb {
    fn job_start(&self, _: JobId, _: WorkerId) {
        panic_any(Payload);
    }
    fn job_finish(&self, _: JobId, _: WorkerId, _: Outcome) {
        panic_any(Payload);
    }
}

/// Says that a job has begun, and waits for one message in it.
fn gated(
    begun: Sender<()>,
    go: Receiver<()>,
) -> impl FnMut(Job<Bomb>) -> Result<Bomb, Bomb> + Send {
    move |job| {
        begun.send(()).expect("the test listens");
        let _ = go.recv();
        Ok(job.into_payload())
    }
}

/// Hooks: each is dropped, and the drop of the last handle returns.
#[test]
fn a_hook_that_panics_as_it_is_dropped_does_not_escape() {
    within(LIMIT, || {
        let drops = Drops::default();
        let build = || {
            let builder = Manager::<u32, u32>::builder();
            builder.hook(drops.bomb()).hook(drops.bomb())
        };
        let pool = build().build().unwrap();
        pool.add(|job: Job<u32>| Ok(job.into_payload())).unwrap();
        assert_eq!(pool.submit(1), Ok(1));
        drop(pool);
        drops.assert_is(2);
        assert!(build().queue_capacity(0).build().is_err());
        drops.assert_is(4);
        drop(build());
        drops.assert_is(6);
    });
}

/// Factories: those that worked, those that were not wanted, those of builders.
#[test]
fn a_factory_that_panics_as_it_is_dropped_does_not_escape() {
    within(LIMIT, || {
        let drops = Drops::default();
        let build = || {
            let bomb = drops.bomb();
            Manager::<u32, u32>::builder().factory(move |_| {
                let _ = &bomb;
                Ok::<_, String>(|job: Job<u32>| Ok(job.into_payload()))
            })
        };
        drop(build());
        drops.assert_is(1);
        let pool = build().workers(2).build().unwrap();
        assert_eq!(pool.submit(1), Ok(1));
        let add = |made: bool| {
            let bomb = drops.bomb();
            pool.add_factory(move |_| {
                let _ = &bomb;
                let worker = |job: Job<u32>| Ok(job.into_payload());
                if made { Ok(worker) } else { Err("no") }
            })
        };
        add(true).unwrap();
        add(false).unwrap_err();
        drops.assert_is(2);
        pool.close();
        drops.assert_is(3);
        add(true).unwrap_err();
        drops.assert_is(4);
        drop(pool);
        drops.assert_is(5);
    });
}

/// Workers, and the errors of factories that nobody waits for.
#[test]
fn a_worker_that_panics_as_it_is_dropped_does_not_escape() {
    struct Mine(#[allow(dead_code)] Bomb);
    impl Worker<u32, u32, std::convert::Infallible> for Mine {
        fn run(&mut self, job: Job<u32>) -> Result<u32, std::convert::Infallible> {
            Ok(job.into_payload())
        }
        fn close(&mut self) {
            panic_any(Payload);
        }
    }
    within(LIMIT, || {
        let drops = Drops::default();
        let pool = Manager::<u32, u32>::new();
        for _ in 0..2 {
            assert!(pool.add(Mine(drops.bomb())).is_ok());
        }
        assert_eq!(pool.submit(1), Ok(1));
        pool.close();
        drops.assert_is(2);
    });
}

/// Results that nobody took, wherever they are dropped.
#[test]
fn a_result_that_panics_as_it_is_dropped_does_not_escape() {
    within(LIMIT, || {
        let drops = Drops::default();
        let (begun, begins) = unbounded();
        let (go, going) = bounded(8);
        let pool = Manager::<Bomb, Bomb, Bomb>::new();
        pool.add(gated(begun, going)).unwrap();
        // It ends before its handle is dropped, and the other way round.
        let first = pool.enqueue(drops.bomb()).unwrap();
        let second = pool.enqueue(drops.bomb()).unwrap();
        go.send(()).unwrap();
        eventually("the first has ended", || first.is_done());
        drop((first, second));
        drops.assert_is(1);
        go.send(()).unwrap();
        drops.assert_is(2);
        // Cancelled before it began, with its payload in the handle.
        let running = pool.enqueue(drops.bomb()).unwrap();
        (0..3).for_each(|_| next(&begins));
        let cancelled = pool.enqueue(drops.bomb()).unwrap();
        assert!(cancelled.cancel());
        drop((running, cancelled));
        // Answered by the pool's end, which also looks after the cancelled one.
        let closed = pool.enqueue(drops.bomb()).unwrap();
        let ender = pool.clone();
        let closing = std::thread::spawn(move || ender.close());
        eventually("it is answered", || closed.is_done());
        drop(closed);
        drops.assert_is(4);
        drop(go);
        closing.join().unwrap();
        drops.assert_is(5);
        let (accepted, ended) = (pool.stats().accepted, pool.stats().ended());
        assert_eq!((accepted, ended), (5, 5));
    });
}

/// A payload that no worker is there to run goes back to a handle that nobody looks at.
#[test]
fn a_payload_of_a_pool_without_workers_does_not_escape() {
    within(LIMIT, || {
        let drops = Drops::default();
        let pool = Manager::<Bomb>::builder()
            .no_workers(NoWorkers::Wait)
            .build()
            .unwrap();
        let handles: Vec<_> = (0..3)
            .map(|_| pool.enqueue(drops.bomb()).unwrap())
            .collect();
        pool.close();
        drop(pool);
        drop(handles);
        drops.assert_is(3);
    });
}

/// The results of closures, and closures that are turned away.
#[test]
fn a_closures_result_that_panics_as_it_is_dropped_does_not_escape() {
    within(LIMIT, || {
        let drops = Drops::default();
        let pool = ThreadPool::new(1);
        let bomb = drops.bomb();
        let handle = pool.spawn(move || bomb).unwrap();
        assert!(pool.join());
        drop(handle);
        drops.assert_is(1);
        let (go, gone) = bounded::<()>(1);
        let bomb = drops.bomb();
        drop(pool.spawn(move || {
            let _ = gone.recv();
            bomb
        }));
        drop(go);
        assert!(pool.join());
        drops.assert_is(2);
        assert_eq!(pool.panic_count(), 0);
        pool.manager().close();
        let bomb = drops.bomb();
        assert!(pool.spawn(move || drop(bomb)).is_err());
        drops.assert_is(3);
    });
}
