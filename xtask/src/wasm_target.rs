//! The wasm32-wasip2 target: rustup's where its server can be reached, else built from Debian's sources of the very
//! same version. Debian's packages are checked by apt against the machine's own keyring; its sources stay untouched.

use crate::program::Program;
use crate::workspace;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

const TARGET: &str = "wasm32-wasip2";
/// Debian's suites that hold `rust-src` in the versions of recent toolchains, and `wasi-libc`.
const SUITES: [&str; 2] = ["trixie-backports", "trixie"];
const DEBIAN_SOURCES: &str = "/etc/apt/sources.list.d/debian.sources";
/// What a component needs of wasi-libc.
const LIBC_FILES: [&str; 3] = ["crt1-command.o", "crt1-reactor.o", "libc.a"];
/// The crate that is built for its dependencies, the standard library.
const EMPTY_CRATE: &str = "harvest_setup_empty";

/// Makes sure that the toolchain has the target.
pub(crate) fn require() -> Result<(), String> {
    let libraries = target_libraries()?;
    if has_std(&libraries) {
        return Ok(());
    }
    let work = workspace::target_directory()?.join("setup");
    fs::create_dir_all(&work).map_err(|error| format!("cannot create {}: {error}", work.display()))?;
    let lock = work.with_extension("lock");
    let locked = File::create(&lock).and_then(|file| file.lock().map(|()| file));
    let _lock = locked.map_err(|error| format!("cannot lock {}: {error}", lock.display()))?;
    if has_std(&libraries) {
        return Ok(());
    }
    eprintln!("adding the target {TARGET}");
    let rustup = Program::new("rustup").args(["target", "add", TARGET]).with("RUST_BACKTRACE", "0").quiet();
    if rustup.is_ok() && has_std(&libraries) {
        return Ok(());
    }
    eprintln!("rustup could not add it; building it from Debian's rust-src");
    let built = build(&work, &libraries);
    // Sources and packages are 0.5 GB and serve no second time.
    let cleaned = fs::remove_dir_all(&work);
    built.map_err(|error| {
        let rustup = rustup.err().unwrap_or_else(|| "it added another toolchain's".to_owned());
        format!("{TARGET} is missing and neither way to it worked. rustup: {rustup}. Debian: {error}")
    })?;
    cleaned.map_err(|error| format!("cannot remove {}: {error}", work.display()))
}

fn target_libraries() -> Result<PathBuf, String> {
    let path = rustc(&["--print", "target-libdir", "--target", TARGET])?;
    Ok(PathBuf::from(path))
}

fn rustc(arguments: &[&str]) -> Result<String, String> {
    // Started at the root: a toolchain file there decides which one it is.
    let output = Program::new("rustc").args(arguments).directory(workspace::root()).quiet()?;
    Ok(output.trim().to_owned())
}

fn has_std(libraries: &Path) -> bool {
    fs::read_dir(libraries).is_ok_and(|entries| {
        entries.filter_map(Result::ok).any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
    })
}

fn build(work: &Path, libraries: &Path) -> Result<(), String> {
    let version = rustc(&["--version"])?;
    let version = version.split(' ').nth(1).ok_or("rustc does not tell its version")?.to_owned();
    let unpacked = fetch(work, &version)?;
    let sysroot = PathBuf::from(rustc(&["--print", "sysroot"])?);
    let source = unpacked.join("usr/src").join(format!("rustc-{version}"));
    let built = {
        let _link = SourceLink::create(&sysroot, &source)?;
        build_std(work)?
    };
    let libc = unpacked.join("usr/lib").join(TARGET);
    place(&built, &libc, libraries)
        .map_err(|error| format!("cannot write the target to {}: {error}", libraries.display()))
}

/// Downloads and unpacks `rust-src` of exactly this version and `wasi-libc`.
fn fetch(work: &Path, version: &str) -> Result<PathBuf, String> {
    let failed = |error: io::Error| format!("cannot prepare {}: {error}", work.display());
    let text = fs::read_to_string(DEBIAN_SOURCES)
        .map_err(|_| format!("this machine has no {DEBIAN_SOURCES}, so it is no recent Debian"))?;
    let mirror = Mirror::read(&text).ok_or_else(|| format!("{DEBIAN_SOURCES} names no mirror of Debian"))?;
    let packages = work.join("packages");
    for directory in ["lists/partial", "cache/archives/partial", "packages"] {
        fs::create_dir_all(work.join(directory)).map_err(failed)?;
    }
    let sources = work.join("debian.list");
    fs::write(&sources, mirror.list(&SUITES)).map_err(failed)?;

    let apt = |program: &str| {
        let option = |name: &str, path: &Path| format!("{name}={}", path.display());
        let options = [
            option("Dir::Etc::sourcelist", &sources),
            "Dir::Etc::sourceparts=-".to_owned(),
            option("Dir::State::lists", &work.join("lists")),
            option("Dir::Cache", &work.join("cache")),
            // apt's own user cannot write below a home directory; what it fetches is checked by signature all the same.
            "APT::Sandbox::User=root".to_owned(),
        ];
        let options = options.into_iter().flat_map(|option| ["-o".to_owned(), option]);
        Program::new(program).args(options).directory(&packages)
    };
    apt("apt-get").args(["update", "--quiet", "--error-on=any"]).quiet()?;
    let offered = apt("apt-cache").args(["madison", "rust-src"]).quiet()?;
    let offered = madison_versions(&offered);
    let Some(exact) = offered.iter().find(|offer| is_version_of(offer, version)) else {
        let offered = if offered.is_empty() { "none".to_owned() } else { offered.join(", ") };
        return Err(format!(
            "this toolchain is {version}, and Debian's rust-src is {offered}; a mismatched one is never built: \
             use a toolchain of that version, or `rustup target add {TARGET}` where rustup's server can be reached"
        ));
    };
    apt("apt-get").args(["download", "--quiet", &format!("rust-src={exact}"), "wasi-libc"]).quiet()?;

    let unpacked = work.join("unpacked");
    for entry in fs::read_dir(&packages).map_err(failed)? {
        let package = entry.map_err(failed)?.path();
        Program::new("dpkg-deb").arg("-x").arg(package).arg(&unpacked).quiet()?;
    }
    Ok(unpacked)
}

/// The versions in the second column of `apt-cache madison`.
fn madison_versions(table: &str) -> Vec<String> {
    let mut versions: Vec<String> = table
        .lines()
        .filter_map(|line| line.split('|').nth(1))
        .map(|version| version.trim().to_owned())
        .collect();
    versions.dedup();
    versions
}

/// Whether Debian's version is that upstream version: `1.95.0+dfsg1-2~bpo13+1` is 1.95.0, `1.95.0~beta.1-1` is not.
fn is_version_of(debian: &str, upstream: &str) -> bool {
    debian.strip_prefix(upstream).is_some_and(|rest| rest.starts_with(['+', '-']))
}

/// Where the machine gets Debian's packages.
#[derive(Debug, PartialEq, Eq)]
struct Mirror {
    uri: String,
    keyring: Option<String>,
}

impl Mirror {
    /// The first stanza of a deb822 file that has one, security suites aside.
    fn read(text: &str) -> Option<Self> {
        text.split("\n\n").find_map(|stanza| {
            let field = |name: &str| {
                let mut lines = stanza.lines().filter(|line| !line.starts_with('#'));
                let value = lines.find_map(|line| {
                    let (key, value) = line.split_once(':')?;
                    key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
                });
                value.filter(|value| !value.is_empty())
            };
            if field("Suites")?.contains("security") || field("Enabled").is_some_and(|value| value == "no") {
                return None;
            }
            let uri = field("URIs")?.split_whitespace().next()?.to_owned();
            // A key may also stand in the file itself, over several lines; then apt's trusted keyrings have to do.
            Some(Self { uri, keyring: field("Signed-By").filter(|path| path.starts_with('/')) })
        })
    }

    /// A sources list of these suites.
    fn list(&self, suites: &[&str]) -> String {
        let keyring = self.keyring.as_ref().map(|path| format!("[signed-by={path}] ")).unwrap_or_default();
        suites.iter().map(|suite| format!("deb {keyring}{} {suite} main\n", self.uri)).collect()
    }
}

/// The toolchain's place for its sources, filled for the time of the build. Sources that are there are left alone.
struct SourceLink(Option<PathBuf>);

impl SourceLink {
    fn create(sysroot: &Path, source: &Path) -> Result<Self, String> {
        let link = sysroot.join("lib/rustlib/src/rust");
        if link.join("library").is_dir() {
            return Ok(Self(None));
        }
        let make = || -> io::Result<()> {
            fs::create_dir_all(sysroot.join("lib/rustlib/src"))?;
            if link.is_symlink() {
                // It leads nowhere.
                fs::remove_file(&link)?;
            }
            std::os::unix::fs::symlink(source, &link)
        };
        make().map_err(|error| format!("cannot link {}: {error}", link.display()))?;
        Ok(Self(Some(link)))
    }
}

impl Drop for SourceLink {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            let _ = fs::remove_file(link);
        }
    }
}

/// Builds the standard library as a dependency of an empty crate and returns where its rlibs are.
fn build_std(work: &Path) -> Result<PathBuf, String> {
    let crate_directory = work.join("empty");
    let target = work.join("built");
    let write = || -> io::Result<()> {
        fs::create_dir_all(crate_directory.join("src"))?;
        fs::write(crate_directory.join("src/lib.rs"), "")?;
        let manifest = format!("[package]\nname = \"{EMPTY_CRATE}\"\nedition = \"2024\"\n\n[workspace]\n");
        fs::write(crate_directory.join("Cargo.toml"), manifest)
    };
    write().map_err(|error| format!("cannot write {}: {error}", crate_directory.display()))?;
    let mut cargo = workspace::cargo();
    for flags in ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
        cargo = cargo.without(flags);
    }
    cargo
        .directory(&crate_directory)
        .args(["build", "--release", "-Zbuild-std=std,panic_abort", "--target", TARGET, "--target-dir"])
        .arg(&target)
        // The rlibs then carry bitcode; without it a guest with `lto = true` cannot be linked.
        .with("CARGO_PROFILE_RELEASE_LTO", "thin")
        .with("RUSTC_BOOTSTRAP", "1")
        .quiet()?;
    Ok(target.join(TARGET).join("release/deps"))
}

/// Puts the target in its place in one step: a toolchain with half of it would be worse than one without.
fn place(built: &Path, libc: &Path, libraries: &Path) -> io::Result<()> {
    let target = libraries.parent().ok_or_else(|| io::Error::other("the sysroot has no such place"))?;
    let partial = target.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    let own = format!("lib{EMPTY_CRATE}-");
    let self_contained = partial.join("lib/self-contained");
    fs::create_dir_all(&self_contained)?;
    for entry in fs::read_dir(built)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".rlib") && !name.starts_with(&own) {
            fs::copy(entry.path(), partial.join("lib").join(name))?;
        }
    }
    for name in LIBC_FILES {
        fs::copy(libc.join(name), self_contained.join(name))?;
    }
    if target.exists() {
        fs::remove_dir_all(target)?;
    }
    fs::rename(&partial, target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_matches_only_itself() {
        let matches = |debian| is_version_of(debian, "1.95.0");
        assert!(matches("1.95.0+dfsg1-2~bpo13+1") && matches("1.95.0-1"));
        assert!(!matches("1.95.0~beta.1-1") && !matches("1.94.1+dfsg1-1") && !matches("1.95.01-1"));
    }

    #[test]
    fn the_machines_own_mirror_and_keyring_are_used() {
        let text = "\
Types: deb
URIs: https://mirror.example/debian-security
Suites: bookworm-security
Signed-By: /keys/security.gpg

Types: deb
# A comment: with a colon
URIs: https://mirror.example/debian
Suites: bookworm bookworm-updates
Signed-By: /keys/debian.gpg
";
        let mirror = Mirror::read(text).unwrap();
        assert_eq!(
            mirror.list(&SUITES),
            "deb [signed-by=/keys/debian.gpg] https://mirror.example/debian trixie-backports main\n\
             deb [signed-by=/keys/debian.gpg] https://mirror.example/debian trixie main\n"
        );
        assert_eq!(Mirror::read("Types: deb\nSuites: x\n"), None);
    }

    #[test]
    fn madison_lists_versions() {
        let table = " rust-src | 1.95.0+dfsg1-2 | https://mirror.example a/main\n rust-src | 1.85.0-1 | b\n";
        assert_eq!(madison_versions(table), ["1.95.0+dfsg1-2", "1.85.0-1"]);
    }
}
