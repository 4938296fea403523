//! The space that a sandbox's own files take. The tree is the sandbox's, which may change it meanwhile, so nothing outside
//! is ever looked at: every directory is opened beneath the first, without links.

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Bytes of a block as `stat` counts them.
const BLOCK: u64 = 512;

/// Bytes on disk of everything below a directory. A file with several names counts once; what cannot be looked into
/// (closed to its own user, or deeper than a path is long) does not count, nor do deleted files that are still open.
pub(super) fn usage(root: &Path) -> u64 {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(root) = rustix::fs::open(root, flags, Mode::empty()) else { return 0 };
    let (mut used, mut linked) = (0, HashSet::new());
    let mut open = vec![PathBuf::from(".")];
    while let Some(path) = open.pop() {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let Ok(directory) = rustix::fs::openat2(&root, &path, flags, Mode::empty(), resolve) else {
            continue;
        };
        used += entries(&directory, |name, stat| {
            if FileType::from_raw_mode(stat.st_mode).is_dir() {
                open.push(path.join(name));
            }
            stat.st_nlink == 1
                || FileType::from_raw_mode(stat.st_mode).is_dir()
                || linked.insert((stat.st_dev, stat.st_ino))
        });
    }
    used
}

/// Bytes of the entries of a directory that are to be counted.
fn entries(directory: &OwnedFd, mut counts: impl FnMut(&OsStr, &rustix::fs::Stat) -> bool) -> u64 {
    let mut used = 0;
    for entry in Dir::read_from(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        // One that has just gone takes no space.
        let Ok(stat) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if counts(OsStr::from_bytes(name.to_bytes()), &stat) {
            used += u64::try_from(stat.st_blocks).unwrap_or_default() * BLOCK;
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::usage;
    use std::fs;

    #[test]
    fn names_of_one_file_count_once_and_links_lead_nowhere() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("large"), vec![1; 4 << 20]).unwrap();
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b/c");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(deep.join("file"), root.path().join("second")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("link")).unwrap();
        let used = usage(root.path());
        assert!((1 << 20..(1 << 20) + (64 << 10)).contains(&used), "{used}");
        assert_eq!(usage(&root.path().join("none")), 0);
    }
}
