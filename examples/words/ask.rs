//! Paths on standard input: each is counted before the files that wait.

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use worker_pool::Priority;

use crate::Pool;
use crate::problem::{Name, Problem};
use crate::screen::Screen;
use crate::text::Count;
use crate::worker::{self, Task};

/// The thread that answers. Nobody can wake it from its reading, so it is not waited for.
#[derive(Debug)]
pub(crate) struct Answers(Arc<Mutex<()>>);

impl Answers {
    /// Answers until the pool is closed or there is nothing more to read.
    pub(crate) fn start(pool: &Pool, screen: &Screen) -> io::Result<Self> {
        let busy = Arc::new(Mutex::new(()));
        let answers = Answers(Arc::clone(&busy));
        let (pool, screen) = (pool.downgrade(), screen.clone());
        let answer_all = move || {
            for line in io::stdin().lock().split(b'\n').map_while(Result::ok) {
                let _busy = busy.lock();
                let Some(pool) = pool.upgrade() else { return };
                if !line.is_empty() {
                    answer(&pool, &screen, OsString::from_vec(line).into());
                }
            }
        };
        let thread = thread::Builder::new().name("answers".to_owned());
        thread.spawn(answer_all)?;
        Ok(answers)
    }

    /// Waits for the answer that is under way, if there is one.
    pub(crate) fn finish(self) {
        drop(self.0.lock());
    }
}

fn answer(pool: &Pool, screen: &Screen, path: PathBuf) {
    let problem = |error| Problem {
        path: path.clone(),
        error,
    };
    // A named pipe would hold up a worker for ever.
    match fs::metadata(&path) {
        Err(error) => return screen.say(&problem(error)),
        Ok(found) if !found.is_file() => {
            return screen.say(&problem(io::Error::other("not a regular file")));
        }
        Ok(_) => {}
    }
    let task = Task {
        path: path.as_path().into(),
        tabled: false,
    };
    match pool.job(task).priority(Priority::High).submit() {
        Ok(count) => {
            let Count {
                lines,
                words,
                bytes,
            } = count;
            let name = Name(&path);
            screen.say(&format_args!(
                "{name}: {lines} lines, {words} words, {bytes} bytes"
            ));
        }
        Err(error) if error.is_closed() => {}
        Err(error) => screen.say(&worker::problem(&path, error)),
    }
}
