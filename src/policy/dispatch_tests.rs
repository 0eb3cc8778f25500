use std::time::Duration;

use super::model::Model;
use super::*;

#[test]
fn a_million_random_events_lose_no_job_and_keep_the_order() {
    for seed in 1..=1000 {
        let mut model = Model::new(seed);
        for _ in 0..1000 {
            model.random_event();
        }
        model.finish();
    }
}

#[test]
fn a_pool_without_workers_keeps_its_jobs_until_one_comes() {
    let mut model = Model::new(1);
    model.arrive(Priority::Normal);
    model.look();
    assert_eq!(model.ready.len(), 0);
    model.set_workers(1);
    model.look();
    assert_eq!(model.numbers_ready(), [1]);
    model.finish();
}

#[test]
fn draining_ends_when_all_is_at_rest_and_not_before() {
    let mut model = Model::new(1);
    model.set_workers(1);
    model.arrive(Priority::Normal);
    let job = model.channels[1].pop_front().expect("it arrived");
    model.step(Event::Arrived(job));
    model.step(Event::Drain);
    model.step(Event::Settled); // too early: a job is held
    assert!(model.dispatch.is_draining() && !model.stopped);
    model.look();
    assert_eq!(model.take_ready(), Some(1));
    model.settle(1);
    model.closed = true;
    model.step(Event::Settled);
    assert!(model.stopped);
    model.finish();
}

#[test]
fn a_flood_of_normal_jobs_lets_a_low_one_through_in_its_turn() {
    let mut model = Model::new(1);
    model.set_workers(1);
    model.arrive(Priority::Low);
    let mut ahead = 0;
    loop {
        while model.channels[Priority::Normal as usize].len() < 4 {
            model.arrive(Priority::Normal);
        }
        model.look();
        match model.take_ready().expect("there is room") {
            1 => break,
            job => model.settle(job),
        }
        ahead += 1;
        assert!(ahead <= AGE + 1, "a low job starves");
    }
    assert!(ahead >= AGE, "a low job jumps the queue");
    model.settle(1);
    model.finish();
}

#[test]
fn a_normal_job_finds_one_low_job_per_worker_before_it() {
    let mut model = Model::new(1);
    model.set_workers(3);
    for _ in 0..50 {
        model.arrive(Priority::Low);
    }
    model.look();
    model.arrive(Priority::Normal);
    assert_eq!(model.ready.len(), 3);
    model.take_ready();
    model.settle(1);
    model.look();
    assert_eq!(model.numbers_ready(), [2, 3, 51]);
    model.finish();
}

#[test]
fn attempts_come_in_the_order_of_their_times_and_go_to_the_end() {
    let ms = Duration::from_millis;
    let mut model = Model::new(1);
    model.set_workers(1);
    for backoff in [30, 10, 20] {
        model.arrive(Priority::Normal);
        model.look();
        let job = model.ready.pop_front().expect("there is room");
        model.fail(job, ms(backoff));
    }
    model.arrive(Priority::Normal);
    model.now += ms(9);
    model.tick();
    model.look();
    assert_eq!(model.numbers_ready(), [4], "none before its time");
    model.arrive(Priority::Normal);
    model.now += ms(11);
    model.tick(); // 2 and 3 are due
    model.arrive(Priority::Normal);
    model.now += ms(100);
    model.tick();
    let mut order = Vec::new();
    while let Some(job) = model.take_ready() {
        model.settle(job);
        order.push(job);
        model.look();
    }
    assert_eq!(order, [4, 5, 2, 3, 6, 1]);
    model.finish();
}

#[test]
fn draining_waits_for_the_last_attempt() {
    let mut model = Model::new(1);
    model.set_workers(1);
    model.arrive(Priority::Low);
    model.look();
    let job = model.ready.pop_front().expect("there is room");
    model.fail(job, Duration::from_secs(1));
    model.step(Event::Drain);
    model.step(Event::Settled); // too early
    assert!(model.dispatch.is_draining() && !model.stopped);
    model.now += Duration::from_secs(1);
    model.tick();
    model.look();
    assert_eq!(model.take_ready(), Some(1));
    model.settle(1);
    model.closed = true;
    model.step(Event::Settled);
    assert!(model.stopped);
    model.finish();
}

#[test]
fn a_dead_job_waits_for_no_attempt() {
    let mut model = Model::new(1);
    model.set_workers(1);
    let statuses = [Status::Expired(RejectReason::Cancelled), Status::Withdrawn];
    for event in [Event::Sweep, Event::Tick] {
        for status in statuses {
            model.arrive(Priority::Normal);
            model.look();
            let job = model.ready.pop_front().expect("there is room");
            *job.status.borrow_mut() = status;
            model.fail(job, Duration::ZERO);
        }
        model.step(event);
        assert!(model.backing_off.is_empty());
    }
    model.arrive(Priority::Normal);
    model.look();
    let job = model.ready.pop_front().expect("there is room");
    model.closed = true;
    model.step(Event::Close);
    model.fail(job, Duration::ZERO);
    assert!(model.backing_off.is_empty(), "kept though the pool closes");
    model.finish();
}
