//! The MCP servers that a session can have: one table. Programs of the image are started by the CLI; services elsewhere,
//! and those that such a program asks, are reached through gateways, which add their keys outside.

use crate::command::PLACEHOLDER;
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
        /// What it takes its key to, as a program of Node that asks by `fetch`: each with the address that it knows.
        outside: &'static [(&'static str, Outside)],
    },
    /// A service that speaks HTTP. Its key stays outside.
    Service(Outside),
}

/// A service beyond the sandbox that wants a key, which the host adds.
pub struct Outside {
    /// What the host knows it by.
    pub upstream: &'static str,
    /// The header that carries the key.
    pub header: &'static str,
    /// What stands before the key.
    pub prefix: &'static str,
}

const fn bearing(upstream: &'static str) -> Outside {
    Outside { upstream, header: "authorization", prefix: "Bearer " }
}

/// Where [`Chosen::redirection`] is kept in the sandbox.
pub const REDIRECTION: &str = "/root/.claude/gateways.mjs";
/// How it comes into a program of Node.
const NODE_OPTIONS: &str = "--import=file:///root/.claude/gateways.mjs";

const fn program(
    package: &'static str,
    version: &'static str,
    command: &'static str,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
    outside: &'static [(&'static str, Outside)],
) -> Source {
    Source::Program { package, version, command, arguments, environment, outside }
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
            &[],
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
            &[],
        ),
        needs: None,
    },
    Server { name: "github", source: Source::Service(bearing("github-mcp")), needs: Some("github_token") },
    Server {
        name: "gemini",
        source: program(
            "@houtini/gemini-mcp",
            "2.6.2",
            "gemini-mcp",
            &[],
            &[("GEMINI_API_KEY", PLACEHOLDER)],
            &[(
                "https://generativelanguage.googleapis.com",
                Outside { upstream: "gemini", header: "x-goog-api-key", prefix: "" },
            )],
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
            &[("SENTRY_ACCESS_TOKEN", PLACEHOLDER), ("SENTRY_AUTH_TOKEN", PLACEHOLDER)],
            // An organisation lies in one of its regions, each with an address of its own.
            &[
                ("https://sentry.io", bearing("sentry")),
                ("https://us.sentry.io", bearing("sentry-us")),
                ("https://de.sentry.io", bearing("sentry-de")),
            ],
        ),
        needs: Some("sentry_access_token"),
    },
    Server { name: "linear", source: Source::Service(bearing("linear-mcp")), needs: Some("linear_api_key") },
];

impl Server {
    /// The program that the image must have, if it is one.
    pub fn command(&self) -> Option<&'static str> {
        match self.source {
            Source::Program { command, .. } => Some(command),
            Source::Service(_) => None,
        }
    }

    /// What the CLI is told of it. `alwaysLoad` makes the first turn wait for it: its tools would be missing otherwise.
    fn entry(&self, required: bool, gateway: &dyn Fn(&str) -> Option<String>) -> Option<Value> {
        let mut entry = match &self.source {
            Source::Program { command, arguments, environment, outside, .. } => {
                let mut environment: Map<String, Value> =
                    environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
                if !outside.is_empty() {
                    environment.insert("NODE_OPTIONS".into(), NODE_OPTIONS.into());
                }
                json!({ "type": "stdio", "command": command, "args": arguments, "env": environment })
            }
            Source::Service(service) => json!({ "type": "http", "url": gateway(service.upstream)? }),
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

    /// What is reached through gateways, with the secret slot of each.
    pub fn outside(&self) -> impl Iterator<Item = (&'static Outside, Option<&'static str>)> {
        let services = self.servers.iter().filter_map(|server| match &server.source {
            Source::Service(service) => Some((service, server.needs)),
            Source::Program { .. } => None,
        });
        services.chain(self.redirected().map(|(server, _, outside)| (outside, server.needs)))
    }

    /// What programs take their keys to, with the address that they know.
    fn redirected(&self) -> impl Iterator<Item = (&'static Server, &'static str, &'static Outside)> {
        let of = |server: &'static Server| match server.source {
            Source::Program { outside, .. } => outside,
            Source::Service(_) => &[],
        };
        self.servers
            .iter()
            .flat_map(move |server| of(server).iter().map(|(origin, outside)| (*server, *origin, outside)))
    }

    /// The CLI's configuration. `gateway` is the address of an upstream, where it could be had.
    pub fn configuration(&self, gateway: &dyn Fn(&str) -> Option<String>) -> Value {
        let entry = |server: &&Server| Some((server.name.to_owned(), server.entry(self.required, gateway)?));
        json!({ "mcpServers": self.servers.iter().filter_map(entry).collect::<Map<_, _>>() })
    }

    /// A module of JavaScript by which programs ask gateways in place of the addresses they know, `None` where none of
    /// them would.
    pub fn redirection(&self, gateway: &dyn Fn(&str) -> Option<String>) -> Option<String> {
        let addresses: Map<String, Value> = self
            .redirected()
            .filter_map(|(_, origin, outside)| Some((origin.to_owned(), gateway(outside.upstream)?.into())))
            .collect();
        let module = include_str!("gateways.mjs");
        (!addresses.is_empty()).then(|| module.replace("GATEWAYS", &Value::Object(addresses).to_string()))
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
        let config = chosen.configuration(&|_| None);
        assert_eq!(config["mcpServers"]["memory"]["alwaysLoad"], true);
    }

    #[test]
    fn what_is_not_asked_for_is_offered_where_it_can_be_had() {
        let installed = names(&["mcp-server-memory", "chrome-devtools-mcp", "sentry-mcp"]);
        let chosen = choose(None, &["linear_api_key"], &installed).unwrap();
        let config = chosen.configuration(&|upstream| Some(format!("http://gateway/{upstream}")));
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
        let outside: Vec<_> = chosen.outside().map(|(outside, slot)| (outside.upstream, slot)).collect();
        let expected =
            [("github-mcp", "github_token"), ("linear-mcp", "linear_api_key"), ("gemini", "gemini_api_key")];
        assert_eq!(outside, expected.map(|(upstream, slot)| (upstream, Some(slot))));

        let gateway = |upstream: &str| Some(format!("http://gateway/{upstream}"));
        let module = chosen.redirection(&gateway).unwrap();
        let redirected =
            r#"const gateways = {"https://generativelanguage.googleapis.com":"http://gateway/gemini"};"#;
        assert!(module.contains(redirected), "{module}");
        let environment = &chosen.configuration(&gateway)["mcpServers"]["gemini"]["env"];
        assert_eq!(*environment, json!({ "GEMINI_API_KEY": PLACEHOLDER, "NODE_OPTIONS": NODE_OPTIONS }));
        let chosen = choose(Some(&[]), &bound, &[]).unwrap();
        assert_eq!(chosen.redirection(&gateway), None);
    }

    #[test]
    fn node_is_told_where_the_module_lies() {
        assert_eq!(NODE_OPTIONS, format!("--import=file://{REDIRECTION}"));
    }

    #[test]
    fn the_image_of_the_tests_has_the_versions_of_the_table() {
        let pinned: Value = serde_json::from_str(PINNED).unwrap();
        let held = SERVERS.iter().filter_map(|server| match server.source {
            Source::Program { package, version, .. } => {
                Some((pinned["dependencies"][package].as_str()?, version))
            }
            Source::Service(_) => None,
        });
        let held: Vec<_> = held.collect();
        assert!(held.len() >= 4 && held.iter().all(|(pinned, version)| pinned == version), "{held:?}");
    }
}
