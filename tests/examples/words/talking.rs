//! The example while it works: asked, followed, interrupted.

use std::fs;
use std::time::Instant;

use super::support::*;

#[test]
fn a_path_on_standard_input_is_answered_while_the_others_are_counted() {
    let scratch = odd_tree("asked");
    let endless = scratch.endless_file("tree/1");
    scratch.file("asked", b"one asked two\nthree\n");
    let mut command = scratch.words();
    command.args(["--ask", "--workers=2", "--top=9999", "tree"]);
    let mut running = Running::start(command);
    // One worker is at a file that does not end.
    for (path, answer) in [
        ("asked", "words: asked: 2 lines, 4 words, 20 bytes\n"),
        (
            "nowhere",
            "words: nowhere: No such file or directory (os error 2)\n",
        ),
        ("tree", "words: tree: not a regular file\n"),
        (
            "tree/plain",
            "words: tree/plain: 1 lines, 5 words, 23 bytes\n",
        ),
    ] {
        running.ask(path);
        assert_eq!(running.answer(), answer);
    }
    // Now it ends.
    endless.set_len(0).unwrap();
    assert_eq!(running.exit_code(), Some(0));
    let output = running.output();
    // What was asked is in no total.
    assert!(!output.contains(" asked\n"), "{output}");
    assert!(output.contains(" lorem\n"), "{output}");
    assert!(output.contains(" 18 files\n"), "{output}");
    let lines = format!(" {} lines\n", scratch.reference("tree")[1]);
    assert!(output.contains(&lines), "{output}");
}

#[test]
fn without_ask_standard_input_is_left_alone() {
    let scratch = Scratch::new("not-asked");
    scratch.file("tree/a", b"a");
    scratch.file("list", b"tree/a\n");
    let list = fs::File::open(scratch.0.join("list")).unwrap();
    let rest = list.try_clone().unwrap();
    let output = scratch.words().arg("tree").stdin(list).output().unwrap();
    assert_eq!(
        (output.status.code(), text(&output.stderr)),
        (Some(0), String::new())
    );
    assert_eq!(std::io::read_to_string(rest).unwrap(), "tree/a\n");
}

#[test]
fn the_numbers_of_the_pool_are_told_while_it_works_and_at_the_end() {
    let scratch = Scratch::new("stats");
    scratch.file("tree/a", b"a");
    let endless = scratch.endless_file("tree/b");
    let mut command = scratch.words();
    command.args(["--stats", "--workers=2", "tree"]);
    let mut running = Running::start(command);
    for _ in 0..2 {
        running.news(": 2 jobs accepted: 1 completed; 1 of 2 workers busy, the longest runs");
    }
    endless.set_len(0).unwrap();
    assert_eq!(running.exit_code(), Some(0));
    let mut rest: Vec<_> = std::iter::from_fn(|| Some(running.answer()))
        .take_while(|line| !line.is_empty())
        .collect();
    if cfg!(feature = "histograms") {
        let times = rest.pop().unwrap();
        assert!(times.starts_with("words: waited: median "), "{times}");
    }
    let last = rest.pop().unwrap();
    let start = "words: 2 jobs accepted: 2 completed; 0 of 0 workers busy; in ";
    assert!(last.starts_with(start), "{last}");
}

#[test]
fn the_first_ctrl_c_prints_what_was_counted_and_the_second_ends_at_once() {
    let scratch = Scratch::new("interrupted");
    scratch.file("tree/0", b"counted\n");
    let endless = scratch.endless_file("tree/1");
    for number in 2..2000 {
        scratch.file(format!("tree/{number}"), b"");
    }
    let start = || {
        let mut command = scratch.words();
        command.args(["--stats", "--workers=1", "tree"]);
        let mut running = Running::start(command);
        // It is at the file that does not end, and does not know yet of most others.
        running.news(" 1 completed; 1 of 1 workers busy");
        running
    };
    let mut twice = start();
    twice.signal("INT");
    // Two signals sent at once may count as one.
    let begin = Instant::now();
    while twice.child.try_wait().unwrap().is_none() {
        assert!(begin.elapsed() < PATIENCE, "it does not end");
        twice.signal("INT");
    }
    assert_eq!(
        (twice.exit_code(), twice.output().as_str()),
        (Some(130), "")
    );

    let mut once = start();
    once.signal("TERM");
    endless.set_len(0).unwrap();
    assert_eq!(once.exit_code(), Some(130));
    let output = once.output();
    assert!(output.contains(" counted\n"), "{output}");
    let files: u64 = output.split_whitespace().next().unwrap().parse().unwrap();
    assert!((2..2000).contains(&files), "{output}");
}
