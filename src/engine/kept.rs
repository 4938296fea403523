//! Outputs kept for equal calls: one small file a key. Losing one costs a call, nothing else.

use crate::id::{Digest, RunId};
use crate::run::Reuse;
use crate::run::planted::{Planted, planted};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

/// Outputs of earlier calls, by key.
#[derive(Clone, Debug)]
pub struct KeptOutputs {
    directory: PathBuf,
}

/// What a call returned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// When it did.
    pub at: Timestamp,
    /// The run that made the call.
    pub run: RunId,
    /// Its outputs.
    pub outputs: Map<String, Value>,
}

impl KeptOutputs {
    /// Outputs kept in `directory`, which is made when the first are.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// What an equal call returned, where it is not too old. A file that cannot be read counts as none.
    pub fn find(&self, reuse: &Reuse, now: Timestamp) -> Option<Kept> {
        if reuse.bypass {
            return None;
        }
        let kept: Kept = serde_json::from_slice(&fs::read(self.path(&reuse.key)).ok()?).ok()?;
        let age = now.as_millisecond().saturating_sub(kept.at.as_millisecond());
        let fresh = reuse.ttl.is_none_or(|ttl| u128::try_from(age).is_ok_and(|age| age < ttl.as_millis()));
        (fresh || planted(Planted::KeptForEver)).then_some(kept)
    }

    /// Keeps what a call returned in place of what an earlier one did.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn keep(&self, key: &Digest, kept: &Kept) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let path = self.path(key);
        // Under a name of its own until it is whole, since several processes may keep the same.
        let temporary = path.with_extension(format!("new-{}", RunId::generate()));
        let mut file = fs::File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(kept)?)?;
        fs::rename(&temporary, &path)
    }

    /// Names and sizes of the files that were written before a time, those included that a kill left half written.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    pub fn before(&self, time: Timestamp) -> io::Result<Vec<(String, u64)>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            let written = entry.metadata().and_then(|file| Ok((file.modified()?, file.len())));
            // One that is replaced at this moment is not old.
            if let (Ok((written, bytes)), Ok(name)) = (written, entry.file_name().into_string())
                && Timestamp::try_from(written).is_ok_and(|written| written < time)
            {
                found.push((name, bytes));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Removes one of these files. Succeeds where it is gone.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn path(&self, key: &Digest) -> PathBuf {
        self.directory.join(key.hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::planted::plant;
    use std::time::Duration;

    #[test]
    fn what_is_kept_is_found_until_it_is_too_old_or_passed_by() {
        keep_and_find();
    }

    #[test]
    fn what_never_grows_too_old_is_noticed() {
        let kept = plant(Planted::KeptForEver, || std::panic::catch_unwind(keep_and_find));
        assert!(kept.is_err());
    }

    fn keep_and_find() {
        let home = tempfile::tempdir().unwrap();
        let store = KeptOutputs::new(home.path().join("outputs"));
        let reuse = Reuse { key: Digest::of(b"k"), ttl: Some(Duration::from_secs(60)), bypass: false };
        let at = Timestamp::from_second(1_000_000).unwrap();
        assert_eq!(store.find(&reuse, at), None);
        let kept = Kept { at, run: RunId::new("r"), outputs: Map::from_iter([("n".into(), 1.into())]) };
        store.keep(&reuse.key, &kept).unwrap();
        let later = |seconds| at + jiff::SignedDuration::from_secs(seconds);
        assert_eq!(store.find(&reuse, later(59)), Some(kept.clone()));
        assert_eq!(store.find(&reuse, later(60)), None);
        assert_eq!(store.find(&Reuse { ttl: None, ..reuse.clone() }, later(600)), Some(kept));
        assert_eq!(store.find(&Reuse { bypass: true, ..reuse }, at), None);
    }
}
