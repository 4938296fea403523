//! Where harvest keeps its things and what the operator configured, in the home and through the environment.

use crate::workflow::{data, literal};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file of a home that an operator writes.
pub const FILE: &str = "config.yaml";
/// Bytes of that file.
const FILE_MAX: u64 = 64 * 1024;

/// The directory that holds everything of one operator: journal, streams, images, volumes, caches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home(PathBuf);

impl Home {
    /// Opens the home at `path`, by default `$XDG_STATE_HOME/harvest`, and makes it with mode 0700 when missing.
    ///
    /// # Errors
    /// A sentence for the operator: no place is known, it cannot be made, or somebody else owns it.
    pub fn open(path: Option<PathBuf>) -> Result<Self, String> {
        let path = path
            .or_else(default_home)
            .ok_or("no home directory is known: pass --home DIR or set HARVEST_HOME")?;
        let path = std::path::absolute(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let say = |error: io::Error| {
            format!("cannot use the home {}: {error}; pass --home DIR or set HARVEST_HOME", path.display())
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(say)?;
        let found = fs::metadata(&path).map_err(say)?;
        let me = rustix::process::geteuid().as_raw();
        if found.uid() != me {
            return Err(format!(
                "the home {} belongs to user {}, not to you ({me}): pass --home DIR",
                path.display(),
                found.uid()
            ));
        }
        if found.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).map_err(say)?;
        }
        Ok(Self(path))
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file or directory in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// What an operator wrote into `config.yaml` of the home. Everything has a default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Configuration {
    /// Which store keeps the journal; what the home has, else SQLite, where nothing is said.
    pub journal: Option<JournalKind>,
    /// How long runs that have ended are kept.
    pub retention: Retention,
    /// How sandboxes on Modal are made.
    pub modal: Modal,
}

/// What an operator decides about Modal. Who calls and where is read as Modal's own clients read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Modal {
    /// The registry reference that `image: host` stands for there; it is refused where nothing is said.
    pub host_image: Option<String>,
    /// After how long without a command Modal ends a sandbox, and its files with it; never where nothing is said.
    #[serde(deserialize_with = "idle_timeout")]
    pub idle_timeout: Option<Duration>,
    /// The application that sandboxes belong to; `harvest` where nothing is said.
    pub app: Option<String>,
    /// `x-modal-client-type` of every call.
    #[serde(deserialize_with = "client_type")]
    pub client_type: Option<u32>,
    /// `x-modal-client-version` of every call.
    pub client_version: Option<String>,
    /// Further headers of every call.
    pub headers: BTreeMap<String, String>,
}

/// Which ended runs are kept; what is beyond any of these goes, oldest first. `none` stands for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Time since a run has ended; 90 days where nothing is said.
    #[serde(deserialize_with = "age")]
    pub age: Option<Duration>,
    /// Runs in all, those that go on included; 10,000 where nothing is said.
    #[serde(deserialize_with = "runs")]
    pub runs: Option<u64>,
    /// Bytes of all their events, streams and artifacts; 10 GiB where nothing is said.
    #[serde(deserialize_with = "size")]
    pub size: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Some(Duration::from_secs(90 * 86_400)), runs: Some(10_000), size: Some(10 << 30) }
    }
}

impl Configuration {
    /// Reads the configuration of a home, the defaults where it has none.
    ///
    /// # Errors
    /// A sentence for the operator: what is wrong with the file, and what to write.
    pub fn read(home: &Home) -> Result<Self, String> {
        let path = home.join(FILE);
        let say = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
        let text = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Ok(found) if found.len() > FILE_MAX => return Err(say(&"it is larger than 64 KiB")),
            _ => fs::read_to_string(&path).map_err(|error| say(&error))?,
        };
        Self::parse(&path.display().to_string(), &text)
    }

    fn parse(name: &str, text: &str) -> Result<Self, String> {
        let says_nothing = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
        if text.lines().all(says_nothing) {
            return Ok(Self::default());
        }
        serde_json::from_value(data::read(name, text)?).map_err(|error| {
            format!("{name}: {error}; it may hold `journal: sqlite` and `retention: {{ age: 90d, runs: 10000, size: 10GiB }}`")
        })
    }
}

fn age<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    limit(deserializer, |text| {
        time(text).ok_or_else(|| format!("`age: {text}` is no time; write such as `90d`, `12h` or `none`"))
    })
}

fn idle_timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    limit(deserializer, |text| {
        time(text).ok_or_else(|| format!("`idle-timeout: {text}` is no time; write such as `30m` or `none`"))
    })
}

fn client_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    limit(deserializer, |text| {
        text.parse().map_err(|_| format!("`client-type: {text}` is no number; write such as `1`"))
    })
}

fn time(text: &str) -> Option<Duration> {
    let span = text.parse::<jiff::Span>().ok()?;
    Duration::try_from(span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?).ok()
}

fn runs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    limit(deserializer, |text| {
        text.parse::<u64>()
            .ok()
            .filter(|runs| *runs > 0)
            .ok_or_else(|| format!("`runs: {text}` is no number of runs; write such as `10000` or `none`"))
    })
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    limit(deserializer, |text| literal::size_bytes(text).map_err(|why| format!("`size`: {why}, or `none`")))
}

/// A value as text, or `none`.
fn limit<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.trim() == "none" {
        return Ok(None);
    }
    read(text.trim()).map(Some).map_err(serde::de::Error::custom)
}

/// Which store keeps the journal of a home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JournalKind {
    /// One SQLite file, for many processes at once.
    Sqlite,
    /// sled, for one process at a time.
    Sled,
}

impl std::fmt::Display for JournalKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "sqlite",
            Self::Sled => "sled",
        })
    }
}

/// The store that `HARVEST_JOURNAL` names, where it is set.
///
/// # Errors
/// A sentence that says what to write, where it names none.
pub fn journal_from_env() -> Result<Option<JournalKind>, String> {
    match std::env::var("HARVEST_JOURNAL").unwrap_or_default().trim() {
        "" => Ok(None),
        "sqlite" => Ok(Some(JournalKind::Sqlite)),
        "sled" => Ok(Some(JournalKind::Sled)),
        other => Err(format!("HARVEST_JOURNAL is `{other}`: write `sqlite` or `sled`")),
    }
}

fn default_home() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("harvest"))
}

/// The model API that gateways lead to: `ANTHROPIC_BASE_URL`, or the public one.
pub fn anthropic_base_url() -> String {
    url_from("ANTHROPIC_BASE_URL", "https://api.anthropic.com")
}

/// GitHub's MCP server: `HARVEST_GITHUB_MCP_URL`, or the public one.
pub fn github_mcp_url() -> String {
    url_from("HARVEST_GITHUB_MCP_URL", "https://api.githubcopilot.com/mcp")
}

/// Linear's MCP server: `HARVEST_LINEAR_MCP_URL`, or the public one.
pub fn linear_mcp_url() -> String {
    url_from("HARVEST_LINEAR_MCP_URL", "https://mcp.linear.app/mcp")
}

/// What the MCP server of Gemini asks: `HARVEST_GEMINI_URL`, or the public one.
pub fn gemini_url() -> String {
    url_from("HARVEST_GEMINI_URL", "https://generativelanguage.googleapis.com")
}

/// What the MCP server of Sentry asks: `HARVEST_SENTRY_URL`, or that public host.
pub fn sentry_url(host: &str) -> String {
    url_from("HARVEST_SENTRY_URL", &format!("https://{host}"))
}

fn url_from(variable: &str, public: &str) -> String {
    match std::env::var(variable) {
        Ok(url) if !url.trim().is_empty() => url.trim().trim_end_matches('/').to_owned(),
        _ => public.to_owned(),
    }
}

/// Where a repository of GitHub is: below `HARVEST_GITHUB_URL`, or the public one.
pub fn github_url(full_name: &str) -> String {
    let base = std::env::var("HARVEST_GITHUB_URL").ok().filter(|url| !url.trim().is_empty());
    let base = base.unwrap_or_else(|| "https://github.com".to_owned());
    format!("{}/{full_name}.git", base.trim().trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Configuration, String> {
        Configuration::parse("config.yaml", text)
    }

    #[test]
    fn everything_has_a_default_and_can_be_set_alone_or_turned_off() {
        for nothing in ["", "# retention: none yet\n\n"] {
            assert_eq!(read(nothing).unwrap(), Configuration::default());
        }
        let day = Duration::from_secs(86_400);
        let all = read("retention: { age: 30d, runs: 500, size: 2GiB }\n").unwrap().retention;
        assert_eq!(all, Retention { age: Some(30 * day), runs: Some(500), size: Some(2 << 30) });
        let some = read("retention:\n  age: 1d 12h\n  runs: none\n").unwrap().retention;
        assert_eq!(some, Retention { age: Some(day * 3 / 2), runs: None, ..Retention::default() });
        assert_eq!(read("journal: sled\n").unwrap().journal, Some(JournalKind::Sled));
        let modal = "modal: { host-image: debian:bookworm-slim, idle-timeout: 30m, client-type: 9, headers: { a: b } }";
        let modal = read(modal).unwrap().modal;
        assert_eq!(modal.host_image.as_deref(), Some("debian:bookworm-slim"));
        assert_eq!((modal.idle_timeout, modal.client_type), (Some(Duration::from_secs(1800)), Some(9)));
    }

    #[test]
    fn mistakes_say_what_to_write() {
        let wrong = |text: &str| read(text).unwrap_err();
        insta::assert_snapshot!(wrong("retentoin: { runs: 3 }"), @"config.yaml: unknown field `retentoin`, expected one of `journal`, `retention`, `modal`; it may hold `journal: sqlite` and `retention: { age: 90d, runs: 10000, size: 10GiB }`");
        insta::assert_snapshot!(wrong("retention: { rums: 3 }"), @"config.yaml: unknown field `rums`, expected one of `age`, `runs`, `size`; it may hold `journal: sqlite` and `retention: { age: 90d, runs: 10000, size: 10GiB }`");
        insta::assert_snapshot!(wrong("retention: { age: 90 }"), @"config.yaml: `age: 90` is no time; write such as `90d`, `12h` or `none`; it may hold `journal: sqlite` and `retention: { age: 90d, runs: 10000, size: 10GiB }`");
        insta::assert_snapshot!(wrong("retention: { age: 2 months }"), @"config.yaml: `age: 2 months` is no time; write such as `90d`, `12h` or `none`; it may hold `journal: sqlite` and `retention: { age: 90d, runs: 10000, size: 10GiB }`");
        insta::assert_snapshot!(wrong("retention: { runs: 0 }"), @"config.yaml: `runs: 0` is no number of runs; write such as `10000` or `none`; it may hold `journal: sqlite` and `retention: { age: 90d, runs: 10000, size: 10GiB }`");
        insta::assert_snapshot!(wrong("retention: { size: big }"), @"config.yaml: `size`: `big` is no size; write a number with its unit, such as `512MiB` or `4GiB`, or `none`; it may hold `journal: sqlite` and `retention: { age: 90d, runs: 10000, size: 10GiB }`");
        insta::assert_snapshot!(wrong("journal: redb"), @"config.yaml: unknown variant `redb`, expected `sqlite` or `sled`; it may hold `journal: sqlite` and `retention: { age: 90d, runs: 10000, size: 10GiB }`");
        assert!(wrong("retention: [").contains("config.yaml:1"), "{}", wrong("retention: ["));
    }
}
