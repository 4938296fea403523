//! Streams in files of the home, one per run: lines of JSON that `jq` reads as well. Other processes read along.
//!
//! Each entry is one write to the end of the file, without a sync: a power cut may take the newest entries, a killed
//! process takes none. Nothing is buffered here, because the write costs microseconds and then every reader of the
//! machine sees it. A line that a crash cut is closed by the next writer and passed over by readers.

use super::line::{self, MAX_LINE};
use super::{Cursor, MAX_ENTRIES, MAX_STREAM, StreamEntry, StreamStore};
use crate::bell::Bell;
use crate::capability::{CapabilityError, Result, blocking, run_name};
use crate::id::RunId;
use crate::step::ErrorKind;
use async_trait::async_trait;
use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Files kept open for writing. Past that, those that nobody is writing to are closed.
const MAX_OPEN: usize = 128;
/// How often a waiting reader looks at the file for entries of other processes.
const POLL: Duration = Duration::from_millis(100);
/// Bytes read at once: more than the longest line, and its end before it.
const CHUNK: usize = 2 * MAX_LINE;

/// The streams of a home, under `streams/RUN`.
pub struct LocalStreams {
    directory: Arc<Path>,
    open: Mutex<HashMap<RunId, Arc<Mutex<Writer>>>>,
    bell: Bell,
    most: u64,
}

/// The end of one file.
struct Writer {
    file: File,
    removed: bool,
}

impl LocalStreams {
    /// The streams of `home`; the directory is created with mode 0700 where it does not exist.
    pub fn open(home: &Path) -> Result<Self> {
        Self::bounded(home, MAX_STREAM)
    }

    /// Like [`LocalStreams::open`], with another limit than [`MAX_STREAM`], in bytes.
    pub fn bounded(home: &Path, most: u64) -> Result<Self> {
        let directory = home.join("streams");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|error| CapabilityError::io(format!("create {}", directory.display()), &error))?;
        Ok(Self { directory: directory.into(), open: Mutex::default(), bell: Bell::default(), most })
    }

    fn path(&self, run: &RunId) -> Result<PathBuf> {
        Ok(self.directory.join(run_name(run)?))
    }

    fn writer(&self, run: &RunId) -> Result<Arc<Mutex<Writer>>> {
        let path = self.path(run)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = open.get(run) {
            return Ok(writer.clone());
        }
        if open.len() >= MAX_OPEN {
            open.retain(|_, writer| Arc::strong_count(writer) > 1);
        }
        let file = open_to_append(&path).map_err(|error| failed("open", run, &error))?;
        let writer = Arc::new(Mutex::new(Writer { file, removed: false }));
        open.insert(run.clone(), writer.clone());
        Ok(writer)
    }
}

/// Opens a file at its end, and closes the line that a crash may have cut.
fn open_to_append(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    if length > 0 {
        let mut last = [0];
        file.read_exact_at(&mut last, length - 1)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

fn failed(doing: &str, run: &RunId, error: &io::Error) -> CapabilityError {
    CapabilityError::io(format!("{doing} the streams of run {run}"), error)
}

#[async_trait]
impl StreamStore for LocalStreams {
    async fn append(&self, run: &RunId, entry: StreamEntry) -> Result<()> {
        let written = line::write(&entry)?;
        loop {
            let writer = self.writer(run)?;
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            if writer.removed {
                continue;
            }
            // Another process may have written too: the file itself knows how long it is.
            let length = writer.file.metadata().map_err(|error| failed("measure", run, &error))?.len();
            if let Some(line) = line::fit(length, written, &entry, self.most) {
                writer.file.write_all(&line).map_err(|error| failed("write", run, &error))?;
            }
            break;
        }
        self.bell.ring(run);
        Ok(())
    }

    async fn read(&self, run: &RunId, cursor: Cursor, limit: usize) -> Result<Vec<(Cursor, StreamEntry)>> {
        let (path, run) = (self.path(run)?, run.clone());
        let read = tokio::task::spawn_blocking(move || read_file(&path, cursor, limit.min(MAX_ENTRIES)));
        match read.await {
            Ok(outcome) => outcome.map_err(|error| failed("read", &run, &error)),
            Err(error) => {
                Err(CapabilityError::new(ErrorKind::OTHER, format!("a read was broken off: {error}")))
            }
        }
    }

    async fn changed(&self, run: &RunId, cursor: Cursor) {
        let Ok(path) = self.path(run) else { return };
        let listener = self.bell.listen(run);
        loop {
            let next = listener.next();
            if path.metadata().is_ok_and(|file| file.len() > cursor) {
                return;
            }
            // A time-out is no ring, but as good a reason to look again.
            let _ = tokio::time::timeout(POLL, next).await;
        }
    }

    async fn runs(&self) -> Result<Vec<(RunId, u64)>> {
        let directory = self.directory.clone();
        blocking(move || sizes(&directory)).await
    }

    async fn remove(&self, run: &RunId) -> Result<()> {
        let path = self.path(run)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = open.remove(run) {
            writer.lock().unwrap_or_else(PoisonError::into_inner).removed = true;
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", run, &error)),
            _ => Ok(()),
        }
    }
}

/// The files of a directory that are named like runs, with their sizes.
fn sizes(directory: &Path) -> Result<Vec<(RunId, u64)>> {
    let failed = |error: io::Error| CapabilityError::io(format!("list {}", directory.display()), &error);
    let mut runs = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let run = entry.file_name().to_str().map(RunId::new).filter(|run| run_name(run).is_ok());
        // One that went away meanwhile has no size.
        if let (Some(run), Ok(found)) = (run, entry.metadata()) {
            runs.push((run, found.len()));
        }
    }
    Ok(runs)
}

/// The entries of a file after `cursor`.
fn read_file(path: &Path, cursor: Cursor, limit: usize) -> io::Result<Vec<(Cursor, StreamEntry)>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    // A cursor of ours stands behind the end of a line, any other moves on to the next: so begin one byte before it.
    let mut start = cursor.saturating_sub(1);
    let mut at_line = cursor == 0;
    let length = file.metadata()?.len();
    if cursor >= length || limit == 0 {
        return Ok(Vec::new());
    }
    let mut bytes = vec![0; usize::try_from(length - start).unwrap_or(CHUNK).min(CHUNK)];
    loop {
        let read = read_up_to(&file, &mut bytes, start)?;
        let mut whole = &bytes[..read];
        if !at_line && let Some(end) = whole.iter().position(|byte| *byte == b'\n') {
            whole = &whole[end + 1..];
            start += end as u64 + 1;
            at_line = true;
        }
        let (entries, end) = if at_line { line::read(whole, start, limit) } else { (Vec::new(), start) };
        if !entries.is_empty() || read < CHUNK {
            return Ok(entries);
        }
        if end == start {
            // Longer than any line of ours: it is passed over.
            at_line = false;
            start += whole.len() as u64;
        } else {
            start = end;
        }
    }
}

/// Reads until `bytes` is full or the file ends.
fn read_up_to(file: &File, bytes: &mut [u8], mut offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset) {
            Ok(0) => break,
            Ok(read) => {
                filled += read;
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::stream::contract::{entry, follow};
    use crate::capability::stream::{Content, contract};

    #[tokio::test]
    async fn keeps_the_contract() {
        let home = tempfile::tempdir().unwrap();
        let opened = std::cell::Cell::new(0);
        contract::run(async |most| {
            opened.set(opened.get() + 1);
            let home = home.path().join(opened.get().to_string());
            Box::new(LocalStreams::bounded(&home, most).unwrap()) as Box<dyn StreamStore>
        })
        .await;
    }

    #[tokio::test]
    async fn another_store_on_the_same_home_reads_along() {
        let home = tempfile::tempdir().unwrap();
        let run = RunId::new("a");
        // Two stores share no memory, as two processes do not.
        let (ours, theirs) =
            (LocalStreams::open(home.path()).unwrap(), LocalStreams::open(home.path()).unwrap());
        let writing = async {
            for n in 0..50 {
                ours.append(&run, entry(n)).await.unwrap();
                assert_eq!(theirs.read(&run, 0, 1000).await.unwrap().len() as u64, n + 1, "seen at once");
                tokio::task::yield_now().await;
            }
        };
        let following = tokio::time::timeout(Duration::from_secs(20), follow(&theirs, &run, 50));
        let ((), seen) = tokio::join!(writing, following);
        assert_eq!(seen.expect("the other store sees changes"), (0..50).map(entry).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_line_that_a_crash_cut_is_passed_over() {
        let home = tempfile::tempdir().unwrap();
        let (run, path) = (RunId::new("a"), home.path().join("streams/a"));
        LocalStreams::open(home.path()).unwrap().append(&run, entry(0)).await.unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in 1..whole.len() {
            std::fs::write(&path, [&whole[..], &whole[..whole.len() - cut]].concat()).unwrap();
            let streams = LocalStreams::open(home.path()).unwrap();
            let before = streams.read(&run, 0, 10).await.unwrap();
            assert_eq!(before, [(whole.len() as u64, entry(0))], "{cut} bytes cut");
            streams.append(&run, entry(1)).await.unwrap();
            let after: Vec<StreamEntry> = streams
                .read(&run, before[0].0, 10)
                .await
                .unwrap()
                .into_iter()
                .map(|(_, entry)| entry)
                .collect();
            // A line that only lost its end is whole.
            let expected = if cut == 1 { vec![entry(0), entry(1)] } else { vec![entry(1)] };
            assert_eq!(after, expected, "{cut} bytes cut");
        }
    }

    #[tokio::test]
    async fn a_full_stream_stays_full_for_other_processes() {
        let home = tempfile::tempdir().unwrap();
        let run = RunId::new("a");
        for _ in 0..3 {
            let streams = LocalStreams::bounded(home.path(), 20_000).unwrap();
            for n in 0..200 {
                streams.append(&run, entry(n)).await.unwrap();
            }
            assert_eq!(home.path().join("streams/a").metadata().unwrap().len(), 20_000);
            let entries = streams.read(&run, 0, 1000).await.unwrap();
            let Content::Text(last) = &entries.last().unwrap().1.content else { panic!("no text") };
            assert!(last.contains("reached their limit"), "{last}");
        }
    }

    #[tokio::test]
    async fn names_that_are_no_runs_reach_no_file() {
        let home = tempfile::tempdir().unwrap();
        let streams = LocalStreams::open(home.path()).unwrap();
        for name in ["", "..", "../a", "a/b", "a\0b", &"a".repeat(65)] {
            let run = RunId::new(name);
            for outcome in [streams.append(&run, entry(0)).await, streams.remove(&run).await] {
                assert_eq!(outcome.unwrap_err().kind, ErrorKind::INVALID, "{name}");
            }
        }
        assert_eq!(home.path().join("streams").read_dir().unwrap().count(), 0);
    }

    #[tokio::test]
    async fn files_of_many_runs_are_not_all_kept_open() {
        let home = tempfile::tempdir().unwrap();
        let streams = LocalStreams::open(home.path()).unwrap();
        for n in 0..3 * MAX_OPEN as u64 {
            streams.append(&RunId::new(format!("run{n}")), entry(n)).await.unwrap();
            assert!(streams.open.lock().unwrap().len() <= MAX_OPEN);
        }
        assert_eq!(streams.read(&RunId::new("run0"), 0, 10).await.unwrap().len(), 1);
    }
}
