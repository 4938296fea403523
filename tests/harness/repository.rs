//! Real repositories, made and read as a person would.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs git as a person would, without their configuration.
pub(crate) fn git(directory: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(directory)
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .envs([
            ("GIT_CONFIG_COUNT", "3"),
            ("GIT_CONFIG_KEY_0", "safe.directory"),
            ("GIT_CONFIG_VALUE_0", "*"),
        ])
        .envs([("GIT_CONFIG_KEY_1", "init.defaultBranch"), ("GIT_CONFIG_VALUE_1", "main")])
        .envs([("GIT_CONFIG_KEY_2", "core.hooksPath"), ("GIT_CONFIG_VALUE_2", "/dev/null")])
        .envs([("GIT_AUTHOR_NAME", "Ann"), ("GIT_AUTHOR_EMAIL", "ann@example.com")])
        .envs([("GIT_COMMITTER_NAME", "Ann"), ("GIT_COMMITTER_EMAIL", "ann@example.com")])
        .output()
        .expect("git runs");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A repository with three commits on `main`, a branch `develop` and an annotated tag `v1`.
pub(crate) fn sample(path: &Path) -> PathBuf {
    std::fs::create_dir_all(path).unwrap();
    git(path, &["init", "-q"]);
    for number in 1..=3 {
        std::fs::write(path.join("file.txt"), format!("{number}\n")).unwrap();
        git(path, &["add", "-A"]);
        git(path, &["commit", "-qm", &format!("commit {number}")]);
    }
    git(path, &["branch", "develop", "HEAD~1"]);
    git(path, &["tag", "-a", "-m", "first", "v1", "HEAD~2"]);
    path.to_owned()
}
