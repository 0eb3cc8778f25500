//! Runs a model under many schedules.
//!
//! Half of the schedules choose a random thread at each step; the other half (PCT) give each thread a
//! random priority that changes a few times, which finds faults that need one thread to stand still
//! for long. The environment says how many: `MODEL_SCHEDULES` of each kind (10,000 unless set), for
//! at most `MODEL_SECONDS` in all (4 unless set). A failure prints its schedule, and the seed.

use std::panic::Location;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shuttle::scheduler::{PctScheduler, RandomScheduler, Schedule, Scheduler, Task, TaskId};
use shuttle::{Config, MaxSteps, Runner};

use crate::sync::modelled::CLOCK;

/// Priorities change so often in a schedule.
const CHANGES: usize = 4;
/// So many steps of one run are taken for a run that does not end.
const MAX_STEPS: usize = 200_000;

fn setting(name: &str, default: f64) -> f64 {
    let set = std::env::var(name).ok().and_then(|set| set.parse().ok());
    set.unwrap_or(default)
}

/// Runs `model` under many schedules. It fails if a thread panics, or if none can go on.
#[track_caller]
pub(crate) fn check(model: impl Fn() + Send + Sync + 'static) {
    let place = Location::caller();
    let schedules = setting("MODEL_SCHEDULES", 10_000.0) as usize;
    let seconds = setting("MODEL_SECONDS", 4.0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = since.map_or(1, |since| since.as_micros() as u64);
    println!("model at {place}: seed {seed} unless SHUTTLE_RANDOM_SEED is set");
    let model = std::sync::Arc::new(model);
    let limit = Duration::from_secs_f64(seconds / 2.0);
    let random = RandomScheduler::new_from_seed(seed, schedules);
    let random = run(random, limit, std::sync::Arc::clone(&model));
    let pct = PctScheduler::new_from_seed(seed, CHANGES, schedules);
    let pct = run(pct, limit, model);
    println!("model at {place}: {random} random and {pct} PCT schedules passed");
}

fn run(
    scheduler: impl Scheduler + 'static,
    limit: Duration,
    model: std::sync::Arc<impl Fn() + Send + Sync + 'static>,
) -> usize {
    let mut config = Config::new();
    config.stack_size = 256 * 1024;
    config.max_steps = MaxSteps::FailAfter(MAX_STEPS);
    config.silence_warnings = true;
    let scheduler = Limited {
        scheduler,
        end: Instant::now() + limit,
    };
    let model = move || {
        CLOCK.set(0);
        model();
    };
    Runner::new(scheduler, config).run(model)
}

/// Begins no schedule after the end. (The checker's own limit stops amid one, and says that it failed.)
struct Limited<S> {
    scheduler: S,
    end: Instant,
}

impl<S: Scheduler> Scheduler for Limited<S> {
    fn new_execution(&mut self) -> Option<Schedule> {
        match Instant::now() < self.end {
            true => self.scheduler.new_execution(),
            false => {
                // To its end, or it names the last seed as one that failed.
                while self.scheduler.new_execution().is_some() {}
                None
            }
        }
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        self.scheduler.next_task(runnable, current, is_yielding)
    }

    fn next_u64(&mut self) -> u64 {
        self.scheduler.next_u64()
    }
}
