//! The network of a sandbox: none, the host's, or what an allow-list names.

use super::contract::sandbox::{output, spec};
use super::{Local, local};
use harvest::capability::sandbox::{Network, Sandbox, SandboxProvider, SandboxSpec};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A fresh sandbox with this network.
pub(super) async fn with_network(provider: &Local, network: Network) -> Arc<dyn Sandbox> {
    provider.open(SandboxSpec { network, ..spec() }).await.expect("a sandbox opens")
}

/// Asks for a URL with python's urllib and prints status and body, whatever they are.
pub(super) fn fetch(url: &str) -> String {
    format!(
        "python3 - <<'END'\n\
         import urllib.request, urllib.error\n\
         try: r = urllib.request.urlopen('{url}', timeout=20); print(r.status, r.read().decode().strip())\n\
         except urllib.error.HTTPError as e: print(e.code, e.read().decode().strip())\n\
         except Exception as e: print('failed', e)\n\
         END"
    )
}

/// Reads a request up to the end of its head.
pub(super) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a request"));
    }
    String::from_utf8(head).expect("text")
}

/// A server on the host's loopback that answers each request with its own head.
pub(super) async fn echo_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let head = read_head(&mut stream).await;
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{head}",
                    head.len()
                );
                stream.write_all(answer.as_bytes()).await.expect("written");
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn none_has_no_network_to_go_to() {
    let provider = local();
    let sandbox = with_network(&provider, Network::None).await;
    let script =
        "python3 -c 'import socket; socket.create_connection((\"1.1.1.1\", 53), 5)' 2>&1 | tail -n 1";
    assert_eq!(output(&*sandbox, script).await, "OSError: [Errno 101] Network is unreachable\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn none_reaches_no_service_of_the_host() {
    let port = echo_server().await;
    let provider = local();
    let sandbox = with_network(&provider, Network::None).await;
    let seen = output(&*sandbox, &fetch(&format!("http://127.0.0.1:{port}/"))).await;
    assert!(seen.contains("refused"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn host_reaches_what_the_host_does() {
    let port = echo_server().await;
    let provider = local();
    let sandbox = with_network(&provider, Network::Host).await;
    let seen = output(&*sandbox, &fetch(&format!("http://127.0.0.1:{port}/path"))).await;
    assert!(seen.starts_with("200 GET /path HTTP/1.1"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allow_list_allows_what_it_names() {
    let (allowed, other) = (echo_server().await, echo_server().await);
    let rules = Network::Allow(vec![format!("localhost:{allowed}"), "*.example.invalid".into()]);
    let provider = local();
    let sandbox = with_network(&provider, rules).await;
    // The very first request, right after the start.
    let seen = output(&*sandbox, &fetch(&format!("http://localhost:{allowed}/a?b=c"))).await;
    assert!(seen.starts_with("200 GET /a?b=c HTTP/1.1"), "{seen}");
    assert!(seen.to_lowercase().contains(&format!("host: localhost:{allowed}")), "{seen}");
    let refused = output(&*sandbox, &fetch(&format!("http://localhost:{other}/"))).await;
    assert!(
        refused.starts_with("403 ") && refused.contains(&format!("add the line `localhost:{other}`")),
        "{refused}"
    );
    let refused = output(&*sandbox, &fetch("http://169.254.169.254/latest/meta-data/")).await;
    assert!(refused.starts_with("403 "), "{refused}");
    let unresolvable = output(&*sandbox, &fetch("http://a.example.invalid/")).await;
    assert!(unresolvable.starts_with("502 "), "{unresolvable}");
    // Past the proxy there is nothing.
    let around =
        format!("env -u http_proxy -u HTTP_PROXY {}", fetch(&format!("http://127.0.0.1:{allowed}/")));
    assert!(output(&*sandbox, &around).await.contains("refused"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_are_held_to_the_list_too() {
    let port = echo_server().await;
    let provider = local();
    let sandbox = with_network(&provider, Network::Allow(vec![format!("127.0.0.1:{port}")])).await;
    let connect = |to: &str, then: &str| {
        format!(
            "python3 - <<'END'\n\
             import socket\n\
             s = socket.create_connection(('127.0.0.1', 3128))\n\
             s.sendall(b'CONNECT {to} HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n'); print(s.recv(12).decode())\n\
             {then}\n\
             END"
        )
    };
    let through =
        "s.recv(1000); s.sendall(b'GET /in HTTP/1.1\\r\\n\\r\\n'); print(s.makefile().read().split()[-2])";
    assert_eq!(
        output(&*sandbox, &connect(&format!("127.0.0.1:{port}"), through)).await,
        "HTTP/1.1 200\n/in\n"
    );
    for refused in ["127.0.0.1:1", "[::1]:80", "localhost:80", "169.254.169.254:80", "1.1.1.1:53"] {
        assert_eq!(output(&*sandbox, &connect(refused, "")).await, "HTTP/1.1 403\n", "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_home_is_refused() {
    // The host's own name resolves to its loopback by /etc/hosts or nss, where it resolves at all.
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name").trim().to_owned();
    let provider = local();
    let sandbox = with_network(&provider, Network::Allow(vec![name.clone()])).await;
    let seen = output(&*sandbox, &fetch(&format!("http://{name}/"))).await;
    assert!(seen.starts_with("403 ") || seen.starts_with("502 "), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_list_is_refused() {
    let spec = SandboxSpec { network: Network::Allow(vec!["http://x/".into()]), ..spec() };
    let error = local().open(spec).await.err().expect("refused");
    assert_eq!(error.kind.as_str(), "invalid");
    assert!(error.message.contains("http://x/"), "{error}");
}
