//! A server on the loopback that answers gRPC calls as a test says, breaks connections, and remembers what it was asked.

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// A call as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Name of the call.
    pub(super) name: String,
    pub(super) headers: HeaderMap,
    message: Bytes,
    /// How often this call was made before.
    pub(super) before: usize,
}

impl Asked {
    pub(super) fn message<M: Message + Default>(&self) -> M {
        M::decode(self.message.clone()).expect("the message of the call")
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

/// What comes back.
pub(super) enum Answer {
    /// Messages, and then `OK`.
    Messages(Vec<Vec<u8>>),
    /// Messages, and then the connection breaks.
    Cut(Vec<Vec<u8>>),
    /// Messages, and then this code.
    Failing(Vec<Vec<u8>>, i32),
    /// A code with a message and details.
    Status(i32, &'static str, Vec<u8>),
    /// Nothing, ever.
    Silence,
}

pub(super) fn one<M: Message>(message: M) -> Answer {
    Answer::Messages(vec![message.encode_to_vec()])
}

pub(super) struct Scripted {
    pub(super) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    accepting: tokio::task::AbortHandle,
}

type Script = Arc<dyn Fn(&Asked) -> Answer + Send + Sync>;

impl Scripted {
    pub(super) async fn start(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (script, all): (Script, _) = (Arc::new(script), asked.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(TokioIo::new(stream), script.clone(), all.clone()));
            }
        });
        Self { url, asked, accepting: accepting.abort_handle() }
    }

    /// All calls of this name, in order.
    pub(super) fn asked(&self, name: &str) -> Vec<Asked> {
        self.asked.lock().expect("calls").iter().filter(|asked| asked.name == name).cloned().collect()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(stream: TokioIo<tokio::net::TcpStream>, script: Script, all: Arc<Mutex<Vec<Asked>>>) {
    let cut = Arc::new(Notify::new());
    let cutting = cut.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (script, all, cut) = (script.clone(), all.clone(), cutting.clone());
        async move {
            let (parts, body) = request.into_parts();
            let name = parts.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let grpc = parts.uri.path().starts_with("/modal.");
            let message = if grpc { body.slice(5.min(body.len())..) } else { body };
            let asked = {
                let mut all = all.lock().expect("calls");
                let before = all.iter().filter(|asked| asked.name == name).count();
                let asked = Asked { name, headers: parts.headers, message, before };
                all.push(asked.clone());
                asked
            };
            Ok::<_, Infallible>(respond(script(&asked), cut).await)
        }
    });
    let connection =
        hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service);
    tokio::select! {
        _ = connection => {}
        () = cut.notified() => {}
    }
}

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

async fn respond(answer: Answer, cut: Arc<Notify>) -> hyper::Response<Body> {
    let (messages, code, message, details, broken) = match answer {
        Answer::Messages(messages) => (messages, 0, "", Vec::new(), false),
        Answer::Cut(messages) => (messages, 0, "", Vec::new(), true),
        Answer::Failing(messages, code) => (messages, code, "on purpose", Vec::new(), false),
        Answer::Status(code, message, details) => (Vec::new(), code, message, details, false),
        Answer::Silence => std::future::pending().await,
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.into());
    trailers.insert("grpc-message", message.parse().expect("a header"));
    if !details.is_empty() {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD_NO_PAD.encode(details);
        trailers.insert("grpc-status-details-bin", text.parse().expect("a header"));
    }
    let frames = messages.into_iter().map(|message| Frame::data(framed(&message))).collect::<Vec<_>>();
    let stream = futures_util::stream::unfold(
        (frames.into_iter(), Some(trailers), broken),
        move |(mut frames, mut trailers, broken)| {
            let cut = cut.clone();
            async move {
                if let Some(frame) = frames.next() {
                    return Some((Ok(frame), (frames, trailers, broken)));
                }
                if broken {
                    // What was handed to the connection leaves before it breaks.
                    for _ in 0..100 {
                        tokio::task::yield_now().await;
                    }
                    cut.notify_one();
                    std::future::pending::<()>().await;
                }
                let last = trailers.take()?;
                Some((Ok(Frame::trailers(last)), (frames, trailers, broken)))
            }
        },
    );
    hyper::Response::builder()
        .header("content-type", "application/grpc")
        .body(StreamBody::new(stream).boxed_unsync())
        .expect("a response")
}

fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    frame.freeze()
}
