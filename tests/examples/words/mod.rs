//! The example `words`, as a user meets it, beside the system's `wc`, `sort` and `uniq`.

mod support;
mod talking;

// The example's parts that need no pool: their unit tests run here, too.
#[allow(dead_code)]
#[path = "../../../examples/words/args.rs"]
mod args;
#[allow(dead_code)]
#[path = "../../../examples/words/tally.rs"]
mod tally;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use support::*;

#[test]
fn totals_are_those_of_wc_with_any_number_of_workers() {
    let scratch = odd_tree("totals");
    let expected = totals(scratch.reference("tree"));
    assert!(expected.starts_with("     17 files\n"), "{expected}");
    for workers in ["1", "2", "7"] {
        let output = scratch.run(["--workers", workers, "--top=0", "tree"]);
        assert_eq!(text(&output.stdout), expected);
        assert_eq!(
            (text(&output.stderr).as_str(), output.status.code()),
            ("", Some(0))
        );
    }
    // A path that is given twice counts twice; a link that is given is followed.
    let twice = scratch.reference("tree").map(|total| 2 * total);
    let output = scratch.run(["--top=0", "tree", "tree/loop/tree/"]);
    assert_eq!(text(&output.stdout), totals(twice));
    assert_eq!(scratch.run(["--top=0", "--", "tree/link"]).stdout, {
        totals(scratch.reference("tree/plain")).into_bytes()
    });
}

#[test]
fn the_top_words_are_those_of_sort_and_uniq() {
    let scratch = odd_tree("top");
    let mut expected = scratch.frequencies("tree");
    expected.retain(|(_, word)| word.len() < 256);
    assert!(expected.len() > 30, "{expected:?}");
    for (top, told) in [("3", 3), ("7", 7), ("100000", expected.len())] {
        let output = scratch.run(["--workers=3", "--top", top, "tree"]);
        let printed = text(&output.stdout);
        let words: Vec<_> = printed.lines().skip(4).map(str::trim_start).collect();
        let shown = |(count, word): &(u64, Vec<u8>)| match str::from_utf8(word) {
            Ok(text) if !text.contains(char::is_control) => format!("{count} {text}"),
            _ => format!("{count} {}", word.escape_ascii()),
        };
        let expected: Vec<_> = expected[..told].iter().map(shown).collect();
        assert_eq!(words, expected);
    }
}

#[test]
fn json_tells_the_same_in_one_line() {
    let scratch = Scratch::new("json");
    scratch.file("tree/a", b"x \"q\" x\n\\ \x07 x\n");
    scratch.file("tree/b", b"\xff x");
    let output = scratch.run(["--json", "--top=4", "tree", "missing"]);
    let expected = concat!(
        r#"{"files":2,"lines":2,"words":8,"bytes":17,"left_out":1,"top":["#,
        r#"{"word":"x","count":4},{"word":"\u0007","count":1},"#,
        r#"{"word":"\"q\"","count":1},{"word":"\\","count":1}]}"#,
        "\n"
    );
    assert_eq!(text(&output.stdout), expected);
    let parse = "import json, sys; json.loads(sys.stdin.buffer.read())";
    let mut python = Command::new("python3");
    python.args(["-c", parse]).stdin(Stdio::piped());
    if let Ok(mut python) = python.spawn() {
        let output = scratch.run(["--json", "--top=100", "tree"]).stdout;
        python.stdin.take().unwrap().write_all(&output).unwrap();
        assert!(python.wait().unwrap().success(), "{}", text(&output));
    }
}

#[test]
fn a_worker_that_panics_comes_back_and_only_its_file_is_left_out() {
    let scratch = Scratch::new("panics");
    let before = "w ".repeat(70_000);
    for number in 0..10 {
        let content = match number {
            // Not in the first buffer, and across two of them.
            2 => format!("{before} TRAP"),
            5 => format!("{}TRAP", &before[..128 * 1024 - 2]),
            6 => "x TRAP y".to_owned(),
            _ => format!("f{number} every TRA P\n"),
        };
        scratch.file(format!("tree/{number}"), content.as_bytes());
    }
    for workers in ["1", "3"] {
        let output = scratch.run(["--workers", workers, "--fail-on", "TRAP", "--json", "tree"]);
        let (printed, errors) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{errors}");
        let start = r#"{"files":7,"lines":7,"words":28,"bytes":105,"left_out":3,"top":["#;
        assert!(printed.starts_with(start), "{printed}");
        // The words that a worker met before it panicked are there, and none of the files it left.
        let tops = [
            r#"{"word":"P","count":7},{"word":"TRA","count":7},{"word":"every","count":7},"#,
            r#"{"word":"f0","count":1}"#,
            r#"{"word":"f1","count":1}"#,
            r#"{"word":"f9","count":1}"#,
        ];
        for top in tops {
            assert!(printed.contains(top), "{printed}");
        }
        assert!(
            !printed.contains("\"w\"") && !printed.contains("\"x\""),
            "{printed}"
        );
        for name in ["tree/2", "tree/5", "tree/6"] {
            let line = format!("words: {name}: the worker panicked: it holds \"TRAP\"\n");
            assert!(errors.contains(&line), "{errors}");
            assert!(errors.contains(&format!("\nwords:   {name}\n")), "{errors}");
        }
        assert!(
            errors.contains(" panicked at examples/words/worker.rs:"),
            "{errors}"
        );
        assert!(
            errors.contains("at which a worker panicked: 3 "),
            "{errors}"
        );
        if workers == "1" {
            // More files came after each of them.
            assert!(errors.contains("(workers made anew: 3)\n"), "{errors}");
        }
    }
    let output = scratch.run(["--fail-on=NOT THERE", "tree"]);
    assert_eq!(
        (output.status.code(), text(&output.stderr)),
        (Some(0), String::new())
    );
}

#[test]
fn what_cannot_be_read_is_said_and_the_rest_counted() {
    let scratch = Scratch::new("unreadable");
    scratch.file("tree/a", b"a b\n");
    let output = scratch.run(["--top=0", "missing\nfile", "tree", "/dev/null"]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert_eq!(text(&output.stdout), "1 files\n1 lines\n2 words\n4 bytes\n");
    assert_eq!(errors.lines().count(), 2, "{errors}");
    assert!(
        errors.starts_with("words: \"missing\\nfile\": No such file"),
        "{errors}"
    );
    assert!(
        errors.contains("words: /dev/null: neither a regular file nor"),
        "{errors}"
    );
    // A file that can be opened, and not be read.
    let memory = "/proc/self/mem";
    if fs::read(memory).is_err() && fs::File::open(memory).is_ok() {
        let output = scratch.run(["--top=0", memory, "tree"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stdout).starts_with("1 files\n"));
        assert!(text(&output.stderr).starts_with("words: /proc/self/mem: "));
    }
}

#[test]
fn a_command_line_that_makes_no_sense_exits_with_2() {
    let scratch = Scratch::new("usage");
    for bad in [
        &[] as &[&str],
        &["--workers=0", "."],
        &["--fail-on", "", "."],
    ] {
        let output = scratch.run(bad);
        assert_eq!(output.status.code(), Some(2), "{bad:?}");
        assert!(output.stdout.is_empty());
        let errors = text(&output.stderr);
        assert!(
            errors.starts_with("words: ") && errors.contains("\nusage: "),
            "{errors}"
        );
    }
    let output = scratch.run(["--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.starts_with(b"usage: words "));
}

#[test]
fn output_that_cannot_be_written() {
    let scratch = Scratch::new("output");
    scratch.file("a", b"a");
    // Nobody reads: quiet.
    let mut command = scratch.words();
    let mut running = Running::start({
        command.arg("a");
        command
    });
    drop(running.child.stdout.take());
    let status = running.exit_code();
    // It may have printed before.
    assert!(status == Some(141) || status == Some(0), "{status:?}");
    assert_eq!(running.answer(), "");
    let Ok(full) = fs::File::options().write(true).open("/dev/full") else {
        return;
    };
    let output = scratch.words().arg("a").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    assert!(
        errors.starts_with("words: cannot write the output: No space"),
        "{errors}"
    );
    assert_eq!(errors.lines().count(), 1);
}
