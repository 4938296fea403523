//! The files of a volume, by path.

use crate::error::Result;
use crate::proto::client::FileEntry;
use crate::proto::client::file_entry::FileType;
use std::collections::BTreeMap;
use tonic::Status;

/// Paths without a leading slash, with everything above them.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree(BTreeMap<String, Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// Permission bits.
    pub(super) mode: u32,
    /// Seconds since 1970.
    pub(super) mtime: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File {
        size: u64,
        /// Names of blocks.
        blocks: Vec<String>,
    },
    Directory,
    Link(String),
}

/// A path without its leading slash. INVALID_ARGUMENT where it would leave the volume.
pub(super) fn clean(path: &str) -> Result<String> {
    let parts: Vec<_> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return Err(Status::invalid_argument(format!("{path} leaves the volume")));
    }
    Ok(parts.join("/"))
}

impl Tree {
    pub(super) fn find(&self, path: &str) -> Option<&Entry> {
        self.0.get(path)
    }

    /// PERMISSION_DENIED where a path is a link or leads through one: links are for sandboxes alone.
    pub(super) fn refuse_links(&self, path: &str) -> Result<()> {
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        match ends
            .map(|end| &path[..end])
            .find(|above| matches!(self.find(above), Some(Entry { kind: Kind::Link(_), .. })))
        {
            Some(link) => {
                Err(Status::permission_denied(format!("{link} is a link, and links are not followed")))
            }
            None => Ok(()),
        }
    }

    /// All entries, each after the directory it is in.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.0.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// Puts an entry where there may be another, with the directories it needs.
    pub(super) fn insert(&mut self, path: &str, entry: Entry) -> Result<()> {
        for (end, _) in path.match_indices('/') {
            let above = Entry { kind: Kind::Directory, mode: 0o755, mtime: entry.mtime };
            if self.0.entry(path[..end].to_owned()).or_insert(above).kind != Kind::Directory {
                return Err(Status::failed_precondition(format!("{} is no directory", &path[..end])));
            }
        }
        let directory = entry.kind == Kind::Directory;
        if !directory && self.0.get(path).is_some_and(|known| known.kind == Kind::Directory) {
            return Err(Status::failed_precondition(format!("{path} is a directory")));
        }
        self.0.insert(path.to_owned(), entry);
        Ok(())
    }

    /// Takes an entry away, with all below it where that is allowed.
    pub(super) fn remove(&mut self, path: &str, recursive: bool) -> Result<()> {
        let below = format!("{path}/");
        if !path.is_empty() && !self.0.contains_key(path) {
            return Err(Status::not_found(format!("there is no {path}")));
        }
        if !recursive && (path.is_empty() || self.0.keys().any(|known| known.starts_with(&below))) {
            return Err(Status::failed_precondition(format!("{path} is a directory that is not empty")));
        }
        self.0.retain(|known, _| !path.is_empty() && known != path && !known.starts_with(&below));
        Ok(())
    }

    /// What is in a directory, or the entry itself; `None` where there is none.
    pub(super) fn list(&self, path: &str, recursive: bool) -> Option<Vec<FileEntry>> {
        if let Some(entry) = self.0.get(path)
            && entry.kind != Kind::Directory
        {
            return Some(vec![described(path, entry)]);
        }
        if !path.is_empty() && !self.0.contains_key(path) {
            return None;
        }
        let below = |known: &str| match path {
            "" => Some(known.to_owned()),
            _ => known.strip_prefix(path)?.strip_prefix('/').map(str::to_owned),
        };
        let listed = self
            .0
            .iter()
            .filter(|(known, _)| below(known).is_some_and(|rest| recursive || !rest.contains('/')));
        Some(listed.map(|(path, entry)| described(path, entry)).collect())
    }
}

fn described(path: &str, entry: &Entry) -> FileEntry {
    let (kind, size) = match &entry.kind {
        Kind::File { size, .. } => (FileType::File, *size),
        Kind::Directory => (FileType::Directory, 0),
        Kind::Link(target) => (FileType::Symlink, target.len() as u64),
    };
    FileEntry { path: path.to_owned(), r#type: kind.into(), mtime: entry.mtime, size }
}
