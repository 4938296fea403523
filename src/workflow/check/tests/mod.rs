//! Files and what the checker says of them. Every bad file has one mistake and gets one diagnostic.

mod bad;
mod good;
mod robust;
mod secrecy;
mod shipped;

use super::{Checked, check};
use crate::workflow::fixture;

/// Checks a file against the fixture's components.
fn checked(text: &str) -> Checked {
    check("w.yaml", text, &fixture::catalog())
}

/// What a person reads.
fn rendered(text: &str) -> String {
    let diagnostics = checked(text).diagnostics;
    diagnostics.iter().map(|diagnostic| diagnostic.render(false)).collect::<Vec<_>>().join("\n\n")
}
