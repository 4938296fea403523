//! Scenarios by name: the ways of success and failure that a client of the API has to tell apart.

use crate::reply::{Block, Reply, Stop};
use crate::script::Script;
use serde_json::{Value, json};
use std::path::Path;

/// Names that [`scenario`] knows.
pub const SCENARIOS: [&str; 23] = [
    "text",
    "write",
    "write-edit",
    "readedit",
    "memory",
    "toolsearch",
    "loop",
    "sleep",
    "bg",
    "e400",
    "ecredit",
    "e401",
    "e403",
    "e404",
    "e429",
    "e500",
    "e529",
    "midstream",
    "cut",
    "broken",
    "hang",
    "maxtok",
    "refusal",
];

/// A script by name, `None` where there is none. `directory` is where the client works: the paths in tool calls are
/// below it.
pub fn scenario(name: &str, directory: &Path) -> Option<Script> {
    let path = |file: &str| directory.join(file).display().to_string();
    let write = || {
        Reply::blocks([
            Block::text("I will write a file. "),
            Block::tool(
                "Write",
                json!({ "file_path": path("hello.txt"), "content": "hello from the script\n" }),
            ),
        ])
    };
    let edit = || {
        let input =
            json!({ "file_path": path("README.md"), "old_string": "scratch", "new_string": "edited" });
        Reply::tool("Edit", input)
    };
    let read = || Reply::tool("Read", json!({ "file_path": path("README.md") }));
    let memory = || {
        let entity = json!({
            "name": "ScriptedEntity",
            "entityType": "test",
            "observations": ["written through the real CLI"],
        });
        Reply::tool("mcp__memory__create_entities", json!({ "entities": [entity] }))
    };
    let invalid = |message: &str| Script::always(Reply::error(400, "invalid_request_error", message));
    let error = |status, kind: &str, message: &str| Script::always(Reply::error(status, kind, message));

    Some(match name {
        "text" => Script::always(Reply::text("Hello. This is the script.")),
        "write" => Script::turns([write(), Reply::text("Done: wrote hello.txt.")]),
        "write-edit" => Script::turns([write(), edit(), Reply::text("Done: wrote hello.txt and edited.")]),
        "readedit" => Script::turns([
            read(),
            edit(),
            bash("id -u; pwd; git status --short; env | grep -oE '^(ANTHROPIC|CLAUDE)[A-Z_]*'", json!({})),
            Reply::text("All edits complete."),
        ]),
        "memory" => Script::turns([memory(), Reply::text("Memory updated.")]),
        "toolsearch" => {
            let search = json!({ "query": "select:mcp__memory__create_entities", "max_results": 3 });
            Script::turns([Reply::tool("ToolSearch", search), memory(), Reply::text("Memory updated.")])
        }
        "loop" => Script::new(|turn| bash(&format!("echo turn {}", turn.number), json!({}))),
        "sleep" => Script::turns([bash("tail -f /dev/null", json!({})), Reply::text("slept")]),
        "bg" => Script::turns([
            bash("sleep 25; echo bgdone", json!({ "run_in_background": true })),
            Reply::text("started background task"),
        ]),
        "e400" => invalid("messages: scripted bad request"),
        "ecredit" => invalid("Your credit balance is too low to access the Anthropic API."),
        "e401" => error(401, "authentication_error", "invalid x-api-key"),
        "e403" => error(403, "permission_error", "OAuth token has been revoked"),
        "e404" => error(404, "not_found_error", "model: scripted-model"),
        "e429" => error(429, "rate_limit_error", "scripted rate limit"),
        "e500" => error(500, "api_error", "scripted internal error"),
        "e529" => error(529, "overloaded_error", "Overloaded"),
        "midstream" => Script::always(Reply::MidStream),
        "cut" => Script::always(Reply::Cut),
        "broken" => Script::always(Reply::Broken),
        "hang" => Script::always(Reply::Hang),
        "maxtok" => Script::always(Reply::text("truncated answer").stopping(Stop::MaxTokens)),
        "refusal" => Script::always(Reply::text("").stopping(Stop::Refusal)),
        _ => return None,
    })
}

/// A call of the Bash tool with further arguments.
fn bash(command: &str, mut more: Value) -> Reply {
    more["command"] = json!(command);
    more["description"] = json!("scripted command");
    Reply::tool("Bash", more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_scenario_exists() {
        let missing: Vec<_> =
            SCENARIOS.into_iter().filter(|name| scenario(name, Path::new("/")).is_none()).collect();
        assert_eq!(missing, [""; 0]);
        assert!(scenario("no such scenario", Path::new("/")).is_none());
    }
}
