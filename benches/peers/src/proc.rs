//! What Linux knows of this process. Elsewhere there is none of it, and those figures are left out.

use std::fs;

fn stat() -> Option<Vec<String>> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let after_name = stat.rsplit(')').next()?;
    Some(after_name.split_whitespace().map(str::to_owned).collect())
}

/// Processor time of all threads that are or were, in milliseconds; it goes up in steps of ten.
pub(crate) fn cpu_ms() -> Option<u64> {
    let stat = stat()?;
    Some(10 * (stat.get(11)?.parse::<u64>().ok()? + stat.get(12)?.parse::<u64>().ok()?))
}

pub(crate) fn threads() -> Option<usize> {
    stat()?.get(17)?.parse().ok()
}

/// Processor time of all present threads but the first, in nanoseconds.
pub(crate) fn other_threads_cpu_ns() -> Option<u64> {
    let own = std::process::id().to_string();
    let mut sum = 0;
    for thread in fs::read_dir("/proc/self/task").ok()? {
        let thread = thread.ok()?;
        if *thread.file_name() != *own {
            let times = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            sum += times.split_whitespace().next()?.parse::<u64>().ok()?;
        }
    }
    Some(sum)
}
