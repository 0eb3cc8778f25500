//! Trees to hash, and the example as a process.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

/// Long past this, something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// An empty directory, gone at the end of the test.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("checksum-{name}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub(crate) fn file(&self, name: impl AsRef<OsStr>, content: &[u8]) -> PathBuf {
        let path = self.0.join(Path::new(name.as_ref()));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// The example, to be run in this directory.
    pub(crate) fn checksum(&self) -> Command {
        let test = env::current_exe().unwrap();
        let example = test.parent().and_then(Path::parent).unwrap();
        let example = example.join("examples/checksum");
        assert!(
            example.exists(),
            "{} is not built; `cargo test` builds it, `cargo build --example checksum` as well",
            example.display()
        );
        let mut command = Command::new(example);
        command.current_dir(&self.0).stdin(Stdio::null());
        command
    }

    pub(crate) fn run<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Output {
        self.checksum().args(arguments).output().unwrap()
    }

    /// What `sha256sum` prints for the files below one path.
    pub(crate) fn reference(&self, path: impl AsRef<OsStr>) -> Vec<u8> {
        let script = "find -H \"$1\" -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum --";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(path);
        let output = command.current_dir(&self.0).output().unwrap();
        output.stdout
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Kills the child if the test ends before it.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        let mut kill = Command::new("sh");
        kill.args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &pid]);
        let status = kill.stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "cannot send {name}");
    }

    #[track_caller]
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < PATIENCE, "still running");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn stderr(&mut self) -> String {
        let mut text = String::new();
        let mut stderr = self.0.stderr.take().unwrap();
        stderr.read_to_string(&mut text).unwrap();
        text
    }

    /// A figure out of one of the kernel's files on this process.
    pub(crate) fn figure(&self, file: &str, key: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.0.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        let line = line.unwrap_or_else(|| panic!("no {key} in {text}"));
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}

#[track_caller]
pub(crate) fn assert_same(found: &[u8], expected: &[u8]) {
    let (found, expected) = (found.escape_ascii(), expected.escape_ascii());
    let (found, expected) = (found.to_string(), expected.to_string());
    assert_eq!(found.replace("\\n", "\n"), expected.replace("\\n", "\n"));
}

#[track_caller]
pub(crate) fn assert_summary(stderr: &[u8], start: &str) {
    let text = String::from_utf8_lossy(stderr);
    let last = text.lines().last().unwrap_or_default();
    assert!(last.starts_with(&format!("checksum: {start}")), "{text}");
    assert!(
        last.contains(" MB/s, ") && last.ends_with(" % busy"),
        "{text}"
    );
}

/// A tree of what is hard to print, to sort and to read.
pub(crate) fn odd_tree(name: &str) -> Scratch {
    let scratch = Scratch::new(name);
    let names: [&[u8]; 18] = [
        b"plain",
        b"with space",
        b" leading and trailing ",
        b"*star",
        b"-dash",
        b"new\nline",
        b"carriage\rreturn",
        b"back\\slash",
        b"all\\of\nthem\r",
        b"tab\t",
        b"caf\xc3\xa9",
        b"not utf-8 \xff\xfe",
        b"\x01control",
        b"sub/in",
        b"sub.x",
        b"sub0",
        b"sub/deeper\n/still\\/in",
        b"sub-1/in",
    ];
    for name in names {
        scratch.file(Path::new("tree").join(OsStr::from_bytes(name)), name);
    }
    // The first one takes longest; lengths around those of blocks and buffers.
    scratch.file("tree/!first", &vec![b'x'; 2 << 20]);
    for length in [
        0,
        55,
        56,
        64,
        128 * 1024 - 1,
        128 * 1024,
        256 * 1024,
        300_001,
    ] {
        scratch.file(format!("tree/length {length}"), &vec![7; length]);
    }
    fs::create_dir(scratch.0.join("tree/empty")).unwrap();
    symlink("plain", scratch.0.join("tree/link")).unwrap();
    symlink("sub", scratch.0.join("tree/link to directory")).unwrap();
    symlink("nowhere", scratch.0.join("tree/dangling")).unwrap();
    symlink("..", scratch.0.join("tree/loop")).unwrap();
    let mut fifo = Command::new("mkfifo");
    assert!(
        fifo.arg(scratch.0.join("tree/fifo"))
            .status()
            .unwrap()
            .success()
    );
    scratch
}

/// A hundred files, and arguments that name them so often that they come to `lines` lines: far more
/// than fit into a pipe and into what may wait for its turn.
pub(crate) fn endless(name: &str, lines: usize) -> (Scratch, Vec<&'static str>, Vec<u8>) {
    let scratch = Scratch::new(name);
    for number in 0..100 {
        scratch.file(format!("d/{number:02}"), &[b'x'; 1000]);
    }
    let once = scratch.reference("d");
    (scratch, vec!["d"; lines / 100], once.repeat(lines / 100))
}

/// Starts it and reads its first line; it is then stuck at writing the rest.
pub(crate) fn start(
    scratch: &Scratch,
    arguments: &[&str],
) -> (Running, BufReader<ChildStdout>, Vec<u8>) {
    let mut command = scratch.checksum();
    command.args(["--workers", "2"]).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running(command.spawn().unwrap());
    // A small buffer: a large one would make room in the pipe.
    let mut out = BufReader::with_capacity(64, running.0.stdout.take().unwrap());
    let mut first = Vec::new();
    out.read_until(b'\n', &mut first).unwrap();
    (running, out, first)
}
