//! `harvest:sandbox/store`: files that a component keeps between runs, in volumes that carry its name.

use super::bindings::harvest::sandbox::store::{Expectation, Host, Versioned};
use super::handle::Failure;
use super::instance::State;
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
