//! A local repository seen without its configuration, hooks and attributes.
//!
//! Git runs what a repository's own configuration names: hooks, fsmonitor, alternate ref commands, remote helpers, and
//! whatever a later version adds. So git is never pointed at a user's repository. It gets a directory of the host's with
//! a configuration of the host's, in which `objects` and `refs` are links to the user's: there is nothing to switch off.
//! As root it runs as the repository's owner, so that what it writes is theirs and links lead nowhere that they cannot go.

use super::command::Owner;
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};

/// Largest small file read from a repository (HEAD, gitdir, shallow), in bytes.
const SMALL: u64 = 16 << 20;
/// Most linked worktrees looked at.
const WORKTREES: usize = 1000;

/// A view; its directory is deleted with it.
#[derive(Debug)]
pub(super) struct View {
    directory: PathBuf,
    /// What all worktrees share: objects and refs.
    common: PathBuf,
    /// Whose it is, where git must become them.
    owner: Option<Owner>,
    /// Whether the path given was a work tree rather than a bare repository.
    work_tree: bool,
    head: String,
}

fn io(doing: &str, path: &Path, error: &std::io::Error) -> CapabilityError {
    CapabilityError::io(format!("{doing} {}", path.display()), error)
}

/// Reads a small regular file; a FIFO or a device is no file.
fn small(path: &Path) -> Result<Option<String>> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = match fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(io("read", path, &error)),
    };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Ok(None);
    }
    let mut text = String::new();
    file.take(SMALL).read_to_string(&mut text).map_err(|error| io("read", path, &error))?;
    Ok(Some(text))
}

impl View {
    /// Looks at the repository at `root`; the view is made in `scratch`, a private directory of the host's.
    pub(super) fn open(root: &Path, scratch: &Path) -> Result<Self> {
        let missing = || {
            CapabilityError::new(
                ErrorKind::NOT_FOUND,
                format!(
                    "{} is not a git repository; name the directory that holds .git, or a bare one",
                    root.display()
                ),
            )
        };
        let dot_git = root.join(".git");
        let work_tree = dot_git.symlink_metadata().is_ok();
        let own = if !work_tree {
            root.to_owned()
        } else if dot_git.is_dir() {
            dot_git
        } else {
            let pointer = small(&dot_git)?.ok_or_else(missing)?;
            root.join(pointer.trim_end().strip_prefix("gitdir: ").ok_or_else(missing)?)
        };
        let common = match small(&own.join("commondir"))? {
            Some(relative) => own.join(relative.trim_end()),
            None => own.clone(),
        };
        let common = common.canonicalize().map_err(|_| missing())?;
        if !common.join("objects").is_dir() || !common.join("refs").is_dir() {
            return Err(missing());
        }
        let head = small(&own.join("HEAD"))?.ok_or_else(missing)?;
        refuse_sha256(&common)?;
        let metadata = fs::metadata(&common).map_err(|error| io("look at", &common, &error))?;
        let owner = foreign_owner(&common, &metadata);
        let view = Self { directory: fresh(owner, scratch)?, common, owner, work_tree, head };
        view.fill().map_err(|error| io("prepare", &view.directory, &error))?;
        view.fill_shallow()?;
        view.hand_over().map_err(|error| io("prepare", &view.directory, &error))?;
        Ok(view)
    }

    fn fill(&self) -> std::io::Result<()> {
        let reftable = self.common.join("reftable");
        let mut config = "[core]\n\trepositoryformatversion = 1\n\tbare = true\n".to_owned();
        if reftable.is_dir() {
            config.push_str("[extensions]\n\trefStorage = reftable\n");
            symlink(&reftable, self.directory.join("reftable"))?;
        }
        fs::write(self.directory.join("config"), config)?;
        fs::write(self.directory.join("HEAD"), &self.head)?;
        for name in ["objects", "refs", "packed-refs"] {
            let target = self.common.join(name);
            if target.exists() {
                symlink(&target, self.directory.join(name))?;
            }
        }
        Ok(())
    }

    fn fill_shallow(&self) -> Result<()> {
        if let Some(shallow) = small(&self.common.join("shallow"))? {
            let path = self.directory.join("shallow");
            fs::write(&path, shallow).map_err(|error| io("write", &path, &error))?;
        }
        Ok(())
    }

    /// Gives the view to the owner, last of all: what they own they can fill with links.
    fn hand_over(&self) -> std::io::Result<()> {
        let Some(owner) = self.owner else { return Ok(()) };
        for entry in fs::read_dir(&self.directory)? {
            lchown(entry?.path(), Some(owner.uid), Some(owner.gid))?;
        }
        chown(&self.directory, Some(owner.uid), Some(owner.gid))
    }

    /// Gives files that root has just written to the repository's owner, where git could not become them.
    pub(super) fn adopt(&self) -> std::io::Result<()> {
        let metadata = fs::metadata(&self.common)?;
        if !rustix::process::geteuid().is_root() || metadata.uid() == 0 || self.owner.is_some() {
            return Ok(());
        }
        let mut waiting: Vec<PathBuf> =
            ["objects", "refs", "reftable"].iter().map(|name| self.common.join(name)).collect();
        while let Some(path) = waiting.pop() {
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            if found.uid() == 0 {
                lchown(&path, Some(metadata.uid()), Some(metadata.gid()))?;
            }
            if found.is_dir() {
                for entry in fs::read_dir(&path)? {
                    waiting.push(entry?.path());
                }
            }
        }
        Ok(())
    }

    /// The directory to point git at.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whom git must run as.
    pub(super) fn owner(&self) -> Option<Owner> {
        self.owner
    }

    /// Whether a work tree of the repository has this branch (a full ref) checked out.
    pub(super) fn checked_out(&self, reference: &str) -> Result<bool> {
        let wanted = format!("ref: {reference}");
        // The main work tree's HEAD lies in the common directory, unless the repository is bare.
        let bare = !self.work_tree || !self.common.ends_with(".git");
        let main = small(&self.common.join("HEAD"))?.unwrap_or_default();
        if (!bare && main.trim_end() == wanted) || (self.work_tree && self.head.trim_end() == wanted) {
            return Ok(true);
        }
        let Ok(worktrees) = fs::read_dir(self.common.join("worktrees")) else { return Ok(false) };
        for entry in worktrees.flatten().take(WORKTREES) {
            if small(&entry.path().join("HEAD"))?.is_some_and(|head| head.trim_end() == wanted) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // Links are removed, not followed.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A fresh private directory, where `owner` can be let in.
fn fresh(owner: Option<Owner>, scratch: &Path) -> Result<PathBuf> {
    // The home of harvest is closed to others, so a view for another user cannot lie in it.
    let parent = if owner.is_some() { Path::new("/tmp") } else { scratch };
    let directory = parent.join(format!("harvest-view-{}", ulid::Ulid::generate()));
    fs::DirBuilder::new().mode(0o700).create(&directory).map_err(|error| io("make", &directory, &error))?;
    Ok(directory)
}

/// The owner of a repository, where that is someone whom this process can and must become.
fn foreign_owner(common: &Path, metadata: &fs::Metadata) -> Option<Owner> {
    let owner = Owner { uid: metadata.uid(), gid: metadata.gid() };
    let root = rustix::process::geteuid().is_root();
    (root && owner.uid != 0 && reachable(common, owner)).then_some(owner)
}

/// Whether `owner` can walk to `path`. Where only root can, nobody else has had a hand in the place since it was made.
fn reachable(path: &Path, owner: Owner) -> bool {
    path.ancestors().skip(1).all(|ancestor| {
        fs::metadata(ancestor).is_ok_and(|metadata| {
            let bit = if metadata.uid() == owner.uid {
                0o100
            } else if metadata.gid() == owner.gid {
                0o010
            } else {
                0o001
            };
            metadata.mode() & bit != 0
        })
    })
}

/// The bare copies that harvest keeps use SHA-1.
fn refuse_sha256(common: &Path) -> Result<()> {
    let config = small(&common.join("config"))?.unwrap_or_default().to_ascii_lowercase();
    let sha256 = config.lines().any(|line| {
        line.split_once('=')
            .is_some_and(|(key, value)| key.trim() == "objectformat" && value.contains("sha256"))
    });
    if sha256 {
        return Err(CapabilityError::new(
            ErrorKind::UNAVAILABLE,
            "repositories with SHA-256 object names are not supported; convert it to SHA-1",
        ));
    }
    Ok(())
}
