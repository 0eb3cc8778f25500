#[cfg(worker_pool_shuttle)]
#[path = "model_tests.rs"]
mod model;

use super::claim::Claim;
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
        nanos_per_job,
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
        let mut claim = chunk.claim(worker(1), None).unwrap();
        assert_eq!(chunk.left(), 300 - claimed as usize);
        assert_eq!(run(&mut claim), (0..claimed).collect::<Vec<_>>());
    }
}

#[test]
fn what_is_given_back_is_claimed_again_and_first() {
    let (chunk, mut reader, progress, drops) = chunk(20, SIXTEEN);
    let mut first = chunk.claim(worker(1), None).unwrap();
    let mut second = chunk.claim(worker(2), None).unwrap();
    assert!(chunk.claim(worker(3), None).is_none());
    assert_eq!(
        (chunk.holder(15), chunk.holder(16)),
        (Some(worker(1)), Some(worker(2)))
    );
    let payload = first.next();
    first.put(Ok(payload));
    drop(first);
    assert_eq!(chunk.left(), 15);
    let mut third = chunk.claim(worker(3), None).unwrap();
    assert_eq!(
        (chunk.holder(0), chunk.holder(1)),
        (Some(worker(1)), Some(worker(3)))
    );
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

/// The payloads of the inputs that were rejected for this reason, and no other results.
fn rejected(reader: &mut Reader<Drops, Drops, ()>, reason: RejectReason) -> Vec<u64> {
    let results = (0..reader.len()).filter_map(|index| Some((index, reader.take(index)?)));
    let payload = |(index, result): (usize, Outcome<Drops, Drops, ()>)| match *result.err().unwrap()
    {
        SubmitError::Rejected(rejected) => {
            assert_eq!(
                (rejected.payload.0, rejected.reason),
                (index as u64, reason)
            );
            rejected.payload.0
        }
        SubmitError::Failed(_) => panic!("{index} did not begin"),
    };
    results.map(payload).collect()
}

#[test]
fn what_is_rejected_is_what_no_worker_has_in_its_hand() {
    let (chunk, mut reader, progress, drops) = chunk(40, SIXTEEN);
    // Each has four inputs in its hand, and one starts one of them.
    let mut claims = [1, 2].map(|id| chunk.claim(worker(id), None).unwrap());
    let first = claims[0].next();
    assert_eq!(chunk.reject(RejectReason::Cancelled, None), 32);
    assert_eq!(
        (chunk.left(), chunk.reject(RejectReason::Closed, None)),
        (0, 0)
    );
    assert!(chunk.claim(worker(3), None).is_none());
    assert_eq!(progress.finished(), 0);
    let others: Vec<_> = (4..16).chain(20..40).collect();
    assert_eq!(rejected(&mut reader, RejectReason::Cancelled), others);
    assert_eq!(
        (chunk.holder(0), chunk.holder(16)),
        (Some(worker(1)), Some(worker(2)))
    );
    // They were answered as begun, so they cannot be given back.
    assert!(!claims[1].give_back());
    assert_eq!(run(&mut claims[1]), [16, 17, 18, 19]);
    claims[0].put(Ok(first));
    assert_eq!(run(&mut claims[0]), [1, 2, 3]);
    assert!(claims[0].give_back(), "nothing is left");
    drop(claims);
    assert_eq!((progress.finished(), drops.load(SeqCst)), (1, 32));
    drop((reader, chunk));
    assert_eq!(drops.load(SeqCst), 40);
}

#[test]
fn a_worker_takes_few_inputs_at_a_time_and_more_of_short_ones() {
    let cases = [(None, 1), (Some(501), 1), (Some(400), 2), (Some(1), 4)];
    for (nanos_per_job, taken) in cases {
        let (chunk, mut reader, _, drops) = chunk(300, nanos_per_job);
        let mut claim = chunk.claim(worker(1), None).unwrap();
        drop(claim.next());
        let free = 300 - taken as usize;
        assert_eq!(chunk.reject(RejectReason::Cancelled, None), free);
        let rejected = rejected(&mut reader, RejectReason::Cancelled);
        assert!(rejected.into_iter().eq(taken..300));
        drop(claim);
        drop((reader, chunk));
        assert_eq!(drops.load(SeqCst), 300);
    }
}

#[test]
fn what_a_panicked_worker_took_and_did_not_begin_is_rejected_with_the_chunk() {
    let (chunk, mut reader, progress, drops) = chunk(8, Some(1));
    let mut claim = chunk.claim(worker(1), None).unwrap();
    let payload = claim.next();
    assert_eq!(chunk.reject(RejectReason::DeadlinePassed, None), 4);
    claim.put_last(Ok(payload));
    drop(claim);
    assert_eq!(progress.finished(), 1);
    assert_eq!(reader.take(0).unwrap().ok().unwrap().0, 0);
    let rejected = rejected(&mut reader, RejectReason::DeadlinePassed);
    assert_eq!(rejected, (1..8).collect::<Vec<_>>());
    drop((reader, chunk));
    assert_eq!(drops.load(SeqCst), 8);
}

#[test]
fn each_is_dropped_once_wherever_it_lies() {
    let (chunk, reader, _, drops) = chunk(20, SIXTEEN);
    let mut claim = chunk.claim(worker(1), None).unwrap();
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
fn payloads_stay_where_they_are_if_a_chunk_was_not_accepted() {
    let (chunk, reader, progress, drops) = chunk(5, None);
    let memory = chunk.slots.as_ptr();
    drop(chunk);
    let load = reader.take_back();
    assert_eq!((progress.finished(), drops.load(SeqCst)), (0, 0));
    assert_eq!((load.len(), load.slots.as_ptr()), (5, memory));
    drop(load);
    assert_eq!(drops.load(SeqCst), 5);
}

#[test]
fn a_chunk_leaves_its_memory_when_nothing_is_left_in_it() {
    let (first, mut reader, progress, drops) = chunk(20, SIXTEEN);
    while let Some(mut claim) = first.claim(worker(1), None) {
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
    let mut claim = second.claim(worker(1), None).unwrap();
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
    run(&mut chunk.claim(worker(1), None).unwrap());
    assert!(reader.take(0).is_some() && reader.recycle().is_none());
    drop(chunk);
    assert_eq!(drops.load(SeqCst), 1);
}

/// Workers claim inputs, run some and give back the rest; the reader takes. In two of three rounds a
/// thread rejects meanwhile; in the third the reader does in the end, for what was given back after
/// all workers left. Each payload goes to one of them, and each input has one result.
#[test]
fn threads_share_a_chunk() {
    for round in 0..if cfg!(miri) { 6 } else { 3_000 } {
        // Sixty claimed and four taken at a time, fewer, or one.
        let nanos_per_job = Some([1, 400, 600][round % 3]);
        let (chunk, mut reader, progress, drops) = chunk(60, nanos_per_job);
        let rejects = round % 9 >= 3;
        let start = std::sync::Barrier::new(3 + usize::from(rejects));
        let (ran, turned_away) = (Count::new(0), Count::new(0));
        std::thread::scope(|scope| {
            for id in 0..3 {
                let (chunk, start, ran) = (&chunk, &start, &ran);
                scope.spawn(move || {
                    start.wait();
                    while let Some(mut claim) = chunk.claim(worker(id), None) {
                        // One runs all, one a few, and one leaves what it has in hand, like a panic.
                        let most = [60, 6, 1][id as usize];
                        let mut begun = 0;
                        while !(claim.is_empty() || begun >= most && (id == 2 || claim.give_back()))
                        {
                            let payload = claim.next();
                            ran.fetch_add(1, SeqCst);
                            claim.put(Ok(payload));
                            begun += 1;
                        }
                    }
                });
            }
            if rejects {
                let (chunk, start, turned_away) = (&chunk, &start, &turned_away);
                scope.spawn(move || {
                    start.wait();
                    (0..round % 40).for_each(|_| std::hint::spin_loop());
                    let all = chunk.reject(RejectReason::Closed, None);
                    turned_away.fetch_add(all, SeqCst);
                    // What has no result now is in a worker's hand.
                    let open = |index: &usize| !chunk.is_full(*index);
                    for index in (0..60).filter(open) {
                        assert!(chunk.holder(index).is_some(), "{index} is nobody's");
                    }
                    assert!((0..60).filter(open).count() <= 15, "five for each");
                });
            }
            let mut seen = [0; 60];
            let mut rejected = 0;
            while seen.iter().sum::<usize>() < 60 {
                if !rejects && progress.finished() == 0 && seen.iter().sum::<usize>() > 40 {
                    turned_away.fetch_add(chunk.reject(RejectReason::Closed, None), SeqCst);
                }
                for (index, seen) in seen.iter_mut().enumerate() {
                    let payload = match reader.take(index).map(|result| result.map_err(|one| *one))
                    {
                        Some(Ok(output)) => output,
                        Some(Err(SubmitError::Rejected(one))) => {
                            rejected += 1;
                            one.payload
                        }
                        Some(Err(SubmitError::Failed(_))) => panic!("nothing failed"),
                        None => continue,
                    };
                    assert_eq!(payload.0, index as u64);
                    *seen += 1;
                }
                std::thread::yield_now();
            }
            assert_eq!(seen, [1; 60]);
            assert_eq!(rejected + ran.load(SeqCst), 60);
            assert!(rejected >= turned_away.load(SeqCst));
        });
        drop((chunk, reader));
        assert_eq!((progress.finished(), drops.load(SeqCst)), (1, 60));
    }
}
