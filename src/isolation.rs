//! How well a sandbox is held in: reported by providers, demanded by workflow files. A leaf.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What a provider can promise for one sandbox on this machine. A limit that nobody asked for is held by `none`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// `range`, `subuid`, `emulated` or `host` (root inside is root of the host): how user ids map.
    pub ids: String,
    /// `cgroup`, `watchdog` or `none`: what holds the memory to its limit.
    pub memory: String,
    /// `cgroup`, `rlimit` or `none`: what bounds the number of processes.
    pub pids: String,
    /// `quota`, `watchdog` or `none`: what holds the files to their limit.
    pub disk: String,
    /// `cgroup` or `none`: what holds the CPU to its limit.
    pub cpu: String,
    /// `none`, `host` or `allow-list`.
    pub network: String,
}

/// A part of a sandbox that can be held in more or less well, with the words for how well, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its key in reports and in `require`.
    pub name: &'static str,
    /// From the weakest to the strongest.
    pub levels: &'static [&'static str],
    /// The key of a sandbox that sets the limit, where there is nothing to hold without one.
    pub limit: Option<&'static str>,
    /// What gives a machine the strongest level.
    pub remedy: &'static str,
}

/// All parts that a workflow can make demands on.
pub const PARTS: [Part; 5] = [
    Part {
        name: "ids",
        levels: &["host", "emulated", "subuid", "range"],
        limit: None,
        remedy: "run harvest as root",
    },
    Part {
        name: "memory",
        levels: &["none", "watchdog", "cgroup"],
        limit: Some("memory"),
        remedy: "run harvest as root, or give it a writable control group",
    },
    Part {
        name: "pids",
        levels: &["none", "rlimit", "cgroup"],
        limit: None,
        remedy: "run harvest as root, or give it a writable control group",
    },
    Part {
        name: "disk",
        levels: &["none", "watchdog", "quota"],
        limit: Some("disk"),
        remedy: "no provider of this version sets quotas",
    },
    Part {
        name: "cpu",
        levels: &["none", "cgroup"],
        limit: Some("cpu"),
        remedy: "run harvest as root, or give it a writable control group",
    },
];

/// Names of providers that a workflow can demand.
pub const PROVIDERS: [&str; 4] = ["local", "gvisor", "docker", "modal"];

impl Part {
    /// The part of this name.
    pub fn find(name: &str) -> Option<Self> {
        PARTS.into_iter().find(|part| part.name == name)
    }

    /// How strong a level is; unknown words count as the weakest.
    fn rank(&self, level: &str) -> usize {
        self.levels.iter().position(|known| *known == level).unwrap_or_default()
    }
}

impl Isolation {
    /// The level of a part.
    pub fn level(&self, part: &str) -> &str {
        match part {
            "ids" => &self.ids,
            "memory" => &self.memory,
            "pids" => &self.pids,
            "disk" => &self.disk,
            "cpu" => &self.cpu,
            _ => "",
        }
    }
}

impl fmt::Display for Isolation {
    /// As one line for operators.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &PARTS {
            write!(f, "{} {}, ", part.name, self.level(part.name))?;
        }
        write!(f, "network {}", self.network)
    }
}

/// What a workflow demands of a sandbox: the least level of parts, by their name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Require {
    /// The provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Part -> its least level.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub levels: BTreeMap<String, String>,
}

impl Require {
    /// Whether it demands nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Every demand that is not met, as a sentence that says what to do.
    pub fn unmet(&self, provider: &str, isolation: &Isolation) -> Vec<String> {
        let mut unmet = Vec::new();
        if let Some(wanted) = self.provider.as_deref().filter(|wanted| *wanted != provider) {
            unmet.push(format!(
                "it requires the provider `{wanted}`, and this is `{provider}`: use that one, or write \
                 `require: {{ provider: {provider} }}`"
            ));
        }
        for (name, wanted) in &self.levels {
            let Some(part) = Part::find(name) else { continue };
            let found = isolation.level(name);
            if part.rank(found) < part.rank(wanted) {
                unmet.push(format!(
                    "it requires `{name}: {wanted}`, and here it would be `{found}`: {}, or write \
                     `require: {{ {name}: {} }}`",
                    part.remedy,
                    part.levels[part.rank(found)]
                ));
            }
        }
        unmet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn required(levels: &[(&str, &str)]) -> Require {
        let levels = levels.iter().map(|(part, level)| ((*part).to_owned(), (*level).to_owned())).collect();
        Require { provider: None, levels }
    }

    #[test]
    fn what_is_stronger_meets_what_is_weaker() {
        for part in &PARTS {
            for (wanted_rank, wanted) in part.levels.iter().enumerate() {
                for (found_rank, found) in part.levels.iter().enumerate() {
                    let mut isolation = Isolation::default();
                    match part.name {
                        "ids" => isolation.ids = (*found).into(),
                        "memory" => isolation.memory = (*found).into(),
                        "pids" => isolation.pids = (*found).into(),
                        "disk" => isolation.disk = (*found).into(),
                        _ => isolation.cpu = (*found).into(),
                    }
                    let unmet = required(&[(part.name, wanted)]).unmet("local", &isolation);
                    assert_eq!(unmet.is_empty(), found_rank >= wanted_rank, "{wanted} of {found}: {unmet:?}");
                }
            }
        }
    }

    #[test]
    fn every_demand_that_is_not_met_is_named() {
        let mut require = required(&[("memory", "cgroup"), ("pids", "cgroup"), ("ids", "emulated")]);
        require.provider = Some("other".into());
        let isolation = Isolation {
            ids: "emulated".into(),
            memory: "watchdog".into(),
            pids: "a word of tomorrow".into(),
            ..Isolation::default()
        };
        insta::assert_snapshot!(require.unmet("local", &isolation).join("\n"), @r#"
        it requires the provider `other`, and this is `local`: use that one, or write `require: { provider: local }`
        it requires `memory: cgroup`, and here it would be `watchdog`: run harvest as root, or give it a writable control group, or write `require: { memory: watchdog }`
        it requires `pids: cgroup`, and here it would be `a word of tomorrow`: run harvest as root, or give it a writable control group, or write `require: { pids: none }`
        "#);
        assert!(Require::default().unmet("local", &isolation).is_empty());
    }
}
