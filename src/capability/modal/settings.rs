//! Who calls and where: read from the environment and `~/.modal.toml`, as Modal's own clients read them.

use crate::capability::secret::Secret;
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where Modal answers; the second is tried where the first does not.
const SERVERS: &str = "https://api.modal.com,https://api.modal2.com";
/// Bytes of a `.modal.toml`.
const FILE_LIMIT: u64 = 1 << 20;
/// How long a server may keep a call waiting in all, where nobody says.
const THROTTLE_LIMIT: Duration = Duration::from_secs(10 * 60);
/// The application that sandboxes belong to.
const APP: &str = "harvest";

/// Everything a client needs to know before it calls.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses of the control plane, the first that answers is taken.
    pub servers: Vec<String>,
    /// Names the token; `ak-...`.
    pub token_id: String,
    /// Its secret part; `as-...`.
    pub token_secret: Secret,
    /// Where both were found, for messages.
    pub source: String,
    /// Modal's environment; empty is the workspace's default one.
    pub environment: String,
    /// The version of Modal's image builder; `None` is the environment's.
    pub builder_version: Option<String>,
    /// How long a server may keep one call waiting in all.
    pub throttle_limit: Duration,
    /// Modal's application; it is made where it is missing.
    pub app: String,
    /// As which client to speak.
    pub identity: Identity,
}

/// As which client to speak: Modal serves its own, by kind and version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `x-modal-client-type`.
    pub kind: u32,
    /// `x-modal-client-version`.
    pub version: String,
    /// Further headers of every call.
    pub headers: BTreeMap<String, String>,
}

impl Default for Identity {
    /// The Python client that the messages were compared with.
    fn default() -> Self {
        Self { kind: 1, version: "1.6.4".into(), headers: BTreeMap::new() }
    }
}

/// A table of `.modal.toml`.
#[derive(Default, serde::Deserialize)]
struct Profile {
    token_id: Option<String>,
    token_secret: Option<String>,
    server_url: Option<String>,
    environment: Option<String>,
    image_builder_version: Option<String>,
    #[serde(default)]
    active: bool,
}

impl Settings {
    /// Reads the environment of this process and the file that it names, or `~/.modal.toml`.
    ///
    /// # Errors
    /// `auth-error` where there is no token, `invalid` where something cannot be read, with what to write.
    pub fn from_environment() -> Result<Self> {
        Self::read(&|name| std::env::var(name).ok())
    }

    /// The same for any environment.
    ///
    /// # Errors
    /// As for [`Settings::from_environment`].
    pub fn read(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let file = file(&variable);
        let (name, profile) = profile(file.as_deref(), variable("MODAL_PROFILE"))?;
        let place = || match &file {
            Some(file) => format!("profile `{name}` of {}", file.display()),
            None => format!("profile `{name}`"),
        };
        let mut sources = Vec::new();
        let mut credential = |name: &str, in_file: Option<String>, key: &str| {
            let found = match variable(name) {
                Some(value) => Some((value, name.to_owned())),
                None => in_file.map(|value| (value, format!("`{key}` in {}", place()))),
            };
            let (value, source) = found.ok_or_else(|| {
                let message = format!(
                    "there is no Modal token: set {name}, or write `{key}` in {} (`modal token set` does)",
                    place()
                );
                CapabilityError::new(ErrorKind::AUTH_ERROR, message)
            })?;
            sources.push(source);
            Ok(value)
        };
        let token_id = credential("MODAL_TOKEN_ID", profile.token_id, "token_id")?;
        let token_secret = credential("MODAL_TOKEN_SECRET", profile.token_secret, "token_secret")?;
        let servers = variable("MODAL_SERVER_URL").or(profile.server_url).unwrap_or_else(|| SERVERS.into());
        let servers = servers.split(',').map(|url| url.trim().trim_end_matches('/').to_owned());
        Ok(Self {
            servers: servers.filter(|url| !url.is_empty()).collect(),
            token_id,
            token_secret: Secret::new("modal_token_secret", token_secret),
            source: sources.join(" and "),
            environment: variable("MODAL_ENVIRONMENT").or(profile.environment).unwrap_or_default(),
            builder_version: variable("MODAL_IMAGE_BUILDER_VERSION").or(profile.image_builder_version),
            throttle_limit: throttle_limit(variable("MODAL_MAX_THROTTLE_WAIT"))?,
            app: APP.into(),
            identity: Identity::default(),
        })
    }
}

/// The file with profiles: the one that is named, or the one in the home directory where there is one.
fn file(variable: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let named = variable("MODAL_CONFIG_PATH").map(PathBuf::from);
    named.or_else(|| Some(Path::new(&variable("HOME")?).join(".modal.toml")))
}

/// The profile that is asked for, else the active one, else `default`. Empty where there is no file.
fn profile(file: Option<&Path>, wanted: Option<String>) -> Result<(String, Profile)> {
    let invalid = |what: String| CapabilityError::new(ErrorKind::INVALID, what);
    let mut profiles: BTreeMap<String, Profile> = match file {
        Some(file) => match std::fs::metadata(file) {
            Ok(found) if found.len() > FILE_LIMIT => {
                return Err(invalid(format!("{} is larger than {} KiB", file.display(), FILE_LIMIT >> 10)));
            }
            Ok(_) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|error| CapabilityError::io(format!("read {}", file.display()), &error))?;
                // What the parser shows of the text may be the token.
                toml::from_str(&text).map_err(|error| {
                    invalid(format!("{} is no table of profiles: {}", file.display(), error.message()))
                })?
            }
            Err(_) => BTreeMap::new(),
        },
        None => BTreeMap::new(),
    };
    let active = || profiles.iter().find(|(_, profile)| profile.active).map(|(name, _)| name.clone());
    let name = wanted.clone().or_else(active).unwrap_or_else(|| "default".into());
    match (profiles.remove(&name), wanted) {
        (None, Some(wanted)) if !profiles.is_empty() => {
            let known: Vec<_> = profiles.into_keys().collect();
            Err(invalid(format!("MODAL_PROFILE is `{wanted}`, and there are {}", known.join(", "))))
        }
        (profile, _) => Ok((name, profile.unwrap_or_default())),
    }
}

fn throttle_limit(text: Option<String>) -> Result<Duration> {
    let Some(text) = text else { return Ok(THROTTLE_LIMIT) };
    text.trim().parse().map(Duration::from_secs).map_err(|_| {
        let message = format!("MODAL_MAX_THROTTLE_WAIT is `{text}`: write a number of seconds");
        CapabilityError::new(ErrorKind::INVALID, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [default]
        token_id = "ak-default"
        token_secret = "as-default"

        [work]
        token_id = "ak-work"
        token_secret = "as-work"
        server_url = "https://one.example/, https://two.example"
        environment = "staging"
        image_builder_version = "2025.06"
        active = true

        [half]
        token_id = "ak-half"
    "#;

    fn read(file: &str, pairs: &[(&str, &str)]) -> Result<Settings> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("modal.toml");
        std::fs::write(&path, file).unwrap();
        let read = Settings::read(&|name| match name {
            "MODAL_CONFIG_PATH" => Some(path.display().to_string()),
            name => pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
        });
        let shown = directory.path().display().to_string();
        read.map_err(|error| CapabilityError::new(error.kind, error.message.replace(&shown, "/home")))
    }

    #[test]
    fn the_environment_beats_the_active_profile_which_beats_the_default_one() {
        let work = read(FILE, &[]).unwrap();
        assert_eq!((work.token_id.as_str(), work.token_secret.expose()), ("ak-work", "as-work"));
        assert_eq!(work.servers, ["https://one.example", "https://two.example"]);
        assert_eq!(
            (work.environment.as_str(), work.builder_version.as_deref()),
            ("staging", Some("2025.06"))
        );

        let default = read(FILE, &[("MODAL_PROFILE", "default"), ("MODAL_MAX_THROTTLE_WAIT", "0")]).unwrap();
        assert_eq!(default.token_id, "ak-default");
        assert_eq!(default.servers, ["https://api.modal.com", "https://api.modal2.com"]);
        assert_eq!(default.throttle_limit, Duration::ZERO);

        let pairs =
            [("MODAL_TOKEN_ID", "ak-env"), ("MODAL_TOKEN_SECRET", "as-env"), ("MODAL_ENVIRONMENT", "main")];
        for file in [FILE, ""] {
            let env = read(file, &pairs).unwrap();
            assert_eq!((env.token_id.as_str(), env.environment.as_str()), ("ak-env", "main"));
            assert_eq!(env.source, "MODAL_TOKEN_ID and MODAL_TOKEN_SECRET");
            assert!(!format!("{env:?}").contains("as-env"), "{env:?}");
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let wrong = |file: &str, pairs: &[(&str, &str)]| {
            let error = read(file, pairs).unwrap_err();
            format!("{}: {}", error.kind, error.message)
        };
        insta::assert_snapshot!(wrong("", &[]), @"auth-error: there is no Modal token: set MODAL_TOKEN_ID, or write `token_id` in profile `default` of /home/modal.toml (`modal token set` does)");
        insta::assert_snapshot!(wrong(FILE, &[("MODAL_PROFILE", "half")]), @"auth-error: there is no Modal token: set MODAL_TOKEN_SECRET, or write `token_secret` in profile `half` of /home/modal.toml (`modal token set` does)");
        insta::assert_snapshot!(wrong(FILE, &[("MODAL_PROFILE", "none")]), @"invalid: MODAL_PROFILE is `none`, and there are default, half, work");
        insta::assert_snapshot!(wrong("", &[("MODAL_TOKEN_ID", "ak-env")]), @"auth-error: there is no Modal token: set MODAL_TOKEN_SECRET, or write `token_secret` in profile `default` of /home/modal.toml (`modal token set` does)");
        insta::assert_snapshot!(wrong("[default]\ntoken_secret = as-oops\n", &[]), @"invalid: /home/modal.toml is no table of profiles: string values must be quoted, expected literal string");
        insta::assert_snapshot!(wrong(FILE, &[("MODAL_MAX_THROTTLE_WAIT", "soon")]), @"invalid: MODAL_MAX_THROTTLE_WAIT is `soon`: write a number of seconds");
    }
}
