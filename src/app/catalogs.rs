//! What writing a workflow needs: the types inside components. Opens no journal and no provider.

use super::AppError;
use crate::config::Home;
use crate::host::{Components, Library};
use crate::workflow::types::Catalog;
use std::path::Path;
use std::rc::Rc;

/// The components of a home.
pub struct Catalogs {
    library: Library,
}

impl Catalogs {
    /// Opens them.
    ///
    /// # Errors
    /// Where the home cannot keep components.
    pub fn open(home: &Home) -> Result<Self, AppError> {
        let library = Library::open(home.path())
            .map_err(|error| AppError::Config(format!("the component library: {error}")))?;
        Ok(Self { library })
    }

    /// The components that workflow files of a directory can name, as they are from now on.
    pub fn beside(&self, directory: &Path) -> Rc<dyn Catalog> {
        Rc::new(Components::new(self.library.clone(), directory))
    }
}
