//! What `hash()` stands for: the content of files as it is when a run begins, recorded there once.

use super::AppError;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Files that one pattern may match.
const FILES_MAX: usize = 10_000;
/// Bytes that all files of one pattern may have.
const BYTES_MAX: u64 = 1 << 30;

/// The hashes of these names and patterns, relative to `directory`.
///
/// # Errors
/// Where one matches no file, or too much; all of them are named.
pub(super) fn of(patterns: &[String], directory: &Path) -> Result<BTreeMap<String, String>, AppError> {
    let mut hashes = BTreeMap::new();
    let mut errors = Vec::new();
    for pattern in patterns {
        match one(pattern, directory) {
            Ok(hash) => _ = hashes.insert(pattern.clone(), hash),
            Err(why) => errors.push(format!("`hash('{pattern}')`: {why}")),
        }
    }
    if errors.is_empty() { Ok(hashes) } else { Err(AppError::Inputs(errors)) }
}

/// Of the names and contents of all matching files, in the order of their names.
fn one(pattern: &str, directory: &Path) -> Result<String, String> {
    let mut hash = Sha256::new();
    let mut left = BYTES_MAX;
    let files = matching(pattern, directory)?;
    if files.is_empty() {
        return Err(format!("no file in {} matches", directory.display()));
    }
    for file in &files {
        let failed = |error: io::Error| format!("cannot read {}: {error}", file.display());
        let name = file.strip_prefix(directory).unwrap_or(file);
        hash.update(name.as_os_str().as_encoded_bytes());
        hash.update([0]);
        let mut content = Sha256::new();
        let mut opened = BufReader::new(File::open(file).map_err(failed)?);
        loop {
            let piece = opened.fill_buf().map_err(failed)?;
            let read = piece.len();
            if read == 0 {
                break;
            }
            content.update(piece);
            opened.consume(read);
            let rest = left.checked_sub(read as u64);
            left = rest.ok_or_else(|| format!("the files have more than {} MiB", BYTES_MAX >> 20))?;
        }
        hash.update(content.finalize());
    }
    Ok(hex::encode(hash.finalize()))
}

fn matching(pattern: &str, directory: &Path) -> Result<Vec<PathBuf>, String> {
    // The directory's own name is no pattern.
    let whole = Path::new(&glob::Pattern::escape(&directory.to_string_lossy())).join(pattern);
    let paths = glob::glob(&whole.to_string_lossy()).map_err(|error| format!("not a pattern: {error}"))?;
    let mut files: Vec<PathBuf> = Vec::new();
    for path in paths {
        let path = path.map_err(|error| error.to_string())?;
        if path.is_file() {
            files.push(path);
        }
        if files.len() > FILES_MAX {
            return Err(format!("it matches more than {FILES_MAX} files"));
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_and_names_count() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        let hash =
            |pattern: &str| of(&[pattern.to_owned()], directory.path()).map(|all| all[pattern].clone());
        write("a.lock", "1");
        let one = hash("a.lock").unwrap();
        assert_eq!(hash("*.lock").unwrap(), one, "the same file");
        write("b.lock", "2");
        let two = hash("*.lock").unwrap();
        assert_ne!(one, two);
        write("b.lock", "3");
        assert_ne!(hash("*.lock").unwrap(), two);
        assert_eq!(hash("a.lock").unwrap(), one);
        assert!(hash("*.nothing").unwrap_err().to_string().contains("no file in"));
    }
}
