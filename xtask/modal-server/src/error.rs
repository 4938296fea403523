//! What capabilities say, as Modal would say it.

use harvest::capability::CapabilityError;
use harvest::step::ErrorKind;
use tonic::{Code, Status};

/// What handlers return.
pub(crate) type Result<T> = std::result::Result<T, Status>;

/// The status for an error of a capability. Never one that clients take for a passing fault and call again.
pub(crate) fn status(error: CapabilityError) -> Status {
    let code = match error.kind {
        kind if kind == ErrorKind::NOT_FOUND => Code::NotFound,
        kind if kind == ErrorKind::SANDBOX_LOST => Code::NotFound,
        kind if kind == ErrorKind::INVALID => Code::InvalidArgument,
        kind if kind == ErrorKind::DENIED => Code::PermissionDenied,
        kind if kind == ErrorKind::QUOTA || kind == ErrorKind::TOO_LARGE => Code::ResourceExhausted,
        _ => Code::FailedPrecondition,
    };
    Status::new(code, error.message)
}

/// The status for an error of the file system.
pub(crate) fn io(doing: &str, error: &std::io::Error) -> Status {
    Status::failed_precondition(format!("cannot {doing}: {error}"))
}
