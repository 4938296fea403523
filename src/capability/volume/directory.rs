//! Volumes as directories of this machine, which local sandboxes mount.
//!
//! A sandbox may have planted anything in them: links, pipes, devices' names. Every path is therefore resolved by the
//! kernel beneath the volume and through no link (openat2), and a file is checked to be one before it is read.

use super::{Versioned, VolumeEntry, VolumeStore};
use crate::capability::{CapabilityError, Result, owned};
use crate::id::Digest;
use crate::step::ErrorKind;
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most entries that one listing returns.
pub(crate) const ENTRY_LIMIT: usize = 10_000;
/// Deepest directory that a listing or a deletion enters.
const DEPTH_LIMIT: usize = 128;
/// Longest name of a volume, in characters.
const NAME_LIMIT: usize = 128;

/// Volumes under one directory, owned by the root user of sandboxes.
#[derive(Debug)]
pub struct DirectoryVolumes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    uid: u32,
    gid: u32,
}

impl DirectoryVolumes {
    /// Volumes under `root`, made where missing; files in them belong to `uid` and `gid` of the host.
    pub fn new(root: &Path, uid: u32, gid: u32) -> Result<Self> {
        fs::create_dir_all(root)
            .and_then(|()| fs::set_permissions(root, fs::Permissions::from_mode(0o700)))
            .map_err(|error| CapabilityError::io(format!("make {}", root.display()), &error))?;
        Ok(Self(Arc::new(Inner { root: root.into(), uid, gid })))
    }

    /// The directory of a volume, made where missing.
    pub fn make(&self, volume: &str) -> Result<PathBuf> {
        self.0.make(volume)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = self.0.clone();
        tokio::task::spawn_blocking(move || work(&inner)).await.map_err(|error| {
            CapabilityError::new(ErrorKind::OTHER, format!("cannot use a volume: {error}"))
        })?
    }
}

/// A path below the volume's root: relative, without `.` and `..`. Empty is the root itself.
pub(crate) fn relative(path: &str) -> Result<&str> {
    let path = path.trim_matches('/');
    let clean = path.is_empty() || path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if clean && !path.contains('\0') {
        return Ok(path);
    }
    Err(CapabilityError::new(
        ErrorKind::INVALID,
        format!("`{path}` is no path in a volume: no empty parts, no `.` or `..`, no NUL"),
    ))
}

pub(crate) fn check_name(volume: &str) -> Result<()> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let starts = volume.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if starts && volume.len() <= NAME_LIMIT && volume.bytes().all(known) {
        return Ok(());
    }
    Err(CapabilityError::new(
        ErrorKind::INVALID,
        format!(
            "`{volume}` is no name of a volume: start with a letter or digit, then at most {} of A-Z, a-z, 0-9, `.`, `_`, `-`",
            NAME_LIMIT - 1
        ),
    ))
}

fn beneath(directory: BorrowedFd<'_>, path: &str, flags: OFlags, mode: u32) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { "." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(directory, path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(mode), resolve)
}

/// What an error about `path` in `volume` means to the caller. A link or a file in the way is as good as nothing there.
fn explain(doing: &str, volume: &str, path: &str, errno: Errno) -> CapabilityError {
    if matches!(errno, Errno::LOOP | Errno::XDEV) {
        return CapabilityError::new(
            ErrorKind::DENIED,
            format!(
                "cannot {doing} {path} in volume {volume}: links are not followed from outside a sandbox"
            ),
        );
    }
    CapabilityError::io(format!("{doing} {path} in volume {volume}"), &errno.into())
}

impl Inner {
    fn make(&self, volume: &str) -> Result<PathBuf> {
        check_name(volume)?;
        let path = self.root.join(volume);
        owned::make(&path, self.uid, self.gid)
            .map_err(|error| CapabilityError::io(format!("make volume {volume}"), &error))?;
        Ok(path)
    }

    /// The volume's root, `None` where there is no such volume.
    fn open(&self, volume: &str) -> Result<Option<OwnedFd>> {
        check_name(volume)?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(self.root.join(volume), flags, Mode::empty()) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(CapabilityError::io(format!("open volume {volume}"), &errno.into())),
        }
    }

    fn open_existing(&self, volume: &str) -> Result<OwnedFd> {
        self.open(volume)?.ok_or_else(|| {
            CapabilityError::new(
                ErrorKind::NOT_FOUND,
                format!("there is no volume `{volume}`; writing a file makes one"),
            )
        })
    }

    /// Serialises writers of one volume, in this process and others.
    fn lock(&self, volume: &str) -> Result<File> {
        let path = self.root.join(format!(".{volume}.lock"));
        let failed = |error: io::Error| CapabilityError::io(format!("lock volume {volume}"), &error);
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
        Ok(file)
    }

    fn entries(&self, volume: &str, path: &str) -> Result<Vec<VolumeEntry>> {
        let path = relative(path)?;
        let root = self.open_existing(volume)?;
        let failed = |errno| explain("list", volume, path, errno);
        let top = beneath(root.as_fd(), path, OFlags::DIRECTORY, 0).map_err(failed)?;
        let mut found = Vec::new();
        let mut waiting = vec![(top, path.to_owned(), 0)];
        while let Some((directory, prefix, depth)) = waiting.pop() {
            let entries = rustix::fs::Dir::read_from(&directory).map_err(failed)?;
            for entry in entries {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name().to_string_lossy();
                if name == "." || name == ".." {
                    continue;
                }
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                let Ok(stat) = rustix::fs::statat(&directory, entry.file_name(), flags) else { continue };
                let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
                // A time beyond what calendars know was set by a sandbox.
                let written_at =
                    Timestamp::new(stat.st_mtime, stat.st_mtime_nsec as i32).unwrap_or(Timestamp::UNIX_EPOCH);
                let path = if prefix.is_empty() { name.into_owned() } else { format!("{prefix}/{name}") };
                if kind.is_dir() {
                    if depth < DEPTH_LIMIT
                        && let Ok(name) = entry.file_name().to_str()
                        && let Ok(below) = beneath(directory.as_fd(), name, OFlags::DIRECTORY, 0)
                    {
                        waiting.push((below, path.clone(), depth + 1));
                    }
                    found.push(VolumeEntry { path, size: 0, directory: true, written_at });
                } else if kind.is_file() {
                    let size = stat.st_size as u64;
                    found.push(VolumeEntry { path, size, directory: false, written_at });
                }
                if found.len() == ENTRY_LIMIT {
                    waiting.clear();
                    break;
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    fn get(&self, volume: &str, path: &str, limit: u64) -> Result<Option<Versioned>> {
        let path = relative(path)?;
        let Some(root) = self.open(volume)? else { return Ok(None) };
        read(root.as_fd(), volume, path, limit)
    }

    fn put(
        &self,
        volume: &str,
        path: &str,
        content: &[u8],
        expected: Option<Option<String>>,
    ) -> Result<String> {
        let path = relative(path)?;
        if path.is_empty() {
            return Err(CapabilityError::new(ErrorKind::INVALID, "name a file in the volume to write"));
        }
        self.make(volume)?;
        let _lock = self.lock(volume)?;
        let root = self.open_existing(volume)?;
        if let Some(expected) = expected {
            let current = read(root.as_fd(), volume, path, u64::MAX)?.map(|found| found.version);
            if current != expected {
                return Err(CapabilityError::new(
                    ErrorKind::CONFLICT,
                    format!(
                        "{path} in volume {volume} has changed meanwhile; read it again and repeat the change"
                    ),
                ));
            }
        }
        let failed = |errno| explain("write", volume, path, errno);
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.directories(root, parent).map_err(failed)?;
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let temporary = format!(".harvest-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let written = self.write(parent.as_fd(), &temporary, content).and_then(|()| {
            rustix::fs::renameat(&parent, temporary.as_str(), &parent, name)?;
            rustix::fs::fsync(&parent)
        });
        if let Err(errno) = written {
            let _ = rustix::fs::unlinkat(&parent, temporary.as_str(), AtFlags::empty());
            return Err(failed(errno));
        }
        Ok(Digest::of(content).hex())
    }

    fn write(&self, directory: BorrowedFd<'_>, name: &str, content: &[u8]) -> Result<(), Errno> {
        let mut file =
            File::from(beneath(directory, name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, 0o644)?);
        file.write_all(content).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        self.own(file.as_fd())?;
        rustix::fs::fsync(&file)
    }

    fn own(&self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        use rustix::fs::{Gid, Uid};
        rustix::fs::fchown(file, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
    }

    /// Opens a directory below `root`, making what is missing on the way.
    fn directories(&self, root: OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
        let mut directory = root;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let made = rustix::fs::mkdirat(&directory, part, Mode::from_raw_mode(0o755));
            let next = beneath(directory.as_fd(), part, OFlags::DIRECTORY, 0)?;
            match made {
                Ok(()) => self.own(next.as_fd())?,
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            directory = next;
        }
        Ok(directory)
    }

    fn remove(&self, volume: &str, path: &str) -> Result<()> {
        let path = relative(path)?;
        let root = self.open_existing(volume)?;
        let _lock = self.lock(volume)?;
        let failed = |errno| explain("delete", volume, path, errno);
        if path.is_empty() {
            empty(&root, 0).map_err(failed)?;
            return fs::remove_dir(self.root.join(volume))
                .map_err(|error| CapabilityError::io(format!("delete volume {volume}"), &error));
        }
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = beneath(root.as_fd(), parent, OFlags::DIRECTORY, 0).map_err(failed)?;
        delete(&parent, name, 0).map_err(failed)
    }
}

/// A regular file's content; links and anything that is no file are refused.
fn read(root: BorrowedFd<'_>, volume: &str, path: &str, limit: u64) -> Result<Option<Versioned>> {
    let failed = |errno| explain("read", volume, path, errno);
    // Without NONBLOCK, opening a pipe would wait for ever.
    let file = match beneath(root, path, OFlags::RDONLY | OFlags::NONBLOCK, 0) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(errno) => return Err(failed(errno)),
    };
    let stat = rustix::fs::fstat(&file).map_err(failed)?;
    if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(CapabilityError::new(
            ErrorKind::INVALID,
            format!("{path} in volume {volume} is no regular file"),
        ));
    }
    let mut content = Vec::new();
    File::from(file)
        .take(limit.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(|error| CapabilityError::io(format!("read {path} in volume {volume}"), &error))?;
    if content.len() as u64 > limit {
        return Err(CapabilityError::new(
            ErrorKind::TOO_LARGE,
            format!("{path} in volume {volume} is larger than the limit of {limit} bytes"),
        ));
    }
    let version = Digest::of(&content).hex();
    Ok(Some(Versioned { content: Bytes::from(content), version }))
}

/// Deletes a file, a link, or a directory with all it holds.
fn delete(parent: &OwnedFd, name: &str, depth: usize) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        result => return result,
    }
    let directory = match beneath(parent.as_fd(), name, OFlags::DIRECTORY, 0) {
        Err(Errno::ACCESS) => {
            // A directory that its owner closed to himself; as its owner the host may open it again.
            rustix::fs::chmodat(parent, name, Mode::from_raw_mode(0o700), AtFlags::empty())?;
            beneath(parent.as_fd(), name, OFlags::DIRECTORY, 0)
        }
        result => result,
    }?;
    empty(&directory, depth + 1)?;
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

fn empty(directory: &OwnedFd, depth: usize) -> Result<(), Errno> {
    if depth > DEPTH_LIMIT {
        return Err(Errno::NAMETOOLONG);
    }
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            delete(directory, name.to_str().map_err(|_| Errno::ILSEQ)?, depth)?;
        }
    }
    Ok(())
}

#[async_trait]
impl VolumeStore for DirectoryVolumes {
    async fn list(&self) -> Result<Vec<String>> {
        self.blocking(|inner| {
            let failed = |error: io::Error| CapabilityError::io("list the volumes", &error);
            let mut names = Vec::new();
            for entry in fs::read_dir(&inner.root).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                if let Ok(name) = entry.file_name().into_string()
                    && check_name(&name).is_ok()
                {
                    names.push(name);
                }
            }
            names.sort();
            Ok(names)
        })
        .await
    }

    async fn entries(&self, volume: &str, path: &str) -> Result<Vec<VolumeEntry>> {
        let (volume, path) = (volume.to_owned(), path.to_owned());
        self.blocking(move |inner| inner.entries(&volume, &path)).await
    }

    async fn get(&self, volume: &str, path: &str, limit: u64) -> Result<Option<Versioned>> {
        let (volume, path) = (volume.to_owned(), path.to_owned());
        self.blocking(move |inner| inner.get(&volume, &path, limit)).await
    }

    async fn put(
        &self,
        volume: &str,
        path: &str,
        content: &[u8],
        expected: Option<Option<&str>>,
    ) -> Result<String> {
        let (volume, path, content) = (volume.to_owned(), path.to_owned(), content.to_vec());
        let expected = expected.map(|version| version.map(str::to_owned));
        self.blocking(move |inner| inner.put(&volume, &path, &content, expected)).await
    }

    async fn remove(&self, volume: &str, path: &str) -> Result<()> {
        let (volume, path) = (volume.to_owned(), path.to_owned());
        self.blocking(move |inner| inner.remove(&volume, &path)).await
    }
}
