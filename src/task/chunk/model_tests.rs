//! Each input of a chunk has one result, and each payload is dropped once.

use super::*;
use crate::sync::modelled::run::check;
use crate::sync::thread;

fn shared(inputs: u64, workers: u64, rejects: bool) {
    let (chunk, mut reader, progress, drops) = chunk(inputs, Some(2_000));
    thread::scope(|scope| {
        for id in 0..workers {
            let chunk = &chunk;
            scope.spawn(move || {
                while let Some(mut claim) = chunk.claim(worker(id), None) {
                    let mut begun = 0;
                    while !(claim.is_empty() || begun > id && claim.give_back()) {
                        let payload = claim.next();
                        claim.put(Ok(payload));
                        begun += 1;
                    }
                }
            });
        }
        if rejects {
            let chunk = &chunk;
            scope.spawn(move || chunk.reject(RejectReason::Closed, None));
        }
        let mut taken = vec![0; inputs as usize];
        let mut take = |reader: &mut Reader<Drops, Drops, ()>| {
            for index in 0..inputs as usize {
                let result = reader
                    .take(index)
                    .map(|result| result.map_err(|error| *error));
                let number = match result {
                    Some(Ok(output)) => output.0,
                    Some(Err(SubmitError::Rejected(rejected))) => rejected.payload.0,
                    Some(Err(SubmitError::Failed(_))) => panic!("nothing failed"),
                    None => continue,
                };
                taken[number as usize] += 1;
            }
            taken.iter().sum::<u64>()
        };
        while take(&mut reader) < inputs {
            // What was given back after all workers left.
            chunk.reject(RejectReason::Closed, None);
            thread::yield_now();
        }
        assert!(taken.iter().all(|taken| *taken == 1), "{taken:?}");
    });
    drop((chunk, reader));
    assert_eq!(
        (progress.finished(), drops.load(SeqCst)),
        (1, inputs as usize)
    );
}

#[test]
fn seven_workers_claim_inputs() {
    check(|| shared(9, 7, false));
}

#[test]
fn workers_claim_while_another_thread_rejects() {
    check(|| shared(6, 2, true));
}
