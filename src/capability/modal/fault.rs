//! What went wrong with a call, before anybody says what it was made for.

use super::retry;
use crate::capability::{CapabilityError, http_client};
use crate::step::ErrorKind;
use std::fmt::Display;
use std::time::Duration;
use tonic::{Code, Status};

/// Most characters that are quoted of what a server says.
const QUOTE_LIMIT: usize = 1000;

/// A call that failed for good: all its attempts are over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// As gRPC has it.
    pub(crate) code: Code,
    /// What the server said, or what became of the connection.
    pub(crate) message: String,
    /// Where the credentials came from, where those are at fault.
    pub(crate) source: Option<String>,
    /// How long it was throttled before it gave up.
    pub(crate) throttled: Option<Duration>,
}

impl Fault {
    /// A fault of this code.
    pub(crate) fn new(code: Code, message: impl Display) -> Self {
        let mut message = message.to_string();
        if message.len() > QUOTE_LIMIT {
            message.truncate(message.floor_char_boundary(QUOTE_LIMIT));
            message.push_str(" [cut]");
        }
        Self { code, message, source: None, throttled: None }
    }

    /// A peer that did not answer in time.
    pub(crate) fn late(limit: Duration) -> Self {
        Self::new(Code::DeadlineExceeded, format!("no answer within {} s", limit.as_secs_f32()))
    }

    /// Whether another attempt may end in another way.
    pub(crate) fn is_passing(&self) -> bool {
        retry::is_passing(self.code)
    }

    /// The error of a capability: `doing` says what was tried, as in `cannot {doing}`.
    pub(crate) fn explain(self, doing: impl Display) -> CapabilityError {
        let Self { code, message, source, throttled } = self;
        if let Some(waited) = throttled {
            let message = format!(
                "cannot {doing}: Modal asked to wait for more than {} s in all: {message}; try again later, or set \
                 MODAL_MAX_THROTTLE_WAIT to more seconds",
                waited.as_secs()
            );
            return CapabilityError::new(ErrorKind::RATE_LIMITED, message);
        }
        let kind = match code {
            Code::NotFound => ErrorKind::NOT_FOUND,
            Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => ErrorKind::CONFLICT,
            Code::Unauthenticated => ErrorKind::AUTH_ERROR,
            Code::PermissionDenied => ErrorKind::DENIED,
            Code::InvalidArgument | Code::OutOfRange => ErrorKind::INVALID,
            Code::ResourceExhausted => ErrorKind::QUOTA,
            _ => ErrorKind::UNAVAILABLE,
        };
        let hint = match (code, source) {
            (Code::Unauthenticated, Some(source)) => {
                format!("; the token comes from {source}: `modal token new` makes another")
            }
            (Code::Unimplemented, _) => "; this server does not know the call".to_owned(),
            _ => String::new(),
        };
        CapabilityError::new(kind, format!("cannot {doing}: Modal: {message}{hint}"))
    }
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        let message = match (status.message(), std::error::Error::source(&status)) {
            ("", Some(source)) => source.to_string(),
            ("", None) => status.code().description().to_owned(),
            ("transport error", Some(source)) => root(source),
            (message, _) => message.to_owned(),
        };
        Self::new(status.code(), message)
    }
}

/// What began it: of a broken connection, the outer errors say nothing.
pub(super) fn root(error: &(dyn std::error::Error + 'static)) -> String {
    format!("the connection failed: {}", http_client::cause(error))
}
