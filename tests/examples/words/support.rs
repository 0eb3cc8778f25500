//! Trees to count, the system's tools beside it, and the example as a process.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};

/// Long past this, something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// An empty directory, gone at the end of the test.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("words-{name}"));
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

    /// A file that takes longer to read than anybody waits, and takes no room.
    pub(crate) fn endless_file(&self, name: &str) -> fs::File {
        let file = fs::File::create(self.0.join(name)).unwrap();
        file.set_len(1 << 40).unwrap();
        file
    }

    /// The example, to be run in this directory.
    pub(crate) fn words(&self) -> Command {
        let test = env::current_exe().unwrap();
        let example = test.parent().and_then(Path::parent).unwrap();
        let example = example.join("examples/words");
        assert!(
            example.exists(),
            "{} is not built; `cargo test` builds it, `cargo build --example words` as well",
            example.display()
        );
        let mut command = Command::new(example);
        command.current_dir(&self.0).stdin(Stdio::null());
        command
    }

    pub(crate) fn run<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Output {
        self.words().args(arguments).output().unwrap()
    }

    /// Files, lines, words and bytes below one path, by `find` and `wc`.
    pub(crate) fn reference(&self, path: &str) -> [u64; 4] {
        // Some `wc` take what has no printable ASCII for no word: here every byte has.
        const EACH: &str = "LC_ALL=C tr '\\0-\\10\\16-\\37\\177-\\377' x <\"$1\" | LC_ALL=C wc";
        let mut find = Command::new("find");
        find.args(["-H", path, "-type", "f", "-exec", "sh", "-c", EACH, "sh"]);
        find.args(["{}", ";"]).current_dir(&self.0);
        let mut totals = [0; 4];
        for line in text(&find.output().unwrap().stdout).lines() {
            totals[0] += 1;
            for (total, number) in totals[1..].iter_mut().zip(line.split_whitespace()) {
                *total += number.parse::<u64>().unwrap();
            }
        }
        totals
    }

    /// The words below one path, as `NUMBER WORD` each, by `sort` and `uniq`.
    pub(crate) fn frequencies(&self, path: &str) -> Vec<(u64, Vec<u8>)> {
        const SCRIPT: &str = "find -H \"$1\" -type f -exec sh -c 'cat \"$1\"; echo' sh {} ';' |
            tr -s '\\t-\\r ' '\\n' | grep -av '^$' | sort | uniq -c | sort -k1,1nr -k2";
        let mut pipeline = Command::new("sh");
        pipeline.args(["-c", SCRIPT, "sh", path]);
        pipeline.current_dir(&self.0).env("LC_ALL", "C");
        let output = pipeline.output().unwrap().stdout;
        let lines = output.split(|byte| *byte == b'\n');
        let lines = lines
            .map(<[u8]>::trim_ascii_start)
            .filter(|line| !line.is_empty());
        let pair = |line: &[u8]| {
            let space = line.iter().position(|byte| *byte == b' ').unwrap();
            (
                text(&line[..space]).parse().unwrap(),
                line[space + 1..].to_vec(),
            )
        };
        lines.map(pair).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A tree of odd names, and of texts that are hard to count.
pub(crate) fn odd_tree(name: &str) -> Scratch {
    let scratch = Scratch::new(name);
    let names: [&[u8]; 9] = [
        b"plain",
        b" leading and trailing ",
        b"-dash",
        b"new\nline",
        b"back\\slash",
        b"caf\xc3\xa9",
        b"not utf-8 \xff\xfe",
        b"\x1b[2J",
        b"sub/deeper\n/still\\/in",
    ];
    for name in names {
        let content = [name, b" one two one\n", name].concat();
        scratch.file(Path::new("tree").join(OsStr::from_bytes(name)), &content);
    }
    scratch.file("tree/empty file", b"");
    scratch.file("tree/spaces", b" \t\n\x0b\x0c\r  \n\n");
    scratch.file("tree/no end", b"no newline at the end");
    scratch.file("tree/bytes", &(0..=255).collect::<Vec<u8>>());
    scratch.file(
        "tree/utf-8",
        "über naïve — 日本語 über\u{a0}so\n".as_bytes(),
    );
    // Words across the ends of buffers, whatever these are long; and one that is longer than any.
    scratch.file("tree/long", "lorem ipsum\n".repeat(40_000).as_bytes());
    scratch.file("tree/longer", "abcdefg ".repeat(40_000).as_bytes());
    scratch.file("tree/one word", &[b'w'; 300_000]);
    fs::create_dir(scratch.0.join("tree/empty")).unwrap();
    symlink("plain", scratch.0.join("tree/link")).unwrap();
    symlink("..", scratch.0.join("tree/loop")).unwrap();
    symlink("nowhere", scratch.0.join("tree/dangling")).unwrap();
    scratch
}

/// Totals as they are printed for people.
pub(crate) fn totals([files, lines, words, bytes]: [u64; 4]) -> String {
    let width = files.max(lines).max(words).max(bytes).to_string().len();
    let line = |number: u64, what: &str| format!("{number:>width$} {what}\n");
    [
        line(files, "files"),
        line(lines, "lines"),
        line(words, "words"),
        line(bytes, "bytes"),
    ]
    .concat()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The example while it runs, to be talked with. Killed if the test ends before it.
pub(crate) struct Running {
    pub(crate) child: Child,
    errors: Receiver<String>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (tell, errors) = unbounded();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = tell.send(line + "\n");
            }
        });
        Running { child, errors }
    }

    /// Types this line.
    pub(crate) fn ask(&mut self, line: &str) {
        let mut input = self.child.stdin.as_ref().unwrap();
        writeln!(input, "{line}").unwrap();
    }

    /// The next line that it says; nothing if there is none.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> String {
        match self.errors.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => String::new(),
            Err(RecvTimeoutError::Timeout) => panic!("it says nothing"),
        }
    }

    /// Waits for the pool's numbers to say this. Nothing else may be said before.
    #[track_caller]
    pub(crate) fn news(&mut self, part: &str) {
        loop {
            let line = self.answer();
            if line.contains(part) {
                return;
            }
            assert!(line.contains(" jobs accepted: "), "{line:?}");
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let mut kill = Command::new("sh");
        kill.args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &pid]);
        let status = kill.stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "cannot send {name}");
    }

    #[track_caller]
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < PATIENCE, "still running");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it printed; once it has ended.
    pub(crate) fn output(&mut self) -> String {
        let mut output = String::new();
        let mut out = self.child.stdout.take().unwrap();
        out.read_to_string(&mut output).unwrap();
        output
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
