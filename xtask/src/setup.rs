//! `cargo xtask setup`: what every build needs and a fresh machine lacks.

use crate::{debian, wasm_target};

/// Programs that the build starts, with Debian's packages of them.
const NEEDED: [debian::Need; 2] = [
    debian::Need { probe: debian::Probe::Program("git"), package: "git" },
    debian::Need { probe: debian::Probe::Program("cc"), package: "gcc libc6-dev" },
];

/// Names missing programs, then brings in the wasm32-wasip2 target where it is missing.
pub(crate) fn run() -> Result<(), String> {
    let missing = debian::missing(&NEEDED);
    if !missing.is_empty() {
        return Err(debian::remedy(&missing));
    }
    wasm_target::require()
}
