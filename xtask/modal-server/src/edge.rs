//! Where calls come in: each is recorded, refused where a test or its credentials say so, and handed on.

use crate::cloud::Cloud;
use crate::connection::Cut;
use crate::fault::{Effect, throttled};
use crate::record::Method;
use crate::token::Audience;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use std::sync::Arc;
use tonic::{Code, Status};

/// Bytes of one request; Modal's own clients send no more.
const BODY_LIMIT: usize = 100 << 20;
/// A gRPC message is preceded by whether it is compressed, and its length.
const PREFIX: usize = 5;
/// The service whose calls carry the account's token.
const CONTROL: &str = "modal.client.ModalClient";
/// Calls that need the short-lived token too.
const SANDBOX_CALLS: [&str; 10] = [
    "SandboxCreateV2",
    "SandboxGetCommandRouterAccess",
    "SandboxGetFromNameV2",
    "SandboxGetTaskIdV2",
    "SandboxGetTunnelsV2",
    "SandboxListV2",
    "SandboxTagsGetV2",
    "SandboxTagsSetV2",
    "SandboxTerminateV2",
    "SandboxWaitV2",
];

/// Passes a call on.
pub(crate) async fn pass(State(cloud): State<Arc<Cloud>>, request: Request, next: Next) -> Response {
    let Some(method) = Method::find(request.uri().path()) else {
        return next.run(request).await;
    };
    let call = cloud.record.begin(method.name(), request.headers());
    let fault = cloud.faults.take(method.name());
    let cut = request.extensions().get::<Cut>().cloned();
    let refused = check(&cloud, &method, request.headers());
    let lose = matches!(fault, Some(Effect::LoseReply));
    let answer = match fault {
        Some(Effect::Refuse(code, message)) => Err(Status::new(code, message)),
        Some(Effect::Throttle(after)) => Err(throttled(after)),
        Some(Effect::Cut) => {
            if let Some(cut) = cut {
                cut.now();
            }
            std::future::pending().await
        }
        // The connection goes with everybody's.
        Some(Effect::Vanish) => std::future::pending().await,
        fault => refused.map(|()| fault),
    };
    let (head, body) = request.into_parts();
    let mut reader = Reader { cloud: cloud.clone(), call, method, bytes: BytesMut::new() };
    let mut request = match reader.method.streams() {
        true => {
            let body = body.map_frame(move |frame| {
                if let Some(data) = frame.data_ref() {
                    reader.read(data);
                }
                frame
            });
            Request::from_parts(head, Body::new(body))
        }
        false => match axum::body::to_bytes(body, BODY_LIMIT).await {
            Ok(data) => {
                reader.read(&data);
                Request::from_parts(head, Body::from(data))
            }
            Err(error) => return Status::new(Code::OutOfRange, error.to_string()).into_http(),
        },
    };
    match answer {
        Err(status) => status.into_http(),
        Ok(fault) => {
            if let Some(fault) = fault {
                request.extensions_mut().insert(fault);
            }
            let answer = next.run(request).await;
            match lose {
                true => Status::unavailable("the answer is lost because a test says so").into_http(),
                false => answer,
            }
        }
    }
}

/// Checks the credentials of calls to the control plane; the router checks its own.
fn check(cloud: &Cloud, method: &Method, headers: &HeaderMap) -> Result<(), Status> {
    if method.service() != CONTROL {
        return Ok(());
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (id, secret) = (header("x-modal-token-id"), header("x-modal-token-secret"));
    if !cloud.settings.tokens.iter().any(|(known, theirs)| known == id && theirs == secret) {
        return Err(Status::unauthenticated(format!("token {id} is not known, or its secret is another")));
    }
    if SANDBOX_CALLS.contains(&method.name()) {
        let denied = |why| Status::unauthenticated(format!("x-modal-auth-token is not accepted: {why}"));
        cloud.tokens.check(header("x-modal-auth-token"), Audience::Control).map_err(denied)?;
    }
    Ok(())
}

/// Finds the messages in what comes over the wire.
struct Reader {
    cloud: Arc<Cloud>,
    call: usize,
    method: Method,
    bytes: BytesMut,
}

impl Reader {
    fn read(&mut self, data: &Bytes) {
        self.bytes.extend_from_slice(data);
        while let Some(length) = self.bytes.get(1..PREFIX) {
            let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            if self.bytes.len() < PREFIX + length {
                break;
            }
            self.bytes.advance(PREFIX);
            let message = self.bytes.split_to(length);
            self.cloud.record.message(self.call, &self.method, &message);
        }
    }
}
