//! Credentials for registries: the `auths` of Docker's `config.json`, and the tokens that registries hand out for them.

use super::invalid;
use super::reference::DOCKER_HUB;
use super::stream::read_document;
use crate::capability::secret::Secret;
use crate::capability::{CapabilityError, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

/// Bytes of the file.
const FILE_LIMIT: u64 = 1 << 20;
/// The key of Docker Hub in it, which is no host that is ever asked.
const DOCKER_HUB_KEY: &str = "index.docker.io";

/// Credentials for one registry: `USER:PASSWORD`, as basic authentication encodes it.
#[derive(Clone, Debug)]
pub(super) struct Login(pub(super) Secret);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerConfig {
    #[serde(default)]
    auths: HashMap<String, Auth>,
    #[serde(default)]
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(default)]
    auth: String,
}

/// What a file has for a registry.
pub(super) struct Found {
    pub(super) login: Option<Login>,
    /// Whether they are kept by another program, which is not run.
    pub(super) elsewhere: bool,
}

/// Looks a registry up. A file that is malformed is an error that shows nothing of it.
pub(super) fn find(file: &Path, registry: &str) -> Result<Found> {
    let shown = file.display();
    let opened = File::open(file)
        .map_err(|error| CapabilityError::io(format!("read the credentials in {shown}"), &error))?;
    let json = read_document(opened, FILE_LIMIT, "the file of credentials")?;
    // The position alone: the text of the error could quote a password.
    let malformed =
        |line: usize| invalid(format!("{shown} is no Docker config.json: line {line} is malformed"));
    let parsed: DockerConfig = serde_json::from_slice(&json).map_err(|error| malformed(error.line()))?;
    let ours = |key: &str| {
        let host = key.trim_start_matches("https://").trim_start_matches("http://");
        let host = host.split('/').next().unwrap_or_default();
        host == registry || (registry == DOCKER_HUB.0 && [DOCKER_HUB_KEY, DOCKER_HUB.1].contains(&host))
    };
    let auth =
        parsed.auths.iter().filter(|(key, auth)| ours(key) && !auth.auth.is_empty()).map(|(_, auth)| auth);
    let login = auth.map(|auth| decode(&auth.auth, registry, file)).next().transpose()?;
    let elsewhere =
        login.is_none() && (parsed.creds_store.is_some() || parsed.cred_helpers.keys().any(|key| ours(key)));
    Ok(Found { login, elsewhere })
}

fn decode(auth: &str, registry: &str, file: &Path) -> Result<Login> {
    let wrong = || {
        invalid(format!(
            "the credentials for {registry} in {} are no `USER:PASSWORD` in base64",
            file.display()
        ))
    };
    let text = STANDARD
        .decode(auth.trim())
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(wrong)?;
    if !text.contains(':') {
        return Err(wrong());
    }
    Ok(Login(Secret::new(registry.to_owned(), STANDARD.encode(text))))
}

/// What a registry asks for before it answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    /// A token from `realm`.
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

/// Reads the header `WWW-Authenticate`.
pub(super) fn challenge(header: &str) -> Option<Challenge> {
    let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let mut parameters = parameters(rest)?;
    Some(Challenge::Bearer { realm: parameters.remove("realm")?, service: parameters.remove("service") })
}

/// Reads `NAME="VALUE", NAME=VALUE`.
fn parameters(mut text: &str) -> Option<HashMap<String, String>> {
    let mut found = HashMap::new();
    loop {
        text = text.trim_start_matches([' ', ',', '\t']);
        if text.is_empty() {
            return Some(found);
        }
        let (name, rest) = text.split_once('=')?;
        let value;
        (value, text) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_at(rest.find(',').unwrap_or(rest.len())),
        };
        found.insert(name.trim().to_ascii_lowercase(), value.to_owned());
    }
}

/// A token, under either of the names it has.
#[derive(Deserialize)]
pub(super) struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

impl Token {
    pub(super) fn text(self) -> Option<String> {
        [self.token, self.access_token].into_iter().find(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: &str, registry: &str) -> Result<Found> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), json).unwrap();
        find(file.path(), registry)
    }

    #[test]
    fn credentials_are_found_under_every_key_that_is_written_for_a_registry() {
        let json = format!(
            r#"{{ "auths": {{ "https://index.docker.io/v1/": {{ "auth": "{}" }}, "localhost:5000": {{ "auth": "{}" }} }} }}"#,
            STANDARD.encode("hub:one"),
            STANDARD.encode("user:two")
        );
        for (registry, text) in
            [("docker.io", Some("hub:one")), ("localhost:5000", Some("user:two")), ("ghcr.io", None)]
        {
            let login = found(&json, registry).unwrap().login.map(|login| login.0.expose().to_owned());
            assert_eq!(login, text.map(|text| STANDARD.encode(text)));
        }
        assert!(found(r#"{ "credsStore": "desktop" }"#, "ghcr.io").unwrap().elsewhere);
        assert!(
            found(r#"{ "auths": { "ghcr.io": {} }, "credHelpers": { "ghcr.io": "x" } }"#, "ghcr.io")
                .unwrap()
                .elsewhere
        );
        assert!(!found("{}", "ghcr.io").unwrap().elsewhere);
    }

    #[test]
    fn errors_show_nothing_of_the_file() {
        for json in [r#"{ "auths": { "x.y": { "auth": "!hunter22" } } }"#, r#"{ "auths": "hunter22" }"#] {
            let said = found(json, "x.y").err().unwrap().message;
            assert!(!said.contains("hunter22"), "{said}");
        }
    }

    #[test]
    fn challenges_are_read_in_every_spelling() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.into(), service: service.map(str::to_owned) })
        };
        assert_eq!(
            challenge(r#"Bearer realm="https://a/t?x=1,2",service="s",scope="repository:a:pull,push""#),
            bearer("https://a/t?x=1,2", Some("s"))
        );
        assert_eq!(challenge("bearer realm=https://a/t, service=s"), bearer("https://a/t", Some("s")));
        assert_eq!(challenge(r#"Basic realm="x""#), Some(Challenge::Basic));
        for text in ["Digest realm=\"x\"", "Bearer", "Bearer realm=\"x", "Bearer service=\"x\"", ""] {
            assert_eq!(challenge(text), None, "{text}");
        }
    }
}
