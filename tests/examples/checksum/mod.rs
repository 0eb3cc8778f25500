//! The example `checksum`, as a user meets it, beside the system's `sha256sum`.

#[cfg(feature = "grpc")]
mod serve;
mod support;

// The example's parts that need no pool: their unit tests run here, too.
#[path = "../../../examples/checksum/args.rs"]
mod args;
#[path = "../../../examples/checksum/lines.rs"]
mod lines;
#[path = "../../../examples/checksum/walk.rs"]
mod walk;

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use support::*;

#[test]
fn prints_what_sha256sum_prints_in_the_order_of_the_walk() {
    let scratch = odd_tree("same");
    let expected = scratch.reference("tree");
    assert_eq!(expected.split(|byte| *byte == b'\n').count(), 28);
    for workers in ["1", "2", "7"] {
        let output = scratch.run(["--workers", workers, "tree"]);
        assert_same(&output.stdout, &expected);
        assert_eq!(output.status.code(), Some(0));
        assert_summary(&output.stderr, "27 files, 2.9 MB in ");
    }
}

#[test]
fn sha256sum_check_accepts_it() {
    let scratch = odd_tree("check");
    let output = scratch.run(["tree"]);
    scratch.file("sums", &output.stdout);
    let mut check = Command::new("sha256sum");
    check
        .args(["--check", "--strict", "--quiet", "sums"])
        .current_dir(&scratch.0);
    let check = check.output().unwrap();
    assert!(check.status.success(), "{check:?}");
}

#[test]
fn a_file_that_comes_in_small_pieces_is_read_to_its_end() {
    // The kernel hands out its tables a page at a time, and says that they are empty.
    let table = "/proc/kallsyms";
    let scratch = Scratch::new("pieces");
    let before = scratch.reference(table);
    let output = scratch.run([table]);
    if !before.is_empty() && before == scratch.reference(table) {
        assert_same(&output.stdout, &before);
    }
}

#[test]
fn given_paths_are_taken_as_find_takes_them() {
    let scratch = odd_tree("given");
    let paths = [
        "tree/sub/",
        "tree//sub",
        "./tree/sub",
        "tree/plain",
        "tree/link",
        "tree/link to directory",
        "tree/empty",
        "tree/sub",
        "tree/sub",
    ];
    let expected: Vec<u8> = paths
        .iter()
        .flat_map(|path| scratch.reference(path))
        .collect();
    let output = scratch.run(paths);
    assert_same(&output.stdout, &expected);
    assert_eq!(output.status.code(), Some(0));

    let absolute = scratch.0.join("tree/sub");
    let output = scratch.run([&absolute]);
    assert_same(&output.stdout, &scratch.reference(&absolute));

    let inside = |path: &str| {
        let mut command = scratch.checksum();
        command
            .current_dir(scratch.0.join("tree"))
            .args(["--", path]);
        command.output().unwrap().stdout
    };
    assert!(inside("-dash").ends_with(b"  -dash\n"));
    assert!(inside(".").ends_with(b"  ./with space\n"));
}

#[test]
fn what_cannot_be_read_is_said_and_the_rest_printed() {
    let scratch = Scratch::new("unreadable");
    scratch.file("tree/a/first", b"1");
    scratch.file("tree/z/last", b"2");
    // Paths too long for the kernel: not even root can open them.
    let (long, next) = (scratch.0.join("l"), scratch.0.join("next"));
    for _ in 0..20 {
        fs::create_dir(&next).unwrap();
        fs::write(next.join("f".repeat(250)), "3").unwrap();
        if long.exists() {
            fs::rename(&long, next.join("l".repeat(250))).unwrap();
        }
        fs::rename(&next, &long).unwrap();
    }
    fs::rename(&long, scratch.0.join("tree/long")).unwrap();
    // One file and one directory at the depth where it gets too long, and a missing one.
    let mut problems = 3;
    let locked = scratch.file("tree/locked/in", b"4");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&locked).is_err() {
        problems += 1;
    }

    let output = scratch.run(["missing\nfile", "tree"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_same(&output.stdout, &scratch.reference("tree"));
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), problems + 1, "{stderr}");
    assert!(
        stderr.starts_with("checksum: \"missing\\nfile\": No such file"),
        "{stderr}"
    );
    assert!(
        stderr.contains(&format!(" files ({problems} unreadable), ")),
        "{stderr}"
    );
}

#[test]
fn a_given_path_of_another_kind_is_a_problem() {
    let scratch = odd_tree("kind");
    for path in ["tree/fifo", "tree/dangling", "", "tree/plain/"] {
        let output = scratch.run([path, "tree/sub"]);
        assert_same(&output.stdout, &scratch.reference("tree/sub"));
        assert_eq!(output.status.code(), Some(1), "{path:?}");
    }
}

#[test]
fn no_file_is_no_problem() {
    let scratch = odd_tree("none");
    let output = scratch.run(["tree/empty"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.is_empty());
    assert_summary(&output.stderr, "0 files, 0.0 MB in ");
}

#[test]
fn bad_arguments_exit_with_2_and_say_how_it_goes() {
    let scratch = Scratch::new("arguments");
    scratch.file("f", b"");
    for bad in [
        &[] as &[&str],
        &["--workers", "0", "f"],
        &["f", "--nonsense"],
        &["-"],
        &["--"],
        &["f", "--serve"],
        #[cfg(not(feature = "grpc"))]
        &["--serve", "127.0.0.1:0", "f"],
    ] {
        let output = scratch.run(bad);
        assert_eq!(output.status.code(), Some(2), "{bad:?}");
        assert!(output.stdout.is_empty(), "{bad:?}");
        assert!(
            String::from_utf8(output.stderr)
                .unwrap()
                .ends_with(args::USAGE)
        );
    }
    let help = scratch.run(["--help"]);
    assert_eq!(
        (help.status.code(), help.stdout.as_slice()),
        (Some(0), args::USAGE.as_bytes())
    );
    let version = scratch.run(["--version"]);
    assert_eq!(version.status.code(), Some(0));
    assert!(
        version
            .stdout
            .ends_with(concat!(env!("CARGO_PKG_VERSION"), "\n").as_bytes())
    );
}

#[test]
fn ctrl_c_prints_what_was_begun_and_exits_with_130() {
    let (scratch, arguments, whole) = endless("interrupted", 60_000);
    for signal in ["INT", "TERM"] {
        let (mut running, mut out, mut printed) = start(&scratch, &arguments);
        running.signal(signal);
        out.read_to_end(&mut printed).unwrap();
        assert_eq!(running.exit_code(), Some(130));
        assert!(printed.ends_with(b"\n"));
        assert!(
            whole.starts_with(&printed),
            "these lines are not those of a walk cut short"
        );
        assert!(printed.len() < whole.len(), "it ran to its end");
        let lines = printed.iter().filter(|byte| **byte == b'\n').count();
        assert_summary(running.stderr().as_bytes(), &format!("{lines} files, "));
    }
}

#[test]
fn a_second_ctrl_c_ends_it_at_once() {
    let (scratch, arguments, _) = endless("twice", 60_000);
    let (mut running, _out, _) = start(&scratch, &arguments);
    let start = Instant::now();
    // Nobody reads the rest, so it cannot come to its end. Two signals sent at once may count as one.
    while running.0.try_wait().unwrap().is_none() {
        running.signal("INT");
        assert!(start.elapsed() < PATIENCE, "it does not end");
    }
    assert_eq!(running.exit_code(), Some(130));
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let (scratch, arguments, whole) = endless("reader", 60_000);
    let (mut running, out, first) = start(&scratch, &arguments);
    assert!(whole.starts_with(&first));
    drop(out);
    assert_eq!(running.exit_code(), Some(141));
    assert_eq!(running.stderr(), "");
}

#[test]
fn a_full_disk_is_said() {
    let Ok(full) = fs::File::options().write(true).open("/dev/full") else {
        return;
    };
    let (scratch, arguments, _) = endless("full", 5_000);
    let mut command = scratch.checksum();
    let output = command.args(arguments).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("checksum: cannot write the checksums: No space"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn only_so_many_files_wait_for_their_turn() {
    if !Path::new("/proc/self/io").exists() {
        return;
    }
    let (scratch, arguments, whole) = endless("bounded", 100_000);
    let (mut running, mut out, mut printed) = start(&scratch, &arguments);
    // It is stuck when it has read nothing for a second.
    let begin = Instant::now();
    let mut last = (0, Instant::now());
    while last.1.elapsed() < Duration::from_secs(1) {
        let read = running.figure("io", "rchar:");
        if read != last.0 {
            last = (read, Instant::now());
        }
        assert!(begin.elapsed() < PATIENCE, "it never waits for its reader");
        thread::sleep(Duration::from_millis(20));
    }
    let files = last.0 / 1000;
    assert!(
        files < 40_000,
        "{files} files were read though few can be printed"
    );
    let peak = running.figure("status", "VmHWM:");
    assert!(peak < 48 * 1024, "{peak} KiB of memory for {files} files");
    out.read_to_end(&mut printed).unwrap();
    assert_eq!(running.exit_code(), Some(0));
    assert!(printed == whole, "the rest differs");
}

fn walked(roots: &[PathBuf]) -> walk::Walk {
    walk::Walk::new(roots.to_vec(), Arc::new(AtomicBool::new(false)))
}

#[test]
fn the_walk_says_what_vanished_and_goes_on() {
    let scratch = Scratch::new("vanished");
    let first = scratch.file("a", b"");
    scratch.file("b/in", b"");
    let file = scratch.file("c", b"");
    let last = scratch.file("d/in", b"");
    let mut walk = walked(std::slice::from_ref(&scratch.0));
    assert_eq!(walk.next().unwrap().unwrap(), first);
    fs::remove_dir_all(scratch.0.join("b")).unwrap();
    fs::remove_file(&file).unwrap();
    assert_eq!(walk.next().unwrap().unwrap_err().path, scratch.0.join("b"));
    // Whoever opens it will see.
    assert_eq!(walk.next().unwrap().unwrap(), file);
    assert_eq!(walk.next().unwrap().unwrap(), last);
    assert!(walk.next().is_none());
}

#[test]
fn the_walk_stops_when_it_is_told() {
    let scratch = Scratch::new("stopped");
    scratch.file("a", b"");
    scratch.file("b", b"");
    let stop = Arc::new(AtomicBool::new(false));
    let mut walk = walk::Walk::new(vec![scratch.0.clone()], Arc::clone(&stop));
    assert!(walk.next().is_some());
    stop.store(true, Relaxed);
    assert!(walk.next().is_none());
}

#[test]
fn the_walk_sorts_whole_paths_by_their_bytes() {
    let scratch = odd_tree("sorted");
    let tree = scratch.0.join("tree");
    let found: Vec<OsString> = walked(&[tree]).map(|file| file.unwrap().into()).collect();
    assert!(
        found.is_sorted_by(|a, b| a.as_bytes() < b.as_bytes()),
        "{found:?}"
    );
    assert_eq!(found.len(), 27);
}
