//! The files of sandboxes on layers, and snapshots of them: with the real kernel, as the user who runs the tests and, where
//! that is root, as an ordinary user too.

#[path = "../harness/ordinary_user.rs"]
mod ordinary_user;
#[path = "../contract"]
mod contract {
    #[expect(dead_code, reason = "what `sandbox_contract!` would test")]
    pub(crate) mod sandbox;
}
mod busy;
mod chains;
mod garbage;
mod idle;
mod layers;
mod survives;

use contract::sandbox::{open, output, sh, spec};
use harvest::capability::sandbox::local::{LocalProvider, Upstream};
use harvest::capability::sandbox::{
    ExecSpec, ImageSpec, Network, Process, Sandbox, SandboxProvider, SandboxSpec, Snapshot, SnapshotMode,
};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

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

impl Local {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let provider = LocalProvider::new(home.path(), launcher(), Vec::new()).expect("a provider");
        Self { provider, home }
    }

    fn layers(&self) -> BTreeSet<String> {
        let names = fs::read_dir(self.home.path().join("layers")).expect("layers");
        let names = names.map(|entry| entry.expect("a layer").file_name().into_string().expect("a name"));
        names.filter(|name| !name.starts_with('.')).collect()
    }

    fn upper(&self, sandbox: &dyn Sandbox) -> PathBuf {
        self.home.path().join("sandboxes").join(sandbox.id()).join("upper")
    }

    /// An image with these commands on the host's userland.
    async fn image(&self, command: &str) -> String {
        let spec = ImageSpec { commands: vec![command.into()], ..ImageSpec::default() };
        self.build_image(&spec, None, Arc::new(|_| ())).await.expect("builds").0
    }

    async fn open_image(&self, image: &str) -> Arc<dyn Sandbox> {
        self.open(SandboxSpec { image: image.into(), ..spec() }).await.expect("opens")
    }
}

fn launcher() -> PathBuf {
    std::env::var_os("HARVEST_TEST_LAUNCHER")
        .map_or_else(|| env!("CARGO_BIN_EXE_harvest").into(), PathBuf::from)
}

/// Everything that makes a tree what it is, by path: kind, permissions, owner, times, content, attributes.
fn describe(root: &Path) -> BTreeMap<PathBuf, String> {
    fn walk(root: &Path, path: &Path, found: &mut BTreeMap<PathBuf, String>) {
        let real = root.join(path);
        let metadata = fs::symlink_metadata(&real).expect("there");
        let mut names = [0; 4096];
        let length = rustix::fs::llistxattr(&real, &mut names).unwrap_or(0);
        let content = match () {
            () if metadata.is_file() => format!("{:?}", fs::read(&real).expect("read")),
            () if metadata.is_symlink() => fs::read_link(&real).expect("read").display().to_string(),
            () => String::new(),
        };
        let described = format!(
            "{:o} {}:{} {}.{} {} {:?} {content}",
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.nlink(),
            String::from_utf8_lossy(&names[..length]),
        );
        found.insert(path.to_owned(), described);
        if metadata.is_dir() {
            for entry in fs::read_dir(&real).expect("a directory") {
                walk(root, &path.join(entry.expect("an entry").file_name()), found);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, Path::new(""), &mut found);
    found
}

/// What is in a directory, at any depth.
fn paths(root: &Path) -> BTreeSet<String> {
    let below = describe(root).into_keys().filter(|path| path != Path::new(""));
    below.map(|path| path.to_string_lossy().into_owned()).collect()
}

/// Waits for what another thread of the provider does.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !done().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Lists all that a command in the sandbox sees below a directory, with content.
const LIST: &str =
    "find . -printf '%P %y %m %l\\n' | LC_ALL=C sort; find . -type f | LC_ALL=C sort | xargs -r cat";

/// Everything above once more as a user without any rights, where the tests run as root.
#[test]
fn all_of_it_as_an_ordinary_user() {
    ordinary_user::again("", &launcher());
}
