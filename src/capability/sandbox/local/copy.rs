//! Copies file trees on the host: directories of the host into an image, and the changes of an idle sandbox into a layer.
//! Never follows a link and never leaves the two trees.

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use std::collections::HashMap;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

/// Deepest directory that is copied.
const DEPTH_LIMIT: usize = 256;
/// Longest value of an extended attribute that is kept, in bytes.
const ATTRIBUTE_LIMIT: usize = 4096;

/// Whose the copies are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owner {
    /// This user and group; no set-user-id bits, no extended attributes.
    Set(u32, u32),
    /// As in the source, with overlayfs marks (whiteouts, opaque directories) and hard links.
    Keep,
}

/// Copies `source`, a file, link or directory, to `target`, which must not exist unless both are directories.
pub(super) fn tree(source: &Path, target: &Path, owner: Owner) -> io::Result<()> {
    Copy { owner, links: HashMap::new() }.entry(source, target, 0)
}

struct Copy {
    owner: Owner,
    /// Copies of files with several names, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Copy {
    fn entry(&mut self, source: &Path, target: &Path, depth: usize) -> io::Result<()> {
        let metadata = fs::symlink_metadata(source)?;
        let kind = FileType::from_raw_mode(metadata.mode());
        match kind {
            FileType::Directory => {
                if depth > DEPTH_LIMIT {
                    return Err(io::Error::other(format!("{} is nested too deeply", source.display())));
                }
                match fs::create_dir(target) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                    _ => {}
                }
                for entry in fs::read_dir(source)? {
                    let entry = entry?;
                    self.entry(&entry.path(), &target.join(entry.file_name()), depth + 1)?;
                }
            }
            FileType::Symlink => symlink(fs::read_link(source)?, target)?,
            FileType::RegularFile => {
                if matches!(self.owner, Owner::Keep) && metadata.nlink() > 1 {
                    let inode = (metadata.dev(), metadata.ino());
                    if let Some(first) = self.links.get(&inode) {
                        return fs::hard_link(first, target);
                    }
                    self.links.insert(inode, target.to_owned());
                }
                fs::copy(source, target)?;
            }
            FileType::CharacterDevice if metadata.rdev() == 0 && matches!(self.owner, Owner::Keep) => {
                // How overlayfs marks a deleted name; anyone may make this one device.
                rustix::fs::mknodat(CWD, target, kind, Mode::empty(), 0)?;
            }
            // Sockets, pipes and devices mean nothing outside the place they were made in.
            _ => return Ok(()),
        }
        self.finish(source, target, &metadata, kind)
    }

    fn finish(
        &self,
        source: &Path,
        target: &Path,
        metadata: &fs::Metadata,
        kind: FileType,
    ) -> io::Result<()> {
        let (uid, gid, bits) = match self.owner {
            Owner::Set(uid, gid) => (uid, gid, 0o777),
            Owner::Keep => (metadata.uid(), metadata.gid(), 0o7777),
        };
        lchown(target, Some(uid), Some(gid))?;
        if kind != FileType::Symlink && kind != FileType::CharacterDevice {
            fs::set_permissions(target, fs::Permissions::from_mode(metadata.mode() & bits))?;
            if matches!(self.owner, Owner::Keep) {
                attributes(source, target)?;
            }
        }
        let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps {
            last_access: time(metadata.atime(), metadata.atime_nsec()),
            last_modification: time(metadata.mtime(), metadata.mtime_nsec()),
        };
        Ok(rustix::fs::utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

/// Copies the extended attributes of `user.`, where overlayfs keeps its marks.
fn attributes(source: &Path, target: &Path) -> io::Result<()> {
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::llistxattr(source, &mut names) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| name.starts_with(b"user.")) {
        let name = CString::new(name)?;
        let mut value = vec![0; ATTRIBUTE_LIMIT];
        let length = rustix::fs::lgetxattr(source, name.as_c_str(), &mut value)?;
        rustix::fs::lsetxattr(target, name.as_c_str(), &value[..length], XattrFlags::empty())?;
    }
    Ok(())
}

/// Feeds everything that makes a tree what it is (names, permissions, content, links) to `sink`, in a fixed order.
pub(super) fn describe(root: &Path, sink: &mut impl FnMut(&[u8])) -> io::Result<()> {
    let metadata = fs::symlink_metadata(root)?;
    sink(format!("{:o}:", metadata.mode()).as_bytes());
    if metadata.is_symlink() {
        sink(fs::read_link(root)?.as_os_str().as_bytes());
    } else if metadata.is_file() {
        sink(&metadata.len().to_le_bytes());
        let mut file = fs::File::open(root)?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = io::Read::read(&mut file, &mut buffer)?;
            if count == 0 {
                break;
            }
            sink(&buffer[..count]);
        }
    } else if metadata.is_dir() {
        let mut names = fs::read_dir(root)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        sink(&names.len().to_le_bytes());
        for name in names {
            sink(&name.len().to_le_bytes());
            sink(name.as_bytes());
            describe(&root.join(name), sink)?;
        }
    }
    Ok(())
}

/// Bytes that a tree takes on disk.
pub(super) fn disk_usage(root: &Path) -> io::Result<u64> {
    let metadata = fs::symlink_metadata(root)?;
    let mut bytes = metadata.blocks() * 512;
    if metadata.is_dir() {
        for entry in fs::read_dir(root)? {
            bytes += disk_usage(&entry?.path())?;
        }
    }
    Ok(bytes)
}
