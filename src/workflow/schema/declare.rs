//! What a workflow declares before its steps: inputs, secrets, sandboxes, permissions.

use super::build::{about, literal, map, names, object, one_or_several, text, words, words_or};
use super::value::with_holes;
use crate::workflow::types::Type;
use serde_json::{Value, json};

/// Words for types that say everything.
const SIMPLE: [&str; 6] = ["string", "int", "float", "bool", "duration", "size"];

/// Words for types that need to say what is inside, and `json` for anything.
const ALL: [&str; 10] =
    ["string", "int", "float", "bool", "duration", "size", "enum", "list", "object", "json"];

/// A type as a word, or described.
pub(super) fn described_type() -> Value {
    let mut schema = object(&type_keys("the value"), &["type"]);
    schema["allOf"] = json!(inside());
    json!({ "anyOf": [words(&SIMPLE), schema] })
}

fn type_keys(of: &str) -> Vec<(&'static str, Value)> {
    let described = || json!({ "$ref": "#/definitions/type" });
    vec![
        ("type", about(&format!("The type of {of}."), words(&ALL))),
        ("optional", about(&format!("Whether {of} may be absent."), literal(&Type::Bool))),
        ("description", about(&format!("What {of} is."), text())),
        ("fields", about("The fields of an object, each with its type.", map(names(), described()))),
        ("items", about("The type of a list's items.", described())),
        ("values", about("The words of an enum.", one_or_several(text()))),
    ]
}

/// Types that need a further key, and the keys that belong to one type alone.
fn inside() -> Vec<Value> {
    let rule = |word: &str, key: &str| {
        json!({
            "if": { "properties": { "type": { "const": word } }, "required": ["type"] },
            "then": { "required": [key] },
            "else": { "properties": { (key): false } },
        })
    };
    [("enum", "values"), ("list", "items"), ("object", "fields")].map(|(word, key)| rule(word, key)).to_vec()
}

pub(super) fn inputs() -> Value {
    let limit = json!({ "type": ["number", "string"] });
    let mut keys = type_keys("the input");
    keys.extend([
        ("default", about("Its value where none is given; expressions in it see `run` alone.", json!({}))),
        ("pattern", about("A regular expression that the text must match.", json!({ "type": "string" }))),
        ("min", about("The least value, or the least length of a text or list.", limit.clone())),
        ("max", about("The greatest value, or the greatest length of a text or list.", limit)),
        ("multiline", about("Whether forms show more than one line for it.", literal(&Type::Bool))),
    ]);
    let mut described = object(&keys, &["type"]);
    let mut rules = inside();
    let scalars = [Type::String, Type::Int, Type::Float, Type::Bool, Type::Duration, Type::Size];
    for (word, ty) in SIMPLE.iter().zip(scalars) {
        let default = about(
            &format!("Its value where none is given: {ty}, or an expression over `run`."),
            with_holes(&Type::Option(Box::new(ty))),
        );
        rules.push(json!({
            "if": { "properties": { "type": { "const": word } }, "required": ["type"] },
            "then": { "properties": { "default": default } },
        }));
    }
    described["allOf"] = rules.into();
    let input = json!({ "anyOf": [words(&SIMPLE), described] });
    about("What a run is started with, by name; steps read it as `${{ inputs.NAME }}`.", map(names(), input))
}

pub(super) fn secrets() -> Value {
    let source = json!({
        "type": "string",
        "pattern": "^(env:[A-Za-z0-9_]+|file:[\\s\\S]+|command:[\\s\\S]+|modal:[^/]+/[\\s\\S]+)$",
        "patternErrorMessage": "Write env:NAME, file:PATH, command:PROGRAM ARGS or modal:SECRET/KEY.",
    });
    let secret = object(
        &[
            (
                "from",
                about(
                    "Where its value is: `env:NAME`, `file:PATH`, `command:PROGRAM ARGS` or `modal:SECRET/KEY`; of a \
                     list, the first that has one.",
                    one_or_several(source),
                ),
            ),
            ("optional", about("Whether a run may start without it.", literal(&Type::Bool))),
            ("description", about("What it is for.", text())),
        ],
        &["from"],
    );
    about(
        "Credentials by name, and where their values come from. Steps are given them by `secrets: { slot: name }`.",
        map(names(), secret),
    )
}

pub(super) fn permissions(text: &str) -> Value {
    let hosts = one_or_several(json!({ "type": "string", "pattern": r"^[^/ $]+$" }));
    let listed = object(
        &[
            ("http", about("Hosts that it may reach.", hosts)),
            ("reveal", about("Secrets whose text it may read.", one_or_several(names()))),
        ],
        &[],
    );
    let mut listed = listed;
    listed["minProperties"] = 1.into();
    listed["maxProperties"] = 1.into();
    let plain = words(&["sandboxes", "images", "volumes", "repos", "scratch"]);
    about(text, json!({ "type": "array", "items": { "anyOf": [plain, listed] } }))
}

pub(super) fn sandboxes() -> Value {
    let image = object(
        &[
            ("ref", about("The name of the image.", text())),
            ("fallback", about("The image to take where the first does not exist.", text())),
        ],
        &["ref"],
    );
    let domain = json!({ "type": "string", "pattern": r"^[^/ $]+$" });
    let allowed = object(
        &[(
            "allow",
            about(
                "Domains that it may reach: `github.com`, `*.example.com`, `host:8080`.",
                one_or_several(domain),
            ),
        )],
        &["allow"],
    );
    let sandbox = object(
        &[
            (
                "image",
                about(
                    "What its files are at first: the name of an image, or `host` for this machine's own programs.",
                    json!({ "anyOf": [text(), image], "default": "host" }),
                ),
            ),
            (
                "volumes",
                about(
                    "Files that outlive it: where each volume is mounted, and its name.",
                    map(json!({ "pattern": "^/" }), text()),
                ),
            ),
            (
                "env",
                about(
                    "Variables of everything that runs in it.",
                    map(json!({ "pattern": "^[^=]+$" }), text()),
                ),
            ),
            ("cpu", about("How many cores it may use.", above_nothing(literal(&Type::Float)))),
            ("memory", about("How much memory it may use, such as 4GiB.", literal(&Type::Size))),
            (
                "network",
                about(
                    "What it may reach: nothing, all that this machine reaches, or named domains.",
                    json!({ "anyOf": [words_or(&["none", "host"], "none"), allowed], "default": "none" }),
                ),
            ),
            ("timeout", about("How long it may live.", literal(&Type::Duration))),
            ("workdir", about("Where commands start.", text())),
            ("user", about("Who commands run as.", text())),
            ("keep", about("Whether its files stay after the run.", literal(&Type::Bool))),
        ],
        &[],
    );
    about(
        "Where steps work, by name. A workflow that declares none has one, of image `host` and without a network.",
        map(names(), sandbox),
    )
}

fn above_nothing(mut schema: Value) -> Value {
    schema["exclusiveMinimum"] = 0.into();
    schema
}
