//! Makes an archive a layer: a directory in the form that overlayfs reads, with deletions as its marks and owners as ids
//! of the host. Archives are hostile: every path is resolved by the kernel, beneath the layer and through no link.

use super::super::plan::Ids;
use super::archive::{Entry, Kind, Limits, shown, walk};
use super::stream::{Measured, broken};
use super::{invalid, too_large};
use crate::capability::{CapabilityError, Result};
use crate::id::Digest;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Deepest directory.
const DEPTH_LIMIT: usize = 256;
/// Bytes of one name, as in every file system.
const NAME_LIMIT: usize = 255;
/// Bytes moved at once.
const PIECE: usize = 256 << 10;
/// Begins the names of deletions in archives.
const WHITEOUT: &[u8] = b".wh.";
/// What else begins like this is housekeeping of other programs.
const RESERVED: &[u8] = b".wh..wh.";
/// Says that a directory shows nothing of the layers below.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Where overlayfs looks for the same.
pub(super) const OPAQUE_MARK: &str = "user.overlay.opaque";
/// Names of skipped entries that are told.
const SKIPPED_SHOWN: usize = 5;

/// What became of an archive.
#[derive(Debug)]
pub(super) struct Unpacked {
    /// Of the unpacked archive, whole.
    pub(super) digest: Digest,
    /// Its bytes.
    pub(super) size: u64,
    /// Whether some directory is in the archive only as part of a path, so that its owner and permissions are those of
    /// the layers below.
    pub(super) leans_on_layers_below: bool,
    /// Devices and pipes that were left out, some of them by name.
    pub(super) skipped: Option<String>,
}

/// Unpacks an archive into the empty directory `layer`. `below` are the layers under it, topmost first.
pub(super) fn unpack(
    archive: impl Read,
    layer: &Path,
    below: &[PathBuf],
    ids: Ids,
    limits: &Limits,
) -> Result<Unpacked> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |path: &Path| {
        rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| CapabilityError::io(format!("open layer {}", path.display()), &errno.into()))
    };
    let mut unpacking = Unpacking {
        root: open(layer)?,
        below: below.iter().map(|path| open(path)).collect::<Result<_>>()?,
        ids,
        directories: BTreeMap::from([(Vec::new(), Attributes::of_root(ids))]),
        parent: None,
        skipped: (0, Vec::new()),
        buffer: vec![0; PIECE],
    };
    let mut measured = Measured::new(archive, limits.bytes, "the unpacked archive");
    walk(&mut measured, limits, |entry, content| unpacking.take(&entry, content))?;
    let leans_on_layers_below = unpacking.directories.values().any(|directory| directory.implicit);
    let skipped = unpacking.skipped();
    unpacking.finish()?;
    let (digest, size) = measured.finish().map_err(|error| broken("the archive", error))?;
    Ok(Unpacked { digest, size, leans_on_layers_below, skipped })
}

/// Opens a path beneath a directory, through no link.
pub(super) fn beneath(
    directory: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    mode: u32,
) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(directory, path, flags, Mode::from_raw_mode(mode), resolve)
}

/// What a directory is like once everything lies in it.
#[derive(Clone, Copy)]
struct Attributes {
    mode: u32,
    owner: (u32, u32),
    modified: Option<(i64, u32)>,
    opaque: bool,
    /// Not an entry of the archive, but on the way to one.
    implicit: bool,
}

impl Attributes {
    fn of_root(ids: Ids) -> Self {
        Self { mode: 0o755, owner: ids.root(), modified: None, opaque: false, implicit: false }
    }
}

struct Unpacking {
    root: OwnedFd,
    below: Vec<OwnedFd>,
    ids: Ids,
    /// Every directory by its path, so that those within others come after them.
    directories: BTreeMap<Vec<u8>, Attributes>,
    /// The directory that the last entry lay in: the next one mostly lies there too.
    parent: Option<(Vec<u8>, OwnedFd)>,
    skipped: (usize, Vec<String>),
    buffer: Vec<u8>,
}

impl Unpacking {
    fn take(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        let path = clean(&entry.path)?;
        let (above, name) = split(&path);
        if name.is_empty() {
            return match entry.kind {
                Kind::Directory => self.directory(&path, entry),
                _ => Err(refused(entry, "is the root, and no directory")),
            };
        }
        if above.split(|byte| *byte == b'/').any(|part| part.starts_with(WHITEOUT)) {
            return Err(refused(entry, "lies in what marks a deletion"));
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.deletion(entry, above, name, hidden);
        }
        match &entry.kind {
            Kind::Directory => self.directory(&path, entry),
            Kind::File => self.file(entry, above, name, content),
            Kind::Symlink(target) => self.symlink(entry, above, name, target),
            Kind::HardLink(target) => self.hard_link(entry, above, name, target),
            Kind::Special => {
                self.skipped.0 += 1;
                if self.skipped.1.len() < SKIPPED_SHOWN {
                    self.skipped.1.push(shown(&path));
                }
                Ok(())
            }
        }
    }

    fn directory(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        self.reach(split(path).0, entry)?;
        self.make(path, entry, None)?;
        let widened = if self.ids == Ids::Range { 0 } else { 0o700 };
        let opaque = self.directories.get(path).is_some_and(|known| known.opaque);
        let attributes = Attributes {
            mode: entry.mode | widened,
            owner: self.ids.outside(entry.uid, entry.gid),
            modified: Some(entry.modified),
            opaque,
            implicit: false,
        };
        self.directories.insert(path.to_vec(), attributes);
        Ok(())
    }

    fn file(&mut self, entry: &Entry, above: &[u8], name: &[u8], content: &mut dyn Read) -> Result<()> {
        let failed = |errno: Errno| failed(entry, errno);
        self.vacate(entry, above, name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let mut file = File::from(beneath(self.reach(above, entry)?, name, flags, 0o600).map_err(failed)?);
        let mut left = entry.size;
        while left > 0 {
            let count = content.read(&mut self.buffer).map_err(|error| broken("the archive", error))?;
            if count == 0 {
                return Err(refused(entry, "is cut off"));
            }
            left = left.saturating_sub(count as u64);
            file.write_all(&self.buffer[..count])
                .map_err(|error| CapabilityError::io(format!("write `{}`", shown(&entry.path)), &error))?;
        }
        let (uid, gid) = self.ids.outside(entry.uid, entry.gid);
        // Whoever unpacks as an ordinary user must be able to read it again; inside, everyone is root and can anyway.
        let widened = if self.ids == Ids::Range { 0 } else { 0o400 };
        // After the owner, whose change takes away the set-user-id bit.
        rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(failed)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode | widened)).map_err(failed)?;
        rustix::fs::futimens(&file, &times(entry.modified)).map_err(failed)
    }

    fn symlink(&mut self, entry: &Entry, above: &[u8], name: &[u8], target: &[u8]) -> Result<()> {
        if target.is_empty() || target.contains(&0) {
            return Err(refused(entry, "is a link to no possible path"));
        }
        self.vacate(entry, above, name)?;
        let (uid, gid) = self.ids.outside(entry.uid, entry.gid);
        let parent = self.reach(above, entry)?;
        rustix::fs::symlinkat(target, parent, name)
            .and_then(|()| {
                let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
                rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
                rustix::fs::utimensat(parent, name, &times(entry.modified), AtFlags::SYMLINK_NOFOLLOW)
            })
            .map_err(|errno| failed(entry, errno))
    }

    fn hard_link(&mut self, entry: &Entry, above: &[u8], name: &[u8], target: &[u8]) -> Result<()> {
        let target = clean(target)?;
        let (target_above, target_name) = split(&target);
        let nothing =
            || refused(entry, &format!("is a hard link to `{}`, which is no file before it", shown(&target)));
        let from = beneath(self.root.as_fd(), target_above, OFlags::PATH | OFlags::DIRECTORY, 0)
            .map_err(|_| nothing())?;
        let kind = kind_of(from.as_fd(), target_name).map_err(|errno| failed(entry, errno))?;
        if !matches!(kind, Some(FileType::RegularFile | FileType::Symlink)) || target == clean(&entry.path)? {
            return Err(nothing());
        }
        self.vacate(entry, above, name)?;
        let parent = self.reach(above, entry)?;
        rustix::fs::linkat(&from, target_name, parent, name, AtFlags::empty())
            .map_err(|errno| failed(entry, errno))
    }

    /// Hides what the layers below have under a name, or all they have in a directory.
    fn deletion(&mut self, entry: &Entry, above: &[u8], name: &[u8], hidden: &[u8]) -> Result<()> {
        if name == OPAQUE {
            self.reach(above, entry)?;
            self.make_opaque(above);
            return Ok(());
        }
        if name.starts_with(RESERVED) {
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(refused(entry, "marks the deletion of nothing"));
        }
        let (uid, gid) = self.ids.root();
        let parent = self.reach(above, entry)?;
        match kind_of(parent, hidden).map_err(|errno| failed(entry, errno))? {
            None => rustix::fs::mknodat(parent, hidden, FileType::CharacterDevice, Mode::empty(), 0)
                .and_then(|()| {
                    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
                    rustix::fs::chownat(parent, hidden, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                })
                .map_err(|errno| failed(entry, errno)),
            // It is only what lies below that goes: the layer's own directory stays, and shows nothing of it.
            Some(FileType::Directory) => {
                self.make_opaque(&join(above, hidden));
                Ok(())
            }
            Some(_) => Ok(()),
        }
    }

    fn make_opaque(&mut self, path: &[u8]) {
        if let Some(directory) = self.directories.get_mut(path) {
            directory.opaque = true;
        }
    }

    /// Makes way for an entry: a deletion that came before it goes, anything else is a second entry of the same name.
    fn vacate(&mut self, entry: &Entry, above: &[u8], name: &[u8]) -> Result<()> {
        let parent = self.reach(above, entry)?;
        match kind_of(parent, name).map_err(|errno| failed(entry, errno))? {
            None => Ok(()),
            // Only this module makes devices, and only for deletions.
            Some(FileType::CharacterDevice) => {
                rustix::fs::unlinkat(parent, name, AtFlags::empty()).map_err(|errno| failed(entry, errno))
            }
            Some(_) => Err(refused(entry, "comes a second time")),
        }
    }

    /// The directory at a clean path, made with all above it where it is missing.
    fn reach(&mut self, path: &[u8], entry: &Entry) -> Result<BorrowedFd<'_>> {
        if self.parent.as_ref().is_none_or(|(known, _)| &known[..] != path) {
            for end in (0..path.len()).filter(|at| path[*at] == b'/').chain([path.len()]) {
                if !self.directories.contains_key(&path[..end]) {
                    let covered = self.covered(&path[..end], entry)?;
                    self.make(&path[..end], entry, Some(covered))?;
                }
            }
            let directory = beneath(self.root.as_fd(), path, OFlags::PATH | OFlags::DIRECTORY, 0)
                .map_err(|errno| failed(entry, errno))?;
            self.parent = Some((path.to_vec(), directory));
        }
        // Just set where it was another.
        Ok(self.parent.as_ref().map_or(self.root.as_fd(), |(_, directory)| directory.as_fd()))
    }

    /// Makes one directory where it is missing; `covered` is the one it is like, where the archive does not say it.
    fn make(&mut self, path: &[u8], entry: &Entry, covered: Option<Attributes>) -> Result<()> {
        if self.directories.contains_key(path) {
            return Ok(());
        }
        let (above, name) = split(path);
        let parent = beneath(self.root.as_fd(), above, OFlags::PATH | OFlags::DIRECTORY, 0)
            .map_err(|errno| failed(entry, errno))?;
        let mut opaque = false;
        match kind_of(parent.as_fd(), name).map_err(|errno| failed(entry, errno))? {
            None => {}
            Some(FileType::CharacterDevice) => {
                rustix::fs::unlinkat(&parent, name, AtFlags::empty())
                    .map_err(|errno| failed(entry, errno))?;
                opaque = true;
            }
            Some(FileType::Symlink) => {
                return Err(refused(entry, &format!("leads through the link `{}`", shown(path))));
            }
            Some(_) => {
                return Err(refused(entry, &format!("lies in `{}`, which is no directory", shown(path))));
            }
        }
        rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700))
            .map_err(|errno| failed(entry, errno))?;
        let implicit = covered.is_some();
        let attributes = covered.unwrap_or_else(|| Attributes::of_root(self.ids));
        self.directories.insert(path.to_vec(), Attributes { opaque, implicit, ..attributes });
        Ok(())
    }

    /// What the layers below have at the place of a directory that the archive does not describe.
    fn covered(&self, path: &[u8], entry: &Entry) -> Result<Attributes> {
        for layer in &self.below {
            let found = match beneath(layer.as_fd(), path, OFlags::PATH, 0) {
                Ok(found) => found,
                Err(Errno::NOENT) => continue,
                // A link, file or deletion on the way: it was met there.
                Err(_) => break,
            };
            let stat = rustix::fs::fstat(&found).map_err(|errno| failed(entry, errno))?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let (mode, owner) = (stat.st_mode & 0o7777, (stat.st_uid, stat.st_gid));
                    let modified = Some((stat.st_mtime, stat.st_mtime_nsec as u32));
                    return Ok(Attributes { mode, owner, modified, ..Attributes::of_root(self.ids) });
                }
                // Other programs would follow it within the image; a directory here would hide it instead.
                FileType::Symlink => {
                    return Err(refused(
                        entry,
                        &format!("leads through the link `{}` of a lower layer", shown(path)),
                    ));
                }
                _ => break,
            }
        }
        Ok(Attributes::of_root(self.ids))
    }

    fn skipped(&self) -> Option<String> {
        let (count, names) = &self.skipped;
        let more = if *count > names.len() { ", ..." } else { "" };
        (*count > 0).then(|| format!("left out {count} devices and pipes ({}{more})", names.join(", ")))
    }

    /// Gives directories their owners, permissions and times, the innermost first.
    fn finish(&mut self) -> Result<()> {
        for (path, directory) in self.directories.iter().rev() {
            let finish = || {
                let opened = beneath(self.root.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
                if directory.opaque {
                    rustix::fs::fsetxattr(&opened, OPAQUE_MARK, b"y", XattrFlags::empty())?;
                }
                let (uid, gid) = directory.owner;
                rustix::fs::fchown(&opened, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
                rustix::fs::fchmod(&opened, Mode::from_raw_mode(directory.mode))?;
                match directory.modified {
                    Some(modified) => rustix::fs::futimens(&opened, &times(modified)),
                    None => Ok(()),
                }
            };
            finish().map_err(|errno: Errno| {
                CapabilityError::io(format!("finish directory `{}`", shown(path)), &errno.into())
            })?;
        }
        Ok(())
    }
}

/// A path without its `.` parts and doubled slashes. Absolute ones and those with `..` are refused.
fn clean(path: &[u8]) -> Result<Vec<u8>> {
    let wrong = |what: &str| invalid(format!("entry `{}` of the archive {what}", shown(path)));
    if path.starts_with(b"/") {
        return Err(wrong("has an absolute path"));
    }
    if path.contains(&0) {
        return Err(wrong("has a NUL in its path"));
    }
    let parts: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.contains(&&b".."[..]) {
        return Err(wrong("has `..` in its path"));
    }
    if parts.len() > DEPTH_LIMIT {
        return Err(too_large(format!(
            "entry `{}` of the archive lies deeper than {DEPTH_LIMIT} directories",
            shown(path)
        )));
    }
    if parts.iter().any(|part| part.len() > NAME_LIMIT) {
        return Err(wrong(&format!("has a name of more than {NAME_LIMIT} bytes")));
    }
    Ok(parts.join(&b'/'))
}

/// A clean path as the directory and the name in it.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

fn join(above: &[u8], name: &[u8]) -> Vec<u8> {
    if above.is_empty() { name.to_vec() } else { [above, name].join(&b'/') }
}

/// What lies under a name; links are not followed.
fn kind_of(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Option<FileType>, Errno> {
    if name.is_empty() {
        return Ok(Some(FileType::Directory));
    }
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn refused(entry: &Entry, what: &str) -> CapabilityError {
    invalid(format!("entry `{}` of the archive {what}", shown(&entry.path)))
}

fn failed(entry: &Entry, errno: Errno) -> CapabilityError {
    match errno {
        Errno::LOOP | Errno::XDEV | Errno::NOTDIR => refused(entry, "leads through a link or a file"),
        errno => CapabilityError::io(format!("unpack `{}`", shown(&entry.path)), &errno.into()),
    }
}
