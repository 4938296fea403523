//! `git/pull_request`: one pull request for a branch, however often it is asked for.

use crate::harvest::git::repositories::{Method, Repository};
use crate::harvest::streams::streams::{self, Level};
use crate::{Error, Requested};
use serde_json::{Value, json};
use std::time::Duration;

/// How often a request is sent to a server that does not answer as it should.
const ATTEMPTS: u32 = 3;
/// How long the first pause is; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest title that GitHub takes, in characters.
const TITLE: usize = 256;
/// Longest description that GitHub takes, in characters.
const BODY: usize = 65_536;
/// Most of an answer that an error quotes, in characters.
const QUOTED: usize = 300;

/// What is asked for.
pub(crate) struct Wanted<'a> {
    /// `BRANCH`, or `OWNER:BRANCH` of a fork.
    pub(crate) head: &'a str,
    /// The branch to merge into.
    pub(crate) base: Option<&'a str>,
    /// The title.
    pub(crate) title: &'a str,
    /// The description.
    pub(crate) body: &'a str,
    /// Whether it is a draft.
    pub(crate) draft: bool,
}

/// Finds the pull request, or opens it.
pub(crate) fn open(repository: &Repository, wanted: &Wanted<'_>) -> Result<Requested, Error> {
    check(wanted)?;
    let base = match wanted.base {
        Some(base) => base.to_owned(),
        None => default_branch(repository)?,
    };
    let identity = repository.identity();
    let search = search(&identity, wanted.head, &base);
    let request = json!({
        "title": wanted.title, "head": wanted.head, "base": base, "body": wanted.body, "draft": wanted.draft,
    });
    let request = request.to_string().into_bytes();
    let mut pause = PAUSE;
    for attempt in 1.. {
        // Looked for before each try: the one before may have come through, its answer not.
        if let Some(found) = find(repository, &search)? {
            return Ok(found);
        }
        let error = match repository.api(Method::Post, "/pulls", Some(&request)) {
            Ok(answer) => match judge(answer.status, &answer.body) {
                Verdict::Fine => return read(&json_of(&answer.body)?, true),
                Verdict::Exists => {
                    Error::Unavailable("GitHub has the pull request, but does not find it".into())
                }
                Verdict::Failed(error) => return Err(error),
                Verdict::Again(error) => error,
            },
            Err(error) => error,
        };
        wait(attempt, error, &mut pause)?;
    }
    unreachable!("the last attempt returns")
}

fn check(wanted: &Wanted<'_>) -> Result<(), Error> {
    let invalid = |text: String| Err(Error::Invalid(text));
    if !(1..=TITLE).contains(&wanted.title.chars().count()) {
        return invalid(format!("`title` has 1 to {TITLE} characters"));
    }
    if wanted.body.chars().count() > BODY {
        return invalid(format!("`body` has at most {BODY} characters"));
    }
    let (owner, branch) = wanted.head.split_once(':').unwrap_or(("-", wanted.head));
    if owner.is_empty() || branch.is_empty() {
        return invalid("`head` is the name of a pushed branch, or OWNER:BRANCH of a fork".into());
    }
    Ok(())
}

fn default_branch(repository: &Repository) -> Result<String, Error> {
    let found = get(repository, "")?;
    let name = found["default_branch"].as_str();
    name.map(str::to_owned).ok_or_else(|| {
        Error::Other("GitHub does not say which branch is the default; name one with `base`".into())
    })
}

fn find(repository: &Repository, search: &str) -> Result<Option<Requested>, Error> {
    let found = get(repository, search)?;
    found.as_array().and_then(|list| list.first()).map(|first| read(first, false)).transpose()
}

/// Reads, with further tries.
fn get(repository: &Repository, path: &str) -> Result<Value, Error> {
    let mut pause = PAUSE;
    for attempt in 1.. {
        let error = match repository.api(Method::Get, path, None) {
            Ok(answer) => match judge(answer.status, &answer.body) {
                Verdict::Fine => return json_of(&answer.body),
                Verdict::Failed(error) => return Err(error),
                Verdict::Exists => Error::Other("GitHub answers a question with a conflict".into()),
                Verdict::Again(error) => error,
            },
            Err(error) => error,
        };
        wait(attempt, error, &mut pause)?;
    }
    unreachable!("the last attempt returns")
}

/// Pauses where another try may help.
fn wait(attempt: u32, error: Error, pause: &mut Duration) -> Result<(), Error> {
    let passing = matches!(error, Error::Network(_) | Error::Unavailable(_) | Error::TimedOut(_));
    if !passing || attempt == ATTEMPTS {
        return Err(error);
    }
    let mut error = error;
    streams::log(Level::Info, &format!("{}; trying again", error.text()));
    std::thread::sleep(*pause);
    *pause *= 2;
    Ok(())
}

/// What an answer means.
enum Verdict {
    Fine,
    /// There is one already.
    Exists,
    /// Another try may help.
    Again(Error),
    Failed(Error),
}

fn judge(status: u16, body: &[u8]) -> Verdict {
    let said = said(body);
    let text = format!("GitHub answered with status {status}: {said}");
    Verdict::Failed(match status {
        200..=299 => return Verdict::Fine,
        408 | 500..=599 => return Verdict::Again(Error::Unavailable(text)),
        422 if said.contains("already exists") => return Verdict::Exists,
        422 if said.contains("No commits between") => Error::Conflict(text),
        422 => Error::Invalid(format!("{text}; is `head` pushed, and `base` a branch?")),
        300..=399 => Error::NotFound(format!("{text}; the repository has another name now: write that")),
        401 | 403 => Error::Denied(format!("{text}; the token needs write access to pull requests")),
        404 | 410 => Error::NotFound(format!("{text}; or the token has no access to the repository")),
        _ => Error::Other(text),
    })
}

/// The message of an error, with those of its parts.
fn said(body: &[u8]) -> String {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let parts = answer["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let part = |part: &Value| {
        let field = |name: &str| part[name].as_str().map(str::to_owned);
        field("message").or_else(|| Some(format!("{} {}", field("field")?, field("code")?)))
    };
    let message = answer["message"].as_str().map(str::to_owned);
    let all: Vec<String> = message.into_iter().chain(parts.iter().filter_map(part)).collect();
    let text: String = all.join("; ").chars().filter(|c| !c.is_control()).take(QUOTED).collect();
    if text.is_empty() { "it does not say why".to_owned() } else { text }
}

fn json_of(body: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(body)
        .map_err(|_| Error::Other("GitHub's answer is not the JSON that its API promises".into()))
}

fn read(request: &Value, created: bool) -> Result<Requested, Error> {
    let number = request["number"].as_u64().and_then(|number| u32::try_from(number).ok());
    match (number, request["html_url"].as_str()) {
        (Some(number), Some(url)) => Ok(Requested { number, url: url.to_owned(), created }),
        _ => Err(Error::Other("GitHub's answer does not describe a pull request".into())),
    }
}

/// The question for one that is open.
fn search(identity: &str, head: &str, base: &str) -> String {
    let owner = identity.rsplit('/').nth(1).unwrap_or_default();
    let head = if head.contains(':') { head.to_owned() } else { format!("{owner}:{head}") };
    format!("/pulls?state=open&per_page=1&head={}&base={}", encoded(&head), encoded(base))
}

fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_searched_for_is_encoded() {
        assert_eq!(
            search("github.com/ann/x", "feature/a&b", "main"),
            "/pulls?state=open&per_page=1&head=ann%3Afeature%2Fa%26b&base=main"
        );
        assert!(search("github.com/ann/x", "bob:b", "main").contains("head=bob%3Ab&"));
    }

    #[test]
    fn an_error_is_quoted_with_its_parts() {
        let body = r#"{"message":"Validation Failed","errors":[{"resource":"PullRequest","field":"head","code":"invalid"},{"message":"A pull request already exists for a:b."}]}"#;
        assert_eq!(
            said(body.as_bytes()),
            "Validation Failed; head invalid; A pull request already exists for a:b."
        );
        assert_eq!(said(b"<html>"), "it does not say why");
        assert!(matches!(judge(422, body.as_bytes()), Verdict::Exists));
    }
}
