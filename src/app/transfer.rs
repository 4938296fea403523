//! The journal and files of the operator: exports, imports, backups. A file appears whole or not at all, and never in
//! place of another one unasked.

use super::AppError;
use super::files::Draft;
use crate::config::Home;
use crate::id::RunId;
use crate::journal::transfer::{self, Came, Counts, Exported, Imported, TransferError};
use crate::journal::{Journal, VerifyReport};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Bytes read or written at once.
const BUFFER: usize = 1 << 20;

impl From<TransferError> for AppError {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Journal(error) => error.into(),
            TransferError::File(message) => Self::File(message),
        }
    }
}

/// Writes one run, or all that are whole, to `file`; `-` is stdout. `None` where there is no such run.
///
/// # Errors
/// Where the journal is damaged in a way that concerns more than some of its runs, the file is there and not to be replaced, or it cannot be written.
pub async fn export(
    journal: &dyn Journal,
    run: Option<&RunId>,
    file: &Path,
    replace: bool,
) -> Result<Option<Exported>, AppError> {
    if file.as_os_str() == "-" {
        let mut out = BufWriter::with_capacity(BUFFER, io::stdout());
        return Ok(transfer::export(journal, run, &mut out).await?);
    }
    let draft = Draft::new(file, replace)?;
    let created = File::options().write(true).create_new(true).mode(0o600).open(draft.path());
    let created = created.map_err(|error| draft.failed(&error))?;
    let mut out = BufWriter::with_capacity(BUFFER, created);
    let exported = transfer::export(journal, run, &mut out).await?;
    if exported.is_some() {
        out.into_inner().map_err(|error| draft.failed(error.error()))?;
        draft.publish()?;
    }
    Ok(exported)
}

/// Takes every run of `file` into the journal; `-` is stdin. Nothing is written before all of the file was read and is
/// whole.
///
/// # Errors
/// Where the file is no whole export, or the journal fails.
pub async fn import(
    journal: &dyn Journal,
    home: &Home,
    file: &Path,
    tell: &mut (dyn FnMut(&RunId, Came) + Send),
) -> Result<(Counts, Imported), AppError> {
    let failed = |error: io::Error| AppError::File(format!("cannot read {}: {error}", file.display()));
    let source = if file.as_os_str() == "-" { spool(home, io::stdin().lock()) } else { File::open(file) };
    let mut source = BufReader::with_capacity(BUFFER, source.map_err(failed)?);
    let counts = transfer::check(&mut source)?;
    source.rewind().map_err(failed)?;
    Ok((counts, transfer::import(journal, &mut source, tell).await?))
}

/// Puts what can be read only once into a file of the home that has no name.
fn spool(home: &Home, mut source: impl Read) -> io::Result<File> {
    let path = home.join(&format!(".import-{}", ulid::Ulid::generate()));
    let mut file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    io::copy(&mut source, &mut file)?;
    file.flush()?;
    file.rewind()?;
    Ok(file)
}

/// Copies the journal to `file` while others write to it. The copy is synced and was read again.
///
/// # Errors
/// Where the file is there and not to be replaced, it cannot be written, or the copy is not whole.
pub async fn backup(journal: &dyn Journal, file: &Path, replace: bool) -> Result<VerifyReport, AppError> {
    let draft = Draft::new(file, replace)?;
    let report = journal.backup(draft.path()).await?;
    if let Some(first) = report.findings.first() {
        return Err(AppError::File(format!(
            "{} was not written, since its copy would not be whole: {first}; `harvest journal verify` says all that is wrong",
            file.display()
        )));
    }
    draft.publish()?;
    Ok(report)
}
