//! When a failed call is made again, as Modal's own clients decide it: by its code alone, never by its text.

use super::messages::client::{RpcRetryPolicy, RpcStatus};
use prost::Message;
use std::time::Duration;
use tonic::{Code, Status};

/// Where a server says how long to stay away.
const POLICY: &str = "type.modal.com/modal.client.RPCRetryPolicy";
/// The least pause where it says so: one that names none must not be called in a loop.
const THROTTLE_FLOOR: Duration = Duration::from_millis(100);

/// How often, and after which pauses, a call is made again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// Attempts after the first.
    pub(crate) retries: u32,
    /// Before the first of them; each further pause is twice as long.
    pub(crate) first: Duration,
    /// The longest pause.
    pub(crate) longest: Duration,
}

/// Calls of the control plane.
pub(crate) const CONTROL: Policy =
    Policy { retries: 3, first: Duration::from_millis(100), longest: Duration::from_secs(1) };
/// Calls of a router: it sits beside the sandbox, so that a broken connection is soon back.
pub(crate) const ROUTER: Policy =
    Policy { retries: 10, first: Duration::from_millis(10), longest: Duration::from_secs(5) };

impl Policy {
    /// The pause before attempt `attempt`, counted from 1 for the first repetition.
    pub(crate) fn pause(&self, attempt: u32) -> Duration {
        let factor = 1 << attempt.saturating_sub(1).min(20);
        self.first.saturating_mul(factor).min(self.longest)
    }
}

/// Whether a code may go by itself.
pub(crate) fn is_passing(code: Code) -> bool {
    matches!(
        code,
        Code::DeadlineExceeded | Code::Unavailable | Code::Cancelled | Code::Internal | Code::Unknown
    )
}

/// How long the server asks to stay away, where it does.
pub(crate) fn throttle(status: &Status) -> Option<Duration> {
    let details = RpcStatus::decode(status.details()).ok()?.details;
    let policy = details.iter().find(|detail| detail.type_url == POLICY)?;
    let seconds = RpcRetryPolicy::decode(&*policy.value).ok()?.retry_after_secs;
    let asked = Duration::try_from_secs_f32(seconds).unwrap_or_default();
    Some(asked.max(THROTTLE_FLOOR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses = |policy: Policy| {
            (1..=policy.retries).map(|attempt| policy.pause(attempt).as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(pauses(CONTROL), [100, 200, 400]);
        assert_eq!(pauses(ROUTER), [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5000]);
        assert_eq!(CONTROL.pause(u32::MAX), CONTROL.longest);
    }

    #[test]
    fn only_codes_that_may_pass_are_tried_again() {
        let passing: Vec<i32> = (0..=16).filter(|code| is_passing(Code::from_i32(*code))).collect();
        assert_eq!(passing, [1, 2, 4, 13, 14]);
    }
}
