//! Damaged files of a journal whose process was killed: every acknowledged event is there, or an error says what is
//! lost. Never fewer events, never other ones, without a word.

use super::*;
use process::{command, kill_after};
use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;

for_every_kind!(flipped_bits_of_any_file_show, cut_files_show);

/// What a journal holds that the trials damage copies of.
struct Killed {
    home: tempfile::TempDir,
    acks: BTreeMap<RunId, u64>,
    /// Every file, relative to the home, with its content.
    files: BTreeMap<PathBuf, Vec<u8>>,
}

/// A journal that was closed once, written to again, and killed.
fn killed(kind: &Kind) -> Killed {
    let home = tempfile::tempdir().unwrap();
    let first = command(kind, "write-300", home.path()).output().unwrap();
    let mut acks = process::acks(&String::from_utf8_lossy(&first.stdout));
    let child = command(kind, "write", home.path()).stdout(Stdio::piped()).spawn().unwrap();
    acks.extend(kill_after(child, 60));
    let mut files = BTreeMap::new();
    collect(home.path(), home.path(), &mut files);
    Killed { home, acks, files }
}

fn collect(home: &Path, directory: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(home, &path, files);
        } else {
            files.insert(path.strip_prefix(home).unwrap().to_owned(), fs::read(&path).unwrap());
        }
    }
}

/// What came of a damaged copy.
#[derive(Debug, Default)]
struct Seen {
    intact: usize,
    at_opening: usize,
    at_reading: usize,
}

impl Killed {
    /// Damages one file of a copy, and holds what can be read of it against what was acknowledged.
    async fn try_out(&self, kind: &Kind, file: &Path, content: &[u8], seen: &mut Seen, what: &str) {
        let copy = tempfile::tempdir().unwrap();
        for (path, whole) in &self.files {
            let to = copy.path().join(path);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(to, if path == file { content } else { whole }).unwrap();
        }
        // sled wants its directory of blobs, which has no files.
        let what = format!("{what} of {}", file.display());
        let journal = match (kind.open)(copy.path()) {
            Ok(journal) => journal,
            Err(error) => {
                let message = error.to_string();
                assert!(!message.is_empty() && !message.contains('\n'), "{what}: {message}");
                seen.at_opening += 1;
                return;
            }
        };
        let mut errors = 0;
        for (run, acknowledged) in &self.acks {
            match all(&*journal, run).await {
                Ok(found) => {
                    let last = found.len() as u64;
                    assert!(found == records(run, 1, last), "{what}: run {run} has other events");
                    assert!(
                        last >= *acknowledged,
                        "{what}: run {run} has {last} of {acknowledged} events, without a word"
                    );
                }
                Err(_) => errors += 1,
            }
        }
        match journal.list(RunFilter::default(), MAX_LIMIT).await {
            Ok(rows) => {
                for run in self.acks.keys() {
                    assert!(
                        rows.iter().any(|row| row.run == *run),
                        "{what}: run {run} is not listed, without a word"
                    );
                }
            }
            Err(_) => errors += 1,
        }
        if errors == 0 {
            seen.intact += 1;
        } else {
            seen.at_reading += 1;
            assert!(!journal.verify().await.unwrap().is_whole(), "{what}: verify finds nothing");
        }
    }
}

async fn all(journal: &dyn Journal, run: &RunId) -> Result<Vec<Record>, JournalError> {
    let mut found: Vec<Record> = Vec::new();
    loop {
        let page = journal.read(run, found.len() as u64, 1000).await?;
        if page.is_empty() {
            return Ok(found);
        }
        found.extend(page);
    }
}

async fn flipped_bits_of_any_file_show(kind: &Kind) {
    let killed = killed(kind);
    let each = trials("HARVEST_FLIPS", 12);
    for (file, whole) in killed.files.iter().filter(|(_, whole)| !whole.is_empty()) {
        let mut seen = Seen::default();
        for trial in 1..=each {
            // A step that shares no pattern with pages, frames and rows.
            let bit = trial.wrapping_mul(0x9E37_79B9_7F4A_7C15) % (whole.len() * 8);
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            killed.try_out(kind, file, &flipped, &mut seen, &format!("flipped bit {bit}")).await;
        }
        eprintln!("{}: {each} flips: {seen:?}", file.display());
    }
    drop(killed.home);
}

async fn cut_files_show(kind: &Kind) {
    let killed = killed(kind);
    let each = trials("HARVEST_CUTS", 6);
    for (file, whole) in killed.files.iter().filter(|(_, whole)| !whole.is_empty()) {
        let mut seen = Seen::default();
        for trial in 0..each {
            // Some near the end, some anywhere, and all of it.
            let length = match trial % 3 {
                0 => whole.len() - 1 - trial.wrapping_mul(97) % whole.len().min(9000),
                1 => trial.wrapping_mul(0x9E37_79B9_7F4A_7C15) % whole.len(),
                _ => 0,
            };
            killed.try_out(kind, file, &whole[..length], &mut seen, &format!("cut to {length} bytes")).await;
        }
        eprintln!("{}: {each} cuts: {seen:?}", file.display());
    }
    drop(killed.home);
}
