//! The script that stands in for the model: it reads the file, edits it, runs the tests, remembers how, and reports
//! what the tests said.

use super::sample;
use scripted_api::{Block, Reply, Script, Server};
use serde_json::json;

/// Starts it.
pub(super) fn start() -> Result<Server, String> {
    Server::start(script()).map_err(|error| format!("cannot start the scripted model: {error}"))
}

fn script() -> Script {
    let path = format!("/workspace/sample/{}", sample::CODE);
    Script::new(move |turn| match turn.number {
        0 => Reply::blocks([
            Block::text("I read the code first. "),
            Block::tool("Read", json!({ "file_path": path })),
        ]),
        1 => Reply::blocks([
            Block::text("Ten pieces must have the discount too: the comparison is off by one. "),
            Block::tool(
                "Edit",
                json!({ "file_path": path, "old_string": "pieces > 10", "new_string": "pieces >= 10" }),
            ),
        ]),
        2 => Reply::tool("Bash", json!({ "command": "node --test", "description": "Run the tests" })),
        3 if turn.tool_results().contains("fail 0") => {
            let entity = json!({
                "name": "SampleTests",
                "entityType": "procedure",
                "observations": ["The tests of this repository are run with `node --test`"],
            });
            Reply::tool("mcp__memory__create_entities", json!({ "entities": [entity] }))
        }
        3 => Reply::text(format!("The tests still fail:\n{}", turn.tool_results())),
        _ => Reply::text(
            "Give the discount from ten pieces on\n\nThe comparison excluded ten. Both tests pass now.",
        ),
    })
}
