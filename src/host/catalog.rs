//! Finds the components that workflow files name: the embedded ones by name, anyone's by path. Runs nothing.

use super::component::{COMPONENT_LIMIT, Library, LoadError};
use crate::id::Digest;
use crate::workflow::check::names_workflow;
use crate::workflow::types::{Catalog, ComponentType, WorkflowFile};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};

use guests::GUESTS;

/// The components that are part of harvest, as `build.rs` left them.
mod guests {
    #![allow(unreachable_pub)] // Generated.
    include!(concat!(env!("OUT_DIR"), "/guests.rs"));
}

/// Most bytes read of a workflow file; the checker has a limit of its own, this one is for reading.
const WORKFLOW_LIMIT: u64 = 16 << 20;
/// Bytes of a YAML file in which `harvest:` stands, if it is a workflow.
const WORKFLOW_START: u64 = 64 << 10;

/// Entries of a directory that are looked at for suggestions.
const ENTRIES_MAX: usize = 10_000;

/// The components that one workflow file can name.
pub struct Components {
    library: Library,
    /// Directory of the workflow file.
    base: PathBuf,
    /// What was looked up before, so that a file that names a component twice gets the same content twice.
    found: Mutex<HashMap<String, Arc<ComponentType>>>,
}

impl Components {
    /// A catalog whose relative paths start at `base`.
    pub fn new(library: Library, base: impl Into<PathBuf>) -> Self {
        Self { library, base: base.into(), found: Mutex::default() }
    }

    fn find(&self, uses: &str) -> Result<ComponentType, String> {
        if let Some((name, bytes)) = GUESTS.iter().find(|(name, _)| *name == uses) {
            return self.library.add(name, bytes).map_err(|error| format!("component {name}: {error}"));
        }
        if !uses.ends_with(".wasm") {
            return Err(format!(
                "there is no component {uses}; built in are {}, and a file is written as ./name.wasm",
                self.names().join(", ")
            ));
        }
        let path = self.base.join(uses);
        let bytes = read(&path, COMPONENT_LIMIT as u64).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => format!("there is no file {}", path.display()),
            _ => format!("cannot read {}: {error}", path.display()),
        })?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        self.library.add(&stem, &bytes).map_err(|error| match error {
            LoadError::TooLarge(_) => format!("{uses} has more than {} MiB", COMPONENT_LIMIT >> 20),
            error => format!("{uses}: {error}"),
        })
    }
}

impl Catalog for Components {
    fn component(&self, uses: &str) -> Result<Arc<ComponentType>, String> {
        let mut found = self.found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = found.get(uses) {
            return Ok(known.clone());
        }
        let component = Arc::new(self.find(uses)?);
        found.insert(uses.to_owned(), component.clone());
        Ok(component)
    }

    fn workflow(&self, uses: &str) -> Result<WorkflowFile, String> {
        let path = plain(&self.base.join(uses));
        let bytes = read(&path, WORKFLOW_LIMIT).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => format!("there is no file {}", path.display()),
            _ => format!("cannot read {}: {error}", path.display()),
        })?;
        if bytes.len() as u64 > WORKFLOW_LIMIT {
            return Err(format!("{} has more than {} MiB", path.display(), WORKFLOW_LIMIT >> 20));
        }
        let text = String::from_utf8(bytes).map_err(|_| format!("{} is no UTF-8 text", path.display()))?;
        let identity = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        let base = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Ok(WorkflowFile {
            name: path.display().to_string(),
            identity: identity.display().to_string(),
            text,
            catalog: Box::new(Self::new(self.library.clone(), base)),
        })
    }

    fn names(&self) -> Vec<String> {
        GUESTS.iter().map(|(name, _)| (*name).to_owned()).collect()
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.base).into_iter().flatten().take(ENTRIES_MAX).flatten();
        let named = |entry: std::fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            let path = entry.path();
            let good = name.ends_with(".wasm") && path.is_file()
                || names_workflow(&name) && path.is_file() && is_workflow(&path);
            // A name with a `#` or an expression in it cannot be written behind `uses`.
            (good && !name.contains(['#', '$'])).then(|| format!("./{name}"))
        };
        let mut files: Vec<_> = entries.filter_map(named).collect();
        files.sort();
        files
    }
}

/// The name under which a component keeps files between runs. A file that goes by the name of an embedded component has
/// a place of its own: whoever writes `./memory.wasm` does not get at what the embedded `memory` keeps.
pub(super) fn own_name(name: &str, digest: &Digest) -> String {
    match GUESTS.iter().find(|(embedded, _)| *embedded == name) {
        Some((_, bytes)) if Digest::of(bytes) != *digest => format!("file-{name}"),
        _ => name.to_owned(),
    }
}

/// The path without detours: `./a.yaml` is `a.yaml`, and `sub/../a.yaml` is `a.yaml` where `sub` is no link elsewhere.
fn plain(path: &Path) -> PathBuf {
    let path: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
    let Some(up) = path.components().position(|part| part == Component::ParentDir) else { return path };
    if up == 0 {
        return path;
    }
    // What lies before `..` and the name there go together, if they are the same place without them.
    let parts: Vec<_> = path.components().collect();
    let short: PathBuf =
        parts.iter().enumerate().filter(|(at, _)| *at != up && *at != up - 1).map(|(_, part)| part).collect();
    match (std::fs::canonicalize(&short), std::fs::canonicalize(&path)) {
        (Ok(one), Ok(other)) if one == other => plain(&short),
        _ => path,
    }
}

/// Whether a YAML file says that it is a workflow, in the first part of it.
fn is_workflow(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(WORKFLOW_START).read_to_end(&mut start));
    read.is_ok() && start.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"harvest:"))
}

/// Reads at most one byte more than the limit.
fn read(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lose_their_detours_where_they_lead_to_the_same_place() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        std::fs::create_dir_all(at("a/b")).unwrap();
        std::fs::create_dir(at("c")).unwrap();
        std::os::unix::fs::symlink(at("a/b"), at("link")).unwrap();
        for file in ["x.yaml", "a/x.yaml", "c/x.yaml"] {
            std::fs::write(at(file), "").unwrap();
        }
        for (path, expected) in [
            ("./x.yaml", "x.yaml"),
            ("a/../x.yaml", "x.yaml"),
            ("a/b/../../x.yaml", "x.yaml"),
            ("link/../x.yaml", "link/../x.yaml"),
            ("a/../nowhere.yaml", "a/../nowhere.yaml"),
        ] {
            assert_eq!(plain(&at(path)), at(expected), "{path}");
        }
        assert_eq!(plain(Path::new("./x.yaml")), Path::new("x.yaml"));
        assert_eq!(plain(Path::new("../x.yaml")), Path::new("../x.yaml"));
    }

    #[test]
    fn a_file_does_not_get_at_what_an_embedded_component_keeps() {
        let (name, bytes) = GUESTS[0];
        assert_eq!(own_name(name, &Digest::of(bytes)), name);
        assert_eq!(own_name(name, &Digest::of(b"another")), format!("file-{name}"));
        assert_eq!(own_name("team", &Digest::of(b"another")), "team");
    }
}
