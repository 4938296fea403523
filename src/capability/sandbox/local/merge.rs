//! Makes one layer of several, or a second one of one: what is visible through them, as a tree of its own.
//!
//! A whiteout or an opaque directory stays only where something below would otherwise show: the kernel lists a whiteout
//! that hides nothing. Hard links stay within a layer, as overlayfs has them. The layers do not change meanwhile.

use super::copy::DEPTH_LIMIT;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use std::collections::{BTreeSet, HashMap};
use std::ffi::{CString, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Most files copied at a time: more gain nothing on one disk.
const COPIES_AT_ONCE: usize = 8;
/// Longest list of names of attributes, in bytes; the kernel has the same limit.
const NAMES_LIMIT: usize = 64 << 10;
/// Longest value of an extended attribute, in bytes; the kernel has the same limit.
const ATTRIBUTE_LIMIT: usize = 64 << 10;
/// Bytes copied between two looks at whether to go on.
const PIECE: u64 = 16 << 20;
/// What overlayfs writes beside the files of a layer.
const OVERLAY: &[u8] = b"user.overlay.";
/// An attribute of that name that was set inside a sandbox.
const ESCAPED: &[u8] = b"user.overlay.overlay.";
/// Says that a directory hides what is below it.
const OPAQUE: &str = "user.overlay.opaque";

/// How the content of the files was taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Shared on disk until one side changes.
    Reflink,
    /// Byte by byte.
    Copied,
}

/// Writes what `layers` show, topmost first, into the directory `target`. `below` is what will lie below it, topmost first.
/// Breaks off with `Interrupted` once `stop` is true.
pub(super) fn merge(
    layers: &[PathBuf],
    below: &[PathBuf],
    target: &Path,
    stop: &AtomicBool,
) -> io::Result<Way> {
    let mut merge = Merge {
        target,
        stop,
        files: Vec::new(),
        directories: Vec::new(),
        first: HashMap::new(),
        links: Vec::new(),
    };
    let place = |root: &PathBuf| Place { root: root.clone() };
    let layers: Vec<_> = layers.iter().map(place).collect();
    let below: Vec<_> = below.iter().map(place).collect();
    let found = Top::of(&layers, Path::new(""))?;
    let Some(Top::Directory { sources, hides }) = found else {
        return Err(io::Error::other("a layer is no directory"));
    };
    merge.directory(Path::new(""), &sources, hides, &below, 0)?;
    let way = merge.copy_files()?;
    merge.finish()?;
    Ok(way)
}

/// The root of a layer.
#[derive(Clone, Debug)]
struct Place {
    root: PathBuf,
}

impl Place {
    /// What lies at a path of the layer itself.
    fn at(&self, path: &Path) -> io::Result<Option<Metadata>> {
        match fs::symlink_metadata(self.root.join(path)) {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(about(&self.root.join(path), error)),
        }
    }

    fn is_opaque(&self, path: &Path) -> bool {
        let mut value = [0; 8];
        rustix::fs::lgetxattr(self.root.join(path), OPAQUE, &mut value)
            .is_ok_and(|length| &value[..length] == b"y")
    }
}

/// What is seen at a path through layers.
enum Top {
    /// Anything but a directory, whiteouts included.
    Leaf { place: Place, metadata: Metadata },
    /// A directory in these layers, topmost first; `hides` where nothing below them can show through.
    Directory { sources: Vec<Place>, hides: bool },
}

impl Top {
    fn of(places: &[Place], path: &Path) -> io::Result<Option<Self>> {
        let mut sources = Vec::new();
        for place in places {
            let Some(metadata) = place.at(path)? else { continue };
            if !metadata.is_dir() {
                if sources.is_empty() {
                    return Ok(Some(Self::Leaf { place: place.clone(), metadata }));
                }
                return Ok(Some(Self::Directory { sources, hides: true }));
            }
            sources.push(place.clone());
            if place.is_opaque(path) {
                return Ok(Some(Self::Directory { sources, hides: true }));
            }
        }
        Ok((!sources.is_empty()).then_some(Self::Directory { sources, hides: false }))
    }
}

fn is_whiteout(metadata: &Metadata) -> bool {
    FileType::from_raw_mode(metadata.mode()) == FileType::CharacterDevice && metadata.rdev() == 0
}

/// A file or directory that is not finished yet.
struct Pending {
    source: PathBuf,
    path: PathBuf,
    metadata: Metadata,
    opaque: bool,
}

struct Merge<'a> {
    target: &'a Path,
    stop: &'a AtomicBool,
    files: Vec<Pending>,
    /// Parents before what is in them.
    directories: Vec<Pending>,
    /// Copies of files with several names, by device and inode.
    first: HashMap<(u64, u64), PathBuf>,
    /// Further names: the first one, and the other.
    links: Vec<(PathBuf, PathBuf)>,
}

impl Merge<'_> {
    /// `sources` are the layers that show this directory; `below` lies under all of them.
    fn directory(
        &mut self,
        path: &Path,
        sources: &[Place],
        hides: bool,
        below: &[Place],
        depth: usize,
    ) -> io::Result<()> {
        if depth > DEPTH_LIMIT {
            return Err(about(path, io::Error::other("is nested too deeply")));
        }
        // Where this cannot be read, something may be there.
        let beneath = match Top::of(below, path) {
            Ok(Some(Top::Directory { sources, .. })) => sources,
            Ok(_) => Vec::new(),
            Err(_) => below.to_vec(),
        };
        let opaque = hides && !beneath.is_empty();
        let beneath = if hides { Vec::new() } else { beneath };
        let source = sources[0].root.join(path);
        let metadata = fs::symlink_metadata(&source).map_err(|error| about(&source, error))?;
        if depth > 0 {
            fs::create_dir(self.target.join(path)).map_err(|error| about(path, error))?;
        }
        let mut names = BTreeSet::new();
        for place in sources {
            let directory = place.root.join(path);
            for entry in fs::read_dir(&directory).map_err(|error| about(&directory, error))? {
                names.insert(entry?.file_name());
            }
        }
        self.directories.push(Pending { source, path: path.to_owned(), metadata, opaque });
        names.into_iter().try_for_each(|name| self.entry(path, name, sources, &beneath, depth))
    }

    fn entry(
        &mut self,
        parent: &Path,
        name: OsString,
        sources: &[Place],
        below: &[Place],
        depth: usize,
    ) -> io::Result<()> {
        check(self.stop)?;
        let path = parent.join(name);
        match Top::of(sources, &path)? {
            None => Ok(()),
            Some(Top::Directory { sources, hides }) => {
                self.directory(&path, &sources, hides, below, depth + 1)
            }
            Some(Top::Leaf { place, metadata }) => {
                if is_whiteout(&metadata) && !shows(below, &path) {
                    return Ok(());
                }
                self.leaf(place.root.join(&path), path, metadata)
            }
        }
    }

    fn leaf(&mut self, source: PathBuf, path: PathBuf, metadata: Metadata) -> io::Result<()> {
        if metadata.nlink() > 1 {
            let inode = (metadata.dev(), metadata.ino());
            if let Some(first) = self.first.get(&inode) {
                self.links.push((first.clone(), path));
                return Ok(());
            }
            // Every whiteout may be one and the same file.
            if !is_whiteout(&metadata) {
                self.first.insert(inode, path.clone());
            }
        }
        let target = self.target.join(&path);
        let kind = FileType::from_raw_mode(metadata.mode());
        match kind {
            FileType::RegularFile => {
                self.files.push(Pending { source, path, metadata, opaque: false });
                return Ok(());
            }
            FileType::Symlink => fs::read_link(&source).and_then(|to| symlink(to, &target)),
            FileType::Fifo | FileType::Socket => {
                rustix::fs::mknodat(CWD, &target, kind, Mode::from_raw_mode(0o600), 0).map_err(Into::into)
            }
            FileType::CharacterDevice if metadata.rdev() == 0 => {
                rustix::fs::mknodat(CWD, &target, kind, Mode::empty(), 0).map_err(Into::into)
            }
            // No sandbox can make any, and none could open them.
            _ => return Ok(()),
        }
        .and_then(|()| dress(&source, &target, &metadata, false))
        .map_err(|error| about(&source, error))
    }

    fn copy_files(&mut self) -> io::Result<Way> {
        let files = std::mem::take(&mut self.files);
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(COPIES_AT_ONCE);
        let (next, shares) = (AtomicUsize::new(0), AtomicBool::new(true));
        let work = || -> io::Result<()> {
            while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                check(self.stop)?;
                let target = self.target.join(&file.path);
                content(&file.source, &target, &shares, self.stop)
                    .and_then(|()| dress(&file.source, &target, &file.metadata, false))
                    .map_err(|error| about(&file.source, error))?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let own = work();
            let mut results = workers.into_iter().map(|worker| worker.join());
            let others = results.try_for_each(|result| {
                result.unwrap_or_else(|_| Err(io::Error::other("a thread that copies files broke off")))
            });
            own.and(others)
        })?;
        let shared = !files.is_empty() && shares.load(Ordering::Relaxed);
        Ok(if shared { Way::Reflink } else { Way::Copied })
    }

    /// Further names, then directories from the innermost out: nothing changes in them any more.
    fn finish(&self) -> io::Result<()> {
        for (first, path) in &self.links {
            fs::hard_link(self.target.join(first), self.target.join(path))
                .map_err(|error| about(path, error))?;
        }
        for directory in self.directories.iter().rev() {
            dress(
                &directory.source,
                &self.target.join(&directory.path),
                &directory.metadata,
                directory.opaque,
            )
            .map_err(|error| about(&directory.source, error))?;
        }
        Ok(())
    }
}

/// Whether a path is seen through layers.
fn shows(places: &[Place], path: &Path) -> bool {
    match Top::of(places, path) {
        Ok(Some(Top::Leaf { metadata, .. })) => !is_whiteout(&metadata),
        Ok(Some(Top::Directory { .. })) | Err(_) => true,
        Ok(None) => false,
    }
}

fn check(stop: &AtomicBool) -> io::Result<()> {
    if stop.load(Ordering::Relaxed) {
        return Err(io::Error::new(io::ErrorKind::Interrupted, "it was told to end"));
    }
    Ok(())
}

fn about(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Takes over the content of a regular file, holes included.
fn content(source: &Path, target: &Path, shares: &AtomicBool, stop: &AtomicBool) -> io::Result<()> {
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits() as i32;
    let mut from = OpenOptions::new().read(true).custom_flags(flags).open(source)?;
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
    if shares.load(Ordering::Relaxed) {
        if rustix::fs::ioctl_ficlone(&to, &from).is_ok() {
            return Ok(());
        }
        shares.store(false, Ordering::Relaxed);
    }
    let size = from.metadata()?.len();
    to.set_len(size)?;
    let mut at = 0;
    while let Some((start, end)) = data(&from, at, size)? {
        from.seek(SeekFrom::Start(start))?;
        to.seek(SeekFrom::Start(start))?;
        at = start;
        while at < end {
            check(stop)?;
            let piece = io::copy(&mut Read::by_ref(&mut from).take(PIECE.min(end - at)), &mut to)?;
            if piece == 0 {
                break;
            }
            at += piece;
        }
        at = end;
    }
    to.flush()
}

/// The next stretch of a file that is no hole.
fn data(file: &File, at: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= size {
        return Ok(None);
    }
    let start = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(rustix::io::Errno::NXIO) => return Ok(None),
        // A file system without holes.
        Err(_) => return Ok(Some((at, size))),
    };
    let end = rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(start)).unwrap_or(size);
    Ok(Some((start, end.min(size))))
}

/// Gives a copy the owner, the attributes, the permissions and the times of what it is a copy of.
fn dress(source: &Path, target: &Path, metadata: &Metadata, opaque: bool) -> io::Result<()> {
    lchown(target, Some(metadata.uid()), Some(metadata.gid()))?;
    let kind = FileType::from_raw_mode(metadata.mode());
    if matches!(kind, FileType::RegularFile | FileType::Directory) {
        attributes(source, target)?;
    }
    if opaque {
        rustix::fs::lsetxattr(target, OPAQUE, b"y", XattrFlags::empty())?;
    }
    if !matches!(kind, FileType::Symlink | FileType::CharacterDevice) {
        fs::set_permissions(target, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    }
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps {
        last_access: time(metadata.atime(), metadata.atime_nsec()),
        last_modification: time(metadata.mtime(), metadata.mtime_nsec()),
    };
    Ok(rustix::fs::utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Copies the extended attributes that a sandbox can set, and none of those by which overlayfs knows its own layers.
fn attributes(source: &Path, target: &Path) -> io::Result<()> {
    let mut names = vec![0; NAMES_LIMIT];
    let length = match rustix::fs::llistxattr(source, &mut names) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    for name in names[..length].split(|byte| *byte == 0) {
        let own = name.starts_with(OVERLAY) && !name.starts_with(ESCAPED);
        if own || !(name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_")) {
            continue;
        }
        let name = CString::new(name)?;
        let mut value = vec![0; ATTRIBUTE_LIMIT];
        let length = rustix::fs::lgetxattr(source, name.as_c_str(), &mut value)?;
        rustix::fs::lsetxattr(target, name.as_c_str(), &value[..length], XattrFlags::empty())?;
    }
    Ok(())
}
