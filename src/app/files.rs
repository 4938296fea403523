//! Files of the author: read with a limit, replaced whole or not at all.

use super::AppError;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Bytes of a workflow file; the checker has a limit of its own, this one is for reading.
const FILE_MAX: u64 = 16 << 20;

/// Reads a text.
pub(super) fn read(file: &Path) -> Result<String, AppError> {
    let failed = |error: io::Error| AppError::File(format!("cannot read {}: {error}", file.display()));
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(failed)?;
    opened.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(AppError::File(format!(
            "{} is larger than {} MiB: no workflow is",
            file.display(),
            FILE_MAX >> 20
        )));
    }
    String::from_utf8(bytes).map_err(|_| AppError::File(format!("{} is no UTF-8 text", file.display())))
}

/// Replaces the content of a file that holds `old`. It keeps its mode and owner, and stays a link where it is one.
pub(super) fn replace(file: &Path, old: &str, new: &str) -> Result<(), AppError> {
    let failed = |error: io::Error| {
        AppError::File(format!("cannot write {}, which is as it was: {error}", file.display()))
    };
    let path = fs::canonicalize(file).map_err(failed)?;
    let found = fs::metadata(&path).map_err(failed)?;
    // Renaming needs no right to write the file itself; its author took that right away for a reason.
    File::options().write(true).open(&path).map_err(failed)?;
    let still_the_same = || match read(&path) {
        Ok(text) if text == old => Ok(()),
        Ok(_) => Err(io::Error::other("somebody else has changed it meanwhile")),
        Err(error) => Err(io::Error::other(error.to_string())),
    };
    let prepare = |draft: &File| {
        if draft.metadata()?.uid() != found.uid() || draft.metadata()?.gid() != found.gid() {
            std::os::unix::fs::fchown(draft, Some(found.uid()), Some(found.gid()))?;
        }
        draft.set_permissions(Permissions::from_mode(found.mode() & 0o7777))?;
        still_the_same()
    };
    write(&path, new, prepare).map_err(failed)
}

/// Writes a file of the author, new or not, and the directory that it lies in.
pub(super) fn create(path: &Path, content: &str) -> Result<(), AppError> {
    /// Data like any other file of the author.
    const MODE: u32 = 0o644;
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| write(path, content, |draft| draft.set_permissions(Permissions::from_mode(MODE))))
        .map_err(|error| AppError::File(format!("cannot write {}: {error}", path.display())))
}

/// A file that appears at its place once it is whole. Dropped before, it leaves nothing.
pub(super) struct Draft {
    draft: PathBuf,
    file: PathBuf,
    replace: bool,
}

impl Draft {
    /// A name for the draft of `file`, beside it. Nothing is made yet.
    pub(super) fn new(file: &Path, replace: bool) -> Result<Self, AppError> {
        let file = std::path::absolute(file)
            .map_err(|error| AppError::File(format!("{}: {error}", file.display())))?;
        // Asked before the work is done; asked again, and for good, when the draft takes its place.
        if !replace && fs::symlink_metadata(&file).is_ok() {
            return Err(exists(&file));
        }
        let draft = file.with_file_name(format!(".harvest-{}", ulid::Ulid::generate()));
        Ok(Self { draft, file, replace })
    }

    /// Where to write.
    pub(super) fn path(&self) -> &Path {
        &self.draft
    }

    /// Why the file could not be written.
    pub(super) fn failed(&self, error: &io::Error) -> AppError {
        AppError::File(format!("cannot write {}: {error}", self.file.display()))
    }

    /// Syncs the draft and gives it its name.
    pub(super) fn publish(self) -> Result<(), AppError> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        let flags = if self.replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        let published = (|| {
            File::open(&self.draft)?.sync_all()?;
            renameat_with(CWD, &self.draft, CWD, &self.file, flags)?;
            File::open(self.file.parent().unwrap_or(Path::new("/")))?.sync_all()
        })();
        published.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => exists(&self.file),
            _ => self.failed(&error),
        })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After it was published there is none; before, the error worth telling is another one.
        let _ = fs::remove_file(&self.draft);
    }
}

fn exists(file: &Path) -> AppError {
    AppError::File(format!("{} is there already: name another file, or pass --force", file.display()))
}

/// Writes a file whole: readers see the old content or the new one, also after a crash.
fn write(path: &Path, content: &str, prepare: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let draft = directory.join(format!(".harvest-{}", ulid::Ulid::generate()));
    let written = (|| {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        if fs::read(&draft)? != content.as_bytes() {
            return Err(io::Error::other("what was written cannot be read back"));
        }
        prepare(&file)?;
        fs::rename(&draft, path)
    })();
    if written.is_err() {
        // The draft may not exist; the error worth telling is the one above.
        let _ = fs::remove_file(&draft);
    } else if let Ok(directory) = File::open(directory) {
        // The new content is there; only whether it outlives a power cut depends on this.
        let _ = directory.sync_all();
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let names = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_replaced_file_keeps_its_mode_and_its_links() {
        let home = tempfile::tempdir().unwrap();
        let (path, link) = (home.path().join("w.yaml"), home.path().join("link.yaml"));
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("w.yaml", &link).unwrap();
        replace(&link, "old", "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(names(home.path()), ["link.yaml", "w.yaml"], "no draft is left");
    }

    #[test]
    fn a_file_that_changed_meanwhile_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("w.yaml");
        fs::write(&path, "theirs").unwrap();
        let error = replace(&path, "old", "new").unwrap_err();
        assert!(error.to_string().ends_with("somebody else has changed it meanwhile"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        assert_eq!(names(home.path()), ["w.yaml"], "no draft is left");
    }

    #[test]
    fn a_new_file_is_readable_by_others_and_written_again() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("new/w.json");
        for content in ["one", "two"] {
            create(&path, content).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
        assert_eq!(names(path.parent().unwrap()), ["w.json"], "no draft is left");
    }

    #[test]
    fn what_cannot_be_written_says_so() {
        let home = tempfile::tempdir().unwrap();
        let missing = home.path().join("none/w.yaml");
        let error = replace(&missing, "old", "new").unwrap_err();
        assert!(error.to_string().starts_with("cannot write "), "{error}");
    }
}
