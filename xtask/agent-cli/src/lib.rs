//! What the agent image holds: the Claude Code CLI (a native binary) and MCP servers, in the versions that
//! `npm/package-lock.json` pins with the integrity of every package. Fetched once into the user's cache. For the demo
//! and the tests; the harvest binary must never fetch anything of this.

use sha2::{Digest, Sha256};
use std::env;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Version of the Claude Code CLI.
pub const CLAUDE_VERSION: &str = "2.1.330";

const MANIFEST: &str = include_str!("../npm/package.json");
const LOCK: &str = include_str!("../npm/package-lock.json");
/// Changed whenever the layout below does.
const LAYOUT: &str = "2";
/// Installations of other pins that stay in the cache, since another clone may be using them; 0.5 GB each.
const MAX_OTHERS_KEPT: usize = 1;

/// MCP servers: the program in `bin/`, and what node runs for it below `node_modules/`.
const SERVERS: [(&str, &str); 6] = [
    ("mcp-server-memory", "@modelcontextprotocol/server-memory/dist/index.js"),
    ("mcp-server-filesystem", "@modelcontextprotocol/server-filesystem/dist/index.js"),
    ("playwright-mcp", "@playwright/mcp/cli.js"),
    ("chrome-devtools-mcp", "chrome-devtools-mcp/build/src/bin/chrome-devtools-mcp.js"),
    ("gemini-mcp", "@houtini/gemini-mcp/dist/cli.js"),
    ("sentry-mcp", "@sentry/mcp-server/dist/index.js"),
];

/// A complete installation, ready to be copied into an image as a directory of any name.
///
/// `bin/` belongs into the PATH. It holds `claude`, the MCP servers and, where the machine's node is outside
/// `/usr`, `node`: a sandbox of image `host` sees only `/usr`. There are no symbolic links in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentCli {
    /// The installation.
    pub directory: PathBuf,
    /// `bin/claude`, which needs nothing else.
    pub claude: PathBuf,
    /// `bin/mcp-server-memory`, which needs `node` in the PATH.
    pub memory_server: PathBuf,
    /// The machine's node.
    pub node: PathBuf,
}

impl AgentCli {
    /// Makes `place` a symbolic link to the installation, for image definitions that name it by a path of the clone.
    /// Errors are one line.
    pub fn link(&self, place: &Path) -> Result<(), String> {
        if fs::read_link(place).is_ok_and(|target| target == self.directory) {
            return Ok(());
        }
        let make = || {
            fs::create_dir_all(place.parent().unwrap_or(Path::new("/")))?;
            // Renamed into place, so that the name never is without a target.
            let fresh = place.with_extension(format!("new-{}", std::process::id()));
            std::os::unix::fs::symlink(&self.directory, &fresh)?;
            fs::rename(&fresh, place)
        };
        make().map_err(|error: std::io::Error| format!("cannot link {}: {error}", place.display()))
    }
}

/// Returns the installation, which is fetched by npm where the cache (`$XDG_CACHE_HOME/harvest/agent-cli`) has none:
/// 180 MB, half a minute. Processes that ask at the same time wait for the first. Errors are one line with the remedy.
pub fn agent_cli() -> Result<AgentCli, String> {
    let node = node()?;
    let cache = cache_root()?.join("harvest").join("agent-cli");
    let directory = cache.join(format!("{CLAUDE_VERSION}-{}", digest(&node)));
    if !directory.is_dir() {
        fs::create_dir_all(&cache).map_err(|error| format!("cannot create {}: {error}", cache.display()))?;
        let lock = File::create(cache.join("lock")).and_then(|file| file.lock().map(|()| file));
        let _lock = lock.map_err(|error| format!("cannot lock {}: {error}", cache.display()))?;
        if !directory.is_dir() {
            install(&cache, &directory, &node)?;
            prune(&cache, &directory);
        }
    }
    Ok(AgentCli {
        claude: directory.join("bin/claude"),
        memory_server: directory.join("bin/mcp-server-memory"),
        directory,
        node,
    })
}

/// The real node, not a version manager's shim.
fn node() -> Result<PathBuf, String> {
    let output = Command::new("node").args(["-p", "process.execPath"]).output();
    match output {
        Ok(output) if output.status.success() => {
            Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
        }
        _ => {
            Err("node is missing: install Node.js 18 or newer with npm (Debian: apt-get install npm)".into())
        }
    }
}

fn cache_root() -> Result<PathBuf, String> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache"))).ok_or_else(|| {
        "set HOME or XDG_CACHE_HOME: the Claude Code CLI is kept in the cache directory".into()
    })
}

/// Names everything that makes an installation what it is.
fn digest(node: &Path) -> String {
    let node = if must_be_copied(node) { node.to_string_lossy() } else { "".into() };
    let mut hash = Sha256::new();
    for part in [LAYOUT, MANIFEST, LOCK, &node] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hex::encode(&hash.finalize()[..6])
}

fn must_be_copied(node: &Path) -> bool {
    !node.starts_with("/usr")
}

/// Installs beside the final place and renames: what has the name is whole.
fn install(cache: &Path, directory: &Path, node: &Path) -> Result<(), String> {
    let staging = cache.join("staging");
    let failed = |error: std::io::Error| format!("cannot install into {}: {error}", staging.display());
    if staging.exists() {
        fs::remove_dir_all(&staging).map_err(failed)?;
    }
    let bin = staging.join("bin");
    fs::create_dir_all(&bin).map_err(failed)?;
    fs::write(staging.join("package.json"), MANIFEST).map_err(failed)?;
    fs::write(staging.join("package-lock.json"), LOCK).map_err(failed)?;

    // No scripts of packages run, and npm's own cache is not filled with what is used once.
    let npm_cache = staging.join("npm-cache");
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-bin-links", "--no-audit", "--no-fund", "--loglevel=error"])
        .arg("--cache")
        .arg(&npm_cache)
        .current_dir(&staging);
    run(&mut npm, "npm is missing: install Node.js 18 or newer with npm (Debian: apt-get install npm)")?;
    fs::remove_dir_all(&npm_cache).map_err(failed)?;

    let package = format!("node_modules/@anthropic-ai/claude-code-linux-{}", architecture()?);
    let native = staging.join(package).join("claude");
    if !native.is_file() {
        // npm skips an optional package that it cannot get, and exits with 0.
        return Err(format!(
            "npm could not fetch Claude Code {CLAUDE_VERSION}: check the network and npm's registry setting"
        ));
    }
    let claude = bin.join("claude");
    fs::rename(native, &claude).map_err(failed)?;
    for (name, script) in SERVERS {
        if !staging.join("node_modules").join(script).is_file() {
            return Err(format!("npm fetched no {script}"));
        }
        // Finds its own directory, so that the installation can be copied anywhere.
        let start = format!("#!/bin/sh\nexec node \"$(dirname \"$0\")/../node_modules/{script}\" \"$@\"\n");
        fs::write(bin.join(name), start).map_err(failed)?;
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).map_err(failed)?;
    }
    if must_be_copied(node) {
        fs::copy(node, bin.join("node")).map_err(failed)?;
    }
    let version = run(Command::new(&claude).arg("--version"), "the Claude Code CLI does not start")?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    if !version.starts_with(CLAUDE_VERSION) {
        return Err(format!("npm fetched Claude Code {version} in place of {CLAUDE_VERSION}"));
    }
    fs::rename(&staging, directory).map_err(failed)
}

fn architecture() -> Result<&'static str, String> {
    match env::consts::ARCH {
        "x86_64" => Ok("x64"),
        "aarch64" => Ok("arm64"),
        other => {
            Err(format!("the Claude Code CLI does not exist for {other}: use an x86_64 or aarch64 machine"))
        }
    }
}

fn run(command: &mut Command, missing: &str) -> Result<Output, String> {
    let output = command.output().map_err(|error| format!("{missing} ({error})"))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    Err(format!("{:?} failed ({}): {said}", command.get_program(), output.status))
}

/// Removes installations of other pins but the newest. Failing to is no reason to stop.
fn prune(cache: &Path, current: &Path) {
    let Ok(entries) = fs::read_dir(cache) else { return };
    let mut others: Vec<_> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.is_dir() && path != current)
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .collect();
    others.sort();
    others.reverse();
    for (_, path) in others.into_iter().skip(MAX_OTHERS_KEPT) {
        let _ = fs::remove_dir_all(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Outside of this machine the same packages are installed by name.
    #[test]
    fn the_image_for_modal_has_the_same_versions() {
        let definition = include_str!("../../../images/agent.yaml");
        let pins = MANIFEST.lines().filter_map(|line| line.trim().trim_end_matches(',').split_once("\": \""));
        let packages = pins.filter(|(name, _)| name.contains("mcp") || name.contains("modelcontextprotocol"));
        let mut count = 0;
        for (name, version) in packages {
            let pin = format!(" {}@{}", name.trim_start_matches('"'), version.trim_end_matches('"'));
            assert!(definition.contains(&pin), "{pin}");
            count += 1;
        }
        assert_eq!(count, SERVERS.len());
        assert!(definition.contains(&format!("@anthropic-ai/claude-code@{CLAUDE_VERSION}")));
    }

    #[test]
    fn the_manifest_pins_the_version() {
        for architecture in ["x64", "arm64"] {
            let pin = format!("\"@anthropic-ai/claude-code-linux-{architecture}\": \"{CLAUDE_VERSION}\"");
            assert!(MANIFEST.contains(&pin), "{pin}");
        }
    }

    #[test]
    fn the_lock_has_the_integrity_of_every_package_and_names_no_registry() {
        let packages = LOCK.matches("\"node_modules/").count();
        assert_eq!(LOCK.matches("\"integrity\": \"sha512-").count(), packages);
        assert!(!LOCK.contains("\"resolved\""));
    }

    #[test]
    fn an_installation_is_whole() {
        let agent = agent_cli().unwrap();
        let version = Command::new(&agent.claude).arg("--version").output().unwrap();
        assert!(String::from_utf8_lossy(&version.stdout).starts_with(CLAUDE_VERSION));
        assert!(SERVERS.iter().all(|(name, _)| agent.directory.join("bin").join(name).is_file()));
        assert!(agent.memory_server.is_file() && agent.node.is_file());
        assert_eq!(agent_cli().unwrap(), agent);
    }
}
