//! The client against a scripted server: what it sends, when it sends it again, and when it gives up.

use super::client::{Client, Options};
use super::messages::client as api;
use super::messages::task_command_router as router;
use super::scripted::{Answer, Asked, Scripted, one};
use super::{Clock, Ended, Ending, Identity, Key, Output, Router, Settings, Source};
use crate::capability::secret::Secret;
use base64::Engine as _;
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tonic::Code;

fn settings(server: &Scripted) -> Settings {
    Settings {
        servers: vec![server.url.clone()],
        token_id: "ak-test".into(),
        token_secret: Secret::new("modal_token_secret", "as-hidden"),
        source: "MODAL_TOKEN_ID and MODAL_TOKEN_SECRET".into(),
        environment: String::new(),
        builder_version: None,
        throttle_limit: Duration::from_secs(60),
        app: "harvest".into(),
        identity: Identity {
            headers: BTreeMap::from([("x-extra".into(), "yes".into())]),
            ..Identity::default()
        },
    }
}

fn client(server: &Scripted) -> Client {
    Client::with_clock(settings(server), Clock::of_pauses()).expect("a client")
}

fn app() -> api::AppGetOrCreateRequest {
    api::AppGetOrCreateRequest { app_name: "harvest".into(), ..Default::default() }
}

fn failing(code: i32) -> Answer {
    Answer::Status(code, "on purpose", Vec::new())
}

/// An error that asks to come back after these seconds.
fn throttled(seconds: f32) -> Answer {
    let value = api::RpcRetryPolicy { retry_after_secs: seconds }.encode_to_vec();
    let type_url = "type.modal.com/modal.client.RPCRetryPolicy".to_owned();
    let detail = prost_types::Any { type_url, value };
    let status = api::RpcStatus { code: 8, message: "slow down".into(), details: vec![detail] };
    Answer::Status(8, "slow down", status.encode_to_vec())
}

fn jwt(name: &str) -> String {
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"exp":99999999999}"#);
    format!("{name}.{claims}.s")
}

#[tokio::test]
async fn every_call_says_who_calls() {
    let server = Scripted::start(|asked| match asked.name.as_str() {
        "AuthTokenGet" => one(api::AuthTokenGetResponse { token: jwt("short") }),
        _ => Answer::Messages(vec![Vec::new()]),
    })
    .await;
    let client = client(&server);
    client.call(&app(), Options::default()).await.expect("answered");
    let options = Options { sandbox_token: Some("st".into()), ..Options::default() };
    client.call(&api::SandboxWaitRequest::default(), options).await.expect("answered");
    let asked = &server.asked("AppGetOrCreate")[0];
    for (name, value) in [
        ("x-modal-client-type", "1"),
        ("x-modal-client-version", "1.6.4"),
        ("x-modal-token-id", "ak-test"),
        ("x-modal-token-secret", "as-hidden"),
        ("x-extra", "yes"),
        ("x-retry-attempt", "0"),
        ("x-modal-auth-token", ""),
    ] {
        assert_eq!(asked.header(name), value, "{name}");
    }
    assert_eq!(asked.message::<api::AppGetOrCreateRequest>(), app());
    let wait = &server.asked("SandboxWaitV2")[0];
    assert_eq!(wait.header("x-modal-auth-token"), jwt("short"));
    assert_eq!(wait.header("x-modal-sandbox-token"), "st");
}

#[tokio::test]
async fn what_may_pass_is_tried_four_times_under_one_key() {
    for code in [1, 2, 4, 13, 14] {
        let server = Scripted::start(move |_| failing(code)).await;
        let fault = client(&server).call(&app(), Options::default()).await.expect_err("fails");
        assert_eq!(fault.code, Code::from_i32(code));
        let asked = server.asked("AppGetOrCreate");
        assert_eq!(asked.len(), 4, "code {code}");
        let numbers: Vec<_> = asked.iter().map(|asked| asked.header("x-retry-attempt")).collect();
        assert_eq!(numbers, ["0", "1", "2", "3"]);
        let key = asked[0].header("x-idempotency-key");
        assert!(key.len() == 36 && asked.iter().all(|asked| asked.header("x-idempotency-key") == key));
    }
}

#[tokio::test]
async fn what_will_not_pass_is_not_tried_again() {
    for code in [3, 5, 6, 7, 8, 9, 10, 11, 12, 15, 16] {
        let server = Scripted::start(move |_| failing(code)).await;
        let fault = client(&server).call(&app(), Options::default()).await.expect_err("fails");
        assert_eq!((fault.code, server.asked("AppGetOrCreate").len()), (Code::from_i32(code), 1));
    }
}

#[tokio::test]
async fn an_answer_that_got_lost_is_asked_for_under_the_same_key() {
    let server = Scripted::start(|asked| match asked.before {
        0 => Answer::Cut(Vec::new()),
        _ => one(api::AppGetOrCreateResponse { app_id: "ap-1".into(), handle_metadata: None }),
    })
    .await;
    let options = Options { key: Some(Key::of(&["known", "before"])), ..Options::default() };
    let answer = client(&server).call(&app(), options).await.expect("answered");
    assert_eq!(answer.app_id, "ap-1");
    let keys: Vec<_> = server
        .asked("AppGetOrCreate")
        .iter()
        .map(|asked| asked.header("x-idempotency-key").to_owned())
        .collect();
    assert_eq!(keys, vec![Key::of(&["known", "before"]).to_string(); 2]);
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let server = Scripted::start(|_| Answer::Silence).await;
    let options = Options { limit: Duration::from_millis(20), ..Options::default() };
    let fault = client(&server).call(&app(), options).await.expect_err("late");
    assert_eq!((fault.code, server.asked("AppGetOrCreate").len()), (Code::DeadlineExceeded, 4));
}

#[tokio::test]
async fn a_server_that_is_gone_is_named() {
    let server = Scripted::start(|_| Answer::Silence).await;
    let client = client(&server);
    let url = server.url.clone();
    drop(server);
    // The listener goes with its task.
    tokio::task::yield_now().await;
    let error = client.hello().await.expect_err("gone");
    assert_eq!(error.kind.as_str(), "unavailable");
    assert!(error.message.contains(&url) && error.message.contains("refused"), "{error}");
}

#[tokio::test]
async fn a_throttled_call_waits_without_counting_up_to_the_cap() {
    let server = Scripted::start(|asked| match asked.before {
        // More often than a call is repeated.
        0..6 => throttled(0.0),
        _ => one(api::AppGetOrCreateResponse { app_id: "ap-1".into(), handle_metadata: None }),
    })
    .await;
    client(&server).call(&app(), Options::default()).await.expect("answered at last");
    let asked = server.asked("AppGetOrCreate");
    let last = asked.last().expect("calls");
    assert_eq!((last.header("x-retry-attempt"), last.header("x-throttle-retry-attempt")), ("0", "6"));
    assert_eq!(last.header("x-throttle-retry-delay"), "0.600");

    let server = Scripted::start(|_| throttled(59.0)).await;
    let capped = Settings { throttle_limit: Duration::from_secs(58), ..settings(&server) };
    let client = Client::with_clock(capped, Clock::of_pauses()).expect("a client");
    let fault = client.call(&app(), Options::default()).await.expect_err("too long");
    assert_eq!(server.asked("AppGetOrCreate").len(), 1);
    let error = fault.explain("make an app");
    assert_eq!(error.kind.as_str(), "rate-limited");
    insta::assert_snapshot!(error.message, @"cannot make an app: Modal asked to wait for more than 58 s in all: slow down; try again later, or set MODAL_MAX_THROTTLE_WAIT to more seconds");
}

#[tokio::test]
async fn a_call_that_is_throttled_for_a_minute_is_one_call() {
    let server = Scripted::start(|asked| match asked.before {
        0..6 => throttled(10.0),
        _ => one(api::AppGetOrCreateResponse { app_id: "ap-1".into(), handle_metadata: None }),
    })
    .await;
    let clock = Clock::of_pauses();
    let client = Client::with_clock(settings(&server), clock.clone()).expect("a client");
    client.call(&app(), Options::default()).await.expect("answered at last");
    assert_eq!(clock.now(), Duration::from_secs(60));
    let asked = server.asked("AppGetOrCreate");
    let key = asked[0].header("x-idempotency-key");
    assert!(!key.is_empty() && asked.iter().all(|asked| asked.header("x-idempotency-key") == key));
    assert!(asked.iter().all(|asked| asked.header("x-retry-attempt") == "0"));
}

#[tokio::test]
async fn refused_credentials_say_where_they_came_from_and_not_what_they_are() {
    let server = Scripted::start(|_| Answer::Status(16, "Token not found", Vec::new())).await;
    let error = client(&server).hello().await.expect_err("refused");
    assert_eq!(error.kind.as_str(), "auth-error");
    insta::assert_snapshot!(error.message, @"cannot reach Modal: Modal: Token not found; the token comes from MODAL_TOKEN_ID and MODAL_TOKEN_SECRET: `modal token new` makes another");
    let said = format!("{error:?} {:?}", settings(&server));
    assert!(!said.contains("as-hidden"), "{said}");
}

#[tokio::test]
async fn a_refused_short_lived_token_is_replaced_once() {
    let server = Scripted::start(|asked| match asked.name.as_str() {
        "AuthTokenGet" => one(api::AuthTokenGetResponse { token: jwt(&format!("token-{}", asked.before)) }),
        _ if asked.header("x-modal-auth-token") == jwt("token-0") => failing(16),
        _ => Answer::Messages(vec![Vec::new()]),
    })
    .await;
    let client = client(&server);
    for _ in 0..2 {
        client.call(&api::SandboxWaitRequest::default(), Options::default()).await.expect("answered");
    }
    assert_eq!((server.asked("AuthTokenGet").len(), server.asked("SandboxWaitV2").len()), (2, 3));

    let server = Scripted::start(|asked| match asked.name.as_str() {
        "AuthTokenGet" => one(api::AuthTokenGetResponse { token: jwt("never good") }),
        _ => failing(16),
    })
    .await;
    let refused = self::client(&server).call(&api::SandboxWaitRequest::default(), Options::default()).await;
    assert_eq!(refused.expect_err("refused").code, Code::Unauthenticated);
    assert_eq!(server.asked("SandboxWaitV2").len(), 2);
}

/// A router on the same server as the control plane, which gives out a new token each time.
fn routed(server: &Scripted) -> Arc<Router> {
    Arc::new(Router::new(client(server), "sb-1-abc".into(), None, None))
}

/// A server whose router is itself. Its address is known only once it listens.
async fn with_router(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Scripted {
    let own: Arc<std::sync::OnceLock<String>> = Arc::default();
    let url = own.clone();
    let server = Scripted::start(move |asked| match asked.name.as_str() {
        "AuthTokenGet" => one(api::AuthTokenGetResponse { token: jwt("t") }),
        "SandboxGetCommandRouterAccess" => one(api::SandboxGetCommandRouterAccessResponse {
            jwt: format!("jwt-{}", asked.before),
            url: url.get().expect("an address").clone(),
            ..Default::default()
        }),
        _ => script(asked),
    })
    .await;
    own.set(server.url.clone()).expect("once");
    server
}

fn chunk(data: &'static [u8]) -> Vec<u8> {
    router::TaskExecStdioReadResponse { data: Bytes::from_static(data) }.encode_to_vec()
}

async fn read_all(server: &Scripted) -> Result<Vec<u8>, super::Fault> {
    let mut output = Output::new(routed(server), "ta-1".into(), "ex-1".into(), Source::Stdout);
    let mut all = Vec::new();
    while let Some(bytes) = output.next().await? {
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

#[tokio::test]
async fn output_that_is_cut_off_goes_on_where_it_was() {
    let server = with_router(|asked| {
        let request: router::TaskExecStdioReadRequest = asked.message();
        match (asked.before, request.offset) {
            (0, 0) => Answer::Cut(vec![chunk(b"one "), chunk(b"two ")]),
            // In the middle of a word, and then before a byte has come.
            (1, 8) => Answer::Cut(vec![chunk(b"thr")]),
            (2, 11) => Answer::Cut(Vec::new()),
            (3, 11) => Answer::Messages(vec![chunk(b"ee"), chunk(b"")]),
            other => panic!("asked for {other:?}"),
        }
    })
    .await;
    assert_eq!(read_all(&server).await.expect("read"), b"one two three");
}

#[tokio::test]
async fn output_that_never_comes_is_given_up() {
    let server = with_router(|_| failing(14)).await;
    assert_eq!(read_all(&server).await.expect_err("given up").code, Code::Unavailable);
    assert_eq!(server.asked("TaskExecStdioRead").len(), 11);
}

#[tokio::test]
async fn a_router_that_refuses_its_token_is_given_another() {
    let server = with_router(|asked| match (asked.name.as_str(), asked.header("authorization")) {
        ("TaskExecStart", "Bearer jwt-0") => failing(16),
        ("TaskExecStart", "Bearer jwt-1") => Answer::Messages(vec![Vec::new()]),
        // Refused in the middle of the stream, then before its first byte.
        ("TaskExecStdioRead", "Bearer jwt-2") => Answer::Failing(vec![chunk(b"half ")], 16),
        ("TaskExecStdioRead", "Bearer jwt-3") => {
            assert_eq!(asked.message::<router::TaskExecStdioReadRequest>().offset, 5);
            Answer::Messages(vec![chunk(b"whole")])
        }
        other => panic!("{other:?}"),
    })
    .await;
    let request = router::TaskExecStartRequest::default();
    routed(&server).call(&request, Duration::from_secs(10)).await.expect("answered");
    assert_eq!(read_all(&server).await.expect("read"), b"half whole");

    let server = with_router(|_| failing(16)).await;
    let refused = routed(&server).call(&request, Duration::from_secs(10)).await.expect_err("refused");
    assert_eq!((refused.code, server.asked("TaskExecStart").len()), (Code::Unauthenticated, 2));
}

#[tokio::test]
async fn a_router_call_is_tried_eleven_times() {
    let server = with_router(|_| failing(14)).await;
    let request = router::TaskExecStartRequest { exec_id: "e".into(), ..Default::default() };
    let fault = routed(&server).call(&request, Duration::from_secs(10)).await.expect_err("fails");
    assert_eq!((fault.code, server.asked("TaskExecStart").len()), (Code::Unavailable, 11));
}

#[tokio::test]
async fn the_end_of_a_sandbox_is_told_to_all_who_wait() {
    let timeout = api::generic_result::GenericStatus::Timeout;
    let result = api::GenericResult { status: timeout.into(), ..Default::default() };
    let told = result.clone();
    let server = with_router(move |asked| match asked.before {
        0 => Answer::Messages(vec![Vec::new()]),
        1 => Answer::Cut(Vec::new()),
        _ => one(api::SandboxWaitResponse { result: Some(told.clone()), metadata: None }),
    })
    .await;
    let ending = Ending::watch(client(&server), "sb-1-abc".into(), None);
    assert_eq!(
        tokio::join!(ending.ended(), ending.ended()),
        (Ended::With(result.clone()), Ended::With(result))
    );

    let server = with_router(|_| failing(5)).await;
    assert_eq!(Ending::watch(client(&server), "sb-1-abc".into(), None).ended().await, Ended::Unknown);

    let server = with_router(|_| failing(14)).await;
    let ended = Ending::watch(client(&server), "sb-1-abc".into(), None).ended().await;
    assert_eq!(ended, Ended::Unreachable("on purpose".into()));
}
