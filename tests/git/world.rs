//! Real repositories, a real HTTPS server with its own authority, and the home of a host.

use harvest::capability::git::{GitProvider as _, LocalGit, Repository};
use harvest::capability::secret::Secret;
use harvest::id::RunId;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

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

/// The host's side: a home, a run, and a provider on it.
pub(crate) struct Host {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) run: RunId,
    pub(crate) provider: LocalGit,
}

impl Host {
    pub(crate) fn new(environment: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut all = BTreeMap::from([("PATH".to_owned(), std::env::var("PATH").unwrap())]);
        all.extend(environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let provider = LocalGit::new(&directory.path().join("home"), all).unwrap();
        Self { provider, run: RunId::generate(), directory }
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// A path beside the home.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join(name)
    }

    pub(crate) async fn open(&self, repo: &str) -> Arc<dyn Repository> {
        self.provider.open(&self.run, repo, None).await.unwrap()
    }

    pub(crate) async fn open_with(&self, repo: &str, token: &str) -> Arc<dyn Repository> {
        self.provider.open(&self.run, repo, Some(Secret::new("token", token))).await.unwrap()
    }
}

/// `git http-backend` behind TLS.
pub(crate) struct Server {
    child: Child,
    directory: tempfile::TempDir,
    pub(crate) base: String,
}

impl Server {
    /// Serves the bare repositories that it is given; `password` opens those under `/private`.
    pub(crate) fn start(password: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let mut authority = rcgen::CertificateParams::new([]).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        // Certificates are looked up by name, so each server's authority needs its own.
        authority.distinguished_name.push(rcgen::DnType::CommonName, RunId::generate().to_string());
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let certificate = authority.self_signed(&authority_key).unwrap();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        std::fs::write(path("ca.pem"), certificate.pem()).unwrap();
        std::fs::write(path("leaf.pem"), leaf.pem()).unwrap();
        std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
        std::fs::create_dir(path("root")).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/git/server.py");
        let mut child = Command::new("python3")
            .arg(script)
            .args(["root", "leaf.pem", "key.pem", "log"].map(path))
            .env("PASSWORD", password)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let base = format!("https://127.0.0.1:{}", port.trim());
        Self { child, directory, base }
    }

    pub(crate) fn authority(&self) -> String {
        self.directory.path().join("ca.pem").to_str().unwrap().to_owned()
    }

    /// Publishes a bare copy of `source` as `name`.
    pub(crate) fn publish(&self, source: &Path, name: &str) -> PathBuf {
        let target = self.directory.path().join("root").join(name);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        git(source, &["clone", "-q", "--bare", ".", target.to_str().unwrap()]);
        target
    }

    /// The requests so far, one JSON object each.
    pub(crate) fn requests(&self) -> Vec<serde_json::Value> {
        std::fs::read_to_string(self.directory.path().join("log"))
            .unwrap_or_default()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every file below `directory` that holds `text`.
pub(crate) fn files_with(directory: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if let Ok(bytes) = std::fs::read(&path)
            && bytes.windows(text.len()).any(|window| window == text.as_bytes())
        {
            found.push(path);
        }
    }
    found
}
