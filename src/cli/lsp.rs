//! `harvest lsp`: the language server of workflow files, on stdin and stdout.

use super::{Failure, Outcome};
use crate::app::Catalogs;
use crate::config::Home;
use crate::lsp::serve;
use std::io::{BufReader, stdin, stdout};

/// Nothing to choose.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What editors pass to say what is the only way here.
    #[arg(long, hide = true)]
    stdio: bool,
}

pub(super) fn lsp(home: &Home, _arguments: &Arguments) -> Outcome {
    let catalogs = Catalogs::open(home)?;
    serve(BufReader::new(stdin()), stdout().lock(), &|directory| catalogs.beside(directory))
        .map_err(|error| Failure { exit_code: 1, message: format!("the editor is gone: {error}") })
}
