//! The MCP servers that a session can have: one table. All of them are programs of the image, started by the CLI.

use serde_json::{Map, Value, json};

/// How a server is started.
struct Server {
    name: &'static str,
    command: &'static str,
    arguments: &'static [&'static str],
    /// Variables it needs, with their values; `${NAME}` is expanded by the CLI from its own environment.
    environment: &'static [(&'static str, &'static str)],
    /// The secret slot without which it cannot work.
    needs: Option<&'static str>,
}

const SERVERS: &[Server] = &[
    Server {
        name: "memory",
        command: "mcp-server-memory",
        arguments: &[],
        environment: &[("MEMORY_FILE_PATH", "${MEMORY_FILE_PATH:-/root/.mcp-memory/memory.jsonl}")],
        needs: None,
    },
    Server {
        name: "filesystem",
        command: "mcp-server-filesystem",
        arguments: &["/workspace"],
        environment: &[],
        needs: None,
    },
    Server {
        name: "playwright",
        command: "playwright-mcp",
        arguments: &["--headless", "--isolated", "--no-sandbox"],
        environment: &[],
        needs: None,
    },
    Server {
        name: "devtools",
        command: "chrome-devtools-mcp",
        arguments: &["--headless", "--isolated", "--no-usage-statistics", "--no-performance-crux"],
        environment: &[],
        needs: None,
    },
    Server {
        name: "github",
        command: "github-mcp-server",
        arguments: &["stdio"],
        environment: &[("GITHUB_PERSONAL_ACCESS_TOKEN", "${GITHUB_TOKEN}")],
        needs: Some("github_token"),
    },
    Server {
        name: "gemini",
        command: "gemini-mcp",
        arguments: &[],
        environment: &[("GEMINI_API_KEY", "${GEMINI_API_KEY}")],
        needs: Some("gemini_api_key"),
    },
    Server {
        name: "sentry",
        command: "sentry-mcp",
        arguments: &[],
        environment: &[("SENTRY_ACCESS_TOKEN", "${SENTRY_ACCESS_TOKEN}")],
        needs: Some("sentry_access_token"),
    },
    Server {
        name: "linear",
        command: "mcp-remote",
        arguments: &["https://mcp.linear.app/mcp", "--header", "Authorization: Bearer ${LINEAR_API_KEY}"],
        environment: &[("LINEAR_API_KEY", "${LINEAR_API_KEY}")],
        needs: Some("linear_api_key"),
    },
];

/// The CLI's configuration for these servers. `bound` are the secret slots that have a value. The error is a sentence
/// for the author of the workflow.
pub fn configuration(names: &[String], bound: &[&str]) -> Result<Value, String> {
    let mut servers = Map::new();
    for name in names {
        let Some(server) = SERVERS.iter().find(|server| server.name == name) else {
            let known: Vec<_> = SERVERS.iter().map(|server| server.name).collect();
            return Err(format!("there is no MCP server `{name}`: known are {}", known.join(", ")));
        };
        if let Some(slot) = server.needs.filter(|slot| !bound.contains(slot)) {
            return Err(format!(
                "the MCP server `{name}` needs a secret: write `secrets: {{ {slot}: NAME }}` in the step"
            ));
        }
        let environment: Map<String, Value> =
            server.environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        // `alwaysLoad` makes the first turn wait for the server: its tools would be missing otherwise.
        let entry = json!({ "type": "stdio", "command": server.command, "args": server.arguments, "env": environment, "alwaysLoad": true });
        servers.insert(name.clone(), entry);
    }
    Ok(json!({ "mcpServers": servers }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_known_and_have_what_they_need() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let config = configuration(&names(&["memory"]), &[]).unwrap();
        assert_eq!(config["mcpServers"]["memory"]["alwaysLoad"], true);
        assert!(
            configuration(&names(&["memroy"]), &[]).unwrap_err().contains("known are memory, filesystem")
        );
        assert!(
            configuration(&names(&["sentry"]), &[])
                .unwrap_err()
                .contains("secrets: { sentry_access_token: NAME }")
        );
        assert!(configuration(&names(&["sentry"]), &["sentry_access_token"]).is_ok());
    }
}
