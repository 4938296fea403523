//! Which conversation a prompt belongs to, and what was said in it: the CLI's transcript. It lies in the sandbox, and a
//! copy in the component's own store, so that a conversation goes on where its sandbox is gone.
//!
//! What a transcript holds was written in a sandbox. It is never read here, only put into a sandbox again.

use crate::command;
use crate::harvest::run::run::current;
use crate::harvest::sandbox::store::{self, Expectation};
use crate::harvest::sandbox::types::{Error, ExecOptions, Exit, Output, Sandbox};
use crate::harvest::streams::streams::{self, Level};

/// The volume of transcripts, after the component's own prefix.
const VOLUME: &str = "transcripts";
/// Bytes of a transcript that can be kept in the store: most that it hands out again.
const STORED_MAX: usize = 16 << 20;
/// Bytes of all transcripts in the store. Those of conversations that nobody went on with for longest go first.
const ALL_STORED_MAX: u64 = 2 << 30;
/// Bytes of a transcript that can be kept as an artifact.
const ARTIFACT_MAX: u64 = 64 << 20;
/// Bytes of a path.
const PATH_MAX: usize = 4 << 10;
/// Milliseconds for small commands in the sandbox.
const LOOK_MS: u64 = 30_000;
/// The media type of a transcript: one JSON value a line.
const MEDIA_TYPE: &str = "application/jsonl";

/// A conversation that is to be begun, or gone on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// Its id, a UUID.
    pub id: String,
    /// Whether it has a transcript in the sandbox to go on from.
    pub resumes: bool,
}

/// The conversation that a step asks for. `resume` names one that there must be, `named` one that begins where there is
/// none yet; without either it is the step's own, which an earlier attempt may have begun.
pub fn find(
    sandbox: &Sandbox,
    cwd: &str,
    resume: Option<String>,
    named: Option<String>,
) -> Result<Conversation, Error> {
    // A workflow's input without a text means that nothing was asked for.
    let given = |id: Option<String>| id.filter(|id| !id.is_empty());
    let (id, must_be) = match (given(resume), given(named)) {
        (Some(_), Some(_)) => {
            return Err(Error::Invalid(
                "`resume` goes on with a conversation that there is, `session_id` names one that may be new: give one of them"
                    .into(),
            ));
        }
        (Some(id), None) => (id, true),
        (None, Some(id)) => (id, false),
        (None, None) => (command::session_id(&current().idempotency_key), false),
    };
    if !is_uuid(&id) {
        return Err(Error::Invalid(format!(
            "{id:?} is no id of a conversation, which is a UUID in lower case"
        )));
    }
    let resumes = transcript(sandbox, &id)?.is_some() || restore(sandbox, cwd, &id)?;
    if must_be && !resumes {
        return Err(Error::NotFound(format!(
            "there is no transcript of the conversation {id}: where it was kept elsewhere, put it in place with `harvest volume put harvest-claude-{VOLUME} {id}.jsonl FILE`"
        )));
    }
    Ok(Conversation { id, resumes })
}

/// Keeps the transcript beyond the sandbox. What cannot be kept is told and fails nothing: the answer is there.
pub fn keep(sandbox: &Sandbox, id: &str) {
    let read = transcript(sandbox, id)
        .and_then(|path| path.map(|path| sandbox.read_file(&path, ARTIFACT_MAX)).transpose());
    let content = match read {
        Ok(Some(content)) => content,
        Ok(None) => return,
        Err(why) => return not_kept(&format!("{why:?}")),
    };
    // Steps of one run may go on with one conversation, and each item of a loop has its own.
    let name = format!("transcript-{}-{}.jsonl", current().step, id.get(..8).unwrap_or(id));
    if let Err(why) = streams::artifact(&name, MEDIA_TYPE, &content) {
        not_kept(&why);
    }
    if content.len() > STORED_MAX {
        return not_kept(&format!(
            "it has more than {} MiB, so the conversation cannot go on without this sandbox",
            STORED_MAX >> 20
        ));
    }
    if let Err(why) = store::put(VOLUME, &file(id), &content, &Expectation::Anything) {
        return not_kept(&format!("{why:?}"));
    }
    if let Err(why) = store::trim(VOLUME, ALL_STORED_MAX) {
        streams::log(Level::Warn, &format!("transcripts of old conversations were not removed: {why:?}"));
    }
}

fn not_kept(why: &str) {
    streams::log(Level::Warn, &format!("the transcript was not kept beyond the sandbox: {why}"));
}

fn file(id: &str) -> String {
    format!("{id}.jsonl")
}

/// The transcript in the sandbox, whichever directory it belongs to.
fn transcript(sandbox: &Sandbox, id: &str) -> Result<Option<String>, Error> {
    let script = "ls -1 -- \"$1\"/projects/*/\"$2\".jsonl 2>/dev/null";
    let command = ["sh", "-c", script, "sh", command::CONFIG, id].map(str::to_owned).into();
    let options =
        ExecOptions { command, env: vec![], secrets: vec![], workdir: None, stdin: false, tee: false };
    let process = sandbox.exec(&options)?;
    let mut said = Vec::new();
    loop {
        match process.next(Some(LOOK_MS))? {
            Output::Stdout(bytes) if said.len() < PATH_MAX => said.extend_from_slice(&bytes),
            Output::Stdout(_) | Output::Stderr(_) => {}
            Output::Idle => return Err(Error::TimedOut("the sandbox takes too long to answer".into())),
            Output::End => break,
        }
    }
    let found = matches!(process.wait(Some(LOOK_MS))?, Exit::Code(0));
    let said = String::from_utf8_lossy(&said);
    Ok(said.lines().next().filter(|_| found).map(str::to_owned))
}

/// Puts the copy that is kept into the sandbox, where the CLI looks for it. False where none is kept.
fn restore(sandbox: &Sandbox, cwd: &str, id: &str) -> Result<bool, Error> {
    let Some(kept) = store::get(VOLUME, &file(id))? else { return Ok(false) };
    let path = format!("{}/projects/{}/{}", command::CONFIG, project(cwd), file(id));
    sandbox.write_file(&path, &kept.content, 0o600)?;
    Ok(true)
}

/// What the CLI calls the directory of a project's transcripts.
fn project(cwd: &str) -> String {
    let cwd = if cwd.len() > 1 { cwd.trim_end_matches('/') } else { cwd };
    cwd.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

fn is_uuid(id: &str) -> bool {
    id.len() == 36
        && id.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_and_nothing_that_leads_elsewhere() {
        assert!(is_uuid("0b0f1a4e-7a3c-8f21-9d55-00aa11bb22cc"));
        assert!(is_uuid(&command::session_id("run/step")));
        for bad in ["", "../../../../../etc/passwd/aaaaaaaaaaa", "0B0F1A4E-7A3C-8F21-9D55-00AA11BB22CC"] {
            assert!(!is_uuid(bad), "{bad}");
        }
    }

    #[test]
    fn projects_are_named_as_the_cli_names_them() {
        assert_eq!(project("/workspace/my_app.rs/"), "-workspace-my-app-rs");
        assert_eq!(project("/"), "-");
    }
}
