//! Conversations with the language server, over the pipes of the real binary.

mod harness;

use harness::{Home, text};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// An answer takes milliseconds; what takes this long does not come.
const PATIENCE: Duration = Duration::from_secs(120);

/// An editor.
struct Editor {
    home: Home,
    child: Child,
    input: Option<ChildStdin>,
    messages: Receiver<Value>,
    asked: i64,
    uri: String,
    version: i64,
    text: String,
    /// Notifications and requests that came while something else was waited for.
    told: Vec<Value>,
}

impl Editor {
    /// A server that nobody has talked to.
    fn start() -> Self {
        let home = Home::new();
        let mut command = home.harvest();
        command.arg("lsp").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            while let Some(message) = message(&mut output) {
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take();
        let uri = format!("file://{}/my%20w%C3%B6rk.yaml", home.scratch().display());
        Self {
            home,
            child,
            input,
            messages,
            asked: 0,
            uri,
            version: 0,
            text: String::new(),
            told: Vec::new(),
        }
    }

    /// A conversation that has begun, with a file open in it.
    fn open(text: &str) -> Self {
        let mut editor = Self::start();
        let begun = editor.ask("initialize", json!({ "capabilities": {} }));
        assert_eq!(begun["capabilities"]["positionEncoding"], "utf-16");
        editor.tell("initialized", json!({}));
        editor.show(text);
        editor
    }

    fn show(&mut self, text: &str) {
        self.version += 1;
        self.text = text.to_owned();
        let document =
            json!({ "uri": self.uri, "languageId": "yaml", "version": self.version, "text": text });
        self.tell("textDocument/didOpen", json!({ "textDocument": document }));
    }

    fn raw(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().unwrap();
        input.write_all(bytes).unwrap();
        input.flush().unwrap();
    }

    fn send(&mut self, message: &Value) {
        let text = message.to_string();
        self.raw(format!("Content-Length: {}\r\n\r\n{text}", text.len()).as_bytes());
    }

    fn tell(&mut self, method: &str, params: Value) {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    fn next(&mut self) -> Value {
        self.messages.recv_timeout(PATIENCE).expect("the server says nothing")
    }

    /// The whole response to a request.
    fn response(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let id = self.asked;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        loop {
            let message = self.next();
            if message["id"] == id && message.get("method").is_none() {
                return message;
            }
            self.told.push(message);
        }
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        let mut response = self.response(method, params);
        assert!(response.get("error").is_none(), "{response}");
        response["result"].take()
    }

    /// The parameters of the next notification or request of this kind.
    fn wait_for(&mut self, method: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let found = self.told.iter().position(|told| told["method"] == method && wanted(&told["params"]));
            if let Some(found) = found {
                return self.told.remove(found)["params"].take();
            }
            let message = self.next();
            self.told.push(message);
        }
    }

    /// What is wrong with the version that is open now.
    fn diagnostics(&mut self) -> Vec<Value> {
        let version = self.version;
        let published =
            self.wait_for("textDocument/publishDiagnostics", |params| params["version"] == version);
        published["diagnostics"].as_array().unwrap().clone()
    }

    /// Replaces the part of the text between two pieces of it.
    fn edit(&mut self, from: &str, to: &str, replacement: &str) {
        let start = self.text.find(from).unwrap() + from.len();
        let end = start + self.text[start..].find(to).unwrap();
        let range = json!({ "start": self.position(start), "end": self.position(end) });
        self.text.replace_range(start..end, replacement);
        self.version += 1;
        let document = json!({ "uri": self.uri, "version": self.version });
        let changes = json!([{ "range": range, "text": replacement }]);
        self.tell("textDocument/didChange", json!({ "textDocument": document, "contentChanges": changes }));
    }

    fn position(&self, at: usize) -> Value {
        let before = &self.text[..at];
        let line = before.matches('\n').count();
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        json!({ "line": line, "character": before[start..].encode_utf16().count() })
    }

    /// A place `inside` bytes after the last occurrence of a text.
    fn at(&self, needle: &str, inside: usize) -> Value {
        let place = self.text.rfind(needle).unwrap() + inside;
        json!({ "textDocument": { "uri": self.uri }, "position": self.position(place) })
    }

    /// The text at a range of the protocol.
    fn covered(&self, range: &Value) -> String {
        let offset = |place: &Value| {
            let line = place["line"].as_u64().unwrap() as usize;
            let start: usize = self.text.split_inclusive('\n').take(line).map(str::len).sum();
            let units: Vec<u16> = self.text[start..].encode_utf16().collect();
            let before = String::from_utf16(&units[..place["character"].as_u64().unwrap() as usize]).unwrap();
            start + before.len()
        };
        self.text[offset(&range["start"])..offset(&range["end"])].to_owned()
    }

    /// What is proposed behind the last occurrence of a text.
    fn proposals(&mut self, behind: &str) -> Vec<Value> {
        let place = self.at(behind, behind.len());
        self.ask("textDocument/completion", place)["items"].as_array().unwrap().clone()
    }

    fn labels(&mut self, behind: &str) -> Vec<String> {
        let items = self.proposals(behind);
        items.iter().map(|item| item["label"].as_str().unwrap().to_owned()).collect()
    }

    fn hover(&mut self, needle: &str, inside: usize) -> String {
        let place = self.at(needle, inside);
        self.ask("textDocument/hover", place)["contents"]["value"].as_str().unwrap_or_default().to_owned()
    }

    fn definition(&mut self, needle: &str, inside: usize) -> Option<Value> {
        let place = self.at(needle, inside);
        let found = self.ask("textDocument/definition", place);
        (!found.is_null()).then(|| {
            assert_eq!(found["uri"], self.uri);
            found["range"].clone()
        })
    }

    /// Ends the conversation in good order.
    fn end(mut self) {
        assert!(self.ask("shutdown", Value::Null).is_null());
        self.tell("exit", Value::Null);
        assert_eq!(self.exit_code(), Some(0));
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn message(output: &mut impl BufRead) -> Option<Value> {
    let mut length = None;
    loop {
        let mut line = String::new();
        if output.read_line(&mut line).unwrap() == 0 {
            return None;
        }
        match line.trim_end().split_once(": ") {
            Some(("Content-Length", value)) => length = Some(value.parse::<usize>().unwrap()),
            Some(_) => {}
            None => {
                assert_eq!(line, "\r\n", "stdout is for the protocol alone");
                break;
            }
        }
    }
    let mut bytes = vec![0; length.unwrap()];
    output.read_exact(&mut bytes).unwrap();
    Some(serde_json::from_slice(&bytes).unwrap())
}

const FILE: &str = r#"harvest: 1
name: w
inputs:
  repo: { type: string, description: Which repository }
secrets:
  github: { from: env:GITHUB_TOKEN }
sandboxes:
  box: { image: host }
steps:
  clone:
    uses: git/clone
    sandbox: box
    secrets: { token: github }
    with: { repo: "${{ inputs.repo }}" }
  count:
    uses: exec/run
    needs: clone
    with:
      command: [echo, "😀 ö ${{ steps.clone.path }}"]
"#;

#[test]
fn a_good_file_has_no_diagnostics_and_a_change_brings_them() {
    let mut editor = Editor::open(FILE);
    assert_eq!(editor.diagnostics(), Vec::<Value>::new());
    editor.edit("steps.clone.", " }}\"]", "pth");
    let found = editor.diagnostics();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0]["code"].as_str(), found[0]["severity"].as_u64()), (Some("E0312"), Some(1)));
    assert_eq!(
        editor.covered(&found[0]["range"]),
        "pth",
        "the emoji and the umlaut before it count as UTF-16"
    );
    let message = found[0]["message"].as_str().unwrap();
    assert!(
        message.contains("has no output `pth`") && message.contains("help: did you mean `path`?"),
        "{message}"
    );
    editor.edit("ö ${{ steps.clone.", " }}\"]", "path");
    assert_eq!(editor.diagnostics(), Vec::<Value>::new());
    let closed = json!({ "textDocument": { "uri": editor.uri } });
    editor.edit("name: ", "\n", "W");
    assert_eq!(editor.diagnostics().len(), 1);
    editor.tell("textDocument/didClose", closed);
    editor.version = 0;
    let cleared =
        editor.wait_for("textDocument/publishDiagnostics", |params| params.get("version").is_none());
    assert_eq!(cleared["diagnostics"], json!([]));
    editor.end();
}

#[test]
fn warnings_and_further_places_are_said() {
    let mut editor = Editor::open(&FILE.replace("  repo: {", "  unused: string\n  repo: {"));
    let found = editor.diagnostics();
    assert_eq!((found[0]["code"].as_str(), found[0]["severity"].as_u64()), (Some("W0101"), Some(2)));
    editor.edit("name: w", "\n", "\nname: x");
    let found = editor.diagnostics();
    assert_eq!(found[0]["code"], "E0106");
    let further = &found[0]["relatedInformation"][0];
    assert_eq!(
        (&further["message"], &further["location"]["uri"]),
        (&json!("first written here"), &json!(editor.uri))
    );
    assert_eq!(further["location"]["range"]["start"], json!({ "line": 1, "character": 0 }));
    editor.end();
}

#[test]
fn a_correction_is_an_action() {
    let mut editor = Editor::open(&FILE.replace("clone.path", "clone.pth"));
    let found = editor.diagnostics();
    let ask = |editor: &Editor, range: &Value, only: Value| json!({ "textDocument": { "uri": editor.uri }, "range": range, "context": { "diagnostics": [], "only": only } });
    let params = ask(&editor, &found[0]["range"], json!(["quickfix"]));
    let actions = editor.ask("textDocument/codeAction", params);
    assert_eq!(actions.as_array().unwrap().len(), 1);
    assert_eq!(actions[0]["title"], "Write `path` instead of `pth`");
    assert_eq!(actions[0]["diagnostics"][0], found[0]);
    let edit = &actions[0]["edit"]["changes"][&editor.uri][0];
    assert_eq!((editor.covered(&edit["range"]).as_str(), edit["newText"].as_str()), ("pth", Some("path")));
    let params = ask(&editor, &found[0]["range"], json!(["refactor"]));
    assert_eq!(editor.ask("textDocument/codeAction", params), json!([]));
    let elsewhere = json!({ "start": { "line": 0, "character": 0 }, "end": { "line": 0, "character": 1 } });
    let params = ask(&editor, &elsewhere, Value::Null);
    assert_eq!(editor.ask("textDocument/codeAction", params), json!([]));
    editor.end();
}

#[test]
fn what_can_be_written_is_proposed() {
    let mut editor = Editor::open(FILE);
    editor.edit("${{ steps.clone.", "path }}\"]", "");
    let items = editor.proposals("ö ${{ steps.clone.");
    let path = items.iter().find(|item| item["label"] == "path").unwrap();
    assert_eq!(
        (path["detail"].as_str(), path["textEdit"]["newText"].as_str()),
        (Some("string"), Some("path"))
    );
    assert_eq!(path["documentation"]["value"], "Where it is: `{into}/{name}`.");
    assert_eq!(path["textEdit"]["range"]["start"], path["textEdit"]["range"]["end"]);
    assert!(items.iter().any(|item| item["label"] == "state"), "{items:?}");

    editor.show(&format!("{FILE}  last:\n    uses: "));
    let uses = editor.proposals("uses: ");
    let clone = uses.iter().find(|item| item["label"] == "git/clone").unwrap();
    assert!(
        clone["documentation"]["value"].as_str().unwrap().contains("Clones a repository into the sandbox")
    );
    assert!(uses.iter().any(|item| item["label"] == "claude/run"), "{uses:?}");

    editor.show(&format!("{FILE}  last:\n    uses: git/commit\n    with:\n      "));
    let with = editor.proposals("with:\n      ");
    assert_eq!((with[0]["label"].as_str(), with[0]["detail"].as_str()), (Some("path"), Some("string")));
    assert!(with[0]["documentation"]["value"].as_str().unwrap().contains("Commits everything in the tree"));
    assert_eq!(editor.labels("  box:"), Vec::<String>::new());

    editor.show(&format!("{FILE}  last:\n    "));
    let keys = editor.labels("last:\n    ");
    assert!(["uses", "with", "idle-timeout"].iter().all(|key| keys.contains(&(*key).to_owned())), "{keys:?}");
    editor.show(&format!("{FILE}  last: {{ sandbox: , secrets: {{ token: , }}, needs: [c"));
    assert_eq!(editor.labels("sandbox: "), ["box"]);
    assert_eq!(editor.labels("token: "), ["github"]);
    assert_eq!(editor.labels("needs: [c"), ["clone", "count"]);
    editor.show(&format!("{FILE}    if: inputs.repo."));
    assert!(editor.labels("inputs.repo.").contains(&"startsWith".to_owned()));
    assert_eq!(editor.labels("    if: inputs."), ["repo"]);
    editor.end();
}

#[test]
fn a_component_beside_the_file_is_proposed_and_read_again_once_it_changes() {
    let mut editor = Editor::open(&format!("{FILE}  last:\n    uses: "));
    assert!(!editor.labels("uses: ").iter().any(|label| label.contains("team")));
    let (exec, git) = (env!("HARVEST_GUEST_EXEC"), env!("HARVEST_GUEST_GIT"));
    std::fs::copy(exec, editor.home.scratch().join("team.wasm")).unwrap();
    std::fs::write(editor.home.scratch().join("broken.wasm"), "no component").unwrap();
    let own =
        |labels: Vec<String>| labels.into_iter().filter(|label| label.starts_with("./")).collect::<Vec<_>>();
    assert_eq!(own(editor.labels("uses: ")), ["./team.wasm#run", "./team.wasm#python"]);
    std::fs::copy(git, editor.home.scratch().join("team.wasm")).unwrap();
    let file = format!("file://{}/team.wasm", editor.home.scratch().display());
    editor.tell("workspace/didChangeWatchedFiles", json!({ "changes": [{ "uri": file, "type": 2 }] }));
    assert!(own(editor.labels("uses: ")).contains(&"./team.wasm#clone".to_owned()));
    editor.end();
}

#[test]
fn a_workflow_beside_the_file_is_proposed_with_its_inputs() {
    let mut editor = Editor::open(&format!("{FILE}  last:\n    uses: ./other.yaml\n    with: {{ "));
    let directory = editor.home.scratch().to_owned();
    std::fs::write(
        directory.join("other.yaml"),
        "harvest: 1\nname: other\ninputs: { depth: int }\nsteps:\n  a: { uses: exec/run, with: { command: [echo, \"${{ string(inputs.depth) }}\"] } }\n",
    )
    .unwrap();
    std::fs::write(directory.join("compose.yaml"), "services: {}\n").unwrap();
    editor.tell("workspace/didChangeWatchedFiles", json!({ "changes": [] }));
    assert_eq!(editor.labels("with: { "), ["depth"]);
    let labels = editor.labels("uses: ");
    let files: Vec<_> = labels.iter().filter(|label| label.ends_with(".yaml")).collect();
    assert_eq!(files, ["./other.yaml"], "neither itself nor what is no workflow");
    assert!(editor.hover("./other.yaml", 3).starts_with("**other**\n\nTakes\n\n- `depth`: `int`"));
    editor.end();
}

#[test]
fn names_are_explained() {
    let mut editor = Editor::open(FILE);
    assert_eq!(editor.hover("inputs.repo", 8), "input `repo`: `string`\n\nWhich repository");
    assert_eq!(editor.hover("clone.path", 7), "`path`: `string`\n\nWhere it is: `{into}/{name}`.");
    assert!(
        editor.hover("uses: git/clone", 8).contains("**git/clone**\n\nClones a repository into the sandbox")
    );
    assert_eq!(
        editor.hover("command:", 2),
        "`command`: `list<string>`\n\n`command` is the program and its arguments, without a shell."
    );
    assert_eq!(editor.hover("needs:", 2).lines().next(), Some("`needs`"));
    assert_eq!(editor.hover("echo", 2), "");
    let place = editor.at("steps.clone.path", 8);
    let hover = editor.ask("textDocument/hover", place);
    assert_eq!(editor.covered(&hover["range"]), "clone");
    editor.end();
}

#[test]
fn names_lead_to_their_declarations() {
    let mut editor = Editor::open(FILE);
    for (needle, inside, line, name) in [
        ("steps.clone.path", 8, 9, "clone"),
        ("needs: clone", 9, 9, "clone"),
        ("sandbox: box", 10, 7, "box"),
        ("token: github", 9, 5, "github"),
        ("inputs.repo", 9, 3, "repo"),
    ] {
        let range = editor.definition(needle, inside).unwrap();
        assert_eq!(
            (range["start"]["line"].as_u64(), editor.covered(&range).as_str()),
            (Some(line), name),
            "{needle}"
        );
    }
    assert_eq!(editor.definition("echo", 1), None);
    editor.end();
}

#[test]
fn a_broken_file_is_answered_all_the_same() {
    let broken = FILE.replace("    secrets: { token: github }\n", "    secrets: { token: git\n    wi\n");
    let mut editor = Editor::open(&broken.replace("path }}\"]", ""));
    assert!(!editor.diagnostics().is_empty());
    assert!(editor.labels("ö ${{ steps.clone.").contains(&"branch".to_owned()));
    assert_eq!(editor.labels("token: git"), ["github"]);
    assert!(editor.labels("    wi").contains(&"retry".to_owned()));
    assert!(editor.definition("needs: clone", 8).is_some());
    for text in ["", "\u{feff}", ":", "a: [", "\"", "steps:\n  x:\n\t", "}}", "- \n-"] {
        editor.show(text);
        editor.diagnostics();
        let end = editor.at(text, text.len());
        for method in ["textDocument/completion", "textDocument/hover", "textDocument/definition"] {
            editor.ask(method, end.clone());
        }
    }
    editor.end();
}

#[test]
fn places_outside_of_a_text_are_its_ends() {
    let mut editor = Editor::open("harvest: 1\nna");
    let beyond = |line: u32, character: u32| json!({ "textDocument": { "uri": "" }, "position": { "line": line, "character": character } });
    for (line, character) in [(1, 2), (1, 99), (7, 0), (u32::MAX, u32::MAX)] {
        let mut place = beyond(line, character);
        place["textDocument"]["uri"] = editor.uri.clone().into();
        let items = editor.ask("textDocument/completion", place);
        assert_eq!(items["items"][0]["label"], "name", "{line}:{character}");
        assert_eq!(items["items"][0]["textEdit"]["range"]["end"], json!({ "line": 1, "character": 2 }));
    }
    editor.ask(
        "textDocument/completion",
        json!({ "textDocument": { "uri": "file:///unknown" }, "position": { "line": 0, "character": 0 } }),
    );
    editor.end();
}

#[test]
fn mistakes_of_the_protocol_are_told() {
    let mut editor = Editor::start();
    let code = |response: &Value| response["error"]["code"].as_i64();
    let early = editor.response("textDocument/hover", json!({}));
    assert_eq!(code(&early), Some(-32002));
    editor.tell("textDocument/didOpen", json!({ "nonsense": true }));
    editor.ask("initialize", json!({ "capabilities": {} }));
    let twice = editor.response("initialize", json!({ "capabilities": {} }));
    assert_eq!(code(&twice), Some(-32600));
    let unknown = editor.response("textDocument/frobnicate", json!({}));
    assert_eq!(code(&unknown), Some(-32601));
    assert_eq!(code(&editor.response("$/frobnicate", json!({}))), Some(-32601));
    let params = editor.response("textDocument/hover", json!({ "textDocument": 1 }));
    assert_eq!(code(&params), Some(-32602));
    editor.tell("$/cancelRequest", json!({ "id": 1 }));
    editor.tell("frobnicate", json!([1, 2]));
    editor.tell("textDocument/didChange", json!({ "textDocument": { "uri": "file:///x" } }));
    editor.ask("shutdown", Value::Null);
    assert_eq!(code(&editor.response("textDocument/hover", json!({}))), Some(-32600));
    editor.tell("exit", Value::Null);
    assert_eq!(editor.exit_code(), Some(0));
}

#[test]
fn malformed_messages_do_not_end_the_conversation() {
    let mut editor = Editor::open(FILE);
    let refused = |editor: &mut Editor, bytes: &[u8], code: i64| {
        editor.raw(bytes);
        loop {
            let message = editor.next();
            if message.get("method").is_none() {
                assert_eq!((message["id"].is_null(), message["error"]["code"].as_i64()), (true, Some(code)));
                return;
            }
        }
    };
    refused(&mut editor, b"Content-Length: 5\r\n\r\n{]...", -32700);
    refused(&mut editor, b"Content-Length: 2\r\n\r\n\xff\xfe", -32700);
    refused(&mut editor, b"Content-Length: oops\r\n\r\n", -32700);
    refused(&mut editor, b"Nothing: here\r\n\r\n", -32700);
    refused(&mut editor, b"Content-Length: 4\r\n\r\nnull", -32600);
    refused(&mut editor, b"Content-Length: 2\r\n\r\n[]", -32600);
    let deep = "[".repeat(100_000);
    refused(&mut editor, format!("Content-Length: {}\r\n\r\n{deep}", deep.len()).as_bytes(), -32700);
    assert_eq!(editor.hover("sandbox: box", 10), "sandbox `box`");
    editor.end();
}

#[test]
fn who_leaves_without_a_word_gets_exit_code_1() {
    let mut editor = Editor::open(FILE);
    editor.tell("exit", Value::Null);
    assert_eq!(editor.exit_code(), Some(1));
    let mut editor = Editor::open(FILE);
    editor.diagnostics();
    editor.input = None;
    assert_eq!(editor.exit_code(), Some(1));
}

#[test]
fn an_editor_that_can_is_asked_to_watch_components() {
    let mut editor = Editor::start();
    let capable = json!({ "workspace": { "didChangeWatchedFiles": { "dynamicRegistration": true } } });
    editor.ask("initialize", json!({ "capabilities": capable }));
    editor.tell("initialized", json!({}));
    let asked = editor.wait_for("client/registerCapability", |_| true);
    assert_eq!(
        asked["registrations"][0]["registerOptions"]["watchers"][0]["globPattern"],
        "**/*.{wasm,yaml,yml}"
    );
    editor.send(&json!({ "jsonrpc": "2.0", "id": "harvest-1", "result": null }));
    editor.end();
}

#[test]
fn a_thousand_steps_keep_up_with_typing() {
    let mut file = String::from(
        "harvest: 1\nname: large\ninputs: { repo: string }\nsteps:\n  s0: { uses: exec/run, with: { command: [\"${{ inputs.repo }}\"] } }\n",
    );
    for n in 1..1000 {
        file.push_str(&format!(
            "  s{n}:\n    uses: exec/run\n    if: inputs.repo != 'x{n}'\n    with: {{ command: [echo, \"${{{{ steps.s{}.stdout }}}}\"] }}\n",
            n - 1
        ));
    }
    let mut editor = Editor::open(&file);
    assert_eq!(editor.diagnostics(), Vec::<Value>::new());
    let started = Instant::now();
    // Versions that are out of date when they are read need no check: only the last one is waited for.
    for letter in ["o", "on", "one"] {
        editor.edit("${{ steps.s998.", " }}", letter);
        let labels = editor.labels("${{ steps.s998.");
        assert!(labels.contains(&"stdout".to_owned()), "{labels:?}");
    }
    assert_eq!(editor.diagnostics().len(), 1);
    let took = started.elapsed();
    println!("three letters in a thousand steps: {took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    editor.end();
}

#[test]
fn stderr_is_for_the_log_and_says_nothing_in_good_times() {
    let mut editor = Editor::open(FILE);
    editor.diagnostics();
    editor.ask("shutdown", Value::Null);
    editor.tell("exit", Value::Null);
    let mut said = Vec::new();
    editor.child.stderr.take().unwrap().read_to_end(&mut said).unwrap();
    assert_eq!(text(&said), "");
    assert_eq!(editor.exit_code(), Some(0));
}
