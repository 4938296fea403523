//! Names of images in registries: `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`, with Docker's abbreviations.

use super::document::parse_digest;
use super::invalid;
use crate::capability::Result;
use crate::id::Digest;
use std::net::IpAddr;

/// The registry of names that say none, and the host that serves it.
pub(super) const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");
/// Longest name of a repository, as the distribution specification recommends.
const REPOSITORY_LIMIT: usize = 255;
/// Longest tag, as the specification says.
const TAG_LIMIT: usize = 128;

/// Where an image lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    /// Host with its port, as credentials are filed under.
    pub(super) registry: String,
    pub(super) repository: String,
    /// `latest` where neither it nor a digest is given.
    pub(super) tag: Option<String>,
    pub(super) digest: Option<Digest>,
}

impl Reference {
    /// Reads a reference; `invalid` says what a good one looks like.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            invalid(format!(
                "`{}` names no image of a registry: write [REGISTRY/]REPOSITORY[:TAG][@sha256:DIGEST], in lower case, \
                 such as `debian:bookworm` or `ghcr.io/owner/name:1.0`",
                text.escape_debug()
            ))
        };
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(parse_digest(digest)?)),
            None => (text, None),
        };
        let slash = name.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match name[slash..].split_once(':') {
            Some((last, tag)) => (&name[..slash + last.len()], Some(tag)),
            None => (name, None),
        };
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
                (first, rest.to_owned())
            }
            Some(_) => (DOCKER_HUB.0, name.to_owned()),
            None => (DOCKER_HUB.0, format!("library/{name}")),
        };
        if !is_host(registry) || !is_repository(&repository) || !tag.is_none_or(is_tag) {
            return Err(wrong());
        }
        let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(Self { registry: registry.into(), repository, tag, digest })
    }

    /// Host and port that serve the registry.
    pub(super) fn host(&self) -> &str {
        if self.registry == DOCKER_HUB.0 { DOCKER_HUB.1 } else { &self.registry }
    }

    /// What a registry is asked for: the digest where one is given, for only that is sure.
    pub(super) fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_default(),
        }
    }
}

fn is_host(text: &str) -> bool {
    let host = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            return address.parse::<std::net::Ipv6Addr>().is_ok() && (port.is_empty() || is_port(port));
        }
        None => text,
    };
    let (host, port) = host.split_at(host.find(':').unwrap_or(host.len()));
    let label = |label: &str| {
        label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(label) && (port.is_empty() || is_port(port))
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_repository(text: &str) -> bool {
    let part = |part: &str| {
        let known = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-')
        };
        let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        part.bytes().all(known)
            && edge(part.bytes().next())
            && edge(part.bytes().last())
            && !part.contains("..")
    };
    text.len() <= REPOSITORY_LIMIT && text.split('/').all(part)
}

fn is_tag(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=TAG_LIMIT).contains(&text.len()) && text.bytes().all(known) && !text.starts_with(['.', '-'])
}

/// Whether a host, without its port, is this machine by its very name.
pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abbreviations_are_those_of_docker() {
        for (text, registry, repository, wanted) in [
            ("debian", "docker.io", "library/debian", "latest"),
            ("debian:bookworm", "docker.io", "library/debian", "bookworm"),
            ("owner/name", "docker.io", "owner/name", "latest"),
            ("ghcr.io/owner/name:1.0", "ghcr.io", "owner/name", "1.0"),
            ("localhost/x", "localhost", "x", "latest"),
            ("127.0.0.1:5000/a/b:T_1", "127.0.0.1:5000", "a/b", "T_1"),
            ("[::1]:5000/a", "[::1]:5000", "a", "latest"),
        ] {
            let parsed = Reference::parse(text).unwrap();
            assert_eq!(
                (&*parsed.registry, &*parsed.repository, &*parsed.wanted()),
                (registry, repository, wanted)
            );
        }
        let digest = Digest::of(b"x").to_string();
        let pinned = Reference::parse(&format!("debian:12@{digest}")).unwrap();
        assert_eq!((pinned.tag.as_deref(), pinned.wanted()), (Some("12"), digest));
        assert_eq!(Reference::parse("debian").unwrap().host(), "registry-1.docker.io");
    }

    #[test]
    fn what_could_become_another_url_is_refused() {
        for text in [
            "",
            "/",
            "Debian",
            "a b",
            "a/../b",
            "a/..",
            "x:",
            "x:-t",
            "x@sha256:12",
            "x@md5:00",
            "evil.com:99999/x",
            "host.x/a?b",
            "host.x/a#b",
            "user:pw@host.x/a",
            "[::1/a",
            "-a.b/c",
            "a//b",
            "x:t\u{1b}[1m",
            "http://a.b/c",
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (host, loopback) in [
            ("localhost", true),
            ("127.9.9.9", true),
            ("[::1]", true),
            ("localhost.x", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(host), loopback, "{host}");
        }
    }
}
