//! Modules may import only what this table says, so dependencies point one way.

use std::fs;
use std::path::{Path, PathBuf};

/// Each top-level module with the modules it may name as `crate::module`.
const ALLOWED: &[(&str, &[&str])] = &[
    ("id", &[]),
    ("network", &[]),
    ("isolation", &[]),
    ("bell", &["id"]),
    ("config", &["workflow"]),
    ("step", &["id", "network"]),
    ("workflow", &["id", "network", "isolation", "step"]),
    ("run", &["id", "step", "workflow"]),
    ("journal", &["id", "bell"]),
    ("engine", &["id", "step", "workflow", "run", "journal"]),
    ("capability", &["id", "step", "network", "isolation", "bell"]),
    ("host", &["id", "step", "network", "isolation", "capability", "workflow"]),
    (
        "app",
        &["id", "step", "isolation", "config", "workflow", "run", "journal", "engine", "host", "capability"],
    ),
    ("lsp", &["step", "workflow"]),
    ("server", &["app"]),
    ("cli", &["id", "config", "workflow", "run", "journal", "engine", "capability", "app", "lsp", "server"]),
];

/// Crates that only these modules may name.
const RESERVED: &[(&str, &[&str])] = &[
    ("wasmtime", &["host"]),
    ("saphyr", &["workflow"]),
    ("rusqlite", &["journal", "capability"]),
    ("sled", &["journal"]),
    ("petgraph", &["workflow"]),
    ("bollard", &["capability"]),
    ("tonic", &["capability"]),
    ("prost", &["capability"]),
    ("lsp_types", &["lsp"]),
];

#[test]
fn imports_follow_the_table() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut faults = Vec::new();
    for file in rust_files(&src) {
        let module = top_level(&src, &file);
        // Tests may build what the module itself is only handed.
        let for_tests = file.file_name().is_some_and(|name| name == "tests.rs");
        if module == "lib" || module == "main" || for_tests {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let place = |line: usize| format!("{}:{line}", file.strip_prefix(&src).unwrap().display());
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == module) else {
            faults.push(format!("{}: module `{module}` has no row in the table", place(1)));
            continue;
        };
        for (line, target) in named_modules(&text) {
            if target != module && !allowed.contains(&target.as_str()) {
                faults.push(format!("{}: `{module}` must not import `{target}`", place(line)));
            }
        }
        for (name, owners) in RESERVED {
            let named = text.lines().position(|line| code(line).contains(&format!("{name}::")));
            if let Some(line) = named.filter(|_| !owners.contains(&module.as_str())) {
                faults.push(format!("{}: only {owners:?} may name `{name}`", place(line + 1)));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The pure modules reach no world: no clock, no randomness, no I/O, no async.
#[test]
fn the_core_has_no_world() {
    const WORLD: &[&str] = &[
        "std::fs",
        "std::net",
        "std::process",
        "std::env",
        "std::thread",
        "tokio::",
        "::now()",
        "async fn",
        ".await",
    ];
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut faults = Vec::new();
    for file in rust_files(&src).iter().filter(|file| ["workflow", "run"].contains(&&*top_level(&src, file)))
    {
        // Tests read their case count from the environment, and may measure.
        let in_tests =
            file.components().any(|part| ["tests", "tests.rs"].iter().any(|name| part.as_os_str() == *name));
        if in_tests || file.components().any(|part| part.as_os_str() == "simulation") {
            continue;
        }
        let text = fs::read_to_string(file).unwrap();
        let shipped = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for (number, line) in (1..).zip(shipped.lines()) {
            if let Some(word) = WORLD.iter().find(|word| code(line).contains(**word)) {
                faults.push(format!("{}:{number}: `{word}` in the pure core", file.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn top_level(src: &Path, file: &Path) -> String {
    let first = file.strip_prefix(src).unwrap().iter().next().unwrap();
    first.to_str().unwrap().trim_end_matches(".rs").to_owned()
}

fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Every module named as `crate::module`, with its line; comments are skipped.
fn named_modules(text: &str) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for rest in code(line).split("crate::").skip(1) {
            let name: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            if !name.is_empty() {
                named.push((number, name));
            }
        }
    }
    named
}
