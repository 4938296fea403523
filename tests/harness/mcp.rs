//! A service elsewhere: one that speaks MCP over HTTP, with one tool, or the API that an MCP server asks.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A running service; it goes with the process.
pub(crate) struct Service {
    address: std::net::SocketAddr,
    credentials: Arc<Mutex<Vec<String>>>,
}

/// Status and body for a path and what was sent to it.
type Answer = dyn Fn(&str, &[u8]) -> (&'static str, String) + Send + Sync;

impl Service {
    /// Speaks MCP. Its only tool has this name and says that it was called.
    pub(crate) fn start(tool: &'static str) -> Self {
        Self::listen(Arc::new(move |_, body| mcp(body, tool)))
    }

    /// Answers by the path of a request.
    pub(crate) fn api(answer: fn(&str) -> Value) -> Self {
        Self::listen(Arc::new(move |path, _| ("200 OK", answer(path).to_string())))
    }

    fn listen(answer: Arc<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let credentials = Arc::new(Mutex::new(Vec::new()));
        let seen = credentials.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, answer) = (seen.clone(), answer.clone());
                // A client that hangs up in the middle has its reasons.
                std::thread::spawn(move || drop(serve(stream.unwrap(), &*answer, &seen)));
            }
        });
        Self { address, credentials }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// The credential of every request so far.
    pub(crate) fn credentials(&self) -> Vec<String> {
        self.credentials.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, answer: &Answer, seen: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let (mut first, mut length, mut credential) = (String::new(), 0, String::new());
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap(),
                "authorization" | "x-goog-api-key" => value.trim().clone_into(&mut credential),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        seen.lock().unwrap().push(credential);
        let (status, answer) = answer(first.split(' ').nth(1).unwrap_or_default(), &body);
        write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        )?;
    }
}

fn mcp(body: &[u8], tool: &str) -> (&'static str, String) {
    match serde_json::from_slice::<Value>(body) {
        Ok(request) if request["id"].is_null() => ("202 Accepted", String::new()),
        Ok(request) => {
            let result = result(&request, tool);
            ("200 OK", json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }).to_string())
        }
        // Streams from the server, and leave to end a session, are optional.
        Err(_) => ("405 Method Not Allowed", String::new()),
    }
}

fn result(request: &Value, tool: &str) -> Value {
    match request["method"].as_str().unwrap_or_default() {
        "initialize" => json!({
            "protocolVersion": request["params"]["protocolVersion"],
            "capabilities": { "tools": {} },
            "serverInfo": { "name": "test", "version": "1" },
        }),
        "tools/list" => json!({ "tools": [{
            "name": tool,
            "description": "Says that it was called.",
            "inputSchema": { "type": "object", "properties": {} },
        }] }),
        "tools/call" => json!({ "content": [{ "type": "text", "text": format!("{tool} was called") }] }),
        _ => json!({}),
    }
}
