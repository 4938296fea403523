//! The local sandbox provider: the contract of all providers, as the user who runs the tests and, where that is root, as an
//! ordinary user too; then what only this provider promises, a file a subject.

#[path = "../harness/chance.rs"]
mod chance;
#[path = "../harness/ordinary_user.rs"]
mod ordinary_user;
#[path = "../contract"]
mod contract {
    pub(crate) mod sandbox;
}
mod doctor;
mod gateway;
mod invisible;
mod limits;
mod network;
mod powers;
mod processes;
mod reach;
mod state;
mod survives;
mod volumes;

use harvest::capability::sandbox::local::{LocalProvider, Upstream};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

/// A provider with a home of its own, deleted with it.
struct Local {
    provider: LocalProvider,
    home: tempfile::TempDir,
}

impl std::ops::Deref for Local {
    type Target = LocalProvider;

    fn deref(&self) -> &LocalProvider {
        &self.provider
    }
}

fn launcher() -> PathBuf {
    std::env::var_os("HARVEST_TEST_LAUNCHER")
        .map_or_else(|| env!("CARGO_BIN_EXE_harvest").into(), PathBuf::from)
}

fn local() -> Local {
    with_upstreams(Vec::new())
}

fn with_upstreams(upstreams: Vec<Upstream>) -> Local {
    let home = tempfile::tempdir().expect("a directory");
    let provider = LocalProvider::new(home.path(), launcher(), upstreams).expect("a provider");
    Local { provider, home }
}

mod keeps {
    use super::local;

    crate::local_sandbox_contract!(local());
}

/// A text that must turn up nowhere.
const CANARY: &str = "canary-4d1e8c0a";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Files below a directory that hold a text.
fn grep(directory: &Path, text: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            found.extend(grep(&path, text));
        } else if kind.is_file()
            && std::fs::read(&path)
                .is_ok_and(|content| content.windows(text.len()).any(|window| window == text))
        {
            found.push(path);
        }
    }
    found
}

/// Collects what is logged.
struct Collector(&'static Mutex<Vec<u8>>);

impl Write for Collector {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("a log").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Begins to log everything, and returns what reads it. There is one log for all tests of this process.
fn logged() -> impl Fn() -> String {
    static LOG: OnceLock<&'static Mutex<Vec<u8>>> = OnceLock::new();
    let log = LOG.get_or_init(|| {
        let log: &'static Mutex<Vec<u8>> = Box::leak(Box::default());
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || Collector(log))
            .init();
        log
    });
    || String::from_utf8_lossy(&log.lock().expect("a log")).into_owned()
}

/// Control groups of this machine whose name ends with an id.
fn groups_of(id: &str) -> Vec<PathBuf> {
    fn search(directory: &Path, id: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().ends_with(id) {
                    found.push(entry.path());
                }
                search(&entry.path(), id, found);
            }
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let mut found = Vec::new();
    for line in mounts.lines().filter(|line| line.contains(" - cgroup")) {
        search(Path::new(line.split(' ').nth(4).expect("a mount point")), id, &mut found);
    }
    found
}

/// Everything here once more as a user without any rights, where the tests run as root.
#[test]
fn all_of_it_as_an_ordinary_user() {
    ordinary_user::again("", &launcher());
}
