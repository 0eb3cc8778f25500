//! Slow user code delays its own worker and the pool's end, and nothing else.

use std::cell::RefCell;
use std::time::Duration;

use crate::common::{LIMIT, within};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use worker_pool::{Hook, Job, Manager, WorkerId};

/// Blocks, when it is dropped, until the other end of the channel is dropped.
struct SlowDrop(Receiver<()>);

impl Drop for SlowDrop {
    fn drop(&mut self) {
        let _ = self.0.recv();
    }
}

fn slow_drop() -> (Sender<()>, SlowDrop) {
    let (release, blocked) = bounded(0);
    (release, SlowDrop(blocked))
}

#[test]
fn a_slow_thread_local_holds_up_no_other_worker() {
    thread_local! {
        static SLOW: RefCell<Option<SlowDrop>> = const { RefCell::new(None) };
    }
    within(LIMIT, || {
        let pool = Manager::<Option<SlowDrop>, ()>::new();
        let worker = |job: Job<Option<SlowDrop>>| {
            if let Some(slow) = job.into_payload() {
                SLOW.set(Some(slow));
            }
            Ok(())
        };
        let leaver = pool.add(worker).unwrap();
        let (release, slow) = slow_drop();
        pool.submit(Some(slow)).unwrap();
        pool.add(worker).unwrap();
        pool.remove(leaver).unwrap();
        // More than are released at once, so the dispatcher is needed.
        let handles: Vec<_> = (0..100).map(|_| pool.enqueue(None).unwrap()).collect();
        handles
            .into_iter()
            .for_each(|handle| handle.wait().unwrap());
        let ids: Vec<_> = pool.workers().iter().map(|worker| worker.id).collect();
        assert!(ids.contains(&leaver), "its thread is still there");
        drop(release);
    });
}

#[test]
fn a_slow_hook_holds_up_no_job_and_no_deadline() {
    struct Slow(Receiver<()>, Sender<()>);
    impl Hook for Slow {
        fn worker_remove(&self, _: WorkerId) {
            self.1.send(()).unwrap();
            let _ = self.0.recv();
        }
    }
    within(LIMIT, || {
        let (release, blocked) = bounded(0);
        let (called, calls) = unbounded();
        let builder = Manager::<u32, u32>::builder().hook(Slow(blocked, called));
        let pool = builder.build().unwrap();
        let leaver = pool.add(|job: Job<u32>| Ok(job.into_payload())).unwrap();
        pool.remove(leaver).unwrap();
        calls.recv_timeout(LIMIT).expect("the hook is called");
        let (errors, failures) = unbounded();
        let late = pool.job(1).timeout(Duration::from_millis(1));
        late.detach(7, &errors).unwrap();
        let failure = failures.recv_timeout(LIMIT).expect("its deadline passes");
        assert_eq!(failure.id, 7);
        pool.add(|job: Job<u32>| Ok(job.into_payload())).unwrap();
        let handles: Vec<_> = (0..100).map(|n| pool.enqueue(n).unwrap()).collect();
        for (n, handle) in (0..).zip(handles) {
            assert_eq!(handle.wait(), Ok(n));
        }
        drop(release);
    });
}

#[test]
fn a_payload_that_is_slow_to_drop_holds_up_no_other_answer() {
    within(LIMIT, || {
        let pool = Manager::<Option<SlowDrop>, ()>::new();
        let (errors, failures) = unbounded();
        let (release, slow) = slow_drop();
        let soon = Duration::from_millis(1);
        for (id, payload) in [(1, Some(slow)), (2, None)] {
            pool.job(payload).timeout(soon).detach(id, &errors).unwrap();
            let failure = failures.recv_timeout(LIMIT).expect("its deadline passes");
            assert_eq!(failure.id, id);
        }
        drop(release);
    });
}
