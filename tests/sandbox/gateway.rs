//! Gateways to services outside, which add credentials that no sandbox sees.

use super::contract::sandbox::{collect, open, output, sh};
use super::network::{echo_server, fetch, read_head, with_network};
use super::{CANARY, grep, with_upstreams};
use harvest::capability::sandbox::local::Upstream;
use harvest::capability::sandbox::{Chunk, Credential, Network};
use harvest::capability::secret::Secret;
use std::path::PathBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn upstream(port: u16) -> Upstream {
    let credential = Credential {
        header: "x-api-key".into(),
        prefix: String::new(),
        secret: Secret::new("operator", "operators-own"),
    };
    Upstream {
        name: "api".into(),
        base_url: format!("http://127.0.0.1:{port}/base"),
        credentials: vec![credential],
        metered: true,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_added_outside_and_never_seen_inside() {
    let port = echo_server().await;
    let provider = with_upstreams(vec![upstream(port)]);
    for network in [Network::None, Network::Host, Network::Allow(vec![])] {
        let sandbox = with_network(&provider, network).await;
        let own = Credential {
            header: "authorization".into(),
            prefix: "Bearer ".into(),
            secret: Secret::new("mine", CANARY),
        };
        let url = sandbox.forward("api", vec![own], None).await.expect("a gateway");
        let script = format!(
            "python3 - <<'END'\n\
             import urllib.request\n\
             r = urllib.request.Request('{url}/v1/x?q=1', headers={{'authorization': 'Bearer fake', 'x-api-key': 'fake', 'x-kept': 'yes'}})\n\
             print(urllib.request.urlopen(r).read().decode().lower())\n\
             END"
        );
        // The echo shows what the upstream received.
        let received = output(&*sandbox, &script).await;
        assert!(received.starts_with("get /base/v1/x?q=1 http/1.1"), "{received}");
        assert!(received.contains(&format!("authorization: bearer {CANARY}")), "{received}");
        assert!(received.contains("x-kept: yes") && !received.contains("fake"), "{received}");
        assert!(!received.contains("operators-own"), "the caller's credentials win: {received}");
        let environment =
            output(&*sandbox, "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null; true").await;
        assert!(!environment.contains(CANARY));

        let operators = sandbox.forward("api", Vec::new(), None).await.expect("a gateway");
        let received = output(&*sandbox, &fetch(&operators)).await;
        assert!(received.to_lowercase().contains("x-api-key: operators-own"), "{received}");

        let (bare, _) = url.rsplit_once('/').expect("a token");
        for path in [
            "",
            "/",
            "/v1/x",
            "/0123456789abcdef0123456789abcdef/v1",
            &format!("{}/../../admin", url.trim_start_matches(bare)),
        ] {
            let seen = output(&*sandbox, &fetch(&format!("{bare}{path}"))).await;
            assert!(seen.starts_with("404 "), "{path}: {seen}");
        }
    }
    assert_eq!(grep(provider.home.path(), CANARY.as_bytes()), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_one_by_one_and_bodies_go_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let provider = with_upstreams(vec![upstream(listener.local_addr().expect("an address").port())]);
    let (go_on, wait) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let head = read_head(&mut stream).await.to_lowercase();
        assert!(head.contains("content-length: 100000"), "{head}");
        let mut body = vec![0; 100_000];
        stream.read_exact(&mut body).await.expect("the body");
        assert!(body.iter().all(|byte| *byte == b'b'));
        let start =
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: one\n\n";
        stream.write_all(start.as_bytes()).await.expect("written");
        wait.await.expect("the first event arrives before the second is sent");
        stream.write_all(b"data: two\n\n").await.expect("written");
    });
    let sandbox = open(&*provider).await;
    let url = sandbox.forward("api", Vec::new(), None).await.expect("a gateway");
    let script = format!(
        "python3 -u - <<'END'\n\
         import urllib.request\n\
         r = urllib.request.urlopen(urllib.request.Request('{url}/events', data=b'b' * 100000))\n\
         for line in r: print(line.decode().strip())\n\
         END"
    );
    let mut process = sandbox.exec(sh(&script)).await.expect("starts");
    let Some(Chunk::Stdout(first)) = process.next().await.expect("output") else { panic!("no event") };
    assert!(first.starts_with(b"data: one"), "{first:?}");
    go_on.send(()).expect("the upstream waits");
    let rest = collect(process).await;
    assert!(rest.stdout.contains("data: two"), "{rest:?}");
    server.await.expect("the upstream saw what it should");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_says_so_without_secrets() {
    let port =
        TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address").port();
    let provider = with_upstreams(vec![upstream(port)]);
    let sandbox = open(&*provider).await;
    let url = sandbox.forward("api", Vec::new(), None).await.expect("a gateway");
    let seen = output(&*sandbox, &fetch(&url)).await;
    assert!(seen.starts_with("502 {\"type\":\"error\",\"error\":{\"type\":\"api_error\""), "{seen}");
    assert!(!seen.contains("operators-own"));
    let error = sandbox.forward("other", Vec::new(), None).await.expect_err("unknown");
    assert_eq!(error.kind.as_str(), "not-found");
    assert!(error.message.contains("api"), "{error}");
}
