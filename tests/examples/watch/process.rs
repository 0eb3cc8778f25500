//! The example as a process.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use std::{env, thread};

use crossbeam_channel::{Receiver, unbounded};

use super::LONG;

fn example() -> String {
    let test = env::current_exe().unwrap();
    let example = test.parent().and_then(Path::parent).unwrap();
    let example = example.join("examples/watch");
    assert!(
        example.exists(),
        "{} is not built; `cargo test` builds it, `cargo build --example watch` as well",
        example.display()
    );
    example.to_str().unwrap().to_owned()
}

pub(crate) fn watch(arguments: &[&str]) -> Command {
    let mut command = Command::new(example());
    command
        .args(arguments)
        .stdin(Stdio::null())
        .env("NO_COLOR", "1");
    command.env_remove("WATCH_TOKEN");
    command
}

/// What it prints before it ends, which it must do well.
#[track_caller]
pub(crate) fn once(arguments: &[&str]) -> String {
    let output = watch(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    text
}

/// Killed at the end of the test.
pub(crate) struct Running {
    child: Child,
    pieces: Receiver<Vec<u8>>,
    unread: Vec<u8>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let (tell, pieces) = unbounded();
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = out.read(&mut piece) {
                let _ = tell.send(piece[..read].to_vec());
            }
        });
        Running {
            child,
            pieces,
            unread: Vec::new(),
        }
    }

    /// `script` runs it on a terminal of its own.
    pub(crate) fn on_a_terminal(arguments: &[&str]) -> Running {
        let mut command = Command::new("script");
        let line = format!("exec '{}' {}", example(), arguments.join(" "));
        command
            .args(["-qfc", &line, "/dev/null"])
            .stdin(Stdio::null())
            .env("NO_COLOR", "1")
            .env_remove("WATCH_TOKEN");
        Running::start(command)
    }

    /// Waits for this text; what came before it since the last call, and the text.
    #[track_caller]
    pub(crate) fn read_until(&mut self, text: &str) -> String {
        let until = Instant::now() + LONG;
        loop {
            let found = self
                .unread
                .windows(text.len())
                .position(|at| at == text.as_bytes());
            if let Some(start) = found {
                let read = self.unread.drain(..start + text.len()).collect();
                return String::from_utf8(read).unwrap();
            }
            let so_far = String::from_utf8_lossy(&self.unread);
            match self.pieces.recv_deadline(until) {
                Ok(piece) => self.unread.extend(piece),
                Err(_) => panic!("it ended, or went on without {text:?}: {so_far}"),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
