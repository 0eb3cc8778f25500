//! A bare crossbeam channel with threads that receive from it: what a program has without a pool.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::Contender;
use crate::work::Work;

pub(crate) type Bounded = Bare<true>;
pub(crate) type Unbounded = Bare<false>;

type Call = (Work, Option<Sender<u64>>);

pub(crate) struct Bare<const BOUNDED: bool> {
    /// None once they are all sent.
    jobs: Option<Sender<Call>>,
    all_sent: Arc<AtomicBool>,
    /// They tell when they last found that nothing was left.
    threads: Vec<JoinHandle<Option<Instant>>>,
}

impl<const BOUNDED: bool> Bare<BOUNDED> {
    fn send(&self, work: Work, reply: Option<Sender<u64>>) {
        let jobs = self.jobs.as_ref().expect("closed by its one burst");
        jobs.send((work, reply)).expect("the threads live");
    }
}

fn serve(queue: &Receiver<Call>, all_sent: &AtomicBool) -> Option<Instant> {
    let mut end = None;
    for (work, reply) in queue {
        let result = black_box(work.run());
        if let Some(reply) = reply {
            reply.send(result).expect("the caller waits");
        }
        if all_sent.load(Relaxed) && queue.is_empty() {
            end = Some(Instant::now());
        }
    }
    end
}

impl<const BOUNDED: bool> Contender for Bare<BOUNDED> {
    fn start(workers: usize, queue: usize) -> Self {
        let (jobs, receive) = if BOUNDED { bounded(queue) } else { unbounded() };
        let all_sent = Arc::new(AtomicBool::new(false));
        let spawn = |_| {
            let (receive, all_sent) = (receive.clone(), Arc::clone(&all_sent));
            thread::spawn(move || serve(&receive, &all_sent))
        };
        Bare {
            threads: (0..workers).map(spawn).collect(),
            jobs: Some(jobs),
            all_sent,
        }
    }

    /// A channel knows only by the end of its threads that all is done. That is slow to wait for, and
    /// not counted.
    fn burst(&mut self, count: u64, job: impl Fn(u64) -> Work + Sync) -> Instant {
        (0..count).for_each(|number| self.send(job(number), None));
        self.all_sent.store(true, Relaxed);
        let sent = Instant::now();
        self.jobs = None;
        let threads = self.threads.drain(..);
        let ends = threads.filter_map(|thread| thread.join().expect("join"));
        ends.fold(sent, Instant::max)
    }

    fn calls(&self, count: u64, job: impl Fn(u64) -> Work) -> u64 {
        let (reply, replies) = bounded(1);
        (0..count)
            .map(|number| {
                self.send(job(number), Some(reply.clone()));
                replies.recv().expect("reply")
            })
            .sum()
    }

    fn as_they_come(&self, count: u64, job: impl Fn(u64) -> Work + Sync) -> Vec<u64> {
        let (reply, replies) = unbounded();
        (0..count).for_each(|number| self.send(job(number), Some(reply.clone())));
        replies.iter().take(count as usize).collect()
    }
}
