//! Where harvest keeps its things and what the operator configured through the environment.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The directory that holds everything of one operator: journal, streams, images, volumes, caches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home(PathBuf);

impl Home {
    /// Opens the home at `path`, by default `$XDG_STATE_HOME/harvest`, and makes it with mode 0700 when missing.
    ///
    /// # Errors
    /// A sentence for the operator: no place is known, it cannot be made, or somebody else owns it.
    pub fn open(path: Option<PathBuf>) -> Result<Self, String> {
        let path = path
            .or_else(default_home)
            .ok_or("no home directory is known: pass --home DIR or set HARVEST_HOME")?;
        let path = std::path::absolute(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let say = |error: io::Error| {
            format!("cannot use the home {}: {error}; pass --home DIR or set HARVEST_HOME", path.display())
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(say)?;
        let found = fs::metadata(&path).map_err(say)?;
        let me = rustix::process::geteuid().as_raw();
        if found.uid() != me {
            return Err(format!(
                "the home {} belongs to user {}, not to you ({me}): pass --home DIR",
                path.display(),
                found.uid()
            ));
        }
        if found.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).map_err(say)?;
        }
        Ok(Self(path))
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file or directory in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// Which store keeps the journal of a home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JournalKind {
    /// One SQLite file, for many processes at once.
    Sqlite,
    /// sled, for one process at a time.
    Sled,
}

impl std::fmt::Display for JournalKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "sqlite",
            Self::Sled => "sled",
        })
    }
}

/// The store that `HARVEST_JOURNAL` names, where it is set.
///
/// # Errors
/// A sentence that says what to write, where it names none.
pub fn journal_from_env() -> Result<Option<JournalKind>, String> {
    match std::env::var("HARVEST_JOURNAL").unwrap_or_default().trim() {
        "" => Ok(None),
        "sqlite" => Ok(Some(JournalKind::Sqlite)),
        "sled" => Ok(Some(JournalKind::Sled)),
        other => Err(format!("HARVEST_JOURNAL is `{other}`: write `sqlite` or `sled`")),
    }
}

fn default_home() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("harvest"))
}

/// The model API that gateways lead to: `ANTHROPIC_BASE_URL`, or the public one.
pub fn anthropic_base_url() -> String {
    match std::env::var("ANTHROPIC_BASE_URL") {
        Ok(url) if !url.trim().is_empty() => url.trim().trim_end_matches('/').to_owned(),
        _ => "https://api.anthropic.com".to_owned(),
    }
}

/// Where a repository of GitHub is: below `HARVEST_GITHUB_URL`, or the public one.
pub fn github_url(full_name: &str) -> String {
    let base = std::env::var("HARVEST_GITHUB_URL").ok().filter(|url| !url.trim().is_empty());
    let base = base.unwrap_or_else(|| "https://github.com".to_owned());
    format!("{}/{full_name}.git", base.trim().trim_end_matches('/'))
}
