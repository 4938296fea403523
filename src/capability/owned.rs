//! Directories of the host that belong to the ids inside sandboxes.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

/// Makes a directory that others may enter and `uid` owns, where there is none. The owner is set last, so one with
/// another owner was left by a process that died in between, and is finished.
pub(crate) fn make(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::symlink_metadata(path)?.uid() == uid {
                return Ok(());
            }
        }
        Err(error) => return Err(error),
    }
    fs::set_permissions(path, Permissions::from_mode(0o755))?;
    lchown(path, Some(uid), Some(gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_half_made_is_finished() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("upper");
        let own = fs::metadata(directory.path()).unwrap();
        // Only root can give a directory away; anyone else has one owner to begin with.
        let uid = if own.uid() == 0 { 1_000_000 } else { own.uid() };
        let gid = if own.uid() == 0 { 1_000_000 } else { own.gid() };
        fs::create_dir(&path).unwrap();
        make(&path, uid, gid).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().uid(), uid);
        // What its owner did to it stays.
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        make(&path, uid, gid).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    }
}
