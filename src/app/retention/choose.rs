//! Which runs go. Pure: rows and sizes, a policy and a time in, families out.
//!
//! A run and the runs that its steps started are a **family**: they go together, when the last of them has ended.

use crate::config::Retention;
use crate::id::RunId;
use crate::journal::Usage;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Runs that a home may have beyond its limit, a hundredth of it at most: they go together, and not one after each run.
const SLACK_MAX: u64 = 50;
/// After each such number of runs all bytes are counted, also those beside the journal.
const SIZE_EVERY: u64 = 20;

/// What has to be known of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The run.
    pub run: RunId,
    /// The run that it is a step of.
    pub parent: Option<RunId>,
    /// When it ended; a run without is unfinished.
    pub ended_at: Option<Timestamp>,
    /// Bytes of its events, streams and artifacts.
    pub bytes: u64,
}

/// Runs that go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// The run that is no step of another, then all below it.
    pub runs: Vec<RunId>,
    /// When the last of them ended.
    pub ended_at: Timestamp,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Why it goes.
    pub because: Because,
}

/// Which limit a run is beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Because {
    /// `age`.
    Age,
    /// `runs`.
    Runs,
    /// `size`.
    Size,
}

/// What there is in all, unfinished runs included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Runs.
    pub runs: u64,
    /// Bytes of their events, streams and artifacts.
    pub bytes: u64,
}

/// Whether a home may be beyond its limits, as far as its journal tells. What lies beside the journal is looked at only
/// then, since that takes the longer the more there is. `first` is when the run ended that ended first.
pub(super) fn is_due(usage: Usage, first: Timestamp, policy: &Retention, now: Timestamp) -> bool {
    let slack = policy.runs.map_or(0, |runs| (runs / 100).min(SLACK_MAX));
    let told = Totals { runs: usage.runs.saturating_sub(slack), bytes: usage.bytes };
    let sampled = policy.size.is_some() && usage.runs.is_multiple_of(SIZE_EVERY);
    sampled || beyond(first, told, policy, now).is_some()
}

/// The families that go, oldest first. `candidates` may be only the oldest runs of a journal with their families; as far
/// as those are known to be the oldest, the answer is then the beginning of what it would be with all of them.
pub fn choose(candidates: &[Candidate], totals: Totals, policy: &Retention, now: Timestamp) -> Vec<Family> {
    let mut left = totals;
    let mut chosen = Vec::new();
    for mut family in families(candidates) {
        // Those that ended later are within the limits as well.
        let Some(because) = beyond(family.ended_at, left, policy, now) else { break };
        family.because = because;
        left.runs = left.runs.saturating_sub(family.runs.len() as u64);
        left.bytes = left.bytes.saturating_sub(family.bytes);
        chosen.push(family);
    }
    chosen
}

/// The limit beyond which a family is that ended then, where so much is left.
pub(super) fn beyond(
    ended_at: Timestamp,
    left: Totals,
    policy: &Retention,
    now: Timestamp,
) -> Option<Because> {
    let age = now.duration_since(ended_at);
    if policy.age.is_some_and(|most| age.is_positive() && age.unsigned_abs() > most) {
        Some(Because::Age)
    } else if policy.runs.is_some_and(|most| left.runs > most) {
        Some(Because::Runs)
    } else {
        policy.size.filter(|most| left.bytes > *most).map(|_| Because::Size)
    }
}

/// Families all of whose runs have ended, in the order of their ends.
fn families(candidates: &[Candidate]) -> Vec<Family> {
    let known: BTreeMap<&RunId, &Candidate> = candidates.iter().map(|found| (&found.run, found)).collect();
    let mut members: BTreeMap<&RunId, Vec<&Candidate>> = BTreeMap::new();
    for candidate in candidates {
        members.entry(root(candidate, &known)).or_default().push(candidate);
    }
    let mut families: Vec<Family> = members
        .into_iter()
        .filter_map(|(root, mut members)| {
            members.sort_by_key(|member| (member.run != *root, &member.run));
            let ends = members.iter().map(|member| member.ended_at).collect::<Option<Vec<_>>>()?;
            Some(Family {
                runs: members.iter().map(|member| member.run.clone()).collect(),
                ended_at: ends.into_iter().max()?,
                bytes: members.iter().map(|member| member.bytes).sum(),
                because: Because::Age,
            })
        })
        .collect();
    families.sort_by(|a, b| (a.ended_at, &a.runs).cmp(&(b.ended_at, &b.runs)));
    families
}

/// The run at the top. A parent that is not there any more has none below it.
fn root<'a>(candidate: &'a Candidate, known: &BTreeMap<&RunId, &'a Candidate>) -> &'a RunId {
    let mut at = candidate;
    // No run is its own ancestor; a journal that says so must not hang.
    for _ in 0..known.len() {
        match at.parent.as_ref().and_then(|parent| known.get(parent)) {
            Some(parent) => at = parent,
            None => break,
        }
    }
    &at.run
}
