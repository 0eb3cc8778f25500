//! Stock Python clients against the example server: the streams as their first clients know them,
//! health, reflection, load reports and balancing by them. The tests themselves are in `interop/`.
//!
//! They need a Python with the packages of `interop/requirements.txt`: `tests/interop/make-venv`
//! makes one in `target/interop-venv`. Elsewhere: `WORKER_POOL_INTEROP_PYTHON=/path/to/python`.
//! Without it they are skipped, loudly, or fail where `WORKER_POOL_INTEROP=required` is set.
#![cfg(feature = "grpc")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The Python to use, if there is one.
fn python() -> Option<PathBuf> {
    if let Some(python) = std::env::var_os("WORKER_POOL_INTEROP_PYTHON") {
        return Some(python.into());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/interop-venv/bin/python");
    python.exists().then_some(python)
}

/// The example server, built as this test was: `cargo test` builds it only when asked for all.
fn serve() -> &'static Path {
    static SERVE: OnceLock<PathBuf> = OnceLock::new();
    SERVE.get_or_init(|| {
        let test = std::env::current_exe().expect("the path of this test");
        let folder = test.ancestors().nth(2).expect("target/<profile>/deps/test");
        let name = folder.file_name().and_then(|name| name.to_str());
        let profile = match name.expect("the profile's folder") {
            "debug" => "dev",
            other => other,
        };
        let features = if cfg!(feature = "tls") { "tls" } else { "grpc" };
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--example", "serve"])
            .args(["--features", features, "--profile", profile])
            .arg("--target-dir")
            .arg(folder.parent().expect("the target folder"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs");
        let text = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "the example server:\n{text}");
        let serve = folder.join("examples").join("serve");
        serve.with_extension(std::env::consts::EXE_EXTENSION)
    })
}

#[track_caller]
fn run(tests: &str) {
    let Some(python) = python() else {
        let required = std::env::var_os("WORKER_POOL_INTEROP");
        assert!(
            required.is_none_or(|word| word != "required"),
            "{tests}: WORKER_POOL_INTEROP=required, but there is no Python in target/interop-venv"
        );
        // Written past the test harness, which swallows what a passing test prints.
        use std::io::Write;
        let _ = writeln!(
            std::io::stderr().lock(),
            "\n*** SKIPPED: interop {tests}: no Python. Run tests/interop/make-venv, \
             or set WORKER_POOL_INTEROP_PYTHON. ***\n"
        );
        return;
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    let output = Command::new(&python)
        .args(["-B", "-W", "error::ResourceWarning", "-m", "unittest", "-v"])
        .arg(tests)
        .current_dir(folder)
        .env("WORKER_POOL_SERVE", serve())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", python.display()));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tests}:\n{text}");
    assert!(!text.contains("Ran 0 tests"), "{tests}:\n{text}");
    println!("{text}");
}

#[test]
fn streams() {
    run("test_streams");
}

#[test]
fn health() {
    run("test_health");
}

#[test]
fn reflection() {
    run("test_reflection");
}

#[test]
fn orca() {
    run("test_orca");
}

#[test]
fn balance() {
    run("test_balance");
}
