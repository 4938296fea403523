//! `cargo xtask test`: formatting, lints and every test, with the minutes each part took.

use crate::debian::{self, Need, Probe};
use crate::program::Program;
use crate::{build, setup, workspace};
use std::time::Instant;

/// What the tests start beyond what the build needs.
const NEEDED: [Need; 8] = [
    Need { probe: Probe::Program("git"), package: "git" },
    Need { probe: Probe::Program("cc"), package: "gcc libc6-dev" },
    Need { probe: Probe::Program("npm"), package: "npm" },
    Need { probe: Probe::File("/usr/bin/python3"), package: "python3" },
    Need { probe: Probe::Python("ensurepip, venv"), package: "python3-venv" },
    Need { probe: Probe::Program("docker-registry"), package: "docker-registry" },
    Need { probe: Probe::Program("skopeo"), package: "skopeo" },
    Need { probe: Probe::File("/usr/lib/chromium/chromium"), package: "chromium" },
];

/// What is built in only where somebody asks for it is tested all the same.
const FEATURES: [&str; 2] = ["--features", "harvest/sled,harvest/docker"];

/// Runs all parts, also after one has failed, and names those that did.
pub(crate) fn run() -> Result<(), String> {
    let mut report = Report::default();
    report.part("setup", || debian::install(&NEEDED).and_then(|()| setup::run()));
    if report.failed.is_empty() {
        report.part("agent CLI", build::agent);
        report.part("lock files", lock_files);
        report.part("format", format);
        report.part("lints", lints);
        report.part("lints of guests", lints_of_guests);
        report.part("tests of guests", tests_of_guests);
        report.part("tests", || {
            workspace::cargo()
                .args(["test", "--workspace", "--locked", "--no-fail-fast"])
                .args(FEATURES)
                .run()
        });
    }
    report.print()
}

/// A lock file that cargo would change was not committed.
fn lock_files() -> Result<(), String> {
    for manifest in ["Cargo.toml", "guests/Cargo.toml"] {
        let metadata = ["metadata", "--locked", "--format-version", "1", "--manifest-path", manifest];
        workspace::cargo().args(metadata).quiet()?;
    }
    Ok(())
}

fn format() -> Result<(), String> {
    for manifest in ["Cargo.toml", "guests/Cargo.toml"] {
        workspace::cargo().args(["fmt", "--all", "--check", "--manifest-path", manifest]).run()?;
    }
    Ok(())
}

fn lints() -> Result<(), String> {
    let lints = ["clippy", "--workspace", "--all-targets", "--locked"];
    workspace::cargo().args(lints).args(FEATURES).args(["--", "--deny", "warnings"]).run()
}

fn lints_of_guests() -> Result<(), String> {
    guests("clippy")?.args(["--target", "wasm32-wasip2", "--", "--deny", "warnings"]).run()
}

/// What guests decide without a host is tested on this machine. The profile is that of the embedded ones, so that the
/// generator of their bindings is compiled once.
fn tests_of_guests() -> Result<(), String> {
    guests("test")?.run()
}

fn guests(command: &str) -> Result<Program, String> {
    let options = ["--locked", "--release", "--manifest-path", "guests/Cargo.toml", "--target-dir"];
    let target = workspace::target_directory()?.join("guests");
    Ok(workspace::cargo().arg(command).args(options).arg(target))
}

#[derive(Default)]
struct Report {
    minutes: Vec<(&'static str, f64)>,
    failed: Vec<String>,
}

impl Report {
    fn part(&mut self, name: &'static str, run: impl FnOnce() -> Result<(), String>) {
        eprintln!("== {name}");
        let start = Instant::now();
        if let Err(error) = run() {
            self.failed.push(format!("{name}: {error}"));
        }
        self.minutes.push((name, start.elapsed().as_secs_f64() / 60.0));
    }

    fn print(self) -> Result<(), String> {
        for (name, minutes) in &self.minutes {
            println!("{minutes:6.1} min  {name}");
        }
        let total: f64 = self.minutes.iter().map(|(_, minutes)| minutes).sum();
        println!("{total:6.1} min  in all");
        if self.failed.is_empty() { Ok(()) } else { Err(self.failed.join("\nerror: ")) }
    }
}
