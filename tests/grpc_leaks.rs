//! What a server leaves behind: nothing. One test, because threads, file descriptors and memory are
//! counted for the whole process.
#![cfg(all(feature = "grpc", target_os = "linux"))]

mod common_grpc;

use std::fs;
use std::time::{Duration, Instant};

use common_grpc::raw::Raw;
use common_grpc::*;
use worker_pool::grpc::CapacityServer;

fn own_threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("capacity-")).count()
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Memory in use, in KiB.
fn memory() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4
}

#[test]
fn a_server_leaves_nothing_behind() {
    threads_are_joined_and_files_closed();
    starting_in_vain_leaves_no_thread();
    a_stalled_client_costs_no_memory();
}

fn threads_are_joined_and_files_closed() {
    let serve_once = || {
        let rig = Rig::of(1);
        let server = rig.serve(|b| b);
        let peer = Peer::new(&server);
        let mut feed = peer.capacity();
        feed.expect();
        eventually("two threads run", || own_threads() == 2);
        server.shutdown();
        // At its last instructions: the system may show it for a moment longer.
        eventually("the threads are gone", || own_threads() == 0);
        feed.end();
    };
    for _ in 0..5 {
        serve_once(); // what is made once stays
    }
    let before = open_files();
    for _ in 0..50 {
        serve_once();
    }
    eventually("file descriptors are back", || open_files() <= before + 5);
}

fn starting_in_vain_leaves_no_thread() {
    let rig = Rig::of(1);
    let server = rig.serve(|b| b);
    let second = CapacityServer::builder()
        .pool("pool", rig.meter.clone())
        .address(server.local_addr().to_string())
        .start();
    assert!(second.is_err());
    drop(server);
    eventually("the threads are gone", || own_threads() == 0);
}

fn a_stalled_client_costs_no_memory() {
    let rig = Rig::new();
    let server = rig.serve(|b| b.change_spacing(Duration::from_millis(1)));
    let mut stalled = Raw::with_window(server.local_addr(), 64);
    stalled.capacity(1);
    let mut reading = Peer::new(&server).capacity();
    let mut churn = |span: Duration| {
        let until = Instant::now() + span;
        while Instant::now() < until {
            rig.add();
            for _ in 0..1000 {
                rig.start_job();
                rig.finish_job();
            }
        }
        let total = rig.meter.snapshot().total;
        reading.until(|m| m.total() == total);
    };
    churn(Duration::from_secs(1));
    let before = memory();
    churn(Duration::from_secs(3));
    let after = memory();
    let grown = after.saturating_sub(before);
    assert!(grown < 4 * 1024, "{grown} KiB in 3 s");
}
