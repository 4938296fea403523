//! Looks through SQLite's write-ahead log before SQLite does. Only reads, and only while nobody has the journal open.
//!
//! SQLite takes the log up to the first frame that does not match its checksum, and forgets the rest without a word: it
//! cannot tell a commit that a crash cut short from one that was synced and damaged later. Two things tell here:
//! - the index file beside the log (`-shm`) outlives a killed process, and says how far the last synced commit went;
//! - where it does not (after a power cut), a commit that another one was written behind had been synced before.
//!
//! What stays unseen: damage of the very last commit after a power cut. The format is that of
//! <https://sqlite.org/fileformat2.html#the_write_ahead_log> and <https://sqlite.org/walformat.html>.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// Bytes of the log's header.
const HEADER: usize = 32;
/// Bytes of a frame's header.
const FRAME: usize = 24;
/// The log's first four bytes; one more where checksums read words with the high byte first.
const MAGIC: u32 = 0x377F_0682;
/// The largest page.
const MAX_PAGE: u32 = 65_536;
/// Bytes of one of the two copies of the index's header.
const INDEX: usize = 48;
/// Bytes of that which its checksum covers.
const INDEX_SUMMED: usize = 40;
/// Bytes read at a time.
const BUFFER: usize = 1 << 20;

/// What is wrong with a log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    /// One clause that goes on from the name of the file.
    pub(super) what: String,
    /// Tells this damage from others.
    pub(super) mark: u32,
}

/// Follows the log of the database at `path`. None where everything that was synced is there, as far as can be told.
pub(super) fn scan(path: &Path) -> io::Result<Option<Broken>> {
    let index = index(&beside(path, "-shm"))?;
    let synced = |salts: [u8; 8]| {
        index.iter().flatten().filter(|copy| copy.salts == salts).map(|copy| copy.frames).max()
    };
    let broken = |what: String, mark| Ok(Some(Broken { what, mark }));
    let file = match File::open(beside(path, "-wal")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        file => Some(file?),
    };
    let length = file.as_ref().map_or(Ok(0), |file| file.metadata().map(|data| data.len()))?;
    let Some(file) = file.filter(|_| length >= HEADER as u64) else {
        let lost = index.iter().flatten().map(|copy| copy.frames).max().unwrap_or(0);
        return if lost == 0 { Ok(None) } else { broken(format!("is cut off, and had {lost} frames"), lost) };
    };
    let mut log = BufReader::with_capacity(BUFFER, file);
    let mut head = [0; HEADER];
    log.read_exact(&mut head)?;
    let Some(header) = Header::read(&head) else {
        // The header is synced before the first frame. Without it, nothing was acknowledged.
        let nothing = length == HEADER as u64 || (head == [0; HEADER] && only_zeros(log)?);
        return if nothing { Ok(None) } else { broken("has a damaged header".into(), word(&head, 16)) };
    };
    let size = FRAME + header.page;
    let frames = u32::try_from((length - HEADER as u64) / size as u64).unwrap_or(u32::MAX);
    let mut frame = vec![0; size];
    let (mut sums, mut committed, mut at) = (header.sums, 0, 0);
    while at < frames {
        log.read_exact(&mut frame)?;
        let due = header.sums_of(sums, &frame);
        if !header.is_mine(&frame) || due != stored(&frame) {
            break;
        }
        (sums, at) = (due, at + 1);
        if word(&frame, 4) != 0 {
            committed = at;
        }
    }
    let bad = at + 1;
    if let Some(synced) = synced(header.salts) {
        let what = format!("is damaged in frame {bad} of {synced}");
        return if committed >= synced { Ok(None) } else { broken(what, header.mark(bad)) };
    }
    if at < frames && followed(&header, log, frame, sums, frames - at)? {
        return broken(format!("is damaged in frame {bad} of {frames}"), header.mark(bad));
    }
    Ok(None)
}

/// Whether a commit at or behind the first bad frame was followed by another frame. Each frame's checksum goes on from
/// that of the one before, so frames that an older crash left behind do not count.
fn followed(
    header: &Header,
    mut log: impl Read,
    mut frame: Vec<u8>,
    before: [u32; 2],
    left: u32,
) -> io::Result<bool> {
    // The first bad frame may have a good checksum and other content, or the other way round.
    let mut chains = vec![stored(&frame), header.sums_of(before, &frame)];
    let mut commits = word(&frame, 4) != 0;
    for _ in 1..left {
        log.read_exact(&mut frame)?;
        let follows = header.is_mine(&frame)
            && chains.iter().any(|sums| header.sums_of(*sums, &frame) == stored(&frame));
        if follows && commits {
            return Ok(true);
        }
        chains = vec![stored(&frame)];
        commits = header.is_mine(&frame) && word(&frame, 4) != 0;
    }
    Ok(false)
}

struct Header {
    page: usize,
    salts: [u8; 8],
    sums: [u32; 2],
    high_first: bool,
}

impl Header {
    /// None where it is not what was written.
    fn read(head: &[u8; HEADER]) -> Option<Self> {
        let (magic, page) = (word(head, 0), word(head, 8));
        let sane = magic & !1 == MAGIC && page.is_power_of_two() && (512..=MAX_PAGE).contains(&page);
        let high_first = magic & 1 == 1;
        let sums = sum([0, 0], &head[..24], high_first);
        let mut salts = [0; 8];
        salts.copy_from_slice(&head[16..24]);
        let whole = sane && sums == [word(head, 24), word(head, 28)];
        whole.then_some(Self { page: page as usize, salts, sums, high_first })
    }

    /// Whether a frame was written since the log began anew the last time.
    fn is_mine(&self, frame: &[u8]) -> bool {
        frame[8..16] == self.salts && word(frame, 0) != 0
    }

    /// The checksum of a frame that stands behind one with the checksum `before`.
    fn sums_of(&self, before: [u32; 2], frame: &[u8]) -> [u32; 2] {
        sum(sum(before, &frame[..8], self.high_first), &frame[FRAME..], self.high_first)
    }

    fn mark(&self, bad: u32) -> u32 {
        word(&self.salts, 0) ^ word(&self.salts, 4) ^ bad
    }
}

/// The checksum that a frame was written with.
fn stored(frame: &[u8]) -> [u32; 2] {
    [word(frame, 16), word(frame, 20)]
}

/// SQLite's checksum over `bytes`, eight at a time.
fn sum([mut a, mut b]: [u32; 2], bytes: &[u8], high_first: bool) -> [u32; 2] {
    let read = if high_first { u32::from_be_bytes } else { u32::from_le_bytes };
    for pair in bytes.chunks_exact(8) {
        a = a.wrapping_add(read([pair[0], pair[1], pair[2], pair[3]])).wrapping_add(b);
        b = b.wrapping_add(read([pair[4], pair[5], pair[6], pair[7]])).wrapping_add(a);
    }
    [a, b]
}

/// The word at `at`, high byte first, as everything in a log but its pages is.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

fn only_zeros(log: BufReader<File>) -> io::Result<bool> {
    for byte in log.bytes() {
        if byte? != 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What the index says, in one copy of its header.
struct Copy {
    frames: u32,
    salts: [u8; 8],
}

/// The two copies of the index's header that are whole. SQLite writes them after the sync of a commit.
fn index(path: &Path) -> io::Result<[Option<Copy>; 2]> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(2 * INDEX as u64).read_to_end(&mut bytes)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let copy = |n: usize| {
        let copy = bytes.get(n * INDEX..(n + 1) * INDEX)?;
        let native = |at: usize| u32::from_ne_bytes([copy[at], copy[at + 1], copy[at + 2], copy[at + 3]]);
        let sums = sum([0, 0], &copy[..INDEX_SUMMED], cfg!(target_endian = "big"));
        let mut salts = [0; 8];
        salts.copy_from_slice(&copy[32..40]);
        let whole = copy[12] == 1 && sums == [native(40), native(44)];
        whole.then_some(Copy { frames: native(16), salts })
    };
    Ok([copy(0), copy(1)])
}

/// The file that SQLite keeps beside the one at `path`.
pub(super) fn beside(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rusqlite::Connection;
    use std::fs;
    use std::sync::LazyLock;

    /// A log and its index, as a kill would leave them, and where each commit in the log ends.
    static KILLED: LazyLock<(Vec<u8>, Vec<u8>, Vec<usize>)> = LazyLock::new(|| {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.db");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.execute_batch("PRAGMA synchronous = FULL; CREATE TABLE t (a)").unwrap();
        let mut ends = Vec::new();
        for n in 0..12 {
            connection.execute("INSERT INTO t VALUES (zeroblob(?1))", [n * 700]).unwrap();
            ends.push(fs::metadata(beside(&path, "-wal")).unwrap().len() as usize);
        }
        let (wal, shm) = (fs::read(beside(&path, "-wal")).unwrap(), fs::read(beside(&path, "-shm")).unwrap());
        (wal, shm, ends)
    });

    fn scanned(wal: &[u8], shm: &[u8]) -> Option<String> {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.db");
        fs::write(beside(&path, "-wal"), wal).unwrap();
        fs::write(beside(&path, "-shm"), shm).unwrap();
        scan(&path).unwrap().map(|broken| broken.what)
    }

    #[test]
    fn a_whole_log_is_whole_and_damage_is_named() {
        let (wal, shm, ends) = &*KILLED;
        assert_eq!(scanned(wal, shm), None);
        assert_eq!(scanned(wal, &[]), None);
        assert_eq!(scanned(&[], &[]), None);
        let cut = ends[10];
        insta::assert_snapshot!(scanned(&wal[..cut], shm).unwrap(), @"is damaged in frame 34 of 37");
        insta::assert_snapshot!(scanned(&[], shm).unwrap(), @"is cut off, and had 37 frames");
        insta::assert_snapshot!(scanned(&[&wal[..16], &[0], &wal[17..]].concat(), shm).unwrap(), @"has a damaged header");
        // Without the index, a cut is what a power cut leaves.
        assert_eq!(scanned(&wal[..cut + 100], &[]), None);
        assert_eq!(scanned(&[0; 5000], &[]), None);
    }

    proptest! {
        #[test]
        fn any_flipped_bit_shows_after_a_kill(at in any::<prop::sample::Index>()) {
            let (mut wal, shm) = (KILLED.0.clone(), &KILLED.1);
            let bit = at.index(wal.len() * 8);
            wal[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(scanned(&wal, shm).is_some(), "bit {}", bit);
        }

        #[test]
        fn any_flipped_bit_before_the_last_commit_shows_without_the_index(at in any::<prop::sample::Index>()) {
            let (mut wal, ends) = (KILLED.0.clone(), &KILLED.2);
            let bit = at.index(ends[ends.len() - 2] * 8);
            wal[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(scanned(&wal, &[]).is_some(), "bit {}", bit);
        }

        #[test]
        fn any_cut_shows_after_a_kill_and_none_without_the_index(at in any::<prop::sample::Index>()) {
            let (wal, shm, _) = &*KILLED;
            let length = at.index(wal.len());
            prop_assert!(scanned(&wal[..length], shm).is_some());
            prop_assert_eq!(scanned(&wal[..length], &[]), None);
        }
    }
}
