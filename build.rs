//! Builds the components under `guests/` and hands them to the crate: `HARVEST_GUEST_<NAME>` holds the path of each,
//! `OUT_DIR/guests.rs` a table of their names and bytes. Each is given what its WIT says of it, which the compiler drops.
//! The messages under `proto/` become Rust.
//! Downloads nothing but their crates, installs nothing.

#[path = "build/docs.rs"]
mod docs;
#[path = "build/messages.rs"]
mod messages;

use std::env;
use std::ffi::OsStr;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-wasip2";

fn main() {
    if let Err(message) = build() {
        println!("cargo::error={message}");
    }
}

fn build() -> Result<(), String> {
    let root = path_variable("CARGO_MANIFEST_DIR")?;
    let out = path_variable("OUT_DIR")?;
    let guests = root.join("guests");
    let names = guest_names(&guests)?;
    watch(&root, &names);
    link_in_place();
    messages::generate(&root.join("proto"), &out)?;
    require_target()?;

    let target_dir = shared_target_dir(&out)?;
    compile(&guests, &target_dir)?;

    let mut table = String::from(
        "/// The components that are part of harvest, by name.\npub const GUESTS: &[(&str, &[u8])] = &[\n",
    );
    for name in &names {
        let built = target_dir.join(TARGET).join("release").join(format!("{name}.wasm"));
        let kept = out.join(format!("{name}.wasm"));
        let bytes = fs::read(&built).map_err(|error| format!("cannot read {}: {error}", built.display()))?;
        let described = docs::embed(bytes, &guests.join(name).join("wit"), &root.join("wit"))
            .map_err(|error| format!("component {name}: {error}"))?;
        keep(&described, &kept)?;
        println!("cargo::rustc-env=HARVEST_GUEST_{}={}", name.to_ascii_uppercase(), kept.display());
        writeln!(table, "    ({name:?}, include_bytes!({:?})),", kept.display().to_string())
            .map_err(|error| error.to_string())?;
    }
    table.push_str("];\n");
    fs::write(out.join("guests.rs"), table)
        .map_err(|error| format!("cannot write guests.rs in OUT_DIR: {error}"))
}

/// Lets the linker give the binary its place in memory. Each sandbox has two processes of this binary; one that is placed
/// at its start writes to a megabyte of its own pages before it does anything, in each of them.
fn link_in_place() {
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo::rustc-link-arg-bin=harvest=-no-pie");
    }
}

/// Names of the packages under `guests/`, sorted; package and directory have the same name.
fn guest_names(guests: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(guests).map_err(|error| format!("cannot list guests/: {error}"))?;
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join("Cargo.toml").is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

/// Names the files that decide what the guests are. Not `guests/` itself: a target directory there would make every
/// build a new one.
fn watch(root: &Path, names: &[String]) {
    for file in ["build.rs", "build", "wit", "guests/Cargo.toml", "guests/Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(file).display());
    }
    for name in names {
        for file in ["Cargo.toml", "src", "wit"] {
            let path = root.join("guests").join(name).join(file);
            // Cargo takes a missing file for a changed one.
            if path.exists() {
                println!("cargo::rerun-if-changed={}", path.display());
            }
        }
    }
}

/// Cargo would say "can't find crate for `core`" once per crate; one line with the remedy is better.
fn require_target() -> Result<(), String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .map_err(|error| format!("cannot run rustc: {error}"))?;
    let libraries = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let has_std = fs::read_dir(&libraries).is_ok_and(|entries| {
        entries.filter_map(Result::ok).any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
    });
    if has_std {
        return Ok(());
    }
    // Cargo looks at this build script again only when a file that it named changes, so it names the missing one.
    println!("cargo::rerun-if-changed={}", libraries.display());
    Err(format!("target {TARGET} is missing: run `rustup target add {TARGET}` or `cargo xtask setup`"))
}

/// One directory for debug and release builds of the host, since the guests are the same in both.
fn shared_target_dir(out: &Path) -> Result<PathBuf, String> {
    // OUT_DIR is <target>[/<triple>]/<profile>/build/<package>-<hash>/out.
    let target = out.ancestors().nth(4).ok_or("OUT_DIR is not inside a target directory")?;
    let triple = env::var_os("TARGET").unwrap_or_default();
    let target = match target.parent() {
        Some(parent) if target.file_name() == Some(&triple) => parent,
        _ => target,
    };
    Ok(target.join("guests"))
}

fn compile(guests: &Path, target_dir: &Path) -> Result<(), String> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--release", "--target", TARGET, "--manifest-path"])
        .arg(guests.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target_dir);
    // What was set for the host's build must not reach the guests': flags for another machine, clippy as compiler,
    // profiles, coverage.
    for (name, _) in env::vars_os() {
        if meant_for_the_host(&name) {
            cargo.env_remove(name);
        }
    }
    let output = cargo.output().map_err(|error| format!("cannot run cargo for guests/: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    // Cargo shows what a build script prints only where it is an error of its own, line by line.
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines().for_each(|line| println!("cargo::error={line}"));
    Err("the components under guests/ do not build; cargo's messages are above".to_owned())
}

fn meant_for_the_host(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    const EXACT: [&str; 9] = [
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_ENCODED_RUSTDOCFLAGS",
        "CARGO_TARGET_DIR",
        "CLIPPY_ARGS",
        "LLVM_PROFILE_FILE",
    ];
    const PREFIXES: [&str; 5] =
        ["CARGO_PROFILE_", "CARGO_BUILD_", "CARGO_FEATURE_", "CARGO_CFG_", "CARGO_TARGET_"];
    EXACT.contains(&name.as_ref()) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Keeps a component beside the crate's other generated files, so that a later build of the guests cannot change what
/// is being embedded. An equal one is left alone, which keeps its time and saves a rebuild.
fn keep(bytes: &[u8], kept: &Path) -> Result<(), String> {
    if fs::read(kept).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::write(kept, bytes).map_err(|error| format!("cannot write {}: {error}", kept.display()))
}

fn path_variable(name: &str) -> Result<PathBuf, String> {
    env::var_os(name).map(PathBuf::from).ok_or_else(|| format!("cargo did not set {name}"))
}
