//! What the machine's user has said about reaching git servers: certificates and proxies. Nothing else of the user's
//! configuration is read, and no program that it names is ever run.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

/// Variables that git and libcurl read themselves.
const PASSED: [&str; 10] = [
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "CURL_CA_BUNDLE",
    "https_proxy",
    "HTTPS_PROXY",
    "http_proxy",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];
/// Settings taken from the user's global git configuration, for all servers or for one URL.
const TAKEN: &str = r"^http\.(.*\.)?(sslcainfo|sslcapath|proxy)$";
/// Most settings taken.
const MOST: usize = 256;

/// How servers are reached, read once.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    /// Environment of git.
    pub(super) environment: Vec<(String, String)>,
    /// Configuration of git. A proxy's may hold a password, so it travels in the environment, never in argv.
    pub(super) config: Vec<(String, String)>,
}

impl Settings {
    /// Reads them from `environment` (this process's own) and the global git configuration it leads to.
    pub(super) fn read(environment: &BTreeMap<String, String>) -> Self {
        let mut settings = Self { environment: Vec::new(), config: global(environment) };
        for name in PASSED {
            if let Some(value) = environment.get(name) {
                settings.environment.push((name.to_owned(), value.clone()));
            }
        }
        // OpenSSL's own variables are the weakest: git's, and what its configuration says, come first.
        for (theirs, ours, key) in [
            ("SSL_CERT_FILE", "GIT_SSL_CAINFO", "http.sslcainfo"),
            ("SSL_CERT_DIR", "GIT_SSL_CAPATH", "http.sslcapath"),
        ] {
            if let Some(value) = environment.get(theirs)
                && !environment.contains_key(ours)
                && !settings.config.iter().any(|(name, _)| name == key)
            {
                settings.environment.push((ours.to_owned(), value.clone()));
            }
        }
        settings
    }
}

impl Settings {
    /// The file of further certificates that git trusts.
    pub(super) fn authorities(&self) -> Option<&str> {
        let named = |list: &'_ [(String, String)], name: &str| {
            list.iter().position(|(key, _)| key.eq_ignore_ascii_case(name))
        };
        if let Some(at) = named(&self.environment, "GIT_SSL_CAINFO") {
            return Some(&self.environment[at].1);
        }
        named(&self.config, "http.sslcainfo").map(|at| self.config[at].1.as_str())
    }
}

fn global(environment: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut command = Command::new("git");
    command.args(["config", "--global", "--includes", "--null", "--get-regexp", TAKEN]);
    command.env_clear().current_dir("/").stdin(Stdio::null()).stderr(Stdio::null());
    for name in ["PATH", "HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL"] {
        if let Some(value) = environment.get(name) {
            command.env(name, value);
        }
    }
    let Ok(output) = command.output() else { return Vec::new() };
    String::from_utf8_lossy(&output.stdout)
        .split_terminator('\0')
        .filter_map(|entry| entry.split_once('\n'))
        .take(MOST)
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(config: &std::path::Path, more: &[(&str, &str)]) -> BTreeMap<String, String> {
        let mut environment: BTreeMap<_, _> =
            more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        environment.insert("PATH".into(), std::env::var("PATH").unwrap());
        environment.insert("GIT_CONFIG_GLOBAL".into(), config.to_str().unwrap().into());
        environment
    }

    #[test]
    fn takes_certificates_and_proxies_and_nothing_else() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "[http]\nsslCAInfo=/ca\nsslVerify=false\nproxy=http://p\n[http \"https://h\"]\nsslCAPath=/dir\n\
             [credential]\nhelper=store\n[url \"ext::x\"]\ninsteadOf=https://\n[core]\nsshCommand=evil\n",
        )
        .unwrap();
        let settings =
            Settings::read(&environment(file.path(), &[("SSL_CERT_FILE", "/weaker"), ("NO_PROXY", "x")]));
        let config: Vec<_> = settings.config.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(config, ["http.sslcainfo=/ca", "http.proxy=http://p", "http.https://h.sslcapath=/dir"]);
        assert_eq!(settings.environment, [("NO_PROXY".to_owned(), "x".to_owned())]);
    }

    #[test]
    fn openssls_variables_serve_where_git_has_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let settings = Settings::read(&environment(file.path(), &[("SSL_CERT_FILE", "/bundle")]));
        assert_eq!(settings.environment, [("GIT_SSL_CAINFO".to_owned(), "/bundle".to_owned())]);
        assert!(settings.config.is_empty());
    }
}
