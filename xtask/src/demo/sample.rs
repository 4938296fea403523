//! The sample repository: a function, and two tests of which one fails. Its tests need nothing but node, which npm
//! brings along.

use crate::program::Program;
use std::fs;
use std::path::{Path, PathBuf};

/// The branch that is checked out.
pub(super) const BRANCH: &str = "main";
/// Name of the file that has to be changed.
pub(super) const CODE: &str = "total.js";

const FILES: [(&str, &str); 2] = [
    (CODE, include_str!("../../demo/total.js")),
    ("total.test.js", include_str!("../../demo/total.test.js")),
];

/// A repository made for one demo.
pub(crate) struct Sample {
    pub(crate) path: PathBuf,
}

impl Sample {
    /// Makes it afresh.
    pub(crate) fn create(path: &Path) -> Result<Self, String> {
        let failed =
            |error: std::io::Error| format!("cannot make the sample repository {}: {error}", path.display());
        if path.exists() {
            fs::remove_dir_all(path).map_err(failed)?;
        }
        fs::create_dir_all(path).map_err(failed)?;
        for (name, text) in FILES {
            fs::write(path.join(name), text).map_err(failed)?;
        }
        let sample = Self { path: path.to_owned() };
        sample.git(&["init", "--quiet", "--initial-branch", BRANCH])?;
        sample.git(&["add", "--all"])?;
        let who =
            ["-c", "user.name=Sample", "-c", "user.email=sample@example.com", "-c", "commit.gpgSign=false"];
        sample.git(
            &[&who[..], &["commit", "--quiet", "--no-verify", "--message", "Sell by the piece"]].concat(),
        )?;
        Ok(sample)
    }

    /// The last commit of a branch, as git shows it.
    pub(super) fn show(&self, branch: &str) -> Result<String, String> {
        self.git(&["--no-pager", "show", "--no-color", "--no-ext-diff", "--no-textconv", branch])
    }

    fn git(&self, arguments: &[&str]) -> Result<String, String> {
        Program::new("git").args(arguments).directory(&self.path).quiet()
    }
}
