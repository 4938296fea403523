//! The server: a thread with a runtime of its own, on a free port of the loopback address.

use crate::record::{Record, Recorded};
use crate::reply::Reply;
use crate::script::{Script, Turn};
use crate::wire::{End, Message, faulty_stream, sse};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Bytes of a request's body; the API's own limit.
const MAX_BODY_BYTES: usize = 32 * 1024 * 1024;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A running server. Dropping it breaks its connections and frees its port.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    record: Arc<Record>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts to answer from `script`. Fails where the loopback address cannot be bound or no thread started.
    pub fn start(script: Script) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let record = Arc::new(Record::default());
        let shared = Arc::new(Shared { script, record: record.clone(), messages: AtomicUsize::new(0) });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("scripted-api".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, shared) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, record, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The value for ANTHROPIC_BASE_URL. A path may be appended: whatever stands before `/v1/messages` is accepted.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far, in order of arrival, those that were refused included.
    pub fn requests(&self) -> Vec<Recorded> {
        self.record.all()
    }

    /// The requests for a message so far, in order of arrival.
    pub fn turns(&self) -> Vec<Recorded> {
        self.requests().into_iter().filter(asks_for_a_message).collect()
    }

    /// Waits until that many requests for a message have arrived; `false` where the time passes first.
    pub fn wait_for_turns(&self, count: usize, limit: Duration) -> bool {
        self.record.wait(limit, |requests| {
            requests.iter().filter(|request| asks_for_a_message(request)).count() >= count
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed when it happened.
            let _ = thread.join();
        }
    }
}

struct Shared {
    script: Script,
    record: Arc<Record>,
    messages: AtomicUsize,
}

async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).expect("the runtime has I/O enabled");
    loop {
        let Ok((connection, _)) = listener.accept().await else { continue };
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let shared = shared.clone();
                async move { answer(request, &shared).await }
            });
            // Clients hang up as they like, and `Broken` is meant to fail here.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(connection), service)
                .await;
        });
    }
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> io::Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY_BYTES).collect().await.map_err(io::Error::other)?.to_bytes();
    let headers = head.headers.iter();
    let recorded = Recorded {
        method: head.method.to_string(),
        path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: headers
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    shared.record.add(recorded.clone());

    if head.method == Method::HEAD {
        return Ok(whole(StatusCode::OK, "text/plain", Bytes::new(), &[]));
    }
    if head.method == Method::POST && head.uri.path().ends_with("/v1/messages/count_tokens") {
        return Ok(json_body(StatusCode::OK, &json!({ "input_tokens": 10 }), &[]));
    }
    if !asks_for_a_message(&recorded) {
        let error = error_body("not_found_error", "the scripted API has no such path");
        return Ok(json_body(StatusCode::NOT_FOUND, &error, &[]));
    }
    message(&recorded, shared).await
}

fn asks_for_a_message(request: &Recorded) -> bool {
    let path = request.path.split('?').next().unwrap_or_default();
    request.method == "POST" && path.ends_with("/v1/messages")
}

async fn message(request: &Recorded, shared: &Shared) -> io::Result<Response<Body>> {
    let number = shared.messages.fetch_add(1, Ordering::Relaxed);
    let model = &request.body["model"];
    let reply = shared.script.reply(&Turn::of(request));
    if let Some((events, end)) = faulty_stream(&reply, number, model) {
        return Ok(event_stream(&events, end));
    }
    match &reply {
        Reply::Message { blocks, stop, usage } => {
            let message = Message { number, model, blocks, stop: *stop, usage: *usage };
            if request.body["stream"] == true {
                return Ok(event_stream(&message.events(), End::Clean));
            }
            Ok(json_body(StatusCode::OK, &message.whole(), &[]))
        }
        Reply::Error { status, kind, message, headers } => {
            let status = StatusCode::from_u16(*status).map_err(io::Error::other)?;
            Ok(json_body(status, &error_body(kind, message), headers))
        }
        // `faulty_stream` has answered the others.
        _ => std::future::pending().await,
    }
}

fn error_body(kind: &str, message: &str) -> Value {
    json!({ "type": "error", "error": { "type": kind, "message": message }, "request_id": "req_scripted" })
}

fn json_body(status: StatusCode, body: &Value, headers: &[(String, String)]) -> Response<Body> {
    whole(status, "application/json", Bytes::from(body.to_string()), headers)
}

fn whole(status: StatusCode, kind: &str, body: Bytes, headers: &[(String, String)]) -> Response<Body> {
    let mut builder = Response::builder().status(status).header(header::CONTENT_TYPE, kind);
    builder = builder.header("request-id", "req_scripted");
    for (name, value) in headers {
        builder = builder.header(name, value);
    }
    let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
    builder.body(body).expect("a script's headers are well-formed")
}

/// Each event is a frame of its own; the connection is closed after the last, as the API's own edge may do.
fn event_stream(events: &[Value], end: End) -> Response<Body> {
    let mut frames: Vec<io::Result<Frame<Bytes>>> =
        events.iter().map(|event| Ok(Frame::data(Bytes::from(sse(event))))).collect();
    if end == End::Broken {
        frames.push(Err(io::Error::other("scripted break")));
    }
    let last = events.last().map(sse).unwrap_or_default();
    let more = stream::unfold((), move |()| {
        let last = last.clone();
        async move {
            match end {
                End::Clean | End::Broken => None,
                End::Open => std::future::pending().await,
                End::Repeating => Some((Ok(Frame::data(Bytes::from(last))), ())),
            }
        }
    });
    let frames = stream::iter(frames).chain(more).then(sent);
    Response::builder()
        .header(header::CONTENT_TYPE, "text/event-stream")
        .header(header::CONNECTION, "close")
        .header("request-id", "req_scripted")
        .body(BodyExt::boxed_unsync(StreamBody::new(frames)))
        .expect("the headers are constants")
}

/// Lets the server write what it has before it sees the next frame, most of all before a break.
async fn sent(frame: io::Result<Frame<Bytes>>) -> io::Result<Frame<Bytes>> {
    tokio::task::yield_now().await;
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    /// Everything the server sends to one request, as bytes on the wire.
    fn ask(reply: Reply, body: &str) -> String {
        let server = Server::start(Script::always(reply)).unwrap();
        let mut connection = std::net::TcpStream::connect(server.address()).unwrap();
        let length = body.len();
        write!(connection, "POST /v1/messages HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
            .unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert_eq!(server.turns().len(), 1);
        answer
    }

    #[test]
    fn a_cut_stream_ends_and_a_broken_one_does_not() {
        for (reply, last_chunk) in [(Reply::Cut, true), (Reply::Broken, false)] {
            let answer = ask(reply, r#"{"stream":true}"#);
            assert!(answer.contains("partial ") && !answer.contains("message_stop"), "{answer}");
            assert_eq!(answer.ends_with("\r\n0\r\n\r\n"), last_chunk, "{answer}");
        }
    }

    #[test]
    fn an_error_carries_its_headers() {
        let reply = Reply::error(429, "rate_limit_error", "slow down").with_header("retry-after", "1");
        let answer = ask(reply, "{}");
        assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
    }

    #[test]
    fn an_answer_is_whole_where_no_stream_was_asked_for() {
        let answer = ask(Reply::text("hello"), "{}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            (&body["content"][0]["text"], &body["stop_reason"]),
            (&"hello".into(), &"end_turn".into())
        );
    }
}
