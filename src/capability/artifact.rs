//! Artifacts: files of a step that are kept beyond its run, under `artifacts/RUN/NAME` of the home, where people find them.
//!
//! A file appears whole or not at all, and only its owner can read it. What it is (media type, step) stands beside it
//! in `artifacts/.about`, so that the directory of a run holds nothing but what was kept. Other capabilities may put
//! files of their own there.

use super::{CapabilityError, Result, blocking, run_name};
use crate::id::{RunId, StepId};
use crate::step::ErrorKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, DirEntry, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes in one artifact.
pub const MAX_ARTIFACT: usize = 64 << 20;
/// Bytes in a name.
pub const MAX_NAME: usize = 100;
/// Artifacts of one run.
pub const MAX_ARTIFACTS: usize = 1000;
/// Bytes in all artifacts of one run.
pub const MAX_ARTIFACT_TOTAL: u64 = 1 << 30;
/// Bytes in a media type.
const MAX_MEDIA_TYPE: usize = 127;

/// A file that was kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Artifact {
    /// Its name, unique in the run.
    pub name: String,
    /// What it is, as `type/subtype`; `application/octet-stream` where nobody said.
    pub media_type: String,
    /// The step that kept it, where a step did.
    pub step: Option<StepId>,
    /// The attempt of that step.
    pub attempt: Option<u32>,
    /// Its size.
    pub bytes: u64,
    /// Where it is.
    pub path: PathBuf,
}

/// What stands beside the file.
#[derive(Serialize, Deserialize)]
struct About {
    media_type: String,
    step: StepId,
    attempt: u32,
}

/// The artifacts of a home.
#[derive(Clone)]
pub struct Artifacts {
    directory: Arc<Path>,
    /// Limits and names are checked and taken in one go. Only the process that drives a run keeps its artifacts.
    keeping: Arc<Mutex<()>>,
}

impl Artifacts {
    /// The artifacts of `home`; directories are created as they are needed, with mode 0700.
    pub fn open(home: &Path) -> Self {
        Self { directory: home.join("artifacts").into(), keeping: Arc::default() }
    }

    /// Keeps `content` under `name` (`[A-Za-z0-9._-]{1,100}`), synced to disk. A later attempt of the same step replaces
    /// what an earlier one kept; a name that another step took is refused.
    pub async fn keep(
        &self,
        run: &RunId,
        (step, attempt): (&StepId, u32),
        name: &str,
        media_type: &str,
        content: Vec<u8>,
    ) -> Result<Artifact> {
        check_name(name)?;
        check_media_type(media_type)?;
        if content.len() > MAX_ARTIFACT {
            return Err(CapabilityError::new(
                ErrorKind::TOO_LARGE,
                format!("artifact {name} has {} bytes, more than {} MiB", content.len(), MAX_ARTIFACT >> 20),
            ));
        }
        let place = self.place(run)?;
        let about = About { media_type: media_type.into(), step: step.clone(), attempt };
        let (keeping, name) = (self.keeping.clone(), name.to_owned());
        blocking(move || {
            let _keeping = keeping.lock().unwrap_or_else(PoisonError::into_inner);
            place.keep(&name, &about, &content)
        })
        .await
    }

    /// What a run kept, by name.
    pub async fn list(&self, run: &RunId) -> Result<Vec<Artifact>> {
        let place = self.place(run)?;
        blocking(move || place.list()).await
    }

    /// One artifact and its content.
    pub async fn read(&self, run: &RunId, name: &str) -> Result<(Artifact, Vec<u8>)> {
        check_name(name)?;
        let (place, name, run) = (self.place(run)?, name.to_owned(), run.clone());
        blocking(move || {
            let found = place.list()?.into_iter().find(|artifact| artifact.name == name);
            let artifact = found.ok_or_else(|| {
                CapabilityError::new(ErrorKind::NOT_FOUND, format!("run {run} kept no artifact {name}"))
            })?;
            let content = std::fs::read(&artifact.path).map_err(failed("read", &artifact.path))?;
            Ok((artifact, content))
        })
        .await
    }

    /// Every run that kept something, with the bytes that it takes, in no order.
    pub async fn runs(&self) -> Result<Vec<(RunId, u64)>> {
        let directory = self.directory.clone();
        blocking(move || {
            let mut runs = BTreeMap::new();
            // A description without files is what a crash left behind.
            for place in [directory.join(".about"), directory.to_path_buf()] {
                for entry in entries(&place)? {
                    let run = entry.file_name().to_str().map(RunId::new);
                    if let Some(run) = run.filter(|run| run_name(run).is_ok()) {
                        *runs.entry(run).or_insert(0) += tree_bytes(&entry.path())?;
                    }
                }
            }
            Ok(runs.into_iter().collect())
        })
        .await
    }

    /// Drops everything a run kept.
    pub async fn remove(&self, run: &RunId) -> Result<()> {
        let place = self.place(run)?;
        blocking(move || {
            for directory in [&place.files, &place.about] {
                match std::fs::remove_dir_all(directory) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(failed("remove", directory)(error));
                    }
                    _ => {}
                }
            }
            Ok(())
        })
        .await
    }

    fn place(&self, run: &RunId) -> Result<Place> {
        let run = run_name(run)?;
        Ok(Place { files: self.directory.join(run), about: self.directory.join(".about").join(run) })
    }
}

/// The two directories of a run.
struct Place {
    files: PathBuf,
    about: PathBuf,
}

impl Place {
    fn keep(&self, name: &str, about: &About, content: &[u8]) -> Result<Artifact> {
        let kept = self.list()?;
        let refuse = |kind, why: String| Err(CapabilityError::new(kind, format!("artifact {name}: {why}")));
        let earlier = kept.iter().find(|artifact| artifact.name == name);
        match earlier.map(|artifact| &artifact.step) {
            Some(Some(step)) if *step != about.step => {
                return refuse(
                    ErrorKind::CONFLICT,
                    format!("step {step} of this run took the name; choose another"),
                );
            }
            Some(None) => return refuse(ErrorKind::CONFLICT, "the name is taken; choose another".into()),
            _ => {}
        }
        let others = || kept.iter().filter(|artifact| artifact.name != name);
        if others().count() >= MAX_ARTIFACTS {
            return refuse(ErrorKind::QUOTA, format!("the run has kept {MAX_ARTIFACTS}, which is the most"));
        }
        let total: u64 = others().map(|artifact| artifact.bytes).sum();
        if total + content.len() as u64 > MAX_ARTIFACT_TOTAL {
            let most = MAX_ARTIFACT_TOTAL >> 20;
            return refuse(
                ErrorKind::QUOTA,
                format!("the run has kept {total} bytes, and may keep {most} MiB"),
            );
        }
        // The description goes first: without the file, it describes nothing.
        let line = serde_json::to_vec(about)
            .map_err(|error| CapabilityError::new(ErrorKind::OTHER, format!("artifact {name}: {error}")))?;
        write_whole(&self.about, name, &line)?;
        let path = write_whole(&self.files, name, content)?;
        Ok(self.artifact(name, path, content.len() as u64))
    }

    fn list(&self) -> Result<Vec<Artifact>> {
        let files = match std::fs::read_dir(&self.files) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("list", &self.files)(error)),
        };
        let mut kept = Vec::new();
        for file in files {
            let file = file.map_err(failed("list", &self.files))?;
            let metadata = file.metadata().map_err(failed("look at", &file.path()))?;
            let name = file.file_name();
            let Some(name) = name.to_str().filter(|name| check_name(name).is_ok() && metadata.is_file())
            else {
                continue;
            };
            let artifact = self.artifact(name, file.path(), metadata.len());
            // A hidden file that nobody described is one that another capability is still writing.
            if artifact.step.is_some() || !name.starts_with('.') {
                kept.push(artifact);
            }
        }
        kept.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(kept)
    }

    fn artifact(&self, name: &str, path: PathBuf, bytes: u64) -> Artifact {
        let about = std::fs::read(self.about.join(name)).ok();
        let about = about.and_then(|about| serde_json::from_slice::<About>(&about).ok());
        let (media_type, step, attempt) = match about {
            Some(about) => (about.media_type, Some(about.step), Some(about.attempt)),
            None => ("application/octet-stream".into(), None, None),
        };
        Artifact { name: name.into(), media_type, step, attempt, bytes, path }
    }
}

/// What is in a directory; nothing where there is none.
fn entries(directory: &Path) -> Result<Vec<DirEntry>> {
    match std::fs::read_dir(directory) {
        Ok(entries) => entries.collect::<io::Result<_>>().map_err(failed("list", directory)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed("list", directory)(error)),
    }
}

/// Bytes of all files below a path. Links are not followed; what goes away meanwhile has no size.
fn tree_bytes(path: &Path) -> Result<u64> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => {
            entries(path)?.iter().try_fold(0, |sum, entry| Ok(sum + tree_bytes(&entry.path())?))
        }
        Ok(found) => Ok(found.len()),
        Err(_) => Ok(0),
    }
}

/// Writes a file beside its place and moves it there once it is on disk.
fn write_whole(directory: &Path, name: &str, content: &[u8]) -> Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed("create", directory))?;
    let path = directory.join(name);
    // No name of an artifact holds this sign, so it can be no artifact.
    let part = directory.join(format!("~{}", ulid::Ulid::generate()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&part, &path)?;
        File::open(directory)?.sync_all()
    })();
    written.map_err(|error| {
        // Nothing to do where this fails too: the first error is the one to hear of.
        let _ = std::fs::remove_file(&part);
        failed("write", &path)(error)
    })?;
    Ok(path)
}

fn check_name(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(plain) || name == "." || name == ".." {
        return Err(CapabilityError::new(
            ErrorKind::INVALID,
            format!("{name:?} is not a name for an artifact: use 1 to {MAX_NAME} of A-Z a-z 0-9 . _ -"),
        ));
    }
    Ok(())
}

/// Goes into a header when people fetch the file, so it must be one line of plain signs.
fn check_media_type(media_type: &str) -> Result<()> {
    let plain = media_type.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if !plain
        || media_type.len() > MAX_MEDIA_TYPE
        || media_type.split('/').filter(|part| !part.is_empty()).count() != 2
    {
        return Err(CapabilityError::new(
            ErrorKind::INVALID,
            format!("{media_type:?} is not a media type: write one like text/plain"),
        ));
    }
    Ok(())
}

fn failed(doing: &str, path: &Path) -> impl Fn(io::Error) -> CapabilityError {
    move |error| CapabilityError::io(format!("{doing} {}", path.display()), &error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn places() -> (tempfile::TempDir, Artifacts, RunId) {
        let home = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(home.path());
        (home, artifacts, RunId::generate())
    }

    #[tokio::test]
    async fn what_was_kept_is_found_by_people_and_by_name() {
        let (home, artifacts, run) = places();
        let fix = StepId::new("fix");
        assert_eq!(artifacts.list(&run).await.unwrap(), []);
        let kept = artifacts.keep(&run, (&fix, 1), "b.txt", "text/plain", b"one".to_vec()).await.unwrap();
        let hidden = artifacts.keep(&run, (&fix, 1), ".a", "application/json", b"{}".to_vec()).await.unwrap();
        assert_eq!(kept.path, home.path().join("artifacts").join(run.as_str()).join("b.txt"));
        assert_eq!(std::fs::read(&kept.path).unwrap(), b"one");
        assert_eq!(kept.path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(kept.path.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(artifacts.list(&run).await.unwrap(), [hidden, kept.clone()]);
        assert_eq!(artifacts.read(&run, "b.txt").await.unwrap(), (kept, b"one".to_vec()));
        assert_eq!(artifacts.read(&run, "c").await.unwrap_err().kind, ErrorKind::NOT_FOUND);
        assert_eq!(artifacts.list(&RunId::generate()).await.unwrap(), []);
        artifacts.remove(&run).await.unwrap();
        artifacts.remove(&run).await.unwrap();
        assert_eq!(artifacts.list(&run).await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_later_attempt_replaces_and_another_step_does_not() {
        let (_home, artifacts, run) = places();
        let (fix, test) = (StepId::new("fix"), StepId::new("test"));
        artifacts.keep(&run, (&fix, 1), "log", "text/plain", b"one".to_vec()).await.unwrap();
        artifacts.keep(&run, (&fix, 2), "log", "text/markdown", b"# two".to_vec()).await.unwrap();
        let refused =
            artifacts.keep(&run, (&test, 1), "log", "text/plain", b"three".to_vec()).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::CONFLICT);
        assert_eq!(refused.message, "artifact log: step fix of this run took the name; choose another");
        let (artifact, content) = artifacts.read(&run, "log").await.unwrap();
        assert_eq!(
            (&*artifact.media_type, artifact.attempt, content),
            ("text/markdown", Some(2), b"# two".to_vec())
        );
        assert_eq!(artifacts.list(&run).await.unwrap(), [artifact]);
    }

    #[tokio::test]
    async fn bad_names_types_and_sizes_reach_no_file() {
        let (home, artifacts, run) = places();
        let fix = StepId::new("fix");
        let long = "a".repeat(MAX_NAME + 1);
        for name in ["", ".", "..", "a/b", "../x", "a b", "a\n", "~x", "\u{e4}", &long] {
            let refused = artifacts.keep(&run, (&fix, 1), name, "text/plain", vec![]).await.unwrap_err();
            assert_eq!(refused.kind, ErrorKind::INVALID, "{name}");
        }
        for media_type in ["", "text", "text/", "/plain", "a/b/c", "text/plain\r\nX: y", "text/pl\u{e4}in"] {
            let refused = artifacts.keep(&run, (&fix, 1), "a", media_type, vec![]).await.unwrap_err();
            assert_eq!(refused.kind, ErrorKind::INVALID, "{media_type}");
        }
        let large = vec![0; MAX_ARTIFACT + 1];
        let refused = artifacts.keep(&run, (&fix, 1), "a", "text/plain", large).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::TOO_LARGE);
        let foreign = RunId::new("../run");
        let refused = artifacts.keep(&foreign, (&fix, 1), "a", "text/plain", vec![]).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::INVALID);
        assert_eq!(home.path().read_dir().unwrap().count(), 0);
    }

    #[tokio::test]
    async fn files_of_other_capabilities_are_listed_and_kept_safe() {
        let (home, artifacts, run) = places();
        let directory = home.path().join("artifacts").join(run.as_str());
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("app.bundle"), b"git").unwrap();
        std::fs::write(directory.join(".half"), b"still being written").unwrap();
        let listed = artifacts.list(&run).await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!((&*listed[0].name, &listed[0].step, listed[0].bytes), ("app.bundle", &None, 3));
        let fix = StepId::new("fix");
        let refused = artifacts.keep(&run, (&fix, 1), "app.bundle", "text/plain", vec![]).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::CONFLICT);
    }

    #[tokio::test]
    async fn a_run_keeps_a_bounded_number() {
        let (home, artifacts, run) = places();
        let directory = home.path().join("artifacts").join(run.as_str());
        std::fs::create_dir_all(&directory).unwrap();
        for n in 0..MAX_ARTIFACTS {
            File::create(directory.join(n.to_string())).unwrap();
        }
        let fix = StepId::new("fix");
        let refused = artifacts.keep(&run, (&fix, 1), "more", "text/plain", vec![]).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::QUOTA);
        // The same for bytes: a file may be large without taking space.
        std::fs::remove_file(directory.join("0")).unwrap();
        File::create(directory.join("1")).unwrap().set_len(MAX_ARTIFACT_TOTAL - 5).unwrap();
        artifacts.keep(&run, (&fix, 1), "more", "text/plain", vec![0; 5]).await.unwrap();
        let refused = artifacts.keep(&run, (&fix, 1), "more", "text/plain", vec![0; 6]).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::QUOTA);
    }
}
