//! Bugs planted into the core: the simulation that CI runs must find each of them, within as many histories as CI runs.

use super::super::planted::{Planted, plant};
use super::explore::{CASES, until_broken};

/// Fixed, so that a bug that was found once is found again.
const SEED: u64 = 1;

macro_rules! found {
    ($($test:ident: $bug:ident,)*) => {
        $(
            #[test]
            fn $test() {
                let found = plant(Planted::$bug, || until_broken(SEED));
                let (case, why) = found.unwrap_or_else(|| panic!("{:?}: not found in {CASES}", Planted::$bug));
                println!("{:?}: found by history {case}: {}", Planted::$bug, why.lines().next().unwrap_or_default());
            }
        )*
    };
}

found! {
    condition_ignored: ConditionIgnored,
    failed_need_ignored: FailedNeedIgnored,
    read_too_early: ReadTooEarly,
    retry_too_often: RetryTooOften,
    lost_attempt_counts: LostAttemptCounts,
    backoff_stands_still: BackoffStandsStill,
    cancel_ignored: CancelIgnored,
    ends_beside_attempt: EndsBesideAttempt,
    loop_too_wide: LoopTooWide,
    loop_drops_item: LoopDropsItem,
    loop_goes_on: LoopGoesOn,
    finally_left_out: FinallyLeftOut,
    finally_too_early: FinallyTooEarly,
    lost_attempt_forgotten: LostAttemptForgotten,
    replay_forgets_skips: ReplayForgetsSkips,
    reused_outputs_lost: ReusedOutputsLost,
    rejection_ignored: RejectionIgnored,
    question_left_open: QuestionLeftOpen,
    starts_unadmitted: StartsUnadmitted,
    queue_timeout_starts: QueueTimeoutStarts,
    queued_forgotten: QueuedForgotten,
    run_timeout_ignored: RunTimeoutIgnored,
    retry_repeats_steps: RetryRepeatsSteps,
    retry_repeats_items: RetryRepeatsItems,
    retry_spends_nothing: RetrySpendsNothing,
}

#[test]
fn nothing_is_found_where_nothing_is_planted() {
    assert_eq!(until_broken(SEED), None);
}
