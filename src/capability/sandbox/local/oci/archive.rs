//! The entries of a tar archive, with the extensions of GNU and POSIX, read with limits: an archive is hostile until
//! proven otherwise. Nothing is written here.

use super::stream::{broken, read_document};
use super::{invalid, too_large};
use crate::capability::{CapabilityError, Result};
use std::io::Read;
use tar::EntryType;

/// What an archive may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of the whole archive, unpacked. The largest images of the field (CUDA, Android) have layers of 15 GiB.
    pub(super) bytes: u64,
    /// Entries. The kernel's source has 90,000 files, a large node_modules 300,000.
    pub(super) entries: u64,
    /// Bytes of all names together, which are kept in memory for directories.
    pub(super) names: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 30, entries: 2_000_000, names: 256 << 20 }
    }
}

/// Bytes of one path, as the kernel's limit.
const PATH_LIMIT: u64 = 4096;
/// Bytes of the extended headers of one entry.
const EXTENDED_LIMIT: u64 = 1 << 20;

/// One file, directory or link of an archive.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    /// Seconds since 1970, and nanoseconds.
    pub(super) modified: (i64, u32),
    /// Bytes of content.
    pub(super) size: u64,
    /// Where its content begins, in bytes of the archive.
    pub(super) offset: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    /// With its target, as it is written.
    Symlink(Vec<u8>),
    /// With the path of the other name, as it is written.
    HardLink(Vec<u8>),
    /// A device or pipe.
    Special,
}

/// A path for a message, without what would change the terminal.
pub(super) fn shown(path: &[u8]) -> String {
    const SHOWN: usize = 200;
    let text: String = String::from_utf8_lossy(path).chars().take(SHOWN).collect();
    text.escape_debug().to_string()
}

/// Hands each entry with its content to `take`, in order.
pub(super) fn walk<R: Read>(
    archive: R,
    limits: &Limits,
    mut take: impl FnMut(Entry, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let mut archive = tar::Archive::new(archive);
    let (mut count, mut names) = (0, 0);
    let mut extended = Extended::default();
    // Raw: the extensions are read here, for the library takes them into memory whatever their size.
    for entry in archive.entries().map_err(|error| broken("the archive", error))?.raw(true) {
        let mut entry = entry.map_err(|error| broken("the archive", error))?;
        count += 1;
        if count > limits.entries {
            return Err(too_large(format!("the archive has more than {} entries", limits.entries)));
        }
        if extended.read(&mut entry)? {
            continue;
        }
        let parsed = std::mem::take(&mut extended).apply(&entry)?;
        names += parsed.path.len() as u64;
        if names > limits.names {
            return Err(too_large(format!("the archive has more than {} MiB of names", limits.names >> 20)));
        }
        take(parsed, &mut entry)?;
    }
    Ok(())
}

/// What headers before an entry say of it.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    modified: Option<(i64, u32)>,
    sparse: bool,
}

impl Extended {
    /// Takes an extended header in; `false` where the entry is a real one.
    fn read<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<bool> {
        match entry.header().entry_type() {
            EntryType::GNULongName => self.path = Some(long_name(entry)?),
            EntryType::GNULongLink => self.link = Some(long_name(entry)?),
            EntryType::XHeader => {
                let records = read_document(entry, EXTENDED_LIMIT, "an extended header of the archive")?;
                self.read_records(&records)
                    .ok_or_else(|| invalid("an extended header of the archive is malformed"))?;
            }
            // Defaults for all entries: comments, in all archives that are seen.
            EntryType::XGlobalHeader => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Reads records of the form `LENGTH KEY=VALUE\n`; `None` where they are malformed.
    fn read_records(&mut self, mut records: &[u8]) -> Option<()> {
        while !records.is_empty() {
            let space = records.iter().position(|byte| *byte == b' ')?;
            let length: usize = text(&records[..space])?.parse().ok()?;
            let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
            records = &records[length..];
            let equals = record.iter().position(|byte| *byte == b'=')?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(text(value)?.parse().ok()?),
                b"uid" => self.uid = Some(text(value)?.parse().ok()?),
                b"gid" => self.gid = Some(text(value)?.parse().ok()?),
                b"mtime" => self.modified = Some(time(text(value)?)?),
                _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
                // Extended attributes among them: none is kept, for overlayfs has its marks there.
                _ => {}
            }
        }
        Some(())
    }

    /// The entry, with what was said of it before.
    fn apply<R: Read>(self, entry: &tar::Entry<'_, R>) -> Result<Entry> {
        let header = entry.header();
        let path = self.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let wrong = |what: &str| invalid(format!("entry `{}` of the archive {what}", shown(&path)));
        let link = || self.link.clone().or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
        let no_target = || wrong("is a link to nothing");
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink(link().ok_or_else(no_target)?),
            EntryType::Link => Kind::HardLink(link().ok_or_else(no_target)?),
            EntryType::Char | EntryType::Block | EntryType::Fifo => Kind::Special,
            EntryType::GNUSparse => return Err(wrong("is a sparse file; pack it without `--sparse`")),
            _ => return Err(wrong("is of an unknown type")),
        };
        if self.sparse {
            return Err(wrong("is a sparse file; pack it without `--sparse`"));
        }
        let target = match &kind {
            Kind::Symlink(target) | Kind::HardLink(target) => &target[..],
            _ => &[],
        };
        if [&path[..], target].iter().any(|path| path.len() as u64 > PATH_LIMIT) {
            return Err(wrong(&format!("has a path of more than {PATH_LIMIT} bytes")));
        }
        let size = entry.size();
        if self.size.is_some_and(|said| said != size) {
            return Err(wrong(
                "is larger than 8 GiB in a form that is not read; pack it with `--format=gnu`",
            ));
        }
        // Fields that nothing depends on may be empty, as some programs leave them.
        Ok(Entry {
            mode: header.mode().map_err(|_| wrong("has no permission bits"))? & 0o7777,
            uid: self.uid.or_else(|| header.uid().ok()).unwrap_or(0),
            gid: self.gid.or_else(|| header.gid().ok()).unwrap_or(0),
            modified: self.modified.unwrap_or_else(|| {
                (header.mtime().ok().and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or(0), 0)
            }),
            size,
            offset: entry.raw_file_position(),
            kind,
            path,
        })
    }
}

fn long_name<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Vec<u8>> {
    // One more than a path has, for the NUL at its end.
    let mut name = read_document(entry, PATH_LIMIT + 1, "a long name of the archive").map_err(
        |_: CapabilityError| {
            invalid(format!("an entry of the archive has a path of more than {PATH_LIMIT} bytes"))
        },
    )?;
    if name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// Reads `SECONDS[.FRACTION]`.
fn time(text: &str) -> Option<(i64, u32)> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    Some((seconds.parse().ok()?, digits.parse().ok()?))
}
