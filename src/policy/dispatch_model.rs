//! A model of the pool around [`Dispatch`], for its tests.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::*;

/// A job whose caller may give up on it: the model shares its status.
#[derive(Debug, Clone)]
pub(super) struct ToyJob {
    number: u64,
    /// When it last came to the end of its queue: the order among all jobs that did.
    turn: u64,
    priority: Priority,
    pub(super) status: Rc<RefCell<Status>>,
}

impl Schedulable for ToyJob {
    fn priority(&self) -> Priority {
        self.priority
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn status(&self) -> Status {
        *self.status.borrow()
    }
}

/// A small random generator (xorshift): the same sequences on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// A model of the dispatcher's thread and everything around it. It checks each decision.
pub(super) struct Model {
    pub(super) dispatch: Dispatch<ToyJob>,
    pub(super) now: Instant,
    random: Random,
    /// In the job channels of low and normal priority.
    pub(super) channels: [VecDeque<ToyJob>; 2],
    /// Released and not taken.
    pub(super) ready: VecDeque<ToyJob>,
    arrived: u64,
    /// Numbers the jobs that come to the end of a queue.
    turns: u64,
    /// The jobs that wait for their next attempt, and the time of that.
    pub(super) backing_off: BTreeMap<u64, Instant>,
    /// How many times each job was settled: must become 1 for all.
    settled: BTreeMap<u64, u32>,
    last_released: [u64; 2],
    pub(super) workers: usize,
    pub(super) stopped: bool,
    drained: bool,
    pub(super) closed: bool,
    /// Jobs are rejected because there are no workers.
    no_workers: bool,
    announced: u32,
    statuses: Vec<Rc<RefCell<Status>>>,
}

impl Model {
    pub(super) fn new(seed: u64) -> Self {
        let now = Instant::now();
        Model {
            dispatch: Dispatch::new(),
            now,
            random: Random(seed * 0x9E37_79B9 + 1),
            channels: Default::default(),
            ready: VecDeque::new(),
            arrived: 0,
            turns: 0,
            backing_off: BTreeMap::new(),
            settled: BTreeMap::new(),
            last_released: [0; 2],
            workers: 0,
            stopped: false,
            drained: false,
            closed: false,
            no_workers: false,
            announced: 0,
            statuses: Vec::new(),
        }
    }

    pub(super) fn settle(&mut self, job: u64) {
        *self.settled.entry(job).or_default() += 1;
    }

    pub(super) fn step(&mut self, event: Event<ToyJob>) {
        let mut actions = Vec::new();
        self.dispatch.step(event, self.now, &mut actions);
        let mut again = Vec::new();
        for action in actions {
            match action {
                Action::Release(job) => {
                    assert!(!self.closed, "released while closing");
                    assert_eq!(job.status(), Status::Ready, "released a dead job");
                    let last = &mut self.last_released[job.priority as usize];
                    assert!(job.turn > *last, "released out of order");
                    *last = job.turn;
                    self.ready.push_back(job);
                    assert!(
                        self.ready.len() <= self.dispatch.prefetch.limit(),
                        "too many released"
                    );
                }
                Action::Reject(job, reason) => {
                    match job.status() {
                        Status::Ready if self.no_workers => {
                            assert_eq!(reason, RejectReason::NoWorkers)
                        }
                        Status::Ready => assert!(self.closed && reason == RejectReason::Closed),
                        status => assert_eq!(status, Status::Expired(reason)),
                    }
                    self.settle(job.number);
                }
                Action::Discard(job) => {
                    assert_eq!(job.status(), Status::Withdrawn);
                    self.settle(job.number);
                }
                Action::WaitAgain(job) => {
                    assert!(!self.closed, "an attempt while closing");
                    assert_eq!(job.status(), Status::Ready, "an attempt of a dead job");
                    let at = self.backing_off.remove(&job.number).expect("it failed");
                    assert!(at <= self.now, "too early");
                    again.push((at, job));
                }
                Action::GiveUp(job, reason) => {
                    match job.status() {
                        Status::Ready => {
                            assert!(self.closed && reason == Some(RejectReason::Closed))
                        }
                        Status::Expired(right) => assert_eq!(reason, Some(right)),
                        Status::Withdrawn => assert_eq!(reason, None),
                    }
                    assert!(self.backing_off.remove(&job.number).is_some());
                    self.settle(job.number);
                }
                Action::StopAll => {
                    assert!(self.closed, "stopped while jobs may come");
                    self.stopped = true;
                }
                Action::RejectReleased => {
                    assert!(self.closed);
                    for job in std::mem::take(&mut self.ready) {
                        self.settle(job.number);
                    }
                }
                Action::AnnounceDraining => self.announced += 1,
            }
        }
        assert!(again.is_sorted_by_key(|(at, _)| *at), "not in their order");
        for (_, job) in again {
            let turn = self.next_turn();
            self.step(Event::Arrived(ToyJob { turn, ..job }));
        }
    }

    fn next_turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }

    /// A worker fails the job, which gets another attempt after `backoff`.
    pub(super) fn fail(&mut self, job: ToyJob, backoff: Duration) {
        let at = self.now + backoff;
        self.backing_off.insert(job.number, at);
        self.step(Event::Failed(job, at));
    }

    /// First the jobs that arrived before, as in the dispatcher's thread.
    pub(super) fn tick(&mut self) {
        for job in std::mem::take(&mut self.channels).into_iter().flatten() {
            self.step(Event::Arrived(job));
        }
        self.step(Event::Tick);
        let next = self.dispatch.next_attempt();
        assert!(next.is_none_or(|at| at > self.now), "one is overdue");
        assert_eq!(next, self.backing_off.values().min().copied());
    }

    pub(super) fn look(&mut self) {
        let ready = self.ready.len();
        self.step(Event::Observed { ready });
        for priority in [Priority::Low, Priority::Normal] {
            let wanted = self.dispatch.wants(priority);
            let channel = &mut self.channels[priority as usize];
            let arrived: Vec<_> = channel.drain(..wanted.min(channel.len())).collect();
            for job in arrived {
                self.step(Event::Arrived(job));
            }
        }
        self.step(Event::Release);
        let waiting = self.dispatch.held() + self.channels.iter().map(VecDeque::len).sum::<usize>();
        self.step(Event::Released { waiting });
        let waits = self.dispatch.held() > 0 && !self.closed;
        let room = self.ready.len() < self.workers;
        assert!(!(waits && room), "a job waits though there is room for any");
    }

    pub(super) fn arrive(&mut self, priority: Priority) {
        self.arrived += 1;
        let status = Rc::new(RefCell::new(Status::Ready));
        self.statuses.push(Rc::clone(&status));
        let number = self.arrived;
        let turn = self.next_turn();
        self.channels[priority as usize].push_back(ToyJob {
            number,
            turn,
            priority,
            status,
        });
    }

    pub(super) fn numbers_ready(&self) -> Vec<u64> {
        self.ready.iter().map(|job| job.number).collect()
    }

    pub(super) fn take_ready(&mut self) -> Option<u64> {
        Some(self.ready.pop_front()?.number)
    }

    fn channels_are_empty(&self) -> bool {
        self.channels.iter().all(VecDeque::is_empty)
    }

    pub(super) fn random_event(&mut self) {
        self.now += Duration::from_micros(self.random.below(300));
        match self.random.below(101) {
            0..40 if !self.drained => {
                let low = self.random.below(3) == 0;
                self.arrive(if low { Priority::Low } else { Priority::Normal });
            }
            40..60 => self.look(),
            60..80 => {
                // A worker takes a job and runs it.
                if self.workers > 0
                    && let Some(job) = self.ready.pop_front()
                {
                    match self.random.below(4) {
                        0 => {
                            let backoff = Duration::from_micros(self.random.below(5000));
                            self.fail(job, backoff);
                        }
                        _ => self.settle(job.number),
                    }
                }
            }
            80..85 => {
                // A caller cancels, is late, or takes its job back.
                if let Some(status) = self.statuses.pop() {
                    *status.borrow_mut() = match self.random.below(3) {
                        0 => Status::Expired(RejectReason::Cancelled),
                        1 => Status::Expired(RejectReason::DeadlinePassed),
                        _ => Status::Withdrawn,
                    };
                }
            }
            85..90 => {
                for job in std::mem::take(&mut self.channels).into_iter().flatten() {
                    self.step(Event::Arrived(job));
                }
                self.step(Event::Sweep);
                let held = self.dispatch.normal.iter().chain(&self.dispatch.low);
                let mut all = held.chain(self.dispatch.backing_off.values());
                assert!(
                    all.all(|job| job.status() == Status::Ready),
                    "a sweep leaves no dead job"
                );
            }
            90..94 if !self.drained => {
                self.set_workers(self.workers + 1);
            }
            94..96 if self.workers > 0 => {
                self.closed |= self.drained && self.workers == 1;
                self.set_workers(self.workers - 1);
            }
            96 if self.random.below(20) == 0 => {
                self.drained = true;
                self.closed |= self.workers == 0;
                self.step(Event::Drain);
            }
            97 if self.random.below(20) == 0 => {
                self.drained = true;
                self.closed = true;
                self.step(Event::Close);
            }
            98 => {
                let at_rest = self.channels_are_empty() && self.ready.is_empty();
                if at_rest && self.dispatch.is_draining() {
                    self.closed |= self.dispatch.held() == 0 && self.backing_off.is_empty();
                    self.step(Event::Settled);
                }
            }
            100 if self.workers == 0 && !self.drained => {
                self.no_workers = true;
                self.step(Event::NoWorkers);
                assert_eq!(self.dispatch.held(), 0, "no worker is there to run it");
                self.no_workers = false;
            }
            99 => self.tick(),
            _ => {}
        }
    }

    pub(super) fn set_workers(&mut self, workers: usize) {
        self.workers = workers;
        self.step(Event::Workers(workers));
    }

    /// Lets everything come to its end, as the dispatcher's thread would.
    pub(super) fn finish(mut self) {
        self.drained = true;
        self.closed = true;
        self.step(Event::Close);
        self.look();
        assert!(self.stopped, "no worker was stopped");
        while self.workers > 0 {
            self.set_workers(self.workers - 1);
        }
        assert!(self.dispatch.is_over());
        assert!(self.channels_are_empty() && self.ready.is_empty());
        assert!(self.backing_off.is_empty());
        assert_eq!(self.announced, 1, "the end is announced once");
        assert_eq!(self.settled.len() as u64, self.arrived, "a job was lost");
        assert!(
            self.settled.values().all(|&times| times == 1),
            "a job was settled twice"
        );
    }
}
