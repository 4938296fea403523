//! What `harvest gc` does about sessions: sandboxes of those that have ended go, and so do, in time, their records.

use super::record::{Standing, session_of};
use crate::app::retention::Orphan;
use crate::app::{App, AppError};
use jiff::Timestamp;

impl App {
    /// Finds, and unless `dry` removes, what sessions have left.
    pub(in crate::app) async fn sweep_sessions(&self, dry: bool) -> Result<Vec<Orphan>, AppError> {
        let mut found = Vec::new();
        let sandboxes = self.tiers().local().list().await?;
        let sessions = self.sessions.all()?;
        if sessions.is_empty() && sandboxes.iter().all(|(id, _)| session_of(id).is_none()) {
            return Ok(found);
        }
        let held = self.sessions.hold().await?;
        for (sandbox, open) in sandboxes {
            let Some(id) = session_of(&sandbox).filter(|_| !open) else { continue };
            if self.sessions.find(id)?.is_some_and(|session| session.is_alive()) {
                continue;
            }
            if !dry {
                self.tiers().local().remove(&sandbox).await?;
            }
            found.push(Orphan { kind: "sandbox", of: sandbox, bytes: 0 });
        }
        let Some(age) = self.configuration.retention.age else { return Ok(found) };
        for session in sessions {
            let ended = session.standing == Standing::Stopped;
            let idle = Timestamp::now().duration_since(session.used_at);
            if !ended || idle.unsigned_abs() < age || idle.is_negative() {
                continue;
            }
            if !dry {
                held.forget(&session.id)?;
            }
            found.push(Orphan { kind: "session", of: session.id, bytes: 0 });
        }
        Ok(found)
    }
}
