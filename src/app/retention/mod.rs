//! What becomes of ended runs: how long they are kept, and what goes with them. Never touches a run that goes on.
//!
//! A run's row goes before its files. Killed in between, harvest leaves files without a run, which nobody sees and the
//! next `harvest gc` finds; the other way round it would leave a run that is listed and has lost half of itself.

mod choose;
mod images;
mod look;
mod sandboxes;
#[cfg(test)]
mod tests;

pub use choose::{Because, Candidate, Family, Totals, choose};
pub use sandboxes::KeptSandbox;

use super::{App, AppError};
use crate::capability::artifact::Artifacts;
use crate::engine::{KeptOutputs, Lease};
use crate::id::RunId;
use crate::journal::JournalError;
use jiff::Timestamp;
use look::OnDisk;
use std::collections::BTreeSet;
use std::io;

/// Runs that go after a run has ended, unless one family alone has more. More than one run leaves behind, so that a home
/// that is beyond its limits gets within them; few enough that nobody waits for it.
const AFTER_A_RUN: usize = 50;
/// Ended runs that are looked at for that; more only where those belong to families that cannot go yet.
const LOOKED_AT: [usize; 2] = [100, 5000];
/// Runs that go in one piece of work, and whose leases are held meanwhile.
const CHUNK: usize = 200;

/// What `harvest gc` did, or would do.
#[derive(Debug, Default)]
pub struct Cleaned {
    /// Runs that went, with their families.
    pub families: Vec<Family>,
    /// Runs that were to go and are being looked at or retried.
    pub busy: Vec<RunId>,
    /// Files that belonged to no run.
    pub orphans: Vec<Orphan>,
    /// Sandboxes of ended runs that still have their files, or had.
    pub sandboxes: Vec<KeptSandbox>,
    /// Whether images and layers had to stay because somebody was making or opening one.
    pub images_busy: bool,
    /// Bytes that the journal gave back to the file system.
    pub compacted: u64,
}

/// Files whose run is not in the journal, kept outputs that are older than runs may be, and images and layers that nothing needs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Orphan {
    /// `streams`, `artifacts`, `sandbox`, `lease`, `outputs`, `session`, `image` or `layer`.
    pub kind: &'static str,
    /// The run, the key of the outputs, the id of the sandbox, session or image, or the name of the layer.
    pub of: String,
    /// Its bytes, where they are known without looking into a sandbox.
    pub bytes: u64,
}

impl App {
    /// Drops a few of the oldest runs where the home is beyond its limits: bounded work after each run. The run that
    /// has just ended stays, whatever the limits, since somebody is about to look at it.
    pub async fn retain(&self, just_ended: &RunId) {
        if let Err(error) = self.retain_some(just_ended).await {
            tracing::warn!("old runs were not removed: {error}; `harvest gc` tries it again");
        }
    }

    async fn retain_some(&self, just_ended: &RunId) -> Result<(), AppError> {
        let usage = self.journal().usage().await?;
        let first = self.journal().ended(None, 1).await?.pop().and_then(|ended| ended.row.finished_at);
        if !first.is_some_and(|first| {
            choose::is_due(usage, first, &self.configuration.retention, Timestamp::now())
        }) {
            return Ok(());
        }
        let disk = OnDisk::look(self.streams(), &self.artifacts()).await?;
        let totals = look::totals(self.journal(), &disk).await?;
        let chosen = self.choose_some(&disk, totals, just_ended).await?;
        self.drop_families(chosen, &mut Cleaned::default()).await
    }

    /// The first few families that are beyond the limits.
    async fn choose_some(
        &self,
        disk: &OnDisk,
        totals: Totals,
        just_ended: &RunId,
    ) -> Result<Vec<Family>, AppError> {
        let (policy, now) = (self.configuration.retention, Timestamp::now());
        let first = self.journal().ended(None, 1).await?;
        let first = first.first().and_then(|ended| ended.row.finished_at);
        if first.is_none_or(|end| choose::beyond(end, totals, &policy, now).is_none()) {
            return Ok(Vec::new());
        }
        for count in LOOKED_AT {
            let oldest = look::oldest(self.journal(), disk, count).await?;
            let mut chosen = choose(&oldest.candidates, totals, &policy, now);
            chosen.retain(|family| {
                oldest.before.is_none_or(|before| family.ended_at < before)
                    && !family.runs.contains(just_ended)
            });
            if chosen.is_empty() && oldest.before.is_some() {
                continue;
            }
            let mut runs = 0;
            let few = chosen.into_iter().take_while(|family| {
                let begun = runs == 0;
                runs += family.runs.len();
                begun || runs <= AFTER_A_RUN
            });
            return Ok(few.collect());
        }
        Ok(Vec::new())
    }

    /// Does all of it: runs beyond the limits, files that belong to no run, images and layers that nothing needs, space of
    /// the journal, and with `sandboxes` the files that sandboxes keep for `harvest retry`. With `dry` it only says what it would do.
    ///
    /// # Errors
    /// Where the journal or the files cannot be read or removed. What was done until then stays done.
    pub async fn clean(&self, dry: bool, sandboxes: bool) -> Result<Cleaned, AppError> {
        let policy = self.configuration.retention;
        let disk = OnDisk::look(self.streams(), &self.artifacts()).await?;
        let totals = look::totals(self.journal(), &disk).await?;
        let all = look::everything(self.journal(), &disk).await?;
        let chosen = choose(&all, totals, &policy, Timestamp::now());
        let mut cleaned = Cleaned::default();
        if dry {
            cleaned.families = chosen;
        } else {
            self.drop_families(chosen, &mut cleaned).await?;
        }
        cleaned.sandboxes = self.kept_sandboxes().await?;
        if sandboxes && !dry {
            for kept in &cleaned.sandboxes {
                self.tiers().remove(&kept.sandbox).await?;
            }
        }
        self.sweep(dry, &mut cleaned).await?;
        cleaned.orphans.extend(self.sweep_outputs(dry)?);
        cleaned.orphans.extend(self.sweep_sessions(dry).await?);
        self.collect_images(dry, &mut cleaned).await?;
        if !dry {
            let compacted = self.journal().compact().await?;
            cleaned.compacted = compacted.before.saturating_sub(compacted.after);
        }
        Ok(cleaned)
    }

    /// Drops families, some at a time.
    async fn drop_families(&self, chosen: Vec<Family>, cleaned: &mut Cleaned) -> Result<(), AppError> {
        let mut chosen = chosen.into_iter().peekable();
        while chosen.peek().is_some() {
            let mut chunk: Vec<(Family, Vec<Lease>)> = Vec::new();
            let mut count = 0;
            while let Some(family) = chosen.next_if(|next| count == 0 || count + next.runs.len() <= CHUNK) {
                count += family.runs.len();
                // Whoever drives a run has its lease.
                match self.leases_of(&family)? {
                    Some(leases) => chunk.push((family, leases)),
                    None => cleaned.busy.push(family.runs[0].clone()),
                }
            }
            let runs: Vec<RunId> = chunk.iter().flat_map(|(family, _)| family.runs.clone()).collect();
            match self.journal().delete(&runs).await {
                Ok(()) => {}
                // One of them was retried since it was chosen: each by itself, then.
                Err(JournalError::Refused(_)) => {
                    let mut gone = Vec::new();
                    for (family, leases) in chunk {
                        match self.journal().delete(&family.runs).await {
                            Ok(()) => gone.push((family, leases)),
                            Err(JournalError::Refused(_)) => cleaned.busy.push(family.runs[0].clone()),
                            Err(error) => return Err(error.into()),
                        }
                    }
                    chunk = gone;
                }
                Err(error) => return Err(error.into()),
            }
            self.drop_files(chunk.iter().flat_map(|(family, _)| &family.runs)).await?;
            // The lease goes last, and its file with it.
            cleaned.families.extend(chunk.into_iter().map(|(family, _)| family));
        }
        Ok(())
    }

    /// Leases of all runs of a family, `None` where somebody has one.
    fn leases_of(&self, family: &Family) -> Result<Option<Vec<Lease>>, AppError> {
        family.runs.iter().map(|run| self.lease(run)).collect()
    }

    /// Removes everything that lies outside the journal for these runs.
    async fn drop_files(&self, runs: impl Iterator<Item = &RunId>) -> Result<(), AppError> {
        let runs: BTreeSet<&RunId> = runs.collect();
        if runs.is_empty() {
            return Ok(());
        }
        for run in &runs {
            self.streams().remove(run).await?;
            self.artifacts().remove(run).await?;
        }
        for (id, _) in self.tiers().list().await? {
            if sandboxes::run_of(&id).is_some_and(|(run, _)| runs.contains(&run)) {
                self.tiers().remove(&id).await?;
            }
        }
        Ok(())
    }

    /// Removes files whose run is not in the journal: what a kill between row and files left. A run is journalled
    /// before it has files, and its lease is taken before that, so that none that begins is taken for an orphan.
    async fn sweep(&self, dry: bool, cleaned: &mut Cleaned) -> Result<(), AppError> {
        let disk = OnDisk::look(self.streams(), &self.artifacts()).await?;
        let mut found: Vec<(RunId, Orphan)> = Vec::new();
        for (kind, runs) in [("streams", &disk.streams), ("artifacts", &disk.artifacts)] {
            let orphan = |(run, bytes): (&RunId, &u64)| {
                (run.clone(), Orphan { kind, of: run.to_string(), bytes: *bytes })
            };
            found.extend(runs.iter().map(orphan));
        }
        for (id, open) in self.tiers().list().await? {
            if let Some((run, _)) = sandboxes::run_of(&id).filter(|_| !open) {
                found.push((run, Orphan { kind: "sandbox", of: id, bytes: 0 }));
            }
        }
        for run in self.leases.runs().map_err(|error| AppError::Config(format!("the leases: {error}")))? {
            found.push((run.clone(), Orphan { kind: "lease", of: run.to_string(), bytes: 0 }));
        }
        for (run, orphan) in found {
            if RunId::parse(run.as_str()).as_ref() != Some(&run) {
                continue;
            }
            let Some(lease) = self.lease(&run)? else { continue };
            if self.journal().row(&run).await?.is_some() {
                continue;
            }
            if !dry {
                match orphan.kind {
                    "streams" => self.streams().remove(&run).await?,
                    "artifacts" => self.artifacts().remove(&run).await?,
                    "sandbox" => self.tiers().remove(&orphan.of).await?,
                    _ => {}
                }
            }
            // Its file goes with it.
            drop(lease);
            cleaned.orphans.push(orphan);
        }
        Ok(())
    }

    /// Removes outputs that were kept for equal calls longer ago than runs are kept: they cost a call where they are missed.
    fn sweep_outputs(&self, dry: bool) -> Result<Vec<Orphan>, AppError> {
        let Some(age) = self.configuration.retention.age else { return Ok(Vec::new()) };
        let Ok(before) = Timestamp::now().checked_sub(age) else { return Ok(Vec::new()) };
        let kept = KeptOutputs::new(self.home().join("outputs"));
        let failed = |error: io::Error| AppError::Config(format!("the kept outputs: {error}"));
        let mut swept = Vec::new();
        for (of, bytes) in kept.before(before).map_err(failed)? {
            if !dry {
                kept.remove(&of).map_err(failed)?;
            }
            swept.push(Orphan { kind: "outputs", of, bytes });
        }
        Ok(swept)
    }

    fn artifacts(&self) -> Artifacts {
        Artifacts::open(self.home().path())
    }
}

impl Cleaned {
    /// Bytes that went, or would go, as far as they are known.
    pub fn bytes(&self) -> u64 {
        let families: u64 = self.families.iter().map(|family| family.bytes).sum();
        families + self.orphans.iter().map(|orphan| orphan.bytes).sum::<u64>()
    }
}
