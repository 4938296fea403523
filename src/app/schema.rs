//! The JSON Schema of a directory's workflow files.

use super::{App, AppError, files};
use crate::host::Components;
use crate::workflow::check::names_workflow;
use crate::workflow::schema::{self, Made};
use crate::workflow::types::Catalog;
use std::path::{Path, PathBuf};

/// A schema that was written.
#[derive(Debug)]
pub struct WrittenSchema {
    /// Where it is.
    pub path: PathBuf,
    /// Components beside the workflow files that are not in it, each with the reason.
    pub left_out: Vec<String>,
}

impl App {
    /// Writes the schema of the workflow files in a directory, with the components that lie beside them.
    ///
    /// # Errors
    /// Where the directory cannot be read or the schema not be written.
    pub fn write_schema(&self, directory: &Path) -> Result<WrittenSchema, AppError> {
        std::fs::read_dir(directory).map_err(|error| {
            AppError::File(format!("cannot read the directory {}: {error}", directory.display()))
        })?;
        let catalog = Components::new(self.library.clone(), directory);
        let files: Vec<_> = catalog.files().into_iter().filter(|name| !names_workflow(name)).collect();
        let Made { schema, left_out } = schema::schema(&catalog, &files);
        let path = directory.join(schema::PATH);
        files::create(&path, &format!("{schema:#}\n"))?;
        Ok(WrittenSchema { path, left_out })
    }
}
