//! The state directory: `layers`, `images`, `volumes`, `sandboxes`. Knows paths and locks, runs nothing.
//!
//! Everything that is published appears by a rename, after its content is on disk, so a crash leaves either all or nothing.

use super::plan::Ids;
use super::{durable, holder};
use crate::capability::{CapabilityError, Result, owned};
use crate::step::ErrorKind;
use rustix::fs::FlockOperation;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What the names of layers start with that are being removed.
pub(super) const GOING: &str = ".going";
/// Longest id of a sandbox, in characters.
const ID_LIMIT: usize = 100;

/// What ids of sandboxes start with in which images are built.
const BUILD: &str = ".build-";
/// How long to wait for the processes of an earlier sandbox with the same id to be gone.
const LOCK_LIMIT: Duration = Duration::from_secs(10);
/// How long to wait for another process to build the same layer: as long as a command of an image may take.
const BUILD_LIMIT: Duration = Duration::from_secs(60 * 60);
/// Pause between two looks at a lock.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// The directories under a home.
#[derive(Clone, Debug)]
pub(in crate::capability::sandbox) struct Store {
    home: PathBuf,
    ids: Ids,
    /// The machine's current boot.
    boot: Arc<str>,
}

/// While one of these is held, no layer and no image goes. Whoever needs layers holds it until something on disk names
/// them: a sandbox, or an image.
#[derive(Debug)]
pub(in crate::capability::sandbox) struct Hold(
    #[expect(dead_code, reason = "held for what its drop does")] File,
);

/// A held lock on one sandbox; free again when every copy of its descriptor is closed.
#[derive(Debug)]
pub(in crate::capability::sandbox) struct Lock(pub(super) File);

impl Lock {
    /// Another holder of the same lock.
    pub(in crate::capability::sandbox) fn share(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }
}

impl Store {
    /// Makes the directories, open to nobody else.
    pub(in crate::capability::sandbox) fn new(home: &Path, ids: Ids) -> Result<Self> {
        let home = std::path::absolute(home)
            .map_err(|error| CapabilityError::io(format!("use {} as home", home.display()), &error))?;
        for name in ["layers", "images", "volumes", "sandboxes"] {
            make_private(&home.join(name))?;
        }
        Ok(Self { home, ids, boot: durable::boot()?.into() })
    }

    /// The same directories after the machine was started anew.
    #[cfg(test)]
    pub(super) fn rebooted(&self, boot: &str) -> Self {
        Self { boot: boot.into(), ..self.clone() }
    }

    pub(super) fn boot(&self) -> &str {
        &self.boot
    }

    pub(in crate::capability::sandbox) fn home(&self) -> &Path {
        &self.home
    }

    pub(in crate::capability::sandbox) fn layers(&self) -> PathBuf {
        self.home.join("layers")
    }

    pub(super) fn images(&self) -> PathBuf {
        self.home.join("images")
    }

    pub(in crate::capability::sandbox) fn volumes(&self) -> PathBuf {
        self.home.join("volumes")
    }

    pub(in crate::capability::sandbox) fn sandbox(&self, id: &str) -> PathBuf {
        self.home.join("sandboxes").join(id)
    }

    /// Keeps layers and images from going. Waits while others are being removed, which takes moments.
    pub(in crate::capability::sandbox) fn hold(&self) -> Result<Hold> {
        let file = open_lock(&self.holds())?;
        rustix::fs::flock(&file, FlockOperation::LockShared)
            .map_err(|errno| CapabilityError::io("hold the layers of images", &errno.into()))?;
        Ok(Hold(file))
    }

    /// The right to remove layers and images; `None` while somebody holds them.
    pub(in crate::capability::sandbox) fn try_exclude(&self) -> Result<Option<Hold>> {
        let file = open_lock(&self.holds())?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Hold(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(CapabilityError::io("lock the layers of images", &errno.into())),
        }
    }

    fn holds(&self) -> PathBuf {
        self.home.join("layers.lock")
    }

    /// Ids of sandboxes that have files, sorted.
    pub(in crate::capability::sandbox) fn sandboxes(&self) -> Result<Vec<String>> {
        names_in(&self.home.join("sandboxes"))
    }

    /// Checks an id before it becomes a path.
    pub(in crate::capability::sandbox) fn check_id(id: &str) -> Result<()> {
        let known =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
        if id.is_empty() || id.len() > ID_LIMIT || !id.bytes().all(known) {
            return Err(CapabilityError::new(
                ErrorKind::INVALID,
                format!("`{id}` is no id of a sandbox: use 1 to {ID_LIMIT} of a-z, 0-9, `_` and `-`"),
            ));
        }
        Ok(())
    }

    /// Makes a sandbox's directories where missing: the overlay's upper and work directory.
    pub(super) fn prepare_sandbox(&self, id: &str) -> Result<PathBuf> {
        let directory = self.sandbox(id);
        make_private(&directory)?;
        for name in ["upper", "work"] {
            self.make_owned(&directory.join(name))?;
        }
        Ok(directory)
    }

    /// Makes a directory that belongs to the root of sandboxes.
    pub(super) fn make_owned(&self, path: &Path) -> Result<()> {
        let (uid, gid) = self.ids.root();
        owned::make(path, uid, gid)
            .map_err(|error| CapabilityError::io(format!("make {}", path.display()), &error))
    }

    /// Takes the lock of a sandbox; `None` while a process of it lives.
    pub(in crate::capability::sandbox) fn try_lock(&self, id: &str) -> Result<Option<Lock>> {
        let path = self.lock_path(id);
        let failed = |error: io::Error| CapabilityError::io(format!("lock {}", path.display()), &error);
        loop {
            let file = open_lock(&path)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(errno) => return Err(failed(errno.into())),
            }
            // Whoever removed the sandbox removed the file too; a lock on a file without a name protects nothing.
            let held = file.metadata().map_err(failed)?;
            if fs::metadata(&path).is_ok_and(|named| named.ino() == held.ino()) {
                return Ok((!holder::lives(&file)).then_some(Lock(file)));
            }
        }
    }

    /// Takes the lock of a sandbox once it is free; `conflict` where it stays taken.
    pub(in crate::capability::sandbox) async fn wait_for(&self, id: &str) -> Result<Lock> {
        let limit = if id.starts_with(BUILD) { BUILD_LIMIT } else { LOCK_LIMIT };
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            if let Some(lock) = self.try_lock(id)? {
                return Ok(lock);
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(CapabilityError::new(
                    ErrorKind::CONFLICT,
                    format!("sandbox {id} is open in another process; end that first, or use another id"),
                ));
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
    }

    /// Deletes a sandbox's files, and with them its lock.
    pub(in crate::capability::sandbox) fn remove_sandbox(&self, id: &str, lock: Lock) -> io::Result<()> {
        remove_tree(&self.sandbox(id))?;
        drop(fs::remove_file(self.lock_path(id)));
        drop(lock);
        Ok(())
    }

    /// Beside the sandbox's directory, so that it can be held while the directory comes and goes.
    fn lock_path(&self, id: &str) -> PathBuf {
        self.home.join("sandboxes").join(format!(".{id}.lock"))
    }

    /// Deletes what processes that are gone have left half done: sandboxes of builds, unfinished layers,
    /// locks of sandboxes that are gone.
    pub(in crate::capability::sandbox) fn sweep(&self) -> Result<()> {
        let failed = |error: io::Error| CapabilityError::io("clean up the state directory", &error);
        let hidden = |directory: PathBuf, prefix: &'static str| {
            let names = fs::read_dir(directory)
                .map_err(failed)?
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            Ok(names.filter(move |name| name.starts_with(prefix)).collect::<Vec<_>>())
        };
        for (directory, prefix) in
            [(self.layers(), ".making-"), (self.layers(), GOING), (self.images(), ".writing-")]
        {
            for name in hidden(directory.clone(), prefix)? {
                let alive = name.split('-').nth(1).is_some_and(|pid| Path::new("/proc").join(pid).exists());
                let path = directory.join(name);
                match () {
                    () if alive => {}
                    () if path.is_dir() => remove_tree(&path).map_err(failed)?,
                    () => drop(fs::remove_file(path)),
                }
            }
        }
        for id in hidden(self.home.join("sandboxes"), ".build-")? {
            if let Some(lock) = self.try_lock(&id)? {
                self.remove_sandbox(&id, lock).map_err(failed)?;
            }
        }
        for name in hidden(self.home.join("sandboxes"), ".")? {
            let Some(id) = name.strip_prefix('.').and_then(|name| name.strip_suffix(".lock")) else {
                continue;
            };
            // Whoever makes the sandbox holds the lock first.
            if let Some(lock) = self.try_lock(id)?
                && !self.sandbox(id).exists()
            {
                self.remove_sandbox(id, lock).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// A name that no layer has or had.
    pub(in crate::capability::sandbox) fn unused_layer(&self, prefix: &str) -> String {
        format!("{prefix}-{}", ulid::Ulid::generate().to_string().to_ascii_lowercase())
    }

    /// The layer `name`, made by `build` in a directory of its own where there is none yet.
    pub(in crate::capability::sandbox) fn publish_layer(
        &self,
        name: &str,
        build: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let layer = self.layers().join(name);
        if !layer.is_dir() {
            self.stage_layer(|directory| build(directory).map(|()| name.to_owned()))?;
        }
        Ok(layer)
    }

    /// Makes a layer whose name shows only once it is there: `build` fills a directory and says it. Returns the name.
    pub(super) fn stage_layer(&self, build: impl FnOnce(&Path) -> Result<String>) -> Result<String> {
        let temporary = self.layers().join(unique(".making"));
        let failed = |error: io::Error| CapabilityError::io("make a layer", &error);
        fs::create_dir(&temporary).map_err(failed)?;
        let built = build(&temporary).and_then(|name| {
            sync_tree(&temporary).map_err(failed)?;
            publish(&temporary, &self.layers().join(&name)).map_err(failed)?;
            Ok(name)
        });
        if built.is_err() {
            // The error says more than what hinders the cleaning, which is done again at the next start.
            drop(remove_tree(&temporary));
        }
        built
    }
}

/// Makes a directory open to its owner alone, with its parents.
pub(in crate::capability::sandbox) fn make_private(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| CapabilityError::io(format!("make {}", path.display()), &error))
}

/// Opens or makes a file to lock. Never inherited by other programs.
pub(super) fn open_lock(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| CapabilityError::io(format!("open {}", path.display()), &error))
}

/// Names in a directory that do not start with a dot, sorted; none where it is missing.
pub(super) fn names_in(directory: &Path) -> Result<Vec<String>> {
    let failed = |error: io::Error| CapabilityError::io(format!("list {}", directory.display()), &error);
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry.map_err(failed)?.file_name().into_string()
            && !name.starts_with('.')
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// A name that no other process or thread uses.
pub(super) fn unique(prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Moves a finished directory into place. Where another process was faster, its equal copy stays and ours goes.
pub(super) fn publish(temporary: &Path, target: &Path) -> io::Result<()> {
    match fs::rename(temporary, target) {
        Ok(()) => {}
        Err(_) if target.is_dir() => return remove_tree(temporary),
        Err(error) => return Err(error),
    }
    match target.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Puts a whole tree on disk with one call on its file system.
pub(super) fn sync_tree(directory: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(directory)?)?)
}

/// Deletes a tree, also where it holds directories that their owner cannot enter. Links are not followed.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn open_up(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)? {
        open_up(&entry?.path())?;
    }
    Ok(())
}
