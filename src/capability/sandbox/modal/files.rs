//! Files in a sandbox of Modal, read and written by its own shell.

use super::super::ExitStatus;
use super::remote::{Remote, Said};
use super::script::{MISSING, NO_FILE, READ, WRITE};
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use bytes::Bytes;
use std::time::Duration;

/// How long one file may take.
const LIMIT: Duration = Duration::from_secs(10 * 60);

pub(super) async fn read(remote: &Remote, path: &str, limit: u64) -> Result<Bytes> {
    check(path)?;
    let most = limit.saturating_add(1).to_string();
    let said = remote.script(READ, &[path, &most], None, LIMIT).await?;
    ended(remote, path, "read", &said)?;
    if said.stdout.len() as u64 > limit {
        let message = format!("{path} in sandbox {} is larger than the limit of {limit} bytes", remote.id);
        return Err(CapabilityError::new(ErrorKind::TOO_LARGE, message));
    }
    Ok(said.stdout)
}

pub(super) async fn write(remote: &Remote, path: &str, content: &[u8], mode: u32) -> Result<()> {
    check(path)?;
    let said = remote.script(WRITE, &[path, &format!("{:04o}", mode & 0o7777)], Some(content), LIMIT).await?;
    ended(remote, path, "write", &said)
}

fn check(path: &str) -> Result<()> {
    if path.starts_with('/') && !path.contains('\0') {
        return Ok(());
    }
    let message = format!("`{path}` is no path in a sandbox: it begins with `/` and holds no NUL");
    Err(CapabilityError::new(ErrorKind::INVALID, message))
}

fn ended(remote: &Remote, path: &str, doing: &str, said: &Said) -> Result<()> {
    match said.status {
        ExitStatus::Code(0) => Ok(()),
        ExitStatus::Code(MISSING) => {
            let message = format!("there is no file {path} in sandbox {}", remote.id);
            Err(CapabilityError::new(ErrorKind::NOT_FOUND, message))
        }
        ExitStatus::Code(NO_FILE) => {
            let message = format!("{path} in sandbox {} is no regular file", remote.id);
            Err(CapabilityError::new(ErrorKind::INVALID, message))
        }
        _ => Err(remote.failed(&format!("{doing} {path}"), said)),
    }
}
