//! Who drives a run. A lease is a lock that the kernel drops with its holder, so a dead holder never blocks anyone.

use crate::id::RunId;
use crate::run::planted::{Planted, planted};
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
            match claim(open(&path)?, &path)? {
                Claim::Ours(lease) => return Ok(Some(lease)),
                Claim::Held => return Ok(None),
                Claim::Stale => {}
            }
        }
    }
}

/// What comes of an open lock file.
enum Claim {
    Ours(Lease),
    /// A living process has it.
    Held,
    /// The former holder has unlinked it: there is another file now.
    Stale,
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(path)
}

fn claim(file: File, path: &Path) -> io::Result<Claim> {
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) if planted(Planted::LeaseShared) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Claim::Held),
        Err(error) => return Err(error.into()),
    }
    // The former holder may have unlinked the file between our open and our lock.
    if is_same_file(&file, path) || planted(Planted::LeaseOfNoFile) {
        return Ok(Claim::Ours(Lease { path: path.to_owned(), _file: file }));
    }
    Ok(Claim::Stale)
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
    use crate::run::planted::plant;
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;

    /// Where a process stands that wants the lease.
    enum Process {
        Idle,
        Opened(File),
        Holds(Lease),
    }

    /// Processes take turns at the lease of one run, each turn one step of theirs: only one may hold it at a time, and
    /// it is free once nobody does.
    fn take_turns(turns: &[usize]) -> Result<(), TestCaseError> {
        let home = tempfile::tempdir().unwrap();
        let leases = Leases::open(home.path()).unwrap();
        let (run, path) = (RunId::new("r"), home.path().join("r"));
        let mut processes = [Process::Idle, Process::Idle, Process::Idle];
        for turn in turns {
            let process = &mut processes[*turn];
            *process = match std::mem::replace(process, Process::Idle) {
                Process::Idle => Process::Opened(open(&path).unwrap()),
                Process::Opened(file) => match claim(file, &path).unwrap() {
                    Claim::Ours(lease) => Process::Holds(lease),
                    Claim::Held | Claim::Stale => Process::Idle,
                },
                Process::Holds(lease) => {
                    drop(lease);
                    Process::Idle
                }
            };
            let holders = processes.iter().filter(|process| matches!(process, Process::Holds(_))).count();
            prop_assert!(holders <= 1, "{} hold it", holders);
            prop_assert!(holders == 0 || leases.take(&run).unwrap().is_none(), "it can be taken twice");
        }
        drop(processes);
        prop_assert!(leases.take(&run).unwrap().is_some(), "nobody holds it, and it is not free");
        Ok(())
    }

    /// Whether some way of taking turns breaks the promise.
    fn is_broken() -> bool {
        let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
        TestRunner::new_with_rng(
            config,
            proptest::test_runner::TestRng::deterministic_rng(Default::default()),
        )
        .run(&prop::collection::vec(0usize..3, 0..24), |turns| take_turns(&turns))
        .is_err()
    }

    #[test]
    fn one_holder_at_a_time() {
        assert!(!is_broken());
    }

    #[test]
    fn a_lease_that_two_can_have_is_found() {
        for bug in [Planted::LeaseShared, Planted::LeaseOfNoFile] {
            assert!(plant(bug, is_broken), "{bug:?}");
        }
    }
}
