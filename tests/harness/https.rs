//! A real HTTPS server of repositories, with an authority of its own.
#![allow(dead_code, reason = "each test file uses a part of it")]

use super::repository::git;
use harvest::id::RunId;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

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
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/harness/server.py");
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
