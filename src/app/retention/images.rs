//! Images and layers that nothing needs. A name keeps an image; so does its use for a while, and any run that can go on
//! and mentions it.

use super::{Cleaned, Orphan};
use crate::app::{App, AppError};
use crate::journal::{JournalError, MAX_LIMIT, RunFilter};
use crate::run::Outcome;
use aho_corasick::AhoCorasick;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;
use std::{fs, io};

/// How long an image without a name stays after it was made or last asked for: snapshots that people and programs outside
/// of harvest hold the id of.
const IMAGES_KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

impl App {
    /// Removes images without a name that nobody has asked for in a while and no run needs, and layers that are left.
    pub(super) async fn collect_images(&self, dry: bool, cleaned: &mut Cleaned) -> Result<(), AppError> {
        let since = Timestamp::now().saturating_sub(IMAGES_KEPT).unwrap_or(Timestamp::UNIX_EPOCH);
        for provider in self.tiers().with_images().await {
            let mut unused = provider.unused_images(since).await?;
            if !unused.is_empty() {
                let mentioned = self.mentioned(&unused).await?;
                unused.retain(|id| !mentioned.contains(id));
            }
            let collected = provider.collect(&unused, since, dry).await?;
            cleaned.images_busy |= collected.busy;
            cleaned.orphans.extend(collected.garbage.into_iter().map(|garbage| Orphan {
                kind: if garbage.kind == "image" { "image" } else { "layer" },
                of: garbage.of,
                bytes: garbage.bytes,
            }));
        }
        Ok(())
    }

    /// Those of these ids that a run which can go on has in an event, or that are in an output kept for equal calls.
    /// All of them where one cannot be read: nobody knows what it says.
    async fn mentioned(&self, ids: &[String]) -> Result<BTreeSet<String>, AppError> {
        let search = AhoCorasick::new(ids)
            .map_err(|error| AppError::Config(format!("the ids of images cannot be looked for: {error}")))?;
        let mut found = BTreeSet::new();
        let mut look = |text: &[u8]| {
            found.extend(search.find_iter(text).map(|hit| hit.pattern().as_usize()));
            found.len() == ids.len()
        };
        let all = || ids.iter().cloned().collect();
        for entry in outputs(&self.home().join("outputs"))? {
            if look(&entry) {
                return Ok(all());
            }
        }
        let mut filter = RunFilter::default();
        loop {
            let page = self.journal().list(filter.clone(), MAX_LIMIT).await?;
            let Some(last) = page.last() else { break };
            filter.before = Some(last.run.clone());
            for row in &page {
                if row.finished_at.is_some() && row.state == Outcome::Succeeded.as_str() {
                    continue;
                }
                let mut seen = 0;
                loop {
                    let records = match self.journal().read(&row.run, seen, MAX_LIMIT).await {
                        Err(JournalError::Damaged(_)) => return Ok(all()),
                        records => records?,
                    };
                    let Some(last) = records.last() else { break };
                    seen = last.seq;
                    if records.iter().any(|record| look(&record.payload)) {
                        return Ok(all());
                    }
                }
            }
        }
        Ok(found.into_iter().map(|place| ids[place].clone()).collect())
    }
}

/// The outputs kept for equal calls, as they are on disk.
fn outputs(directory: &std::path::Path) -> Result<Vec<Vec<u8>>, AppError> {
    let failed = |error: io::Error| AppError::Config(format!("cannot read {}: {error}", directory.display()));
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let texts = entries.map(|entry| match fs::read(entry?.path()) {
        // Replaced meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        text => text,
    });
    texts.collect::<io::Result<_>>().map_err(failed)
}
