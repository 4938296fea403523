//! What can go wrong at the edge, and the exit code that says whose turn it is.

use crate::capability::CapabilityError;
use crate::engine::EngineError;
use crate::journal::JournalError;
use crate::step::ErrorKind;
use crate::workflow::diagnostic::Diagnostic;
use thiserror::Error;

/// Why the app did not do what it was asked.
#[derive(Debug, Error)]
pub enum AppError {
    /// The workflow file is wrong; every mistake is in here.
    #[error("{file} is not a valid workflow")]
    Invalid {
        /// The file as it was named.
        file: String,
        /// What is wrong with it.
        diagnostics: Vec<Diagnostic>,
    },
    /// Inputs are missing, unknown or of the wrong type.
    #[error("{}", .0.join("\n"))]
    Inputs(Vec<String>),
    /// A secret has no value.
    #[error("{0}")]
    Secret(String),
    /// The operator's configuration or home cannot be used.
    #[error("{0}")]
    Config(String),
    /// A file that was named is not there or cannot be read.
    #[error("{0}")]
    File(String),
    /// A capability failed.
    #[error(transparent)]
    Capability(#[from] CapabilityError),
    /// The engine could not go on.
    #[error(transparent)]
    Engine(EngineError),
}

impl AppError {
    /// What the process exits with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Invalid { .. } | Self::Inputs(_) | Self::File(_) => 2,
            Self::Secret(_) | Self::Config(_) => 3,
            Self::Capability(error) => match error.kind.as_str() {
                "auth-error" => 3,
                "unavailable" | "sandbox-lost" => 4,
                "not-found" => 5,
                "timed-out" => 6,
                "invalid" => 2,
                _ => 1,
            },
            Self::Engine(EngineError::NotFound(_)) => 5,
            Self::Engine(
                EngineError::Journal(_) | EngineError::Groups { .. } | EngineError::Lease { .. },
            ) => 4,
            Self::Engine(EngineError::Unprepared { error, .. }) if error.kind == ErrorKind::AUTH_ERROR => 3,
            Self::Engine(EngineError::Unprepared { .. }) => 4,
            Self::Engine(EngineError::Broken { .. } | EngineError::Failed(_)) => 70,
        }
    }
}

impl From<EngineError> for AppError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<JournalError> for AppError {
    fn from(error: JournalError) -> Self {
        Self::Engine(error.into())
    }
}
