//! gVisor: sandboxes of the local provider with a kernel of their own between them and this machine's.
//!
//! Images, layers, files and volumes are the local provider's, as are namespaces, ids and control groups; inside of them
//! runs `runsc`, which answers the system calls of a sandbox itself (`local/inside/gvisor.rs`). Only asked for by name.

use super::library;
use super::local::{LocalProvider, Probe, Runtime, Upstream};
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What to do where there is no gVisor.
const INSTALL: &str = "install gVisor's `runsc` of July 2024 or later: `apt-get install runsc` on Debian 13, `apt-get install -t \
     bookworm-backports runsc` on Debian 12, else https://gvisor.dev";
/// The oldest release that it was run with, as a date. Those of 2022 know no subreapers, without which nobody can say what
/// a command has started.
const OLDEST: u32 = 20_240_729;

/// The local provider, whose sandboxes then run under gVisor. `unavailable` without a `runsc` that can be used.
pub fn provider(home: &Path, launcher: PathBuf, upstreams: Vec<Upstream>) -> Result<LocalProvider> {
    let runtime = runtime(&launcher)?;
    LocalProvider::with_runtime(home, launcher, upstreams, Some(runtime))
}

/// Says whether there is a gVisor to be asked for. It is no fault where there is none.
pub fn probe() -> Probe {
    let found = find().and_then(|program| Ok(format!("{} at {}", version(&program)?, program.display())));
    Probe::optional("gvisor", found.map_err(|error| error.message), INSTALL)
}

fn unavailable(why: impl std::fmt::Display) -> CapabilityError {
    CapabilityError::new(ErrorKind::UNAVAILABLE, format!("the provider `gvisor` cannot be used: {why}"))
}

fn runtime(launcher: &Path) -> Result<Runtime> {
    let program = find()?;
    version(&program)?;
    // What is written belongs into the sandbox's layers, not into a file of gVisor's.
    let options = vec!["--overlay2=none".into()];
    let (loader, libraries) = library::of(launcher)
        .map_err(|error| unavailable(format!("the libraries of harvest cannot be listed: {error}")))?;
    Ok(Runtime { program, options, loader, libraries })
}

fn find() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join("runsc"))
        .find(|program| rustix::fs::access(program, rustix::fs::Access::EXEC_OK).is_ok() && program.is_file())
        .ok_or_else(|| unavailable(format!("there is no `runsc` in the PATH; {INSTALL}")))
}

/// The version of a `runsc` that is not too old, as in `release-20240729.0` or Debian's `0.0~20240729.0`.
fn version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    let output =
        output.map_err(|error| unavailable(format!("{} does not start: {error}", program.display())))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.lines().next().unwrap_or_default().trim_start_matches("runsc version ").to_owned();
    match date(&version) {
        Some(date) if date < OLDEST => {
            Err(unavailable(format!("{} is too old ({version}); {INSTALL}", program.display())))
        }
        _ => Ok(version),
    }
}

/// The date in a version; builds of one's own have none.
fn date(version: &str) -> Option<u32> {
    version.split(|c: char| !c.is_ascii_digit()).find(|digits| digits.len() == 8)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn versions_have_a_date() {
        assert_eq!(date("0.0~20221219.0"), Some(20_221_219));
        assert_eq!(date("release-20240729.0"), Some(20_240_729));
        assert_eq!(date("VERSION_MISSING"), None);
    }
}
