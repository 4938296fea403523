//! What SQLite says, as a person needs to hear it.

use crate::id::RunId;
use crate::journal::{Damage, JournalError};
use rusqlite::{Error, ErrorCode};

/// A read that failed: damage where the content is at fault, else the machine.
pub(super) fn damaged(run: Option<&RunId>, error: &Error) -> JournalError {
    match error.sqlite_error_code() {
        // Values that are not of the column's type come without a code: STRICT tables hold no others.
        None
        | Some(
            ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::TooBig
            | ErrorCode::TypeMismatch,
        ) => JournalError::Damaged(Damage {
            run: run.cloned(),
            seq: None,
            what: format!("cannot be read ({error})"),
        }),
        _ => unavailable(error),
    }
}

/// A read or an opening that the machine refused.
pub(super) fn unavailable(error: &Error) -> JournalError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => JournalError::Busy(error.to_string()),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(None, error),
        _ => JournalError::Unavailable(format!("the journal cannot be used: {}", cause(error))),
    }
}

/// Why a write failed, and what to do about it.
pub(super) fn cause(error: &Error) -> String {
    let code = error.sqlite_error().map_or(0, |error| error.extended_code);
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            "the disk is full; free some space, then start harvest again (nothing acknowledged is lost)"
                .into()
        }
        Some(ErrorCode::SystemIoFailure) => format!(
            "the disk refused to read or write ({error}, SQLite code {code}); check the disk, its quota and file size \
             limits, then start harvest again (nothing acknowledged is lost)"
        ),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            format!("{error}; check that this user may write the home and that its disk is not read-only")
        }
        _ => error.to_string(),
    }
}
