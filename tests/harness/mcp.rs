//! A service that speaks MCP over HTTP, with one tool.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A running service; it goes with the process.
pub(crate) struct Service {
    address: std::net::SocketAddr,
    credentials: Arc<Mutex<Vec<String>>>,
}

impl Service {
    /// Starts one whose only tool has this name and says that it was called.
    pub(crate) fn start(tool: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let credentials = Arc::new(Mutex::new(Vec::new()));
        let seen = credentials.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let seen = seen.clone();
                // A client that hangs up in the middle has its reasons.
                std::thread::spawn(move || drop(serve(stream.unwrap(), tool, &seen)));
            }
        });
        Self { address, credentials }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// The `authorization` of every request so far.
    pub(crate) fn credentials(&self) -> Vec<String> {
        self.credentials.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, tool: &str, seen: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let (mut first, mut length, mut authorization) = (String::new(), 0, String::new());
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap(),
                "authorization" => value.trim().clone_into(&mut authorization),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        seen.lock().unwrap().push(authorization);
        let (status, answer) = match serde_json::from_slice::<Value>(&body) {
            Ok(request) if request["id"].is_null() => ("202 Accepted", String::new()),
            Ok(request) => {
                let result = result(&request, tool);
                ("200 OK", json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }).to_string())
            }
            // Streams from the server, and leave to end a session, are optional.
            Err(_) => ("405 Method Not Allowed", String::new()),
        };
        write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        )?;
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
