//! What pools leave behind: nothing. Alone in its process, because open files are counted for all of
//! it.

mod common;

use common::{LIMIT, eventually, fd_count, stress, threads_named, within};
use worker_pool::{Job, Manager};

/// Pools that come and go leave no thread and no open file behind.
#[test]
fn a_thousand_pools_leave_no_thread_and_no_file_behind() {
    within(2 * LIMIT, || {
        let files = fd_count();
        for number in 0..stress(1_000) as u32 {
            let builder = Manager::<u32, u32>::builder().name("comesandgoes");
            let pool = builder.build().unwrap();
            for _ in 0..2 {
                pool.add(|job: Job<u32>| Ok(job.into_payload())).unwrap();
            }
            assert_eq!(pool.submit(number).unwrap(), number);
            match number % 3 {
                0 => pool.close(),
                1 => pool.drain(),
                _ => drop(pool),
            }
        }
        eventually("no thread is left", || threads_named("comesandgoes") == 0);
        eventually("no file is left", || fd_count() <= files);
    });
}
