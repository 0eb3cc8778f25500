//! A bare crossbeam channel with threads that receive from it: what a program has without a pool.

use std::hint::black_box;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::Contender;
use crate::work::Work;

pub(crate) type Bounded = Bare<true>;
pub(crate) type Unbounded = Bare<false>;

type Call = (Work, Option<Sender<u64>>);

pub(crate) struct Bare<const BOUNDED: bool> {
    /// None once they are all sent.
    jobs: Option<Sender<Call>>,
    threads: Vec<JoinHandle<()>>,
}

impl<const BOUNDED: bool> Bare<BOUNDED> {
    fn send(&self, work: Work, reply: Option<Sender<u64>>) {
        let jobs = self.jobs.as_ref().expect("closed by its one burst");
        jobs.send((work, reply)).expect("the threads live");
    }
}

fn serve(queue: Receiver<Call>) {
    for (work, reply) in queue {
        let result = black_box(work.run());
        if let Some(reply) = reply {
            reply.send(result).expect("the caller waits");
        }
    }
}

impl<const BOUNDED: bool> Contender for Bare<BOUNDED> {
    fn start(workers: usize, queue: usize) -> Self {
        let (jobs, receive) = if BOUNDED { bounded(queue) } else { unbounded() };
        let spawn = |_| {
            let receive = receive.clone();
            thread::spawn(move || serve(receive))
        };
        Bare {
            threads: (0..workers).map(spawn).collect(),
            jobs: Some(jobs),
        }
    }

    /// A channel has no other way of knowing that all is done: the threads end.
    fn burst(&mut self, count: u64, job: impl Fn(u64) -> Work + Sync) {
        (0..count).for_each(|number| self.send(job(number), None));
        self.jobs = None;
        for thread in self.threads.drain(..) {
            thread.join().expect("join");
        }
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
