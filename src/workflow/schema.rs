//! The grammar as a JSON Schema, draft-07, for editors: completion, documentation and most mistakes while typing. The
//! checker is what decides; this must never refuse what the checker accepts. It says nothing of what expressions mean.
//!
//! What depends on a value (`with:` on `uses:`) is said with `if` and `then`, never with `oneOf`, whose messages name
//! everything that might have been meant.

mod build;
mod component;
mod declare;
mod step;
mod trigger;
mod value;

use super::check::grammar::WORKFLOW;
use super::types::Catalog;
use build::{about, keyed, literal, map, names, text};
use component::Known;
use serde_json::{Value, json};

/// Where the schema lies, relative to the workflow files.
pub const PATH: &str = ".harvest/workflow.schema.json";

/// The first line of a workflow file, by which editors find the schema.
pub const EDITOR_LINE: &str = "# yaml-language-server: $schema=.harvest/workflow.schema.json";

/// What came of making a schema.
#[derive(Debug)]
pub struct Made {
    /// The schema.
    pub schema: Value,
    /// Components that could not be used, each with the reason; the schema is good without them.
    pub left_out: Vec<String>,
}

/// The schema of workflow files that can use the built-in components of a catalog and the component files named.
pub fn schema(catalog: &dyn Catalog, files: &[String]) -> Made {
    let mut known = Known::default();
    for name in catalog.names().iter().chain(files) {
        known.add(name, catalog.component(name));
    }
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "harvest workflow",
        "description": "A workflow of harvest: a graph of steps, each a function of a sandboxed component.",
        "definitions": {
            "step": step::step(&known),
            "type": declare::described_type(),
        },
        "allOf": [workflow()],
    });
    Made { schema, left_out: known.left_out }
}

fn workflow() -> Value {
    use super::types::Type::Duration;
    let steps = || map(names(), json!({ "$ref": "#/definitions/step" }));
    let mut schema = keyed(
        &[&WORKFLOW],
        &[
            ("harvest", json!({ "enum": [1, "1"], "default": 1 })),
            ("name", json!({ "type": "string", "pattern": "^[a-z][a-z0-9_-]{0,63}$" })),
            ("description", text()),
            ("on", trigger::on()),
            ("inputs", declare::inputs()),
            ("secrets", declare::secrets()),
            ("permissions", declare::permissions()),
            ("concurrency", step::concurrency()),
            ("timeout", literal(&Duration)),
            ("budget", value::money()),
            ("sandboxes", declare::sandboxes()),
            ("steps", steps()),
            ("finally", steps()),
            ("outputs", map(names(), json!({}))),
        ],
        &["harvest", "name", "steps"],
    );
    for key in ["steps", "finally"] {
        schema["properties"][key]["minProperties"] = 1.into();
    }
    schema
}

#[cfg(test)]
mod tests;
