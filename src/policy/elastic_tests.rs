use std::collections::VecDeque;

use super::*;

const MILLI: Duration = Duration::from_millis(1);

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

#[derive(Clone, Copy)]
enum ModelWorker {
    Asleep { since: Instant },
    Busy { until: Instant },
    Made { at: Instant },
}

/// A model of the pool around the scaler: it knows when each job came, and checks each decision.
struct Model {
    scaler: Scaler,
    now: Instant,
    random: Random,
    /// When each of the waiting jobs came.
    queue: VecDeque<Instant>,
    accepted: u64,
    workers: Vec<ModelWorker>,
    window_began: Instant,
    paused: bool,
    /// Since when another worker could have been added.
    could_grow: Instant,
    /// Since when a worker could have been removed.
    could_shrink: Instant,
    grown: u32,
    shrunk: u32,
}

const LEAST: usize = 1;
const MOST: usize = 5;
const GROW: Duration = Duration::from_millis(20);
const SHRINK: Duration = Duration::from_millis(200);

impl Model {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let rules = Elastic::between(LEAST, MOST);
        Model {
            scaler: Scaler::new(rules.grow_after(GROW).shrink_after(SHRINK)),
            now,
            random: Random(seed * 0x9E37_79B9 + 1),
            queue: VecDeque::new(),
            accepted: 0,
            workers: vec![ModelWorker::Asleep { since: now }; LEAST],
            window_began: now,
            paused: false,
            could_grow: now,
            could_shrink: now,
            grown: 0,
            shrunk: 0,
        }
    }

    fn making(&self) -> bool {
        self.workers
            .iter()
            .any(|worker| matches!(worker, ModelWorker::Made { .. }))
    }

    fn look(&mut self) {
        let asleep_since_window = |worker: &&ModelWorker| match worker {
            ModelWorker::Asleep { since } => *since <= self.window_began,
            _ => false,
        };
        let slept = self.workers.iter().filter(asleep_since_window).count();
        let window = self.scaler.window();
        let decision = self.scaler.look(Sample {
            now: self.now,
            waiting: self.queue.len() as u64,
            accepted: self.accepted,
            workers: self.workers.len(),
            making: self.making(),
            slept,
            paused: self.paused,
        });
        if self.scaler.window() != window {
            self.window_began = self.now;
        }
        match decision {
            Decision::Stay => {}
            Decision::Grow => {
                let oldest = *self.queue.front().expect("grew though nothing waits");
                assert!(self.now - oldest >= GROW, "grew too early");
                assert!(!self.making() && self.workers.len() < MOST && !self.paused);
                let at = self.now + MILLI * self.random.below(30) as u32;
                self.workers.push(ModelWorker::Made { at });
                self.grown += 1;
                assert!(!self.scaler.is_calm());
                self.look();
            }
            Decision::Shrink => {
                assert!(self.workers.len() > LEAST && !self.paused);
                let idle = |worker: &ModelWorker| match worker {
                    ModelWorker::Asleep { since } => self.now - *since >= SHRINK,
                    _ => false,
                };
                let index = self.workers.iter().position(idle);
                self.workers
                    .remove(index.expect("no worker was idle for that long"));
                self.shrunk += 1;
                self.could_shrink = self.now;
                self.look();
            }
        }
    }

    /// Jobs end, workers that were made begin, and idle ones take jobs.
    fn work(&mut self) {
        let now = self.now;
        let mut any_made = false;
        for worker in &mut self.workers {
            match *worker {
                ModelWorker::Busy { until } if until <= now => {
                    *worker = ModelWorker::Asleep { since: now }
                }
                ModelWorker::Made { at } if at <= now => {
                    *worker = ModelWorker::Asleep { since: now };
                    any_made = true;
                }
                _ => {}
            }
        }
        // The most recently parked worker wakes first.
        while !self.paused && !self.queue.is_empty() {
            let asleep = self.workers.iter_mut().filter_map(|worker| match worker {
                ModelWorker::Asleep { since } => Some((*since, worker)),
                _ => None,
            });
            let Some((_, worker)) = asleep.max_by_key(|(since, _)| *since) else {
                break;
            };
            self.queue.pop_front();
            let until = now + MILLI * (1 + self.random.below(60)) as u32;
            *worker = ModelWorker::Busy { until };
        }
        if any_made {
            self.look();
        }
    }

    fn mark_made(&mut self) {
        self.accepted += 1;
        self.queue.push_back(self.now);
        self.work();
        if self.scaler.is_calm() {
            self.look();
        }
    }

    /// Time passes, and no sample is missed.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let next = self.scaler.next_look().unwrap_or(end);
            self.now = (self.now + MILLI).min(next).max(self.now).min(end);
            self.work();
            if self.scaler.next_look().is_some_and(|at| at <= self.now) {
                self.look();
            }
            self.check();
        }
    }

    fn check(&mut self) {
        let now = self.now;
        if self.making() || self.workers.len() == MOST || self.paused {
            self.could_grow = now;
        } else if let Some(oldest) = self.queue.front() {
            let since = (*oldest).max(self.could_grow);
            assert!(
                now - since <= 2 * GROW + 2 * MILLI,
                "a job waits and no worker is added"
            );
        }
        if self.workers.len() == LEAST || self.paused {
            self.could_shrink = now;
        }
        for worker in &self.workers {
            if let ModelWorker::Asleep { since } = worker {
                let since = (*since).max(self.could_shrink);
                assert!(
                    now - since <= 2 * SHRINK + 2 * MILLI,
                    "an idle worker stays"
                );
            }
        }
        assert!((LEAST..=MOST).contains(&self.workers.len()));
    }
}

#[test]
fn it_grows_for_waiting_jobs_and_shrinks_for_idle_workers_and_for_nothing_else() {
    let (mut grown, mut shrunk) = (0, 0);
    for seed in 1..=200 {
        let mut model = Model::new(seed);
        // Phases of more and less load.
        let mut load = 10;
        for _ in 0..400 {
            match model.random.below(40) {
                0 => load = 1 + model.random.below(100),
                1 => {
                    model.paused = !model.paused;
                    model.work();
                    model.look();
                }
                2 => model.pass(SHRINK),
                _ => {}
            }
            if model.random.below(100) < load {
                model.mark_made();
            }
            let time = MILLI * model.random.below(10) as u32;
            model.pass(time);
        }
        if std::mem::take(&mut model.paused) {
            model.work();
            model.look();
        }
        // At rest it comes back to the minimum size, and then has no timer.
        let shrinks = MOST as u32 + 2;
        model.pass(10 * Duration::from_secs(1) + 2 * shrinks * SHRINK);
        assert!(model.queue.is_empty());
        assert_eq!(model.workers.len(), LEAST);
        assert_eq!(model.scaler.next_look(), None, "an idle pool has a timer");
        assert!(model.scaler.is_calm());
        grown += model.grown;
        shrunk += model.shrunk;
    }
    assert!(grown > 200 && grown == shrunk, "{grown} and {shrunk}");
}

fn sample(now: Instant, waiting: u64, accepted: u64, workers: usize) -> Sample {
    Sample {
        now,
        waiting,
        accepted,
        workers,
        making: false,
        slept: 0,
        paused: false,
    }
}

#[test]
fn a_job_that_waits_is_seen_though_others_come_and_go() {
    let mut scaler = Scaler::new(Elastic::between(1, 2).grow_after(GROW));
    let now = Instant::now();
    assert_eq!(scaler.look(sample(now, 3, 10, 1)), Decision::Stay);
    assert_eq!(scaler.next_look(), Some(now + GROW));
    // Four more came. If only four wait, they may be those.
    let due = now + GROW;
    assert_eq!(scaler.look(sample(due, 4, 14, 1)), Decision::Stay);
    // Five more came, and six wait.
    assert_eq!(scaler.look(sample(due + GROW, 6, 19, 1)), Decision::Grow);
}

#[test]
fn it_does_not_grow_above_the_maximum_nor_while_a_worker_is_made() {
    let now = Instant::now();
    let mut scaler = Scaler::new(Elastic::between(0, 2).grow_after(GROW));
    assert_eq!(scaler.look(sample(now, 9, 9, 2)), Decision::Stay);
    assert_eq!(
        scaler.next_look().is_some(),
        scaler.window().is_some(),
        "no baseline"
    );
    assert!(!scaler.is_calm());
    let making = |now| Sample {
        making: true,
        ..sample(now, 9, 9, 1)
    };
    for n in 0..5 {
        assert_eq!(scaler.look(making(now + n * GROW)), Decision::Stay);
    }
    assert!(scaler.baseline.is_none(), "it waits for that worker");
    assert!(!scaler.is_calm(), "no job changes that");
    // Nor while a worker is made for another reason.
    let mut scaler = Scaler::new(Elastic::between(0, 2).grow_after(GROW));
    assert_eq!(scaler.look(sample(now, 1, 1, 1)), Decision::Stay);
    let being_made = Sample {
        making: true,
        ..sample(now + GROW, 1, 1, 1)
    };
    assert_eq!(scaler.look(being_made), Decision::Stay);
}
