//! Modal's Python client in an environment of its own, installed once into the target directory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The system's own, 3.11 or newer, which has the modules that it takes.
const INTERPRETER: &str = "/usr/bin/python3";
const REQUIREMENTS: &str = include_str!("requirements.txt");

/// The Python that has the client. Processes that ask at the same time wait for the first.
pub(crate) fn python() -> PathBuf {
    // Another version of the interpreter needs other archives.
    let interpreter = fs::canonicalize(INTERPRETER).unwrap();
    let digest = harvest::id::Digest::of(format!("{REQUIREMENTS}{}", interpreter.display()).as_bytes()).hex();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("modal-client-{}", &digest[..12]));
    let python = directory.join("bin/python");
    let whole = directory.join("whole");
    if !whole.exists() {
        let lock = File::create(directory.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        if !whole.exists() {
            run(Command::new(INTERPRETER).args(["-m", "venv", "--clear"]).arg(&directory));
            let requirements = directory.join("requirements.txt");
            fs::write(&requirements, REQUIREMENTS).unwrap();
            let options = ["install", "--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:"];
            run(Command::new(&python).args(["-m", "pip"]).args(options).arg("-r").arg(&requirements));
            fs::write(whole, "").unwrap();
        }
    }
    python
}

fn run(command: &mut Command) {
    let output = command.env("PIP_DISABLE_PIP_VERSION_CHECK", "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?} failed: {said} (python3 needs its modules venv and ensurepip)"
    );
}
