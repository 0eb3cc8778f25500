//! The house holds: imports point one way, files stay short, and only `sync` knows where locks and
//! threads come from.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use source::{code_of, paths, tokens, without_tests};

/// The modules, each of which may use those before it.
const ORDER: [&str; 15] = [
    "sync",
    "job",
    "error",
    "hook",
    "stats",
    "policy",
    "task",
    "pool",
    "dispatcher",
    "worker",
    "submit",
    "batch",
    "manager",
    "closures",
    "grpc",
];

/// No file is longer.
const LINES: usize = 500;

/// What may stand in `src` beside `lib.rs` and the guide.
const ENTRIES: usize = 15;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a folder, in order.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the package") {
        let path = entry.expect("it is readable").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// A file of the library, without its tests.
struct Source {
    /// Below `src`, with slashes.
    file: String,
    /// The module that it is: nothing for `lib.rs`.
    module: Vec<String>,
    code: String,
}

impl Source {
    /// The module at the root that it belongs to.
    fn top(&self) -> &str {
        self.module.first().map_or("", String::as_str)
    }

    /// The paths from these roots outside of tests.
    fn paths(&self, roots: &[&str]) -> Vec<Vec<String>> {
        paths(&without_tests(&tokens(&self.code)), roots)
    }

    /// The paths into this crate, from its root; those that climb with `super`, too.
    fn own_paths(&self) -> Vec<Vec<String>> {
        let absolute = |path: Vec<String>| {
            let ups = path.iter().take_while(|name| *name == "super").count();
            let (above, below) = match ups {
                0 => (&[][..], &path[1..]),
                // Deeper than the file's own module only within a module that it holds itself.
                _ => (
                    &self.module[..self.module.len().saturating_sub(ups)],
                    &path[ups..],
                ),
            };
            [above, below].concat()
        };
        let paths = self.paths(&["crate", "super"]);
        paths.into_iter().map(absolute).collect()
    }
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let files = rust_files(&src);
    let tested = files
        .iter()
        .filter(|path| !path.to_string_lossy().ends_with("_tests.rs"));
    let sources: Vec<_> = tested.map(|path| read(&src, path)).collect();
    assert!(sources.len() > ORDER.len(), "the library was found");
    sources
}

fn read(src: &Path, path: &Path) -> Source {
    let below = path.strip_prefix(src).expect("it was found there");
    let file = below.to_string_lossy().replace('\\', "/");
    let names = file.trim_end_matches(".rs").split('/').map(str::to_owned);
    let mut module: Vec<_> = names.collect();
    if matches!(
        module.last().map(String::as_str),
        Some("mod" | "lib" | "main")
    ) {
        module.pop();
    }
    let text = fs::read_to_string(path).expect("it is readable");
    let code = code_of(&text);
    Source { file, module, code }
}

/// The names that `lib.rs` exports, and where each of them comes from.
fn exports(sources: &[Source]) -> BTreeMap<String, Vec<String>> {
    let lib = sources.iter().find(|source| source.file == "lib.rs");
    let lib = lib.expect("there is a lib.rs");
    let paths = lib.paths(&ORDER);
    let used = paths.into_iter().filter(|path| path.len() > 1);
    let exports: BTreeMap<_, _> = used
        .filter_map(|path| Some((path.last()?.clone(), path)))
        .collect();
    assert!(exports.contains_key("JobHandle"), "{exports:?}");
    exports
}

/// Where a path really leads: a name that `lib.rs` exports stands for a longer path.
fn resolve(path: Vec<String>, exports: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    match path.first().and_then(|name| exports.get(name)) {
        Some(origin) => [origin, &path[1..]].concat(),
        None => path,
    }
}

#[track_caller]
fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn imports_point_to_earlier_modules() {
    let sources = sources();
    let exports = exports(&sources);
    let place = |module: &str| ORDER.iter().position(|name| *name == module);
    let mut found = BTreeSet::new();
    let mut edges = BTreeSet::new();
    for source in sources.iter().filter(|source| source.file != "lib.rs") {
        let own = place(source.top());
        let own = own.unwrap_or_else(|| panic!("{} has no place in the order", source.file));
        for path in source.own_paths() {
            let path = resolve(path, &exports);
            if path.first().is_some_and(|name| name == "*") {
                found.insert(format!("src/{}: all of lib.rs", source.file));
            }
            let Some(used) = path.first().and_then(|name| place(name)) else {
                continue;
            };
            edges.insert((own, used));
            if used > own {
                found.insert(format!("src/{}: {}", source.file, path.join("::")));
            }
        }
    }
    assert!(edges.len() > 2 * ORDER.len(), "imports were found");
    let found: Vec<_> = found.into_iter().collect();
    none("modules import what comes after them", &found);
}

#[test]
fn no_files_import_one_another_in_a_circle() {
    let sources = sources();
    let exports = exports(&sources);
    let files: BTreeMap<_, _> = sources
        .iter()
        .enumerate()
        .map(|(number, source)| (&source.module[..], number))
        .collect();
    let targets = |source: &Source| {
        let mut targets = BTreeSet::new();
        for path in source.paths(&["crate"]) {
            let path = resolve(path[1..].to_vec(), &exports);
            // The longest part of the path that is a file. At the root only re-exports are left.
            let lengths = (1..=path.len()).rev();
            let target = lengths.filter_map(|length| files.get(&path[..length]));
            targets.extend(target.take(1).copied());
        }
        targets
    };
    let mut left: BTreeMap<usize, BTreeSet<usize>> =
        sources.iter().map(targets).enumerate().collect();
    assert!(left.values().map(BTreeSet::len).sum::<usize>() > sources.len());
    for (number, targets) in &mut left {
        targets.remove(number);
    }
    // What imports nothing that is left, and what nothing that is left imports, is in no circle.
    loop {
        let before = left.len();
        let remaining: BTreeSet<_> = left.keys().copied().collect();
        left.retain(|_, targets| !targets.is_disjoint(&remaining));
        let wanted: BTreeSet<_> = left.values().flatten().copied().collect();
        left.retain(|number, _| wanted.contains(number));
        if left.len() == before {
            break;
        }
    }
    let name = |number: &usize| format!("src/{}", sources[*number].file);
    let line = |(number, targets): (&usize, &BTreeSet<usize>)| {
        let targets = targets.iter().filter(|target| left.contains_key(target));
        let targets: Vec<_> = targets.map(name).collect();
        format!("{} -> {}", name(number), targets.join(", "))
    };
    let found: Vec<_> = left.iter().map(line).collect();
    none("files import one another in a circle", &found);
}

#[test]
fn no_file_is_long() {
    let mut found = Vec::new();
    for folder in ["src", "tests", "benches", "examples"] {
        for path in rust_files(&root().join(folder)) {
            let text = fs::read_to_string(&path).expect("it is readable");
            let lines = text.lines().count();
            if lines > LINES {
                let path = path.strip_prefix(root()).expect("it was found there");
                found.push(format!("{}: {lines} lines", path.display()));
            }
        }
    }
    none("files are too long", &found);
}

/// Also in comments: the pool does not know what looks at it.
#[test]
fn only_grpc_names_grpc() {
    let src = root().join("src");
    let mut found = Vec::new();
    for path in rust_files(&src) {
        let below = path.strip_prefix(&src).expect("it was found there");
        if below.starts_with("grpc") || below == Path::new("lib.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("it is readable");
        let lines = (1..).zip(text.lines());
        let named = lines.filter(|(_, line)| line.to_lowercase().contains("grpc"));
        found.extend(named.map(|(number, line)| {
            let line = line.trim();
            format!("src/{}:{number}: {line}", below.display())
        }));
    }
    none("files outside of src/grpc name gRPC", &found);
}

#[test]
fn the_source_has_few_rooms() {
    let entries = fs::read_dir(root().join("src")).expect("the source");
    let names = entries.map(|entry| entry.expect("it is readable").file_name());
    let names: Vec<_> = names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name != "lib.rs" && name != "guide")
        .collect();
    assert!(
        names.len() <= ENTRIES,
        "{} entries in src: {names:?}",
        names.len()
    );
}

/// A log backend is the user's code: what it throws is contained in one place. (gRPC's own threads
/// have their own ways to contain what is called there.)
#[test]
fn records_are_logged_through_sync() {
    let logs = |source: &Source| source.paths(&["log"]).iter().any(|path| path.len() > 1);
    let contained = |source: &Source| {
        let paths = source.own_paths();
        paths.iter().any(|path| path[..] == ["sync", "log"])
    };
    let sources = sources();
    let logging = sources.iter().filter(|source| logs(source));
    let logging: Vec<_> = logging.map(|source| &source.file).collect();
    assert!(logging.len() > 5, "log calls were found: {logging:?}");
    let found = sources.iter().filter(|source| {
        let excepted = source.top() == "grpc" || source.file == "sync/log.rs";
        !excepted && logs(source) && !contained(source)
    });
    let found: Vec<_> = found.map(|source| format!("src/{}", source.file)).collect();
    none("files use the crate `log` directly", &found);
}

/// Whether a path names what only `sync` may take from outside.
fn is_for_sync(path: &[String]) -> bool {
    let names: Vec<_> = path.iter().map(String::as_str).collect();
    match names[..] {
        ["parking_lot" | "crossbeam_channel", ..] | ["std", "thread", ..] => true,
        ["std" | "core", "hint", "spin_loop"] => true,
        ["std" | "core", "sync"] | ["std" | "core", "*"] => true,
        ["std" | "core", "sync", what, ..] => matches!(
            what,
            "Mutex" | "RwLock" | "Condvar" | "OnceLock" | "atomic" | "self" | "*"
        ),
        _ => false,
    }
}

#[test]
fn locks_and_threads_come_from_sync() {
    let mut found = Vec::new();
    for source in sources() {
        if source.top() == "sync" {
            continue;
        }
        let roots = ["std", "core", "parking_lot", "crossbeam_channel"];
        let paths = source.paths(&roots);
        for path in paths.iter().filter(|path| is_for_sync(path)) {
            found.push(format!("src/{}: {}", source.file, path.join("::")));
        }
    }
    none("files do not take these from crate::sync", &found);
}

/// The gRPC half is never run with stand-ins: its threads and clocks are another library's.
#[test]
fn the_time_and_thread_locals_come_from_sync() {
    let mut found = Vec::new();
    for source in sources() {
        if matches!(source.top(), "sync" | "grpc") || source.file.ends_with("_model.rs") {
            continue;
        }
        let tokens = tokens(&source.code);
        let tokens = without_tests(&tokens);
        let imports = source.paths(&["crate"]);
        let from_sync = imports
            .iter()
            .any(|path| *path == ["crate", "sync", "thread_local"]);
        let mut names = |what: &[&str]| {
            if tokens.windows(what.len()).any(|window| window == what) {
                found.push(format!("src/{}: {}", source.file, what.concat()));
            }
        };
        names(&["Instant", "::", "now"]);
        names(&["SystemTime", "::", "now"]);
        names(&[".", "elapsed", "("]);
        if !from_sync {
            names(&["thread_local", "!"]);
        }
    }
    none("files do not take these from crate::sync", &found);
}
