use std::collections::VecDeque;

use super::*;

const MILLI: Duration = Duration::from_millis(1);

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

#[derive(Clone, Copy)]
enum Toy {
    Asleep { since: Instant },
    Busy { until: Instant },
    Made { at: Instant },
}

/// Stands for the pool around the decisions, knows when each job came, and checks each decision.
struct World {
    scaler: Scaler,
    now: Instant,
    dice: Dice,
    /// When each of the jobs came that wait.
    queue: VecDeque<Instant>,
    accepted: u64,
    workers: Vec<Toy>,
    window_began: Instant,
    paused: bool,
    /// Since then another worker could have been added.
    could_grow: Instant,
    /// Since then one less would have been allowed.
    could_shrink: Instant,
    grown: u32,
    shrunk: u32,
}

const LEAST: usize = 1;
const MOST: usize = 5;
const GROW: Duration = Duration::from_millis(20);
const SHRINK: Duration = Duration::from_millis(200);

impl World {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let rules = Elastic::between(LEAST, MOST);
        World {
            scaler: Scaler::new(rules.grow_after(GROW).shrink_after(SHRINK)),
            now,
            dice: Dice(seed * 0x9E37_79B9 + 1),
            queue: VecDeque::new(),
            accepted: 0,
            workers: vec![Toy::Asleep { since: now }; LEAST],
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
            .any(|one| matches!(one, Toy::Made { .. }))
    }

    fn look(&mut self) {
        let asleep_since_window = |one: &&Toy| match one {
            Toy::Asleep { since } => *since <= self.window_began,
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
                let at = self.now + MILLI * self.dice.roll(30) as u32;
                self.workers.push(Toy::Made { at });
                self.grown += 1;
                assert!(!self.scaler.is_calm());
                self.look();
            }
            Decision::Shrink => {
                assert!(self.workers.len() > LEAST && !self.paused);
                let idle = |one: &Toy| match one {
                    Toy::Asleep { since } => self.now - *since >= SHRINK,
                    _ => false,
                };
                let place = self.workers.iter().position(idle);
                self.workers
                    .remove(place.expect("no worker was idle for so long"));
                self.shrunk += 1;
                self.could_shrink = self.now;
                self.look();
            }
        }
    }

    /// Jobs end, workers that were made begin, and those who can take jobs.
    fn work(&mut self) {
        let now = self.now;
        let mut news = false;
        for one in &mut self.workers {
            match *one {
                Toy::Busy { until } if until <= now => *one = Toy::Asleep { since: now },
                Toy::Made { at } if at <= now => {
                    *one = Toy::Asleep { since: now };
                    news = true;
                }
                _ => {}
            }
        }
        // The last to lie down is woken first.
        while !self.paused && !self.queue.is_empty() {
            let asleep = self.workers.iter_mut().filter_map(|one| match one {
                Toy::Asleep { since } => Some((*since, one)),
                _ => None,
            });
            let Some((_, one)) = asleep.max_by_key(|(since, _)| *since) else {
                break;
            };
            self.queue.pop_front();
            let until = now + MILLI * (1 + self.dice.roll(60)) as u32;
            *one = Toy::Busy { until };
        }
        if news {
            self.look();
        }
    }

    fn arrive(&mut self) {
        self.accepted += 1;
        self.queue.push_back(self.now);
        self.work();
        if self.scaler.is_calm() {
            self.look();
        }
    }

    /// Time passes; no look is missed.
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
                "a job waits and nobody comes"
            );
        }
        if self.workers.len() == LEAST || self.paused {
            self.could_shrink = now;
        }
        for one in &self.workers {
            if let Toy::Asleep { since } = one {
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
fn grows_for_jobs_that_wait_and_shrinks_when_workers_idle_and_for_nothing_else() {
    let (mut grown, mut shrunk) = (0, 0);
    for seed in 1..=200 {
        let mut world = World::new(seed);
        // Phases of more and less load.
        let mut load = 10;
        for _ in 0..400 {
            match world.dice.roll(40) {
                0 => load = 1 + world.dice.roll(100),
                1 => {
                    world.paused = !world.paused;
                    world.work();
                    world.look();
                }
                2 => world.pass(SHRINK),
                _ => {}
            }
            if world.dice.roll(100) < load {
                world.arrive();
            }
            let time = MILLI * world.dice.roll(10) as u32;
            world.pass(time);
        }
        if std::mem::take(&mut world.paused) {
            world.work();
            world.look();
        }
        // At rest it comes back to the least size, and then sets no timer.
        let shrinks = MOST as u32 + 2;
        world.pass(10 * Duration::from_secs(1) + 2 * shrinks * SHRINK);
        assert!(world.queue.is_empty());
        assert_eq!(world.workers.len(), LEAST);
        assert_eq!(world.scaler.next_look(), None, "an idle pool ticks");
        assert!(world.scaler.is_calm());
        grown += world.grown;
        shrunk += world.shrunk;
    }
    assert!(grown > 200 && grown == shrunk, "{grown} and {shrunk}");
}

fn look(now: Instant, waiting: u64, accepted: u64, workers: usize) -> Sample {
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
    assert_eq!(scaler.look(look(now, 3, 10, 1)), Decision::Stay);
    assert_eq!(scaler.next_look(), Some(now + GROW));
    // Four more came. If only four wait, they may be those.
    let due = now + GROW;
    assert_eq!(scaler.look(look(due, 4, 14, 1)), Decision::Stay);
    // Five more came, and six wait.
    assert_eq!(scaler.look(look(due + GROW, 6, 19, 1)), Decision::Grow);
}

#[test]
fn not_above_the_most_nor_while_one_is_made() {
    let now = Instant::now();
    let mut scaler = Scaler::new(Elastic::between(0, 2).grow_after(GROW));
    assert_eq!(scaler.look(look(now, 9, 9, 2)), Decision::Stay);
    assert_eq!(
        scaler.next_look().is_some(),
        scaler.window().is_some(),
        "no mark"
    );
    assert!(!scaler.can_grow() && !scaler.is_calm());
    let making = |now| Sample {
        making: true,
        ..look(now, 9, 9, 1)
    };
    for n in 0..5 {
        assert_eq!(scaler.look(making(now + n * GROW)), Decision::Stay);
    }
    assert!(
        scaler.can_grow() && scaler.mark.is_none(),
        "it waits for that one"
    );
    assert!(!scaler.is_calm(), "no job changes that");
    // Nor while one is made for another reason.
    let mut scaler = Scaler::new(Elastic::between(0, 2).grow_after(GROW));
    assert_eq!(scaler.look(look(now, 1, 1, 1)), Decision::Stay);
    let one_comes = Sample {
        making: true,
        ..look(now + GROW, 1, 1, 1)
    };
    assert_eq!(scaler.look(one_comes), Decision::Stay);
}
