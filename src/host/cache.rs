//! Files that belong to a component's content: its bytes, its compiled form, its types. Names are digests, writes are
//! atomic, and nothing is read that another user could have written: loading a compiled form is running code.

use crate::id::Digest;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A directory of files named by digest, mode 0700 and this user's own.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// Opens the directory, making it where it is missing. Fails where it belongs to somebody else or others may write.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let found = fs::symlink_metadata(directory)?;
        if !found.is_dir() || found.uid() != this_user() || found.mode() & 0o077 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "{} must be a directory of this user with mode 0700, since code is loaded from it: remove it, and it \
                     is made anew",
                    directory.display()
                ),
            ));
        }
        Ok(Self { directory: directory.to_owned() })
    }

    /// Where the file of a digest is, whether it exists or not.
    pub(super) fn path(&self, digest: &Digest, suffix: &str) -> PathBuf {
        self.directory.join(format!("{}{suffix}", digest.hex()))
    }

    /// The path of a file that exists and that nobody else can have written.
    pub(super) fn trusted(&self, digest: &Digest, suffix: &str) -> Option<PathBuf> {
        let path = self.path(digest, suffix);
        let found = fs::symlink_metadata(&path).ok()?;
        (found.is_file() && found.uid() == this_user() && found.mode() & 0o022 == 0).then_some(path)
    }

    /// The content of a trusted file.
    pub(super) fn read(&self, digest: &Digest, suffix: &str) -> Option<Vec<u8>> {
        fs::read(self.trusted(digest, suffix)?).ok()
    }

    /// Writes a file whole: readers see the old one or the new one, also after a crash.
    pub(super) fn write(&self, digest: &Digest, suffix: &str, content: &[u8]) -> io::Result<PathBuf> {
        let path = self.path(digest, suffix);
        let draft = self.directory.join(format!(".{}", ulid::Ulid::generate()));
        let written = (|| {
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&draft, &path)
        })();
        if written.is_err() {
            // The draft may not exist; the error worth telling is the one above.
            let _ = fs::remove_file(&draft);
        }
        written.map(|()| path)
    }
}

fn this_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_others_can_write_is_not_read() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::open(&home.path().join("compiled")).unwrap();
        let digest = Digest::of(b"x");
        let path = cache.write(&digest, ".a", b"content").unwrap();
        assert_eq!(cache.read(&digest, ".a").as_deref(), Some(&b"content"[..]));

        fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).unwrap();
        assert_eq!(cache.read(&digest, ".a"), None);

        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert_eq!(cache.read(&digest, ".a"), None);
    }

    #[test]
    fn a_directory_open_to_others_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("compiled");
        Cache::open(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        let error = Cache::open(&directory).unwrap_err();
        assert!(error.to_string().contains("mode 0700"), "{error}");
    }
}
