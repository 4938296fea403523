//! What the agent did to the repository, asked of git in the sandbox.

use crate::harvest::sandbox::types::{Error, ExecOptions, Exit, Output, Sandbox};

/// Milliseconds that one git command may take.
const GIT_TIMEOUT_MS: u64 = 60_000;
/// Bytes of output that are read.
const OUTPUT_MAX: usize = 64 << 10;

/// Whether the tree at `cwd` is dirty or its HEAD is not the cloned commit, which `git/clone` keeps as
/// `refs/harvest/base`; `before` stands in where there is no such ref.
pub fn changed(sandbox: &Sandbox, cwd: &str, before: Option<&str>) -> Result<bool, Error> {
    let head = rev_parse(sandbox, cwd, "HEAD")?;
    let base = rev_parse(sandbox, cwd, "refs/harvest/base")?;
    if head.as_deref() != base.as_deref().or(before) {
        return Ok(true);
    }
    let status = git(sandbox, cwd, &["status", "--porcelain"])?;
    Ok(status.is_some_and(|status| !status.is_empty()))
}

/// The commit behind a name, none where there is no repository or no such name.
pub fn rev_parse(sandbox: &Sandbox, cwd: &str, name: &str) -> Result<Option<String>, Error> {
    let commit = format!("{name}^{{commit}}");
    git(sandbox, cwd, &["rev-parse", "--quiet", "--verify", &commit])
}

/// The output of a git command, none where it failed.
fn git(sandbox: &Sandbox, cwd: &str, arguments: &[&str]) -> Result<Option<String>, Error> {
    let command = ["git", "-C", cwd].iter().chain(arguments).map(|part| (*part).to_owned()).collect();
    let options =
        ExecOptions { command, env: vec![], secrets: vec![], workdir: None, stdin: false, tee: false };
    let process = sandbox.exec(&options)?;
    let mut text = Vec::new();
    loop {
        match process.next(Some(GIT_TIMEOUT_MS))? {
            Output::Stdout(bytes) if text.len() < OUTPUT_MAX => text.extend_from_slice(&bytes),
            Output::Stdout(_) | Output::Stderr(_) => {}
            Output::Idle => return Err(Error::TimedOut("git took too long in the sandbox".into())),
            Output::End => break,
        }
    }
    let ended = process.wait(Some(GIT_TIMEOUT_MS))?;
    Ok(matches!(ended, Exit::Code(0)).then(|| String::from_utf8_lossy(&text).trim().to_owned()))
}
