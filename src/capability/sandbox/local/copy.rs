//! Copies files and directories of the host into an image. Never follows a link and never leaves the two trees.

use rustix::fs::{AtFlags, CWD, FileType, Timespec, Timestamps};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::Path;

/// Deepest directory that is copied.
pub(super) const DEPTH_LIMIT: usize = 256;

/// Copies `source`, a file, link or directory, to `target`, which must not exist unless both are directories. The copies
/// belong to `owner`; set-user-id bits and extended attributes stay behind.
pub(super) fn tree(source: &Path, target: &Path, owner: (u32, u32)) -> io::Result<()> {
    entry(source, target, owner, 0)
}

fn entry(source: &Path, target: &Path, owner: (u32, u32), depth: usize) -> io::Result<()> {
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
            for inner in fs::read_dir(source)? {
                let inner = inner?;
                entry(&inner.path(), &target.join(inner.file_name()), owner, depth + 1)?;
            }
        }
        FileType::Symlink => symlink(fs::read_link(source)?, target)?,
        FileType::RegularFile => drop(fs::copy(source, target)?),
        // Sockets, pipes and devices mean nothing outside the place they were made in.
        _ => return Ok(()),
    }
    lchown(target, Some(owner.0), Some(owner.1))?;
    if kind != FileType::Symlink {
        fs::set_permissions(target, fs::Permissions::from_mode(metadata.mode() & 0o777))?;
    }
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps {
        last_access: time(metadata.atime(), metadata.atime_nsec()),
        last_modification: time(metadata.mtime(), metadata.mtime_nsec()),
    };
    Ok(rustix::fs::utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW)?)
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
