//! Holds every process of a sandbox still while its files are copied: by its control group where there is one, else by a
//! helper inside that stops them one after the other.

use super::channel::Channel;
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the processes may take to come to rest. One that waits for a slow disk cannot be stopped meanwhile.
pub(super) const FREEZE_LIMIT: Duration = Duration::from_secs(20);
/// Pause between two looks at whether they have.
const PAUSE: Duration = Duration::from_millis(1);

/// Processes at rest. They go on when it is dropped, or when this process dies.
pub(super) enum Frozen {
    /// By the `cgroup.freeze` file.
    Group(PathBuf),
    /// By a helper inside, which lets go when the channel closes.
    Stopped(#[expect(dead_code, reason = "held for what its drop does")] Channel),
}

impl Frozen {
    /// Freezes a control group and waits until all of it rests.
    pub(super) async fn group(file: &Path) -> Result<Self> {
        let failed =
            |error: std::io::Error| CapabilityError::io(format!("freeze {}", file.display()), &error);
        fs::write(file, "1").map_err(failed)?;
        let frozen = Self::Group(file.to_owned());
        let events = file.with_file_name("cgroup.events");
        let at_rest = async {
            loop {
                let text = fs::read_to_string(&events)?;
                if text.lines().any(|line| line == "frozen 1") {
                    return Ok(());
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(FREEZE_LIMIT, at_rest).await.map_err(|_| restless())?.map_err(failed)?;
        Ok(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Self::Group(file) = self {
            drop(fs::write(file, "0"));
        }
    }
}

/// The error for processes that cannot be held still.
pub(super) fn restless() -> CapabilityError {
    CapabilityError::new(
        ErrorKind::UNAVAILABLE,
        format!(
            "the processes of the sandbox did not come to rest within {} s; end them before saving its files",
            FREEZE_LIMIT.as_secs()
        ),
    )
}
