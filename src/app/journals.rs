//! Which journal a home has: what its operator says, else what is there, else SQLite. Never two, never a guess.

use super::AppError;
use crate::config::{self, Configuration, Home, JournalKind};
use crate::journal::{Journal, SqliteJournal};
use std::sync::Arc;

/// Opens the journal of a home as its configuration says, and nothing else of it.
///
/// # Errors
/// Where the configuration cannot be followed, or the journal cannot be opened.
pub fn open_configured(home: &Home) -> Result<Arc<dyn Journal>, AppError> {
    open(home, &Configuration::read(home).map_err(AppError::Config)?)
}

/// Opens the journal that a configuration asks for, or that the home has.
///
/// # Errors
/// Where the configuration cannot be followed, or the journal cannot be opened.
pub fn open(home: &Home, configuration: &Configuration) -> Result<Arc<dyn Journal>, AppError> {
    let asked = match config::journal_from_env().map_err(AppError::Config)? {
        Some(kind) => Some((kind, "HARVEST_JOURNAL".to_owned())),
        None => configuration.journal.map(|kind| (kind, home.join(config::FILE).display().to_string())),
    };
    let kind =
        choose(asked, SqliteJournal::exists(home.path()), sled_exists(home)).map_err(AppError::Config)?;
    Ok(match kind {
        JournalKind::Sqlite => Arc::new(SqliteJournal::open(home.path())?),
        JournalKind::Sled => sled(home)?,
    })
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
