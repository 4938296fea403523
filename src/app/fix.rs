//! `check --fix`: makes the changes that diagnostics propose in the author's file.

use super::{App, AppError, files};
use crate::host::Components;
use crate::workflow::fix::{Fixed, fix};
use std::path::Path;

impl App {
    /// Corrects a file as far as its diagnostics say how. It is written once, whole, and only where something changed.
    ///
    /// # Errors
    /// Where the file cannot be read or written; then it is as it was.
    pub fn fix_file(&self, file: &Path) -> Result<Fixed, AppError> {
        let text = files::read(file)?;
        let directory = file.parent().map(ToOwned::to_owned).unwrap_or_default();
        let catalog = Components::new(self.library.clone(), directory);
        let fixed = fix(&file.display().to_string(), &text, &catalog);
        if fixed.text != text {
            files::replace(file, &text, &fixed.text)?;
        }
        Ok(fixed)
    }
}
