//! A second wall behind namespaces and seccomp: a Landlock domain around everything that runs in a sandbox.
//!
//! It names the sandbox's own root directory and nothing else. Inside, everything stays as it was, mounts below the root
//! included. What it holds are ways around the root that no mount namespace closes: a directory of the host whose
//! descriptor somebody handed in, and, where the network is the host's, the host's abstract sockets. Signals and tracing
//! end at the domain too, though the pid namespace shows nobody outside.
//!
//! Ports are left alone: rules know a port and no address, and on its own loopback a sandbox may do what it likes.

use super::Failure;
use crate::step::ErrorKind;
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope,
};

/// Rights to files are those of Linux 6.10, further ones are never taken away.
const FILES: ABI = ABI::V5;
/// Abstract sockets and signals, from Linux 6.12 on.
const SCOPES: ABI = ABI::V6;

/// Closes the domain around this process and all it will start, as far as this kernel can. Needs no_new_privs.
pub(super) fn enclose() -> Result<(), Failure> {
    let failed = |error: String| Failure::new(ErrorKind::UNAVAILABLE, format!("Landlock refuses: {error}"));
    let root = PathFd::new("/").map_err(|error| failed(error.to_string()))?;
    restrict(root).map_err(|error| failed(error.to_string()))
}

fn restrict(root: PathFd) -> Result<(), RulesetError> {
    Ruleset::default()
        // Without this right, before Linux 5.19, no file could move to another directory: then rather no domain.
        .set_compatibility(CompatLevel::SoftRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(FILES))?
        .scope(Scope::from_all(SCOPES))?
        .create()?
        .add_rule(PathBeneath::new(root, AccessFs::from_all(FILES)))?
        .restrict_self()
        .map(drop)
}
