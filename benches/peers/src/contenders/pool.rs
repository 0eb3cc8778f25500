//! This crate's pool.

use std::marker::PhantomData;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use worker_pool::{Builder, DetachedError, Job, Manager, Meter};

use super::Contender;
use crate::work::Work;

type Errors = DetachedError<std::convert::Infallible>;

pub(crate) struct Plain {
    pub(super) pool: Manager<Work, u64>,
    errors: Sender<Errors>,
    failures: Receiver<Errors>,
}

impl Plain {
    fn build(workers: usize, queue: usize, set: fn(Settings) -> Settings) -> Self {
        let pool = set(Manager::builder())
            .queue_capacity(queue)
            .build()
            .expect("build");
        for _ in 0..workers {
            pool.add(|job: Job<Work>| Ok(job.into_payload().run()))
                .expect("add");
        }
        let (errors, failures) = bounded(1);
        Plain {
            pool,
            errors,
            failures,
        }
    }

    fn all_done(&self) -> Instant {
        self.pool.wait_idle();
        let end = Instant::now();
        assert!(self.failures.is_empty(), "a job failed");
        end
    }
}

pub(crate) type Settings = Builder<Work, u64, std::convert::Infallible>;

impl Contender for Plain {
    fn start(workers: usize, queue: usize) -> Self {
        Plain::build(workers, queue, |settings| settings)
    }

    fn burst(&mut self, count: u64, job: impl Fn(u64) -> Work + Sync) -> Instant {
        for number in 0..count {
            self.pool
                .detach_submit(job(number), number, &self.errors)
                .expect("detach");
        }
        self.all_done()
    }

    fn calls(&self, count: u64, job: impl Fn(u64) -> Work) -> u64 {
        (0..count)
            .map(|number| self.pool.submit(job(number)).expect("submit"))
            .sum()
    }

    /// A handle for each job.
    fn in_order(&self, count: u64, job: impl Fn(u64) -> Work + Sync) -> Vec<u64> {
        let handles: Vec<_> = (0..count)
            .map(|number| self.pool.enqueue(job(number)).expect("enqueue"))
            .collect();
        handles
            .into_iter()
            .map(|handle| handle.wait().expect("wait"))
            .collect()
    }
}

/// The pool with something switched on.
pub(crate) struct With<E>(Plain, PhantomData<fn() -> E>);

pub(crate) trait Extra {
    fn set(settings: Settings) -> Settings;
}

/// A meter hooked in.
pub(crate) struct Metered;
/// Time stamps for each job and, with the feature, histograms.
pub(crate) struct Timed;
/// Both.
pub(crate) struct MeteredAndTimed;

pub(crate) type WithMeter = With<Metered>;
pub(crate) type WithTimings = With<Timed>;
pub(crate) type WithMeterAndTimings = With<MeteredAndTimed>;

impl Extra for Metered {
    fn set(settings: Settings) -> Settings {
        settings.hook(Meter::new())
    }
}

impl Extra for Timed {
    fn set(settings: Settings) -> Settings {
        settings.timings(true)
    }
}

impl Extra for MeteredAndTimed {
    fn set(settings: Settings) -> Settings {
        Timed::set(Metered::set(settings))
    }
}

impl<E: Extra> Contender for With<E> {
    fn start(workers: usize, queue: usize) -> Self {
        With(Plain::build(workers, queue, E::set), PhantomData)
    }

    fn burst(&mut self, count: u64, job: impl Fn(u64) -> Work + Sync) -> Instant {
        self.0.burst(count, job)
    }

    fn calls(&self, count: u64, job: impl Fn(u64) -> Work) -> u64 {
        self.0.calls(count, job)
    }
}

/// A deadline that no job misses.
const DEADLINE: Duration = Duration::from_secs(600);

/// With a deadline on each job.
pub(crate) struct WithDeadline(Plain);

impl Contender for WithDeadline {
    fn start(workers: usize, queue: usize) -> Self {
        WithDeadline(Plain::start(workers, queue))
    }

    fn burst(&mut self, count: u64, job: impl Fn(u64) -> Work + Sync) -> Instant {
        let Plain { pool, errors, .. } = &self.0;
        for number in 0..count {
            let job = pool.job(job(number)).timeout(DEADLINE);
            job.detach(number, errors).expect("detach");
        }
        self.0.all_done()
    }

    fn calls(&self, count: u64, job: impl Fn(u64) -> Work) -> u64 {
        let submit = |number| self.0.pool.submit_timeout(job(number), DEADLINE);
        (0..count)
            .map(|number| submit(number).expect("submit"))
            .sum()
    }
}
