//! Pool and server together: what a real pool does is what clients see.

use std::convert::Infallible;
use std::time::Duration;

use crate::common_grpc::*;
use crossbeam_channel::{Receiver, Sender, bounded};
use grpcio::RpcStatusCode;
use worker_pool::grpc::CapacityServer;
use worker_pool::{Job, Manager, Meter};

/// A pool whose jobs begin with a word and end with one, and its server.
struct Served {
    pool: Manager<u32, u32>,
    begun: Receiver<u32>,
    go: Sender<()>,
    server: CapacityServer,
}

fn serve(workers: usize) -> Served {
    let meter = Meter::new();
    let pool = Manager::<u32, u32>::builder()
        .hook(meter.clone())
        .build()
        .unwrap();
    let (begin, begun) = bounded(100);
    let (go, wait) = bounded::<()>(100);
    for _ in 0..workers {
        let (begin, wait) = (begin.clone(), wait.clone());
        let worker = move |job: Job<u32>| -> Result<u32, Infallible> {
            begin.send(*job.payload()).unwrap();
            wait.recv().unwrap();
            Ok(job.into_payload())
        };
        assert!(pool.add(worker).is_ok());
    }
    let server = CapacityServer::builder()
        .pool("pool", meter)
        .interval(Duration::from_secs(3600))
        .start()
        .unwrap();
    Served {
        pool,
        begun,
        go,
        server,
    }
}

#[test]
fn clients_see_jobs_come_and_go() {
    let served = serve(2);
    let mut feed = Peer::new(&served.server).capacity();
    let first = feed.expect();
    assert_eq!((first.busy(), first.total(), first.capacity), (0, 2, 0.0));
    let job = served.pool.enqueue(1).unwrap();
    served.begun.recv_timeout(PATIENCE).unwrap();
    feed.until(|m| m.busy() == 1 && m.capacity == 0.5);
    served.go.send(()).unwrap();
    assert_eq!(job.wait().unwrap(), 1);
    feed.until(|m| m.busy() == 0);
}

#[test]
fn a_pool_that_drains_says_so_and_ends_its_streams() {
    let served = serve(1);
    let peer = Peer::new(&served.server);
    let (mut feed, mut health) = (peer.capacity(), peer.watch("pool"));
    feed.expect();
    assert_eq!(health.expect().status.unwrap(), ServingStatus::SERVING);
    let job = served.pool.enqueue(1).unwrap();
    served.begun.recv_timeout(PATIENCE).unwrap();
    let draining = std::thread::spawn({
        let pool = served.pool.clone();
        move || pool.drain()
    });
    assert_eq!(health.expect().status.unwrap(), ServingStatus::NOT_SERVING);
    served.go.send(()).unwrap();
    assert_eq!(job.wait().unwrap(), 1);
    draining.join().unwrap();
    let (last, code) = feed.end();
    assert_eq!((last.unwrap().total(), code), (0, RpcStatusCode::OK));
}

#[test]
fn a_worker_may_own_the_server_of_its_pool() {
    // The pool's last thread drops the server; nothing waits for itself.
    let served = serve(1);
    let address = served.server.local_addr();
    let server = served.server;
    let holder = move |job: Job<u32>| -> Result<u32, Infallible> {
        let _ = &server;
        Ok(job.into_payload())
    };
    assert!(served.pool.add(holder).is_ok());
    let mut feed = Peer::to(&address.to_string()).capacity();
    feed.expect();
    served.pool.close();
    drop(served.pool);
    assert_eq!(feed.end().1, RpcStatusCode::OK);
}
