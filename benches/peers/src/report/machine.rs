//! The machine and the versions that the results come from.

use std::fs;
use std::process::Command;
use std::thread;

const PACKAGES: [&str; 7] = [
    "worker-pool-manager",
    "rayon",
    "threadpool",
    "workerpool",
    "rusty_pool",
    "threadfin",
    "crossbeam-channel",
];

pub(super) fn text() -> String {
    let processor = file_value("/proc/cpuinfo", "model name");
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease");
    let kernel = kernel.map_or_else(
        |_| std::env::consts::OS.to_owned(),
        |it| format!("Linux {it}"),
    );
    let versions: Vec<_> = PACKAGES.iter().map(|name| version(name)).collect();
    format!(
        "{cores} cores, {processor}, {}; {}; {}.",
        kernel.trim(),
        compiler(),
        versions.join(", ")
    )
}

fn file_value(path: &str, key: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key));
    let value = line.and_then(|line| line.split(": ").nth(1));
    value.unwrap_or("processor unknown").to_owned()
}

fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output();
    let version = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    version.unwrap_or_else(|_| "rustc unknown".to_owned())
}

fn version(package: &str) -> String {
    let lock = include_str!("../../Cargo.lock");
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name).skip(1);
    let version = lines.next().and_then(|line| line.split('"').nth(1));
    format!("{package} {}", version.unwrap_or("unknown"))
}
