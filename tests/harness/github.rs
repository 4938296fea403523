//! A GitHub Enterprise server on loopback, as far as pull requests go. What it is asked, and what it answers, is held to
//! the schema of the API; a fault of the client's is an answer 400 that no client takes for success.
#![allow(dead_code, reason = "each test file uses a part of it")]

use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const SCHEMA: &str = include_str!("../fixtures/github/pulls.json");

/// What goes wrong with the next request that makes something.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The server is broken and does nothing.
    Broken,
    /// It does what it is asked, and its answer is lost.
    AnswerLost,
    /// It has been asked too often: the secondary limit.
    TooOften,
    /// The hour's requests are spent: the primary limit.
    Spent,
}

/// What it knows.
#[derive(Default)]
struct State {
    pulls: Vec<Value>,
    faults: VecDeque<Fault>,
    requests: Vec<String>,
    complaints: Vec<String>,
}

/// The server. It lives as long as the test's process.
pub(crate) struct Github {
    /// `http://127.0.0.1:PORT`.
    pub(crate) base: String,
    state: Arc<Mutex<State>>,
}

impl Github {
    /// Serves `acme/web`, whose default branch is `trunk` and which has the branch `feature/x`.
    pub(crate) fn start(faults: &[Fault]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let state =
            Arc::new(Mutex::new(State { faults: faults.iter().copied().collect(), ..State::default() }));
        let (shared, root) = (state.clone(), base.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &root, &shared);
            }
        });
        Self { base, state }
    }

    /// The pull requests that there are.
    pub(crate) fn pulls(&self) -> Vec<Value> {
        self.state.lock().unwrap().pulls.clone()
    }

    /// Method and path of the requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    /// In what the client did not keep to the API.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.state.lock().unwrap().complaints.clone()
    }
}

/// What is wrong with a value by a part of the schema.
fn faults(part: &str, value: &Value) -> Vec<String> {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let validator = jsonschema::validator_for(&schema[part]).unwrap();
    validator.iter_errors(value).map(|error| format!("{part}: {error}")).collect()
}

struct Request {
    method: String,
    path: String,
    query: Map<String, Value>,
    headers: Map<String, Value>,
    body: Value,
}

fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Map::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.into());
    }
    let length = headers.get("content-length").and_then(Value::as_str).unwrap_or("0").parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        Some((name.to_owned(), Value::from(decoded(value))))
    };
    Some(Request {
        method,
        path: path.to_owned(),
        query: query.split('&').filter_map(pair).collect(),
        headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'%' => {
                bytes.push(u8::from_str_radix(std::str::from_utf8(&after[..2]).unwrap(), 16).unwrap());
                rest = &after[2..];
            }
            other => bytes.push(*other),
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn serve(stream: TcpStream, root: &str, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    let Some(request) = read(&mut reader) else { return };
    let mut state = state.lock().unwrap();
    state.requests.push(format!("{} {}", request.method, request.path));
    let mut complaints = faults("headers", &request.headers.clone().into());
    let (mut status, mut headers, mut answer) = (404, "", json!({"message": "Not Found"}));
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/api/v3/repos/acme/web") => (status, answer) = (200, json!({"default_branch": "trunk"})),
        ("GET", "/api/v3/repos/acme/web/pulls") => {
            complaints.extend(faults("list", &request.query.clone().into()));
            (status, answer) = (200, list(&state.pulls, &request.query));
        }
        ("POST", "/api/v3/repos/acme/web/pulls") => {
            complaints.extend(faults("create", &request.body));
            let fault = state.faults.pop_front();
            (status, answer) = match fault {
                Some(Fault::Broken) => (502, json!({"message": "Server Error"})),
                Some(Fault::TooOften) => {
                    headers = "retry-after: 60\r\n";
                    (403, json!({"message": "You have exceeded a secondary rate limit"}))
                }
                Some(Fault::Spent) => {
                    headers = "x-ratelimit-remaining: 0\r\nx-ratelimit-reset: 1\r\n";
                    (403, json!({"message": "API rate limit exceeded"}))
                }
                Some(Fault::AnswerLost) => {
                    create(&mut state.pulls, root, &request.body);
                    (502, json!({"message": "Server Error"}))
                }
                None => create(&mut state.pulls, root, &request.body),
            };
            if status == 201 {
                complaints.extend(faults("pull", &answer));
            }
        }
        _ => {}
    }
    if request.headers.get("authorization") == Some(&"Bearer wrong_token".into()) {
        (status, answer) = (401, json!({"message": "Bad credentials"}));
    }
    if !complaints.is_empty() {
        (status, answer) = (400, json!({"message": complaints.join("; ")}));
        state.complaints.extend(complaints);
    }
    let body = answer.to_string();
    let reply = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{headers}connection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = reader.into_inner().write_all(reply.as_bytes());
}

fn list(pulls: &[Value], query: &Map<String, Value>) -> Value {
    let fits = |pull: &&Value| {
        query.get("head").is_none_or(|head| pull["head"]["label"] == *head)
            && query.get("base").is_none_or(|base| pull["base"]["ref"] == *base)
    };
    pulls.iter().filter(fits).cloned().collect()
}

fn create(pulls: &mut Vec<Value>, root: &str, wanted: &Value) -> (u16, Value) {
    let invalid = |error: Value| (422, json!({"message": "Validation Failed", "errors": [error]}));
    let head = wanted["head"].as_str().unwrap_or_default();
    let label = if head.contains(':') { head.to_owned() } else { format!("acme:{head}") };
    if !label.ends_with(":feature/x") {
        return invalid(json!({"resource": "PullRequest", "field": "head", "code": "invalid"}));
    }
    if pulls.iter().any(|pull| pull["head"]["label"] == label && pull["base"]["ref"] == wanted["base"]) {
        return invalid(json!({"message": format!("A pull request already exists for {label}.")}));
    }
    let number = pulls.len() + 41;
    let pull = json!({
        "url": format!("{root}/api/v3/repos/acme/web/pulls/{number}"), "id": number, "number": number, "state": "open",
        "title": wanted["title"], "body": wanted["body"], "html_url": format!("{root}/acme/web/pull/{number}"),
        "head": {"label": label, "ref": "feature/x"}, "base": {"label": "acme:trunk", "ref": wanted["base"]},
        "draft": wanted["draft"],
    });
    pulls.push(pull.clone());
    (201, pull)
}
