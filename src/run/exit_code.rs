//! What a run's end means to the shell. The table is a contract: see `harvest --help`.

use super::event::{Outcome, RunError};

/// The exit code of a run: 0 succeeded, 1 failed, 3 credentials, 4 capability unavailable or sandbox lost, 6 timed out,
/// 7 rejected at an approval, 70 a bug in harvest, 130 cancelled.
pub fn exit_code(state: Outcome, error: Option<&RunError>) -> u8 {
    match state {
        Outcome::Succeeded => 0,
        Outcome::Cancelled => 130,
        Outcome::TimedOut => 6,
        Outcome::Failed => match error.map(|error| error.error.kind.as_str()) {
            Some("auth-error") => 3,
            Some("rejected") => 7,
            Some("unavailable" | "sandbox-lost" | "host-lost") => 4,
            _ => 1,
        },
    }
}
