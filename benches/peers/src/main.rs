//! The pool beside its peers: `cargo bench --manifest-path benches/peers/Cargo.toml`. See
//! `benches/README.md`.
//!
//! Every run is a process of its own (this program once more), so that no contender meets the threads
//! or the heap of another; contenders take turns. A word chooses the cases that have it in their names:
//! `-- burst`. `-- --runs 9` sets how often each is run, seven times unless given. `-- --smoke` runs
//! each once with few jobs, and fails if any contender does.

use std::process::ExitCode;

#[path = "../../alloc_count/mod.rs"]
mod alloc_count;
mod cases;
mod closed;
mod contender;
mod contenders;
mod costs;
mod figure;
mod open;
mod options;
mod proc;
mod report;
mod rounds;
mod work;

use options::Options;

fn main() -> ExitCode {
    let options = Options::parse(std::env::args().skip(1));
    if let Some(order) = &options.order {
        contender::be(order, options.smoke);
        return ExitCode::SUCCESS;
    }
    let mut speed = 0.0;
    let mut results = Vec::new();
    for case in cases::all(options.smoke) {
        if options.wants(&case.name) {
            if case.workload.is_timed_work() {
                // Again and again, since processors change their speed; the fastest, so that
                // nothing can be faster than ideal.
                speed = f64::max(speed, work::rounds_per_microsecond());
            }
            let result = rounds::run(case, &options, speed);
            print!("{}", report::table(&result));
            results.push(result);
        }
    }
    if let Err(error) = report::write(&results, &options) {
        eprintln!("cannot write the results: {error}");
        return ExitCode::FAILURE;
    }
    if results.iter().any(|result| !result.failed.is_empty()) {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
