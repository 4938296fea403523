//! What components can reach, one trait each; providers live below. Knows nothing of workflows, runs or wasm.

pub mod allow_list;
pub mod artifact;
pub mod conversation;
pub mod git;
pub mod http;
mod http_client;
pub mod mask;
pub mod meter;
pub mod modal;
mod owned;
pub mod price;
pub mod registry;
pub mod sandbox;
pub mod secret;
pub mod secret_source;
pub mod stream;
pub mod volume;

use crate::id::RunId;
use crate::step::{ErrorKind, StepError};

/// Why a capability did not do what it was asked. The message never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CapabilityError {
    /// One of the kinds that capabilities share, or `timed-out`, `sandbox-lost`.
    pub kind: ErrorKind,
    /// What happened, and what to do about it where that is known.
    pub message: String,
}

impl CapabilityError {
    /// An error of `kind`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Wraps an operating-system error: `doing` says what was tried, as in `cannot {doing}`.
    pub fn io(doing: impl std::fmt::Display, error: &std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NOT_FOUND,
            std::io::ErrorKind::PermissionDenied => ErrorKind::DENIED,
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::QUOTA,
            std::io::ErrorKind::AlreadyExists => ErrorKind::CONFLICT,
            _ => ErrorKind::OTHER,
        };
        Self::new(kind, format!("cannot {doing}: {error}"))
    }
}

impl From<CapabilityError> for StepError {
    fn from(error: CapabilityError) -> Self {
        Self::new(error.kind, error.message)
    }
}

/// What capabilities return.
pub type Result<T, E = CapabilityError> = std::result::Result<T, E>;

/// The name that files of a run carry. Ids may come from people, and none may name anything else.
fn run_name(run: &RunId) -> Result<&str> {
    let name = run.as_str();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        return Err(CapabilityError::new(ErrorKind::INVALID, format!("{name:?} is not the id of a run")));
    }
    Ok(name)
}

/// Does work that blocks where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(CapabilityError::new(ErrorKind::OTHER, format!("broken off: {error}"))))
}
