#[cfg(worker_pool_shuttle)]
#[path = "model_tests.rs"]
mod model;

use super::reader::Reader;
use super::*;
use crate::job::Priority;
use crate::stats::in_flight::Epoch;
use crate::sync::AtomicUsize as Count;

type Numbers = Chunk<Drops, Drops, ()>;
type Made = (
    Arc<Numbers>,
    Reader<Drops, Drops, ()>,
    Arc<Progress>,
    Arc<Count>,
);

/// Counts its drop.
struct Drops(u64, Arc<Count>);

impl Drop for Drops {
    fn drop(&mut self) {
        self.1.fetch_add(1, SeqCst);
    }
}

fn chunk(inputs: u64, nanos_per_job: Option<u64>) -> Made {
    let (drops, progress) = (Arc::new(Count::new(0)), Arc::new(Progress::new()));
    let (chunk, reader) = filled(Load::default(), inputs, nanos_per_job, &progress, &drops);
    (chunk, reader, progress, drops)
}

/// A chunk in the memory of this empty load.
fn filled(
    mut load: Load<Drops, Drops, ()>,
    inputs: u64,
    nanos_per_job: Option<u64>,
    progress: &Arc<Progress>,
    drops: &Arc<Count>,
) -> (Arc<Numbers>, Reader<Drops, Drops, ()>) {
    (0..inputs).for_each(|n| load.push(Drops(n, Arc::clone(drops))));
    let header = ChunkHeader {
        number: 7,
        header: Header::new(7, Epoch::Even, false, Priority::Normal),
        token: None,
        place: 1,
        pace: nanos_per_job,
    };
    Reader::of_new_chunk(header, load, Arc::clone(progress))
}

fn worker(id: u64) -> WorkerId {
    WorkerId::new(id)
}

/// The time per job at which sixteen inputs are claimed.
const SIXTEEN: Option<u64> = Some(250);

/// Runs what is left of a claim. Returns the numbers of its payloads.
fn run(claim: &mut Claim<'_, Drops, Drops, ()>) -> Vec<u64> {
    let mut numbers = Vec::new();
    while !claim.is_empty() {
        let payload = claim.next();
        numbers.push(payload.0);
        assert_eq!(claim.job().get(), payload.0 + 7);
        claim.put(Ok(payload));
    }
    numbers
}

#[test]
fn claims_are_as_long_as_the_time_per_job_allows() {
    let cases = [
        (None, 1),
        (Some(5_000), 1),
        (Some(1_400), 2),
        (SIXTEEN, 16),
        (Some(0), 256),
    ];
    for (nanos_per_job, claimed) in cases {
        let (chunk, _reader, _, _) = chunk(300, nanos_per_job);
        let mut claim = chunk.claim(worker(1)).unwrap();
        assert_eq!(chunk.left(), 300 - claimed as usize);
        assert_eq!(run(&mut claim), (0..claimed).collect::<Vec<_>>());
    }
}

#[test]
fn what_is_given_back_is_claimed_again_and_first() {
    let (chunk, mut reader, progress, drops) = chunk(20, SIXTEEN);
    let mut first = chunk.claim(worker(1)).unwrap();
    let mut second = chunk.claim(worker(2)).unwrap();
    assert!(chunk.claim(worker(3)).is_none());
    assert_eq!(
        (chunk.holder(15), chunk.holder(16)),
        (Some(worker(1)), Some(worker(2)))
    );
    let payload = first.next();
    first.put(Ok(payload));
    drop(first);
    assert_eq!(chunk.left(), 15);
    let mut third = chunk.claim(worker(3)).unwrap();
    assert_eq!(run(&mut third), (1..16).collect::<Vec<_>>());
    drop(third);
    assert_eq!(progress.finished(), 0, "the second has its claim");
    run(&mut second);
    drop(second);
    assert_eq!((progress.finished(), drops.load(SeqCst)), (1, 0));
    for index in 0..20 {
        assert!(reader.is_full(index) && !reader.is_taken(index));
        assert_eq!(reader.take(index).unwrap().ok().unwrap().0, index as u64);
        assert!(reader.is_taken(index) && reader.take(index).is_none());
    }
    drop((reader, chunk));
    assert_eq!(drops.load(SeqCst), 20);
}

#[test]
fn what_is_rejected_is_what_is_free() {
    let (chunk, mut reader, progress, drops) = chunk(20, SIXTEEN);
    let mut claim = chunk.claim(worker(1)).unwrap();
    let first = claim.next();
    assert_eq!(chunk.reject(RejectReason::Cancelled, None), 4);
    assert_eq!(
        (chunk.left(), chunk.reject(RejectReason::Closed, None)),
        (0, 0)
    );
    assert_eq!(progress.finished(), 0);
    assert!((0..16).all(|index| reader.take(index).is_none()));
    for index in 16..20 {
        match reader
            .take(index)
            .map(|result| result.map_err(|error| *error))
        {
            Some(Err(SubmitError::Rejected(rejected))) => {
                assert_eq!(rejected.payload.0, index as u64);
                assert_eq!(rejected.reason, RejectReason::Cancelled);
            }
            _ => panic!("{index} was rejected"),
        }
    }
    // The rest of a claim that ends after that is free again: the next call rejects it.
    claim.put(Ok(first));
    drop(claim);
    assert_eq!(chunk.reject(RejectReason::Closed, None), 15);
    assert_eq!((progress.finished(), drops.load(SeqCst)), (1, 4));
    drop((reader, chunk));
    assert_eq!(drops.load(SeqCst), 20);
}

#[test]
fn each_is_dropped_once_wherever_it_lies() {
    let (chunk, reader, _, drops) = chunk(20, SIXTEEN);
    let mut claim = chunk.claim(worker(1)).unwrap();
    let payload = claim.next();
    claim.put(Ok(payload)); // a result that nobody takes
    drop(claim.next()); // a payload without a result
    drop(claim);
    drop(reader);
    assert_eq!(drops.load(SeqCst), 1);
    drop(chunk);
    assert_eq!(drops.load(SeqCst), 20);
}

#[test]
fn payloads_come_back_from_a_chunk_that_was_not_accepted() {
    let (chunk, reader, progress, drops) = chunk(5, None);
    let payloads = chunk.take_payloads();
    assert_eq!(payloads.len(), 5);
    assert_eq!((chunk.left(), chunk.take_payloads().len()), (0, 0));
    drop((chunk, reader));
    assert_eq!((progress.finished(), drops.load(SeqCst)), (0, 0));
    drop(payloads);
    assert_eq!(drops.load(SeqCst), 5);
}

#[test]
fn a_chunk_leaves_its_memory_when_nothing_is_left_in_it() {
    let (first, mut reader, progress, drops) = chunk(20, SIXTEEN);
    while let Some(mut claim) = first.claim(worker(1)) {
        run(&mut claim);
    }
    // Out of turn, as an unordered iterator takes results.
    for index in (1..20).chain([0]) {
        assert!(reader.take(index).is_some() && reader.take(index).is_none());
    }
    let memory = first.slots.as_ptr();
    drop(first);
    let load = reader
        .recycle()
        .expect("all are taken, and nobody else is there");
    assert!(load.is_empty());
    assert_eq!(drops.load(SeqCst), 20);

    let (second, mut reader) = filled(load, 20, SIXTEEN, &progress, &drops);
    assert_eq!(second.slots.as_ptr(), memory);
    assert!(
        (0..20).all(|index| reader.take(index).is_none()),
        "old flags"
    );
    let mut claim = second.claim(worker(1)).unwrap();
    assert_eq!(run(&mut claim), (0..16).collect::<Vec<_>>());
    drop(claim);
    assert!((0..16).all(|index| reader.take(index).is_some()));
    drop(second);
    assert!(reader.recycle().is_none(), "four are left");
    assert_eq!(drops.load(SeqCst), 40);
}

#[test]
fn a_chunk_with_another_owner_keeps_its_memory() {
    let (chunk, mut reader, _, drops) = chunk(1, None);
    run(&mut chunk.claim(worker(1)).unwrap());
    assert!(reader.take(0).is_some() && reader.recycle().is_none());
    drop(chunk);
    assert_eq!(drops.load(SeqCst), 1);
}

#[test]
fn a_load_drops_what_it_holds() {
    let (chunk, reader, _, drops) = chunk(3, None);
    let load = chunk.take_payloads();
    drop((chunk, reader));
    assert_eq!(drops.load(SeqCst), 0);
    drop(load);
    assert_eq!(drops.load(SeqCst), 3);
}

/// Workers claim inputs, run some and give back the rest; another thread rejects; the reader takes. Each
/// input has one result.
#[test]
fn threads_share_a_chunk() {
    for round in 0..if cfg!(miri) { 3 } else { 300 } {
        let (chunk, mut reader, progress, drops) = chunk(60, Some(125 + round % 3 * 400));
        let taken = std::thread::scope(|scope| {
            for id in 0..3 {
                let chunk = &chunk;
                scope.spawn(move || {
                    while let Some(mut claim) = chunk.claim(worker(id)) {
                        for _ in 0..(1 + id).min(claim.len() as u64) {
                            let payload = claim.next();
                            claim.put(Ok(payload));
                        }
                    }
                });
            }
            if round % 2 == 0 {
                let chunk = &chunk;
                scope.spawn(move || chunk.reject(RejectReason::Closed, None));
            }
            let mut taken = Vec::new();
            while taken.len() < 60 {
                // Inputs that were given back after all workers left the chunk.
                if taken.len() + 16 > 60 {
                    chunk.reject(RejectReason::Closed, None);
                }
                for index in 0..60 {
                    match reader
                        .take(index)
                        .map(|result| result.map_err(|error| *error))
                    {
                        Some(Ok(output)) => taken.push(output.0),
                        Some(Err(SubmitError::Rejected(rejected))) => {
                            taken.push(rejected.payload.0);
                        }
                        Some(Err(SubmitError::Failed(_))) => panic!("nothing failed"),
                        None => {}
                    }
                }
                std::thread::yield_now();
            }
            taken
        });
        let numbers: std::collections::BTreeSet<_> = taken.into_iter().collect();
        assert!(numbers.into_iter().eq(0..60));
        drop((chunk, reader));
        assert_eq!((progress.finished(), drops.load(SeqCst)), (1, 60));
    }
}
