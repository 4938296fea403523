//! Who drives a run. A lease is a lock that the kernel drops with its holder, so a dead holder never blocks anyone.

use crate::id::RunId;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Leases of one home, shared by its processes.
#[derive(Clone, Debug)]
pub struct Leases {
    directory: PathBuf,
}

/// The right to drive one run, until dropped.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    _file: File,
}

impl Leases {
    /// Leases kept in `directory`, which is made when missing.
    ///
    /// # Errors
    /// Where the directory cannot be made.
    pub fn open(directory: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// Every run that has a lease file: those that are driven, and those whose driver was killed.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    pub fn runs(&self) -> io::Result<Vec<RunId>> {
        let mut runs = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            runs.extend(entry?.file_name().to_str().map(RunId::new));
        }
        Ok(runs)
    }

    /// Takes the lease of a run, or `None` where a living process holds it.
    ///
    /// # Errors
    /// Where the lock file cannot be made.
    pub fn take(&self, run: &RunId) -> io::Result<Option<Lease>> {
        let path = self.directory.join(run.as_str());
        loop {
            let file = File::options().create(true).truncate(false).write(true).open(&path)?;
            match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            // The former holder may have unlinked the file between our open and our lock.
            if is_same_file(&file, &path) {
                return Ok(Some(Lease { path, _file: file }));
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Unlinked before the lock goes, so that whoever locks the old file can tell. A leftover does no harm.
        let _ = std::fs::remove_file(&self.path);
    }
}

pub(super) fn is_same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(a), Ok(b)) = (file.metadata(), std::fs::metadata(path)) else { return false };
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let home = tempfile::tempdir().unwrap();
        let leases = Leases::open(home.path()).unwrap();
        let run = RunId::new("r");
        let held = leases.take(&run).unwrap();
        assert!(held.is_some());
        assert!(leases.take(&run).unwrap().is_none());
        drop(held);
        assert!(leases.take(&run).unwrap().is_some());
    }
}
