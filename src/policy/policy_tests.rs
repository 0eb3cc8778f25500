use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use super::*;

/// A job whose caller may change its mind; the world keeps the other end.
#[derive(Debug, Clone)]
struct Toy {
    number: u64,
    /// When it last came to the end of its queue, among all that did.
    turn: u64,
    priority: Priority,
    status: Rc<RefCell<Status>>,
}

impl Schedulable for Toy {
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
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Stands for the shell and everything around it, and checks each decision.
struct World {
    policy: Dispatch<Toy>,
    now: Instant,
    dice: Dice,
    /// In the job channels of low and normal priority.
    channels: [VecDeque<Toy>; 2],
    /// In the ready channel.
    ready: VecDeque<Toy>,
    arrived: u64,
    /// Numbers those that came to the end of a queue.
    turns: u64,
    /// How many wait for their next try, and until when each is to wait at least.
    backing_off: BTreeMap<u64, Instant>,
    /// How many times each job was settled; must become 1 for all.
    settled: BTreeMap<u64, u32>,
    last_released: [u64; 2],
    workers: BTreeSet<WorkerId>,
    dismissed: bool,
    drained: bool,
    closed: bool,
    /// What is turned away is turned away for want of workers.
    deserted: bool,
    announced: u32,
    fates: Vec<Rc<RefCell<Status>>>,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        World {
            policy: Dispatch::new(),
            now,
            dice: Dice(seed * 0x9E37_79B9 + 1),
            channels: Default::default(),
            ready: VecDeque::new(),
            arrived: 0,
            turns: 0,
            backing_off: BTreeMap::new(),
            settled: BTreeMap::new(),
            last_released: [0; 2],
            workers: BTreeSet::new(),
            dismissed: false,
            drained: false,
            closed: false,
            deserted: false,
            announced: 0,
            fates: Vec::new(),
        }
    }

    fn settle(&mut self, job: u64) {
        *self.settled.entry(job).or_default() += 1;
    }

    fn step(&mut self, event: Event<Toy>) {
        let mut actions = Vec::new();
        self.policy.step(event, self.now, &mut actions);
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
                        self.ready.len() <= self.policy.prefetch.limit(),
                        "too many released"
                    );
                }
                Action::Reject(job, reason) => {
                    match job.status() {
                        Status::Ready if self.deserted => {
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
                    assert!(!self.closed, "a try while closing");
                    assert_eq!(job.status(), Status::Ready, "a try of a dead job");
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
                Action::Reap(worker) => assert!(self.workers.remove(&worker), "reaped twice"),
                Action::StopAll => {
                    assert!(self.closed, "dismissed while jobs may come");
                    self.dismissed = true;
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
            self.step(Event::Arrived(Toy { turn, ..job }));
        }
    }

    fn next_turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }

    /// A worker fails the job, which is to be tried again after so long.
    fn fail(&mut self, job: Toy, backoff: Duration) {
        let at = self.now + backoff;
        self.backing_off.insert(job.number, at);
        self.step(Event::Failed(job, at));
    }

    /// As the shell does: first those that arrived before.
    fn tick(&mut self) {
        for job in std::mem::take(&mut self.channels).into_iter().flatten() {
            self.step(Event::Arrived(job));
        }
        self.step(Event::Tick);
        let first = self.policy.next_try();
        assert!(first.is_none_or(|at| at > self.now), "one is overdue");
        assert_eq!(first, self.backing_off.values().min().copied());
    }

    fn look(&mut self) {
        let ready = self.ready.len();
        self.step(Event::Observed { ready });
        for priority in [Priority::Low, Priority::Normal] {
            let wanted = self.policy.wants(priority);
            let channel = &mut self.channels[priority as usize];
            let arrived: Vec<_> = channel.drain(..wanted.min(channel.len())).collect();
            for job in arrived {
                self.step(Event::Arrived(job));
            }
        }
        self.step(Event::Release);
        let waiting =
            self.policy.in_hand() + self.channels.iter().map(VecDeque::len).sum::<usize>();
        self.step(Event::Released { waiting });
        let waits = self.policy.in_hand() > 0 && !self.closed;
        let room = self.ready.len() < self.workers.len();
        assert!(!(waits && room), "a job waits though there is room for any");
    }

    fn arrive(&mut self, priority: Priority) {
        self.arrived += 1;
        let status = Rc::new(RefCell::new(Status::Ready));
        self.fates.push(Rc::clone(&status));
        let number = self.arrived;
        let turn = self.next_turn();
        self.channels[priority as usize].push_back(Toy {
            number,
            turn,
            priority,
            status,
        });
    }

    fn numbers_ready(&self) -> Vec<u64> {
        self.ready.iter().map(|job| job.number).collect()
    }

    fn take_ready(&mut self) -> Option<u64> {
        Some(self.ready.pop_front()?.number)
    }

    fn channels_are_empty(&self) -> bool {
        self.channels.iter().all(VecDeque::is_empty)
    }

    fn random_event(&mut self) {
        self.now += Duration::from_micros(self.dice.roll(300));
        match self.dice.roll(101) {
            0..40 if !self.drained => {
                let low = self.dice.roll(3) == 0;
                self.arrive(if low { Priority::Low } else { Priority::Normal });
            }
            40..60 => self.look(),
            60..80 => {
                // A worker takes a job and runs it.
                if !self.workers.is_empty()
                    && let Some(job) = self.ready.pop_front()
                {
                    match self.dice.roll(4) {
                        0 => {
                            let backoff = Duration::from_micros(self.dice.roll(5000));
                            self.fail(job, backoff);
                        }
                        _ => self.settle(job.number),
                    }
                }
            }
            80..85 => {
                // A caller cancels, is late, or takes its job back.
                if let Some(status) = self.fates.pop() {
                    *status.borrow_mut() = match self.dice.roll(3) {
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
                let hand = self.policy.normal.iter().chain(&self.policy.low);
                let mut all = hand.chain(self.policy.backing_off.values());
                assert!(
                    all.all(|job| job.status() == Status::Ready),
                    "a sweep leaves no dead job"
                );
            }
            90..94 if !self.drained => {
                let worker = WorkerId::new(self.arrived * 1000 + self.workers.len() as u64);
                if self.workers.insert(worker) {
                    self.step(Event::Added(worker));
                }
            }
            94..96 => {
                if let Some(&worker) = self.workers.iter().next() {
                    self.closed |= self.drained && self.workers.len() == 1;
                    self.step(Event::Gone(worker));
                }
            }
            96 if self.dice.roll(20) == 0 => {
                self.drained = true;
                self.closed |= self.workers.is_empty();
                self.step(Event::Drain);
            }
            97 if self.dice.roll(20) == 0 => {
                self.drained = true;
                self.closed = true;
                self.step(Event::Close);
            }
            98 => {
                let rest = self.channels_are_empty() && self.ready.is_empty();
                if rest && self.policy.is_draining() {
                    self.closed |= self.policy.in_hand() == 0 && self.backing_off.is_empty();
                    self.step(Event::Settled);
                }
            }
            100 if self.workers.is_empty() && !self.drained => {
                self.deserted = true;
                self.step(Event::Deserted);
                assert_eq!(self.policy.in_hand(), 0, "nobody is there to run it");
                self.deserted = false;
            }
            99 => self.tick(),
            _ => {}
        }
    }

    /// Lets everything come to its end, as the shell would.
    fn finish(mut self) {
        self.drained = true;
        self.closed = true;
        self.step(Event::Close);
        self.look();
        assert!(self.dismissed, "nobody was sent home");
        for worker in self.workers.clone() {
            self.step(Event::Gone(worker));
        }
        assert!(self.policy.is_over());
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

#[test]
fn a_million_random_events_lose_no_job_and_keep_the_order() {
    for seed in 1..=1000 {
        let mut world = World::new(seed);
        for _ in 0..1000 {
            world.random_event();
        }
        world.finish();
    }
}

#[test]
fn a_pool_without_workers_keeps_its_jobs_until_one_comes() {
    let mut world = World::new(1);
    world.arrive(Priority::Normal);
    world.look();
    assert_eq!(world.ready.len(), 0);
    world.workers.insert(WorkerId::new(1));
    world.step(Event::Added(WorkerId::new(1)));
    world.look();
    assert_eq!(world.numbers_ready(), [1]);
    world.finish();
}

#[test]
fn draining_ends_when_all_is_at_rest_and_not_before() {
    let mut world = World::new(1);
    world.workers.insert(WorkerId::new(1));
    world.step(Event::Added(WorkerId::new(1)));
    world.arrive(Priority::Normal);
    let job = world.channels[1].pop_front().expect("it arrived");
    world.step(Event::Arrived(job));
    world.step(Event::Drain);
    world.step(Event::Settled); // too early: a job is in hand
    assert!(world.policy.is_draining() && !world.dismissed);
    world.look();
    assert_eq!(world.take_ready(), Some(1));
    world.settle(1);
    world.closed = true;
    world.step(Event::Settled);
    assert!(world.dismissed);
    world.finish();
}

#[test]
fn a_flood_of_normal_jobs_lets_a_low_one_through_in_its_turn() {
    let mut world = World::new(1);
    world.workers.insert(WorkerId::new(1));
    world.step(Event::Added(WorkerId::new(1)));
    world.arrive(Priority::Low);
    let mut ahead = 0;
    loop {
        while world.channels[Priority::Normal as usize].len() < 4 {
            world.arrive(Priority::Normal);
        }
        world.look();
        match world.take_ready().expect("there is room") {
            1 => break,
            job => world.settle(job),
        }
        ahead += 1;
        assert!(ahead <= AGE + 1, "a low job starves");
    }
    assert!(ahead >= AGE, "a low job jumps the queue");
    world.settle(1);
    world.finish();
}

#[test]
fn a_normal_job_finds_one_low_job_per_worker_before_it() {
    let mut world = World::new(1);
    for id in 1..=3 {
        world.workers.insert(WorkerId::new(id));
        world.step(Event::Added(WorkerId::new(id)));
    }
    for _ in 0..50 {
        world.arrive(Priority::Low);
    }
    world.look();
    world.arrive(Priority::Normal);
    assert_eq!(world.ready.len(), 3);
    world.take_ready();
    world.settle(1);
    world.look();
    assert_eq!(world.numbers_ready(), [2, 3, 51]);
    world.finish();
}

#[test]
fn tries_come_in_the_order_of_their_times_and_go_to_the_end() {
    let ms = Duration::from_millis;
    let mut world = World::new(1);
    world.workers.insert(WorkerId::new(1));
    world.step(Event::Added(WorkerId::new(1)));
    for backoff in [30, 10, 20] {
        world.arrive(Priority::Normal);
        world.look();
        let job = world.ready.pop_front().expect("there is room");
        world.fail(job, ms(backoff));
    }
    world.arrive(Priority::Normal);
    world.now += ms(9);
    world.tick();
    world.look();
    assert_eq!(world.numbers_ready(), [4], "none before its time");
    world.arrive(Priority::Normal);
    world.now += ms(11);
    world.tick(); // 2 and 3 are due
    world.arrive(Priority::Normal);
    world.now += ms(100);
    world.tick();
    let mut order = Vec::new();
    while let Some(job) = world.take_ready() {
        world.settle(job);
        order.push(job);
        world.look();
    }
    assert_eq!(order, [4, 5, 2, 3, 6, 1]);
    world.finish();
}

#[test]
fn draining_waits_for_the_last_try() {
    let mut world = World::new(1);
    world.workers.insert(WorkerId::new(1));
    world.step(Event::Added(WorkerId::new(1)));
    world.arrive(Priority::Low);
    world.look();
    let job = world.ready.pop_front().expect("there is room");
    world.fail(job, Duration::from_secs(1));
    world.step(Event::Drain);
    world.step(Event::Settled); // too early
    assert!(world.policy.is_draining() && !world.dismissed);
    world.now += Duration::from_secs(1);
    world.tick();
    world.look();
    assert_eq!(world.take_ready(), Some(1));
    world.settle(1);
    world.closed = true;
    world.step(Event::Settled);
    assert!(world.dismissed);
    world.finish();
}

#[test]
fn a_dead_job_waits_for_no_try() {
    let mut world = World::new(1);
    world.workers.insert(WorkerId::new(1));
    world.step(Event::Added(WorkerId::new(1)));
    let fates = [Status::Expired(RejectReason::Cancelled), Status::Withdrawn];
    for event in [Event::Sweep, Event::Tick] {
        for status in fates {
            world.arrive(Priority::Normal);
            world.look();
            let job = world.ready.pop_front().expect("there is room");
            *job.status.borrow_mut() = status;
            world.fail(job, Duration::ZERO);
        }
        world.step(event);
        assert!(world.backing_off.is_empty());
    }
    world.arrive(Priority::Normal);
    world.look();
    let job = world.ready.pop_front().expect("there is room");
    world.closed = true;
    world.step(Event::Close);
    world.fail(job, Duration::ZERO);
    assert!(world.backing_off.is_empty(), "kept though the pool closes");
    world.finish();
}
