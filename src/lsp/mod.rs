//! The language server: what an editor shows while a workflow file is written. Speaks the Language Server Protocol over
//! a pair of pipes, for text that is seldom whole: nothing here needs a file that checks clean. Writes to no file,
//! reads no network, and says nothing on its output but the protocol; the log goes where logs go.
//!
//! `wire` reads and writes messages, `server` knows the conversation, `document` holds a text. `cursor` finds where the
//! cursor stands in broken text, `place` what the grammar says of it, `scope` and `expression` what an expression can
//! name; `complete`, `target` and `diagnose` make of that what the editor asked for.

mod complete;
mod cursor;
mod describe;
mod diagnose;
mod document;
mod expression;
mod place;
mod position;
mod scope;
mod server;
mod target;
mod wire;

use crate::workflow::types::Catalog;
use serde::Serialize;
use serde_json::{Value, json};
use server::{Refusal, Server};
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::{TryRecvError, sync_channel};
use wire::Incoming;

/// Messages that are read ahead. More are left to the pipe, so that an editor cannot fill the memory.
const READ_AHEAD: usize = 64;

/// Finds the components that files of a directory can name; asked again when they may have changed.
pub type Catalogs<'c> = dyn Fn(&Path) -> Rc<dyn Catalog> + 'c;

/// Holds one conversation and returns the exit code: 0 where the editor shut it down in good order, else 1.
///
/// # Errors
/// Where the editor cannot be written to.
pub fn serve(
    mut input: impl BufRead + Send + 'static,
    mut output: impl Write,
    catalogs: &Catalogs<'_>,
) -> io::Result<u8> {
    let (sender, receiver) = sync_channel(READ_AHEAD);
    std::thread::Builder::new().name("lsp-reader".into()).spawn(move || {
        loop {
            let incoming = wire::read(&mut input).unwrap_or_else(|error| {
                tracing::warn!("cannot read: {error}");
                Incoming::End
            });
            let last = incoming == Incoming::End;
            if sender.send(incoming).is_err() || last {
                return;
            }
        }
    })?;
    let mut server = Server::new(catalogs);
    let mut reply = Reply { output: &mut output, asked: 0, failed: None };
    loop {
        let incoming = match receiver.try_recv() {
            Ok(incoming) => incoming,
            Err(TryRecvError::Disconnected) => Incoming::End,
            // Only a text that nobody is changing any more is worth checking.
            Err(TryRecvError::Empty) if server.check_one(&mut reply) => continue,
            Err(TryRecvError::Empty) => receiver.recv().unwrap_or(Incoming::End),
        };
        match incoming {
            Incoming::Message(message) => take(&mut server, message, &mut reply),
            Incoming::Malformed(why) => {
                reply.answer(Value::Null, Err(Refusal::new(Refusal::PARSE_ERROR, why)));
            }
            Incoming::End => return Ok(server.exit_code()),
        }
        if let Some(error) = reply.failed.take() {
            return Err(error);
        }
        if let Some(exit_code) = server.ended() {
            return Ok(exit_code);
        }
    }
}

fn take(server: &mut Server<'_>, mut message: Value, reply: &mut Reply<'_>) {
    let params = message.get_mut("params").map(Value::take).unwrap_or_default();
    let method = message.get("method").and_then(Value::as_str);
    let id = message.get("id").filter(|id| id.is_string() || id.is_number()).cloned();
    match (method, id) {
        (Some(method), Some(id)) => {
            let answer = server.request(method, params);
            reply.answer(id, answer);
        }
        (Some(method), None) if message.get("id").is_none() => server.notification(method, params, reply),
        // An answer to something that was asked; whatever it is, nothing follows from it.
        (None, Some(_)) if message.get("result").is_some() || message.get("error").is_some() => {}
        (_, id) => {
            let refusal = Refusal::new(Refusal::INVALID_REQUEST, "this is no request and no notification");
            reply.answer(id.unwrap_or_default(), Err(refusal));
        }
    }
}

/// The way back to the editor.
struct Reply<'o> {
    output: &'o mut dyn Write,
    asked: u32,
    failed: Option<io::Error>,
}

impl Reply<'_> {
    fn answer(&mut self, id: Value, answer: Result<Value, Refusal>) {
        self.send(match answer {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err(Refusal { code, message }) => {
                json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
            }
        });
    }

    fn notify(&mut self, method: &str, params: &impl Serialize) {
        self.send(json!({ "jsonrpc": "2.0", "method": method, "params": server::value(params) }));
    }

    fn ask(&mut self, method: &str, params: &impl Serialize) {
        self.asked += 1;
        let id = format!("harvest-{}", self.asked);
        self.send(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": server::value(params) }));
    }

    fn send(&mut self, message: Value) {
        if self.failed.is_none()
            && let Err(error) = wire::write(&mut self.output, &message)
        {
            self.failed = Some(error);
        }
    }
}
