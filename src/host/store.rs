//! `harvest:sandbox/store`: files that a component keeps between runs, in volumes that carry its name.

use super::bindings::harvest::sandbox::store::{Expectation, Host, Versioned};
use super::handle::Failure;
use super::instance::State;
use crate::capability::volume::VolumeEntry;
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;

/// Bytes of one file.
pub(super) const FILE_LIMIT: u64 = 16 << 20;

impl Host for State {
    async fn get(&mut self, name: String, path: String) -> Result<Option<Versioned>, Failure> {
        let volume = self.own_volume(&name)?;
        let found = self.all_volumes().get(&volume, &path, FILE_LIMIT).await?;
        Ok(found.map(|file| Versioned { content: file.content.into(), version: file.version }))
    }

    async fn put(
        &mut self,
        name: String,
        path: String,
        content: Vec<u8>,
        expected: Expectation,
    ) -> Result<String, Failure> {
        if content.len() as u64 > FILE_LIMIT {
            let message = format!("a file of a store has at most {} MiB", FILE_LIMIT >> 20);
            return Err(CapabilityError::new(ErrorKind::TOO_LARGE, message).into());
        }
        let volume = self.own_volume(&name)?;
        let content = self.attempt.output.mask_bytes(&content);
        let expected = match &expected {
            Expectation::Anything => None,
            Expectation::Nothing => Some(None),
            Expectation::Version(version) => Some(Some(version.as_str())),
        };
        Ok(self.all_volumes().put(&volume, &path, &content, expected).await?)
    }

    async fn trim(&mut self, name: String, bytes: u64) -> Result<u64, Failure> {
        let volume = self.own_volume(&name)?;
        let volumes = self.all_volumes();
        let files = match volumes.entries(&volume, "").await {
            Err(error) if error.kind == ErrorKind::NOT_FOUND => Vec::new(),
            entries => entries?,
        };
        let oldest = oldest_beyond(files, bytes);
        for file in &oldest {
            volumes.remove(&volume, &file.path).await?;
        }
        Ok(oldest.len() as u64)
    }
}

/// The files that were written longest ago, without which the others have at most so many bytes.
fn oldest_beyond(mut files: Vec<VolumeEntry>, bytes: u64) -> Vec<VolumeEntry> {
    files.retain(|entry| !entry.directory);
    files.sort_by_key(|file| std::cmp::Reverse(file.written_at));
    let mut seen = 0;
    let kept = files
        .iter()
        .take_while(|file| {
            seen += file.size;
            seen <= bytes
        })
        .count();
    files.split_off(kept)
}

impl State {
    /// The volume behind a name of the component's own.
    fn own_volume(&self, name: &str) -> Result<String> {
        let usable = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        if !usable {
            let message = format!("`{name:.100}` is no name for a store: use [A-Za-z0-9._-]");
            return Err(CapabilityError::new(ErrorKind::INVALID, message));
        }
        Ok(format!("harvest-{}-{name}", self.attempt.component_name()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    #[test]
    fn the_oldest_files_go_until_the_others_fit() {
        let file = |path: &str, size, second| VolumeEntry {
            path: path.into(),
            size,
            directory: false,
            written_at: Timestamp::from_second(second).unwrap(),
        };
        let files =
            || vec![file("old", 5, 10), file("new", 4, 30), file("older", 1, 5), file("middle", 3, 20)];
        let gone = |bytes| -> Vec<String> {
            oldest_beyond(files(), bytes).into_iter().map(|file| file.path).collect()
        };
        assert!(gone(13).is_empty());
        assert_eq!(gone(12), ["older"]);
        // A small old one does not outlive a larger one that is newer.
        assert_eq!(gone(8), ["old", "older"]);
        assert_eq!(gone(0).len(), 4);
    }
}
