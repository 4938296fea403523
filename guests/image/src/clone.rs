//! A clone laid out on an image. The host fetches, with the credential; git in the sandbox sees a bundle and no network.

use crate::Error;
use crate::harvest::git::repositories::Repository;
use crate::harvest::sandbox::images;
use crate::harvest::sandbox::types::{ExecOptions, Exit, Output, Sandbox};
use crate::harvest::streams::streams;

/// Where clones are, as with `git/clone`.
const PARENT: &str = "/workspace";
/// Most of a complaint quoted in an error, in bytes.
const QUOTED: usize = 2 << 10;

/// Arguments: the tree, the bundle, the URL, the commit.
const LAY_OUT: &str = r#"
rm -rf -- "$1"
git -c init.defaultBranch=main init -q -- "$1"
# Where history is cut, git must know before it looks at what the bundle holds.
test ! -e "$2.shallow" || mv -- "$2.shallow" "$1/.git/shallow"
cd -- "$1"
git fetch -q --no-tags -- "$2" +refs/heads/harvest-base:refs/harvest/base
git config remote.origin.url "$3"
git config remote.origin.fetch '+refs/heads/*:refs/remotes/origin/*'
git checkout -q --detach "$4"
rm -f -- "$2"
"#;

/// Where the clone of a repository is.
pub(crate) fn directory(repository: &Repository) -> String {
    format!("{PARENT}/{}", repository.name())
}

/// An image with a clone on it. `base` is the id of an image, `sha` the commit.
pub(crate) fn image(base: &str, repo: &str, repository: &Repository, sha: &str) -> Result<String, Error> {
    streams::progress(&format!("fetching {}", repository.identity()));
    repository.fetch(Some(sha), None)?;
    let sandbox = images::workbench(base)?;
    let bundle = format!("{PARENT}/.harvest-bundle");
    repository.send(&sandbox, sha, &bundle)?;
    streams::progress("checking out");
    run(
        &sandbox,
        &["sh", "-ec", LAY_OUT, "sh", &directory(repository), &bundle, &origin(repo, repository), sha],
    )?;
    sandbox.snapshot()
}

/// The URL for people and programs in the sandbox; never holds a credential, since a repository's name cannot.
fn origin(repo: &str, repository: &Repository) -> String {
    if repo.contains("://") || repo.starts_with('/') {
        return repo.to_owned();
    }
    let identity = repository.identity();
    if identity.starts_with('/') { identity } else { format!("https://{identity}.git") }
}

/// Runs a command to its end.
fn run(sandbox: &Sandbox, words: &[&str]) -> Result<(), Error> {
    let process = sandbox.exec(&ExecOptions {
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        env: vec![("LC_ALL".into(), "C".into()), ("GIT_TERMINAL_PROMPT".into(), "0".into())],
        secrets: Vec::new(),
        workdir: None,
        stdin: false,
        tee: true,
    })?;
    let mut said = Vec::new();
    loop {
        match process.next(None)? {
            Output::Stdout(bytes) | Output::Stderr(bytes) => said.extend(bytes),
            Output::Idle => {}
            Output::End => break,
        }
        if said.len() > 4 * QUOTED {
            said.drain(..said.len() - 2 * QUOTED);
        }
    }
    let code = match process.wait(None)? {
        Exit::Code(0) => return Ok(()),
        Exit::Code(code) => code,
        Exit::Signal(signal) => 128 + signal,
    };
    let said = &said[said.len().saturating_sub(QUOTED)..];
    let said = String::from_utf8_lossy(said);
    let what = if code == 127 { "; is git in the image?" } else { "" };
    Err(Error::Other(format!("cannot check out the clone (exit code {code}{what}): {}", said.trim())))
}
