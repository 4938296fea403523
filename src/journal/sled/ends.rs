//! Where each run ends, kept outside sled: what sled loses without a word shows by it.
//!
//! One file of frames, one frame a commit: `length, checksum, body`, the checksum chained to that of the frame before. A
//! frame is synced before the next is written, so only the last can be torn; a bad frame before the end is damage.

use super::codec::{self, Reader};
use super::guard::machine;
use crate::id::RunId;
use crate::journal::envelope::End;
use crate::journal::{Damage, JournalError, RunRow};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What the file begins with. The digit is its format.
const MAGIC: &[u8; 16] = b"harvest ends 2\n\n";
/// What it began with before it held sizes.
const UNSIZED: &[u8; 16] = b"harvest ends 1\n\n";
/// Bytes before a frame's body: its length and its checksum.
const HEAD: usize = 8;
/// Bytes of outdated frames that are never worth rewriting the file for.
const GARBAGE: u64 = 8 << 20;
/// Changes in one frame when the file is rewritten.
const REWRITE_CHUNK: usize = 1024;

/// What is known of a run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kept {
    pub(super) row: RunRow,
    pub(super) end: End,
    /// Bytes of payload in its events.
    pub(super) bytes: u64,
}

/// What a commit made of some runs; None is a deleted one.
pub(super) type Changes = BTreeMap<RunId, Option<Kept>>;
/// All runs.
pub(super) type Runs = BTreeMap<RunId, Kept>;

/// The file, open for appending.
pub(super) struct Ends {
    path: PathBuf,
    file: File,
    /// The checksum of the last frame.
    chain: u32,
    /// The number of the last commit.
    commit: u64,
    length: u64,
    /// How long the file was when nothing in it was outdated.
    tidy: u64,
    /// Whether it says how large runs are; one of the first format does not.
    sized: bool,
}

impl Ends {
    /// Opens the file and returns what it says. Creates it where `fresh`. Changes nothing before [`Self::settle`].
    pub(super) fn open(path: &Path, fresh: bool) -> Result<(Self, Runs), JournalError> {
        let mut bytes = Vec::new();
        match File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && fresh => {
                let ends = Self::write_new(path, &Runs::new(), 0).map_err(|error| machine(&error))?;
                return Ok((ends, Runs::new()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(damaged(path, "is missing, so nobody can tell whether sled lost something"));
            }
            read => drop(read.map_err(|error| machine(&error))?),
        }
        let mut runs = Runs::new();
        let sized = !bytes.starts_with(UNSIZED);
        let (good, chain, commit) = replay(path, &bytes, sized, &mut runs)?;
        let file = OpenOptions::new().write(true).open(path).map_err(|error| machine(&error))?;
        let (path, length) = (path.to_owned(), good as u64);
        Ok((Self { path, file, chain, commit, length, tidy: 0, sized }, runs))
    }

    /// Whether the sizes of runs are still to be found out: the file is of the format that held none.
    pub(super) fn lacks_sizes(&self) -> bool {
        !self.sized
    }

    /// Cuts a torn frame off the end, once it is known to be one, and rewrites a file that is mostly outdated.
    pub(super) fn settle(&mut self, runs: &Runs) -> Result<(), JournalError> {
        let cut = (|| {
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::Start(self.length))?;
            self.file.sync_all()
        })();
        cut.map_err(|error| machine(&error))?;
        self.tidy_up(runs)
    }

    /// The number of the last commit.
    pub(super) fn commit(&self) -> u64 {
        self.commit
    }

    /// Appends what a commit changed, and syncs it.
    pub(super) fn append(&mut self, commit: u64, changes: &Changes) -> Result<(), JournalError> {
        let frame = frame(self.chain, commit, changes)?;
        self.file
            .write_all(&frame.bytes)
            .and_then(|()| self.file.sync_data())
            .map_err(|error| machine(&error))?;
        self.length += frame.bytes.len() as u64;
        (self.chain, self.commit) = (frame.chain, commit);
        Ok(())
    }

    /// Rewrites the file once most of it is outdated, or where it is of the first format.
    pub(super) fn tidy_up(&mut self, runs: &Runs) -> Result<(), JournalError> {
        if self.length > 2 * self.tidy + GARBAGE || !self.sized {
            *self = Self::write_new(&self.path, runs, self.commit).map_err(|error| machine(&error))?;
        }
        Ok(())
    }

    /// Writes the file anew, beside it, and puts it in its place.
    fn write_new(path: &Path, runs: &Runs, commit: u64) -> io::Result<Self> {
        let new = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        let mut chain = crc32c::crc32c(MAGIC);
        let mut length = MAGIC.len() as u64;
        file.write_all(MAGIC)?;
        let all: Vec<_> = runs.iter().collect();
        // The last chunk is an empty one, so that the commit is there where no run is.
        for some in all.chunks(REWRITE_CHUNK).chain([&[][..]]) {
            let changes = some.iter().map(|(run, kept)| ((*run).clone(), Some((*kept).clone()))).collect();
            let frame = frame(chain, commit, &changes).map_err(io::Error::other)?;
            file.write_all(&frame.bytes)?;
            length += frame.bytes.len() as u64;
            chain = frame.chain;
        }
        file.sync_all()?;
        fs::rename(&new, path)?;
        path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())?;
        Ok(Self { path: path.to_owned(), file, chain, commit, length, tidy: length, sized: true })
    }
}

/// Rewrites a file as the first format had it.
#[cfg(test)]
pub(super) fn write_unsized(path: &Path) {
    let (mut runs, bytes) = (Runs::new(), fs::read(path).unwrap());
    let (_, _, commit) = replay(path, &bytes, true, &mut runs).unwrap();
    let mut body = commit.to_le_bytes().to_vec();
    for kept in runs.values() {
        body.push(1);
        codec::put_row(&mut body, &kept.row, kept.end).unwrap();
    }
    let length = (body.len() as u32).to_le_bytes();
    let chain = checksum(crc32c::crc32c(UNSIZED), length, &body);
    fs::write(path, [&UNSIZED[..], &length, &chain.to_le_bytes(), &body].concat()).unwrap();
}

struct Frame {
    bytes: Vec<u8>,
    chain: u32,
}

fn frame(chain: u32, commit: u64, changes: &Changes) -> Result<Frame, JournalError> {
    let mut bytes = vec![0; HEAD];
    bytes.extend(commit.to_le_bytes());
    for (run, kept) in changes {
        bytes.push(u8::from(kept.is_some()));
        match kept {
            Some(kept) => {
                codec::put_row(&mut bytes, &kept.row, kept.end)?;
                bytes.extend(kept.bytes.to_le_bytes());
            }
            None => codec::put_text(&mut bytes, run.as_str()),
        }
    }
    let length = ((bytes.len() - HEAD) as u32).to_le_bytes();
    let chain = checksum(chain, length, &bytes[HEAD..]);
    bytes[..4].copy_from_slice(&length);
    bytes[4..HEAD].copy_from_slice(&chain.to_le_bytes());
    Ok(Frame { bytes, chain })
}

fn checksum(chain: u32, length: [u8; 4], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(chain, &length), body)
}

/// Follows the frames. Returns how many bytes are whole, the checksum of the last frame and its commit.
fn replay(
    path: &Path,
    bytes: &[u8],
    sized: bool,
    runs: &mut Runs,
) -> Result<(usize, u32, u64), JournalError> {
    let magic = if sized { MAGIC } else { UNSIZED };
    if !bytes.starts_with(magic) {
        return Err(damaged(path, "does not begin as it should"));
    }
    let (mut at, mut chain, mut commit) = (magic.len(), crc32c::crc32c(magic), 0);
    while at < bytes.len() {
        let mut reader = Reader(&bytes[at..]);
        let found = (|| {
            let length = reader.array()?;
            let sum = u32::from_le_bytes(reader.array()?);
            let body = reader.0.get(..u32::from_le_bytes(length) as usize)?;
            Some((HEAD + body.len(), sum, checksum(chain, length, body) == sum, body))
        })();
        match found {
            Some((size, sum, true, body)) => {
                commit = apply(body, commit, sized, runs)
                    .ok_or_else(|| damaged(path, format!("says nothing sensible at byte {at}")))?;
                (at, chain) = (at + size, sum);
            }
            // A torn frame is the last one, or what the file system had room for but no content yet.
            Some((size, ..)) if at + size < bytes.len() && bytes[at..].iter().any(|byte| *byte != 0) => {
                return Err(damaged(path, format!("does not match its checksum at byte {at}")));
            }
            _ => break,
        }
    }
    Ok((at, chain, commit))
}

/// Applies the body of a frame and returns its commit.
fn apply(body: &[u8], before: u64, sized: bool, runs: &mut Runs) -> Option<u64> {
    let mut reader = Reader(body);
    let commit = u64::from_le_bytes(reader.array()?);
    while !reader.0.is_empty() {
        if reader.array()? == [1] {
            let (row, end) = reader.row()?;
            let bytes = if sized { u64::from_le_bytes(reader.array()?) } else { 0 };
            runs.insert(row.run.clone(), Kept { row, end, bytes });
        } else {
            runs.remove(reader.text()?);
        }
    }
    (commit >= before).then_some(commit)
}

/// Damage of the file as a whole.
pub(super) fn damaged(path: &Path, what: impl std::fmt::Display) -> JournalError {
    JournalError::Damaged(Damage { run: None, seq: None, what: format!("{} {what}", path.display()) })
}
