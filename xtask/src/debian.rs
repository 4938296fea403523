//! Programs of the machine: whether they are there, and Debian's packages of those that are not.

use crate::program::Program;
use std::env;
use std::path::Path;

/// Something the machine must have.
pub(crate) struct Need {
    pub(crate) probe: Probe,
    /// Debian's packages of it, separated by spaces.
    pub(crate) package: &'static str,
}

/// How to tell whether it is there.
pub(crate) enum Probe {
    /// A program of this name in the PATH.
    Program(&'static str),
    /// A file. Sandboxes of image `host` see only `/usr`, whatever the PATH says.
    File(&'static str),
    /// Modules that `/usr/bin/python3` can import.
    Python(&'static str),
}

impl Probe {
    fn succeeds(&self) -> bool {
        match self {
            Self::Program(name) => {
                let path = env::var_os("PATH").unwrap_or_default();
                env::split_paths(&path).any(|directory| directory.join(name).is_file())
            }
            Self::File(path) => Path::new(path).is_file(),
            Self::Python(modules) => {
                Program::new("/usr/bin/python3").args(["-c", &format!("import {modules}")]).quiet().is_ok()
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Program(name) | Self::File(name) => name,
            Self::Python(_) => "modules of /usr/bin/python3",
        }
    }
}

/// Those that are not there.
pub(crate) fn missing(needs: &[Need]) -> Vec<&Need> {
    needs.iter().filter(|need| !need.probe.succeeds()).collect()
}

/// One line that names what is missing and how to get it.
pub(crate) fn remedy(missing: &[&Need]) -> String {
    let names: Vec<_> = missing.iter().map(|need| need.probe.name()).collect();
    format!(
        "missing {}: run `apt-get install {}` as root, or your system's like",
        names.join(", "),
        packages(missing)
    )
}

/// Installs what is missing where this is root on a machine with apt, else says in one line what to install.
pub(crate) fn install(needs: &[Need]) -> Result<(), String> {
    let lacking = missing(needs);
    if lacking.is_empty() {
        return Ok(());
    }
    if !is_root() || !Probe::Program("apt-get").succeeds() {
        return Err(remedy(&lacking));
    }
    eprintln!("installing {}", packages(&lacking));
    let apt = || Program::new("apt-get").with("DEBIAN_FRONTEND", "noninteractive");
    apt().args(["update", "--quiet"]).quiet().map_err(|error| format!("{}; {error}", remedy(&lacking)))?;
    let names = packages(&lacking);
    apt()
        .args(["install", "--yes", "--quiet", "--no-install-recommends"])
        .args(names.split(' '))
        .quiet()
        .map_err(|error| format!("{}; {error}", remedy(&lacking)))?;
    match missing(needs)[..] {
        [] => Ok(()),
        ref still => Err(remedy(still)),
    }
}

fn packages(missing: &[&Need]) -> String {
    missing.iter().map(|need| need.package).collect::<Vec<_>>().join(" ")
}

fn is_root() -> bool {
    // The owner of this process's own directory in /proc is its effective user.
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}
