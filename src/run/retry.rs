//! Whether and when an attempt follows a failed one. Decided by data alone: the policy, the kind, the recorded jitter.

use super::planted::{Planted, planted};
use crate::step::ErrorKind;
use crate::workflow::model::Retry;

/// Milliseconds to wait before the next attempt after `failures` failures (at least 1), the last of this kind; `None`
/// where there is none.
pub(super) fn delay_ms(policy: &Retry, failures: u32, kind: &ErrorKind, jitter: u16) -> Option<u64> {
    let wanted = if policy.on.is_empty() { *kind != ErrorKind::CANCELLED } else { policy.on.contains(kind) };
    let attempts = policy.attempts + u32::from(planted(Planted::RetryTooOften));
    if !wanted || failures >= attempts {
        return None;
    }
    let failures = if planted(Planted::BackoffStandsStill) { 1 } else { failures };
    let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
    let full = (policy.first_ms as f64 * policy.factor.powi(exponent)).min(policy.max_ms as f64).max(0.0);
    let share = if policy.jitter { f64::from(jitter.min(1000)) / 1000.0 } else { 1.0 };
    Some((full * share) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_up_to_their_limit() {
        let policy =
            Retry { attempts: 6, first_ms: 100, factor: 3.0, max_ms: 1_000, jitter: false, on: vec![] };
        let delays: Vec<_> = (1..=6).map(|n| delay_ms(&policy, n, &ErrorKind::NETWORK, 0)).collect();
        assert_eq!(delays, [Some(100), Some(300), Some(900), Some(1_000), Some(1_000), None]);
    }

    #[test]
    fn only_the_kinds_named_are_retried() {
        let policy = Retry { attempts: 3, on: vec![ErrorKind::NETWORK], jitter: true, ..Retry::default() };
        assert_eq!(delay_ms(&policy, 1, &ErrorKind::INVALID, 0), None);
        assert_eq!(delay_ms(&policy, 1, &ErrorKind::NETWORK, 500), Some(500));
        assert_eq!(delay_ms(&Retry { attempts: 3, ..Retry::default() }, 1, &ErrorKind::CANCELLED, 0), None);
    }
}
