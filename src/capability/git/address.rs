//! What a repository is called: `owner/name`, a URL or a local path. Pure but for resolving a local path's links.
//!
//! Only transports that carry their own authority are understood: https, http to this machine, and files. `ssh` is
//! refused, because it would use the keys and the agent of whoever runs harvest; `git://` is refused, because anyone on
//! the way can change what it brings.

use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use std::path::{Path, PathBuf};

/// Longest text taken for a repository, in bytes.
const LONGEST: usize = 2048;
/// Longest short name, in bytes; it becomes a directory.
const LONGEST_NAME: usize = 100;
/// Where `owner/name` lives unless the operator says otherwise.
pub(super) const GITHUB: &str = "https://github.com";

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// Over HTTP. `origin` is `scheme://host[:port]`, the only place its credential is for.
    Remote {
        /// What git is given; never holds a credential.
        url: String,
        /// Scheme, host and port.
        origin: String,
    },
    /// On this machine, absolute and without links.
    Local(PathBuf),
}

/// A repository as named by a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// Short name, `[A-Za-z0-9._-]`.
    pub(super) name: String,
    /// `host/owner/name`, or the canonical path.
    pub(super) identity: String,
    /// Where it is.
    pub(super) location: Location,
}

fn invalid(message: impl Into<String>) -> CapabilityError {
    CapabilityError::new(ErrorKind::INVALID, message)
}

impl Address {
    /// Reads `text`; `github` is the base of `owner/name`.
    pub(super) fn parse(text: &str, github: &str) -> Result<Self> {
        if text.is_empty() || text.len() > LONGEST || text.chars().any(char::is_control) {
            return Err(invalid(format!(
                "a repository is named by 1 to {LONGEST} printable characters: owner/name, an https URL, or an absolute path"
            )));
        }
        if text.starts_with('/') || text.starts_with("./") || text.starts_with("../") || text == "." {
            return Self::local(Path::new(text));
        }
        if let Some((owner, name)) = owner_and_name(text) {
            let mut address = Self::url(&format!("{}/{owner}/{name}.git", github.trim_end_matches('/')))?;
            if matches!(address.location, Location::Remote { .. }) {
                address.identity = address.identity.to_ascii_lowercase();
            }
            return Ok(address);
        }
        if text.contains("://") {
            return Self::url(text);
        }
        if text.split_once(':').is_some_and(|(host, _)| !host.contains('/')) {
            return Err(invalid(
                "ssh is not offered, since it would use your own keys; write the repository as https://host/owner/name",
            ));
        }
        Err(invalid(format!(
            "{text:?} names no repository; write owner/name, an https URL, or a path that starts with / or ./"
        )))
    }

    fn url(text: &str) -> Result<Self> {
        let url = reqwest::Url::parse(text)
            .map_err(|error| invalid(format!("the repository's URL is malformed: {error}")))?;
        if url.password().is_some() || !url.username().is_empty() {
            return Err(invalid(
                "a repository's URL must not hold a credential; bind it to the step's secret slot instead: secrets: {token: NAME}",
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("a repository's URL has no ? and no #"));
        }
        match url.scheme() {
            "file" => {
                let path = url.to_file_path().map_err(|()| invalid("a file URL is file:///absolute/path"))?;
                Self::local(&path)
            }
            "https" => Self::remote(&url),
            "http" if on_this_machine(&url) => Self::remote(&url),
            "http" => Err(invalid("http is only for this machine's own addresses; use https")),
            "ssh" | "git+ssh" => Err(invalid(
                "ssh is not offered, since it would use your own keys; use the https URL and a token",
            )),
            other => Err(invalid(format!("{other}:// is not offered; use https or a local path"))),
        }
    }

    fn remote(url: &reqwest::Url) -> Result<Self> {
        let host = url.host_str().ok_or_else(|| invalid("the repository's URL names no host"))?;
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let path = url.path().trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        let name = path.rsplit('/').next().unwrap_or_default();
        if name.is_empty() {
            return Err(invalid("the repository's URL has no path"));
        }
        Ok(Self {
            name: directory_name(name),
            identity: format!("{authority}/{path}"),
            location: Location::Remote {
                url: url.as_str().trim_end_matches('/').to_owned(),
                origin: format!("{}://{authority}", url.scheme()),
            },
        })
    }

    fn local(path: &Path) -> Result<Self> {
        let path = path.canonicalize().map_err(|error| {
            let kind = match error.kind() {
                std::io::ErrorKind::PermissionDenied => ErrorKind::DENIED,
                _ => ErrorKind::NOT_FOUND,
            };
            CapabilityError::new(kind, format!("there is no repository at {}: {error}", path.display()))
        })?;
        let root = if path.ends_with(".git") { path.parent().unwrap_or(&path) } else { &path };
        let name = root.file_name().unwrap_or_default().to_string_lossy();
        let identity = root
            .to_str()
            .ok_or_else(|| invalid("the path of a local repository must be UTF-8; rename its directory"))?;
        Ok(Self {
            name: directory_name(name.strip_suffix(".git").unwrap_or(&name)),
            identity: identity.to_owned(),
            location: Location::Local(root.to_owned()),
        })
    }
}

/// `owner/name` as GitHub allows them.
fn owner_and_name(text: &str) -> Option<(&str, &str)> {
    let (owner, name) = text.split_once('/')?;
    let name = name.strip_suffix(".git").unwrap_or(name);
    let owner_fits = (1..=39).contains(&owner.len())
        && owner.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        && !owner.starts_with('-');
    let name_fits = (1..=LONGEST_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && name != "."
        && name != "..";
    (owner_fits && name_fits).then_some((owner, name))
}

fn on_this_machine(url: &reqwest::Url) -> bool {
    url.host_str().is_some_and(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

/// Makes a directory name of a repository's: other characters become `-`, and it never starts with a dot or a dash.
fn directory_name(name: &str) -> String {
    let name: String = name
        .chars()
        .take(LONGEST_NAME)
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
        .collect();
    let name = name.trim_start_matches(['.', '-']);
    if name.is_empty() { "repository".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address> {
        Address::parse(text, GITHUB)
    }

    fn refusal(text: &str) -> String {
        let error = parse(text).expect_err(text);
        assert_eq!(error.kind, ErrorKind::INVALID, "{text}");
        error.message
    }

    #[test]
    fn owner_and_name_is_github() {
        let address = parse("Relevance/harvest.js").unwrap();
        assert_eq!(address.name, "harvest.js");
        assert_eq!(address.identity, "github.com/relevance/harvest.js");
        assert_eq!(
            address.location,
            Location::Remote {
                url: "https://github.com/Relevance/harvest.js.git".into(),
                origin: "https://github.com".into()
            }
        );
    }

    #[test]
    fn owner_and_name_follows_the_operators_base() {
        let address = Address::parse("a/b", "https://git.example:8443/").unwrap();
        assert_eq!(address.identity, "git.example:8443/a/b");
        assert_eq!(
            address.location,
            Location::Remote {
                url: "https://git.example:8443/a/b.git".into(),
                origin: "https://git.example:8443".into()
            }
        );
    }

    #[test]
    fn the_same_remote_has_one_identity() {
        for text in [
            "https://example.com/g/sub/p",
            "https://EXAMPLE.com/g/sub/p.git",
            "https://example.com:443/g/sub/p/",
        ] {
            assert_eq!(parse(text).unwrap().identity, "example.com/g/sub/p", "{text}");
        }
    }

    #[test]
    fn local_paths_and_file_urls_are_the_same_place() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap().join("my repo.git");
        std::fs::create_dir_all(root.join(".git")).unwrap();
        let by_path = parse(root.to_str().unwrap()).unwrap();
        assert_eq!(by_path.name, "my-repo");
        assert_eq!(by_path, parse(&format!("file://{}", root.display()).replace(' ', "%20")).unwrap());
        assert_eq!(by_path, parse(&format!("{}/.git", root.display())).unwrap());
        assert_eq!(parse("/no/such/place").unwrap_err().kind, ErrorKind::NOT_FOUND);
    }

    #[test]
    fn credentials_and_foreign_transports_are_refused() {
        assert!(refusal("https://user:hunter2@example.com/a/b").contains("secret slot"));
        assert!(!refusal("https://user:hunter2@example.com/a/b").contains("hunter2"));
        for text in ["git@github.com:a/b", "ssh://git@example.com/a", "ssh://example.com/a"] {
            let message = refusal(text);
            assert!(message.contains("https") || message.contains("credential"), "{text}: {message}");
        }
        for text in [
            "ext::sh -c id",
            "http://example.com/a/b",
            "git://example.com/a",
            "https://example.com",
            "https://example.com/a?b",
            "--upload-pack=x",
            "a/../b",
            "-a/b",
            "a/..",
            "",
            "a\nb/c",
        ] {
            refusal(text);
        }
        parse("http://127.0.0.1:80/a/b").unwrap();
    }

    #[test]
    fn names_are_fit_for_directories() {
        assert_eq!(directory_name("-..x y/é"), "x-y--");
        assert_eq!(directory_name("..."), "repository");
    }
}
