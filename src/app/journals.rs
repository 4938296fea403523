//! Which journal a home has: what its operator says, else what is there, else SQLite. Never two, never a guess.

use super::{AppError, files};
use crate::config::{self, Home, JournalKind};
use crate::journal::{Journal, SqliteJournal};
use serde::Deserialize;
use std::sync::Arc;

/// The home's settings.
const FILE: &str = "config.yaml";
/// What can be written there.
const HELP: &str = "the one key it may have is `journal: sqlite` or `journal: sled`";

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    journal: Option<JournalKind>,
}

/// Opens the journal of a home.
///
/// # Errors
/// Where the settings cannot be followed, or the journal cannot be opened.
pub(super) fn open(home: &Home) -> Result<Arc<dyn Journal>, AppError> {
    let asked = match config::journal_from_env().map_err(AppError::Config)? {
        Some(kind) => Some((kind, "HARVEST_JOURNAL".to_owned())),
        None => {
            let file = home.join(FILE);
            let name = file.display().to_string();
            let settings =
                if file.exists() { settings(&name, &files::read(&file)?)? } else { Settings::default() };
            settings.journal.map(|kind| (kind, name))
        }
    };
    let kind =
        choose(asked, SqliteJournal::exists(home.path()), sled_exists(home)).map_err(AppError::Config)?;
    Ok(match kind {
        JournalKind::Sqlite => Arc::new(SqliteJournal::open(home.path())?),
        JournalKind::Sled => sled(home)?,
    })
}

/// Reads the settings.
fn settings(name: &str, text: &str) -> Result<Settings, AppError> {
    let wrong = |what: &dyn std::fmt::Display| AppError::Config(format!("{name}: {what}; {HELP}"));
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Settings::default());
    }
    let value = crate::workflow::data::read(name, text).map_err(|error| wrong(&error))?;
    serde_json::from_value(value).map_err(|error| wrong(&error))
}

/// Holds what is asked for, and where, against what the home has.
fn choose(asked: Option<(JournalKind, String)>, sqlite: bool, sled: bool) -> Result<JournalKind, String> {
    use JournalKind::{Sled, Sqlite};
    let there = match (sqlite, sled) {
        (true, true) => {
            return Err("this home has two journals, journal.db (SQLite) and journal.sled: move the one away that is not \
                        to be used"
                .into());
        }
        (true, false) => Some(Sqlite),
        (false, true) => Some(Sled),
        (false, false) => None,
    };
    match (asked, there) {
        (Some((asked, place)), Some(there)) if asked != there => {
            let file = if there == Sqlite { "journal.db" } else { "journal.sled" };
            Err(format!(
                "{place} asks for the journal `{asked}`, but this home has one of `{there}` ({file}). To go on with it, \
                 write `{there}`. To change over: with `{there}`, `harvest journal export FILE`; move {file} away; with \
                 `{asked}`, `harvest journal import FILE`"
            ))
        }
        (Some((kind, _)), _) | (None, Some(kind)) => Ok(kind),
        (None, None) => Ok(Sqlite),
    }
}

#[cfg(feature = "sled")]
fn sled_exists(home: &Home) -> bool {
    crate::journal::SledJournal::exists(home.path())
}

#[cfg(feature = "sled")]
fn sled(home: &Home) -> Result<Arc<dyn Journal>, AppError> {
    Ok(Arc::new(crate::journal::SledJournal::open(home.path())?))
}

#[cfg(not(feature = "sled"))]
fn sled_exists(home: &Home) -> bool {
    home.join("journal.sled").exists()
}

#[cfg(not(feature = "sled"))]
fn sled(_: &Home) -> Result<Arc<dyn Journal>, AppError> {
    Err(AppError::Config(
        "this harvest was built without sled: build it with `cargo build --release --features sled`, or write \
         `journal: sqlite`"
            .into(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_unknown_ones_refused() {
        let read = |text: &str| settings("config.yaml", text).map_err(|error| error.to_string());
        assert_eq!(read("journal: sled\n"), Ok(Settings { journal: Some(JournalKind::Sled) }));
        assert_eq!(read("# nothing yet\n"), Ok(Settings::default()));
        insta::assert_snapshot!(read("journals: sled").unwrap_err(), @"config.yaml: unknown field `journals`, expected `journal`; the one key it may have is `journal: sqlite` or `journal: sled`");
        insta::assert_snapshot!(read("journal: redb").unwrap_err(), @"config.yaml: unknown variant `redb`, expected `sqlite` or `sled`; the one key it may have is `journal: sqlite` or `journal: sled`");
        assert!(read("journal: [").unwrap_err().contains("not YAML"));
    }

    #[test]
    fn a_home_keeps_the_journal_it_has() {
        use JournalKind::{Sled, Sqlite};
        let asked = |kind| Some((kind, "config.yaml".to_owned()));
        assert_eq!(choose(None, false, false), Ok(Sqlite));
        assert_eq!(choose(None, false, true), Ok(Sled));
        assert_eq!(choose(asked(Sled), false, false), Ok(Sled));
        assert_eq!(choose(asked(Sled), false, true), Ok(Sled));
        insta::assert_snapshot!(choose(asked(Sled), true, false).unwrap_err(), @"config.yaml asks for the journal `sled`, but this home has one of `sqlite` (journal.db). To go on with it, write `sqlite`. To change over: with `sqlite`, `harvest journal export FILE`; move journal.db away; with `sled`, `harvest journal import FILE`");
        insta::assert_snapshot!(choose(asked(Sqlite), false, true).unwrap_err(), @"config.yaml asks for the journal `sqlite`, but this home has one of `sled` (journal.sled). To go on with it, write `sled`. To change over: with `sled`, `harvest journal export FILE`; move journal.sled away; with `sqlite`, `harvest journal import FILE`");
        insta::assert_snapshot!(choose(None, true, true).unwrap_err(), @"this home has two journals, journal.db (SQLite) and journal.sled: move the one away that is not to be used");
    }
}
