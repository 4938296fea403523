//! The steps `git/...`: clone, configure, commit, snapshot and push a tree that lives in a sandbox.
//!
//! Git runs inside the sandbox, where the tree's hooks and configuration may do what they like; what crosses the network
//! goes through the host as bundles. Nothing that the sandbox can write decides which repository the host opens: where a
//! tree came from is remembered in a volume of this component.
#![allow(missing_docs, clippy::too_many_arguments)] // Of the bindings, and of steps as workflows see them.

wit_bindgen::generate!({
    path: ["../../wit/sandbox", "../../wit/git", "../../wit/run", "../../wit/streams", "wit"],
    world: "harvest:git-steps/git",
    generate_all,
});

mod carry;
mod checkout;
mod checkpoint;
mod history;
mod keep;
mod publish;
mod pull_request;
mod record;
mod signed;
mod tree;

use harvest::git::repositories;

struct Steps;

impl Guest for Steps {
    fn clone(
        sandbox: &Sandbox,
        token: Option<&Secret>,
        repo: String,
        ref_: Option<String>,
        into: Option<String>,
        depth: Option<u32>,
    ) -> Result<Cloned, Error> {
        checkout::clone(sandbox, token, &repo, given(ref_.as_ref()), into.as_deref(), depth)
    }

    fn configure(sandbox: &Sandbox, path: String, name: String, email: String) -> Result<Identity, Error> {
        checkout::configure(sandbox, &path, &name, &email)
    }

    fn commit(
        sandbox: &Sandbox,
        signing_key: Option<&Secret>,
        path: String,
        message: String,
        no_verify: Option<bool>,
        allow_empty: Option<bool>,
    ) -> Result<Committed, Error> {
        let options = keep::Options {
            signing_key,
            no_verify: no_verify.unwrap_or(false),
            allow_empty: allow_empty.unwrap_or(false),
        };
        keep::commit(sandbox, &path, &message, &options)
    }

    fn snapshot(sandbox: &Sandbox, path: String, message: Option<String>) -> Result<Kept, Error> {
        keep::snapshot(sandbox, &path, message.as_deref())
    }

    fn push(
        sandbox: &Sandbox,
        token: Option<&Secret>,
        signing_key: Option<&Secret>,
        path: String,
        ref_: Option<String>,
        strategy: Option<Strategy>,
    ) -> Result<Pushed, Error> {
        let options = publish::Options {
            token,
            signing_key,
            reference: given(ref_.as_ref()),
            strategy: strategy.unwrap_or(Strategy::Refuse),
        };
        publish::push(sandbox, &path, &options)
    }

    fn pull_request(
        token: &Secret,
        repo: String,
        head: String,
        base: Option<String>,
        title: String,
        body: Option<String>,
        draft: Option<bool>,
    ) -> Result<Requested, Error> {
        let wanted = pull_request::Wanted {
            head: head.strip_prefix("refs/heads/").unwrap_or(&head),
            base: given(base.as_ref()),
            title: title.trim(),
            body: body.as_deref().unwrap_or_default(),
            draft: draft.unwrap_or(false),
        };
        pull_request::open(&repositories::open(&repo, Some(token))?, &wanted)
    }

    fn ls_remote(token: Option<&Secret>, repo: String, ref_: Option<String>) -> Result<Found, Error> {
        let found = repositories::open(&repo, token)?.resolve(given(ref_.as_ref()))?;
        Ok(Found { sha: found.sha })
    }
}

impl Error {
    /// What it says.
    fn text(&mut self) -> &mut String {
        match self {
            Self::Denied(text)
            | Self::NotFound(text)
            | Self::Invalid(text)
            | Self::Conflict(text)
            | Self::Network(text)
            | Self::Unavailable(text)
            | Self::RateLimited(text)
            | Self::TooLarge(text)
            | Self::Quota(text)
            | Self::TimedOut(text)
            | Self::SandboxLost(text)
            | Self::Other(text) => text,
        }
    }

    /// The same error with more to say.
    fn with(mut self, more: &str) -> Self {
        self.text().push_str(more);
        self
    }
}

/// An input that has a default of no text is passed on as such where nobody gives it: it means the same as none.
fn given(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

export!(Steps);
