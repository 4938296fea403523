//! The MCP servers that a session can have: one table. Programs of the image are started by the CLI; services elsewhere are
//! reached through gateways, which add their keys outside.

use serde_json::{Map, Value, json};

/// A server.
pub struct Server {
    /// What workflows call it.
    pub name: &'static str,
    /// Where it comes from.
    pub source: Source,
    /// The secret slot without which it cannot work.
    pub needs: Option<&'static str>,
}

/// Where a server comes from.
pub enum Source {
    /// A program of the image, which speaks over its standard input and output.
    Program {
        /// The package that has it, in the registry of npm.
        package: &'static str,
        /// The version that is known to work.
        version: &'static str,
        command: &'static str,
        arguments: &'static [&'static str],
        /// Variables it reads, with their values; `${NAME}` is expanded by the CLI from its own environment.
        environment: &'static [(&'static str, &'static str)],
    },
    /// A service that speaks HTTP: the upstream that the host knows it by. Its key stays outside.
    Service { upstream: &'static str },
}

const fn program(
    package: &'static str,
    version: &'static str,
    command: &'static str,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
) -> Source {
    Source::Program { package, version, command, arguments, environment }
}

/// All that are known. Their packages' older names for keys stand for the ones they read now.
pub const SERVERS: [Server; 8] = [
    Server {
        name: "memory",
        source: program(
            "@modelcontextprotocol/server-memory",
            "2026.8.31",
            "mcp-server-memory",
            &[],
            &[("MEMORY_FILE_PATH", "${MEMORY_FILE_PATH:-/root/.mcp-memory/memory.jsonl}")],
        ),
        needs: None,
    },
    Server {
        name: "filesystem",
        source: program(
            "@modelcontextprotocol/server-filesystem",
            "2026.8.31",
            "mcp-server-filesystem",
            &["/workspace"],
            &[],
        ),
        needs: None,
    },
    Server {
        name: "playwright",
        source: program(
            "@playwright/mcp",
            "0.0.83",
            "playwright-mcp",
            // The sandbox is the wall: Chromium's own needs rights that nobody has in here.
            &[
                "--headless",
                "--isolated",
                "--no-sandbox",
                "--output-dir=/tmp/playwright",
                "--executable-path=${CHROMIUM_PATH:-/usr/bin/chromium}",
            ],
            &[],
        ),
        needs: None,
    },
    Server {
        name: "devtools",
        source: program(
            "chrome-devtools-mcp",
            "1.11.0",
            "chrome-devtools-mcp",
            &[
                "--headless",
                "--isolated",
                "--no-usage-statistics",
                "--no-performance-crux",
                "--executablePath=${CHROMIUM_PATH:-/usr/bin/chromium}",
                "--chromeArg=--no-sandbox",
            ],
            &[],
        ),
        needs: None,
    },
    Server {
        name: "github",
        source: Source::Service { upstream: "github-mcp" },
        needs: Some("github_token"),
    },
    Server {
        name: "gemini",
        source: program(
            "@houtini/gemini-mcp",
            "2.6.2",
            "gemini-mcp",
            &[],
            &[("GEMINI_API_KEY", "${GEMINI_API_KEY}")],
        ),
        needs: Some("gemini_api_key"),
    },
    Server {
        name: "sentry",
        source: program(
            "@sentry/mcp-server",
            "0.39.0",
            "sentry-mcp",
            &[],
            &[
                ("SENTRY_ACCESS_TOKEN", "${SENTRY_ACCESS_TOKEN}"),
                ("SENTRY_AUTH_TOKEN", "${SENTRY_ACCESS_TOKEN}"),
            ],
        ),
        needs: Some("sentry_access_token"),
    },
    Server {
        name: "linear",
        source: Source::Service { upstream: "linear-mcp" },
        needs: Some("linear_api_key"),
    },
];

impl Server {
    /// The program that the image must have, if it is one.
    pub fn command(&self) -> Option<&'static str> {
        match self.source {
            Source::Program { command, .. } => Some(command),
            Source::Service { .. } => None,
        }
    }

    /// What the CLI is told of it. `alwaysLoad` makes the first turn wait for it: its tools would be missing otherwise.
    fn entry(
        &self,
        required: bool,
        gateway: &mut dyn FnMut(&'static str) -> Option<String>,
    ) -> Option<Value> {
        let mut entry = match self.source {
            Source::Program { command, arguments, environment, .. } => {
                let environment: Map<String, Value> =
                    environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
                json!({ "type": "stdio", "command": command, "args": arguments, "env": environment })
            }
            Source::Service { upstream } => json!({ "type": "http", "url": gateway(upstream)? }),
        };
        if required {
            entry["alwaysLoad"] = true.into();
        }
        Some(entry)
    }
}

/// The servers that a session has.
pub struct Chosen {
    servers: Vec<&'static Server>,
    /// Whether it is not to begin without them.
    required: bool,
}

/// Chooses: those that are asked for, which are then required, else all that can be offered. `bound` are the secret slots
/// that have a value, `installed` the programs that the image has. The error is a sentence for the author of the workflow.
pub fn choose(asked: Option<&[String]>, bound: &[&str], installed: &[String]) -> Result<Chosen, Refusal> {
    let has =
        |server: &Server| server.command().is_none_or(|command| installed.iter().any(|name| name == command));
    let missing_key = |server: &Server| server.needs.filter(|slot| !bound.contains(slot));
    let Some(asked) = asked else {
        let offered = SERVERS.iter().filter(|server| has(server) && missing_key(server).is_none());
        return Ok(Chosen { servers: offered.collect(), required: false });
    };
    let mut servers = Vec::new();
    for name in asked {
        let Some(server) = SERVERS.iter().find(|server| server.name == name) else {
            let known: Vec<_> = SERVERS.iter().map(|server| server.name).collect();
            let message = format!("there is no MCP server `{name}`: known are {}", known.join(", "));
            return Err(Refusal::Invalid(message));
        };
        if let Some(slot) = missing_key(server) {
            return Err(Refusal::Invalid(format!(
                "the MCP server `{name}` needs a secret: write `secrets: {{ {slot}: NAME }}` in the step"
            )));
        }
        if let (false, Source::Program { package, version, command, .. }) = (has(server), &server.source) {
            return Err(Refusal::NotInstalled(format!(
                "the MCP server `{name}` is not in the image: add {package} {version}, which has the program {command}"
            )));
        }
        servers.push(server);
    }
    Ok(Chosen { servers, required: true })
}

/// Why a session cannot have the servers that it is to have.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// What the workflow asks for makes no sense.
    Invalid(String),
    /// The image lacks a program.
    NotInstalled(String),
}

impl Chosen {
    /// Names of the servers without which the session is not what was asked for.
    pub fn required(&self) -> Vec<String> {
        let all = self.servers.iter().filter(|_| self.required);
        all.map(|server| server.name.to_owned()).collect()
    }

    /// Secret slots whose values programs of the image read from their environment.
    pub fn slots(&self) -> impl Iterator<Item = &'static str> {
        self.servers.iter().filter(|server| server.command().is_some()).filter_map(|server| server.needs)
    }

    /// Services with the secret slot of each.
    pub fn services(&self) -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
        self.servers.iter().filter_map(|server| match server.source {
            Source::Service { upstream } => Some((upstream, server.needs)),
            Source::Program { .. } => None,
        })
    }

    /// The CLI's configuration. `gateway` is the address of a service, where it could be had.
    pub fn configuration(&self, gateway: &mut dyn FnMut(&'static str) -> Option<String>) -> Value {
        let entry = |server: &&Server| Some((server.name.to_owned(), server.entry(self.required, gateway)?));
        json!({ "mcpServers": self.servers.iter().filter_map(entry).collect::<Map<_, _>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the agent image of the tests holds, pinned with its integrity.
    const PINNED: &str = include_str!("../../../xtask/agent-cli/npm/package.json");

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    fn refused(asked: &[&str], bound: &[&str], installed: &[&str]) -> Refusal {
        match choose(Some(&names(asked)), bound, &names(installed)) {
            Err(refusal) => refusal,
            Ok(chosen) => panic!("chose {:?}", chosen.required()),
        }
    }

    #[test]
    fn what_is_asked_for_is_required() {
        let chosen = choose(Some(&names(&["memory"])), &[], &names(&["mcp-server-memory"])).unwrap();
        assert_eq!(chosen.required(), ["memory"]);
        let config = chosen.configuration(&mut |_| None);
        assert_eq!(config["mcpServers"]["memory"]["alwaysLoad"], true);
    }

    #[test]
    fn what_is_not_asked_for_is_offered_where_it_can_be_had() {
        let installed = names(&["mcp-server-memory", "chrome-devtools-mcp", "sentry-mcp"]);
        let chosen = choose(None, &["linear_api_key"], &installed).unwrap();
        let config = chosen.configuration(&mut |upstream| Some(format!("http://gateway/{upstream}")));
        let offered: Vec<_> = config["mcpServers"].as_object().unwrap().keys().collect();
        assert_eq!(offered, ["devtools", "linear", "memory"]);
        assert_eq!(
            config["mcpServers"]["linear"],
            json!({ "type": "http", "url": "http://gateway/linear-mcp" })
        );
        assert!(chosen.required().is_empty() && config["mcpServers"]["memory"]["alwaysLoad"].is_null());
    }

    #[test]
    fn what_is_missing_is_named() {
        let Refusal::Invalid(unknown) = refused(&["memroy"], &[], &[]) else { panic!("not invalid") };
        assert!(unknown.contains("known are memory, filesystem"), "{unknown}");
        let Refusal::Invalid(keyless) = refused(&["sentry"], &[], &[]) else { panic!("not invalid") };
        assert!(keyless.contains("secrets: { sentry_access_token: NAME }"), "{keyless}");
        let Refusal::NotInstalled(absent) = refused(&["sentry"], &["sentry_access_token"], &[]) else {
            panic!("not absent")
        };
        assert!(absent.contains("add @sentry/mcp-server 0.39.0"), "{absent}");
    }

    #[test]
    fn keys_of_services_stay_outside() {
        let bound = ["github_token", "linear_api_key", "gemini_api_key"];
        let chosen =
            choose(Some(&names(&["github", "linear", "gemini"])), &bound, &names(&["gemini-mcp"])).unwrap();
        assert_eq!(chosen.slots().collect::<Vec<_>>(), ["gemini_api_key"]);
        let services: Vec<_> = chosen.services().collect();
        assert_eq!(services, [("github-mcp", Some("github_token")), ("linear-mcp", Some("linear_api_key"))]);
    }

    #[test]
    fn the_image_of_the_tests_has_the_versions_of_the_table() {
        let pinned: Value = serde_json::from_str(PINNED).unwrap();
        let held = SERVERS.iter().filter_map(|server| match server.source {
            Source::Program { package, version, .. } => {
                Some((pinned["dependencies"][package].as_str()?, version))
            }
            Source::Service { .. } => None,
        });
        let held: Vec<_> = held.collect();
        assert!(held.len() >= 4 && held.iter().all(|(pinned, version)| pinned == version), "{held:?}");
    }
}
