use super::*;
use crate::capability::secret::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers one request with this, and says what it was.
async fn server(answer: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"{}") {
            let mut piece = [0; 1024];
            let read = stream.read(&mut piece).await.unwrap();
            assert_ne!(read, 0);
            request.extend_from_slice(&piece[..read]);
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    });
    (port, seen)
}

fn to(url: String) -> Post {
    Post { url, content_type: "application/json".into(), body: b"{}".to_vec(), credential: None }
}

fn hosts(lines: &[&str]) -> AllowList {
    AllowList::parse(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>()).unwrap()
}

fn token() -> Option<Credential> {
    let secret = Secret::new("token", "value-of-token");
    Some(Credential { header: "authorization".into(), prefix: "Bearer ".into(), secret })
}

#[tokio::test]
async fn what_is_sent_arrives_and_any_status_is_an_answer() {
    let (port, seen) = server("HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 3\r\n\r\nyes").await;
    let request = Post { credential: token(), ..to(format!("http://127.0.0.1:{port}/hook?a=b")) };
    let answer = post(request, &hosts(&[&format!("127.0.0.1:{port}")])).await.unwrap();
    assert_eq!(answer, Answer { status: 302, body: b"yes".to_vec() });
    let seen = seen.await.unwrap();
    assert!(seen.starts_with("POST /hook?a=b HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("authorization: Bearer value-of-token\r\n"), "{seen}");
    assert!(seen.contains("content-type: application/json\r\n"), "{seen}");
}

#[tokio::test]
async fn a_name_of_this_machine_is_reached_where_it_is_named() {
    let (port, seen) = server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    // With a dot at its end, so that nothing but the checked addresses would be found for it.
    let request = to(format!("http://LOCALHOST.:{port}/"));
    assert_eq!(post(request, &hosts(&[&format!("localhost:{port}")])).await.unwrap().status, 200);
    seen.await.unwrap();
}

#[tokio::test]
async fn what_is_not_granted_is_not_reached() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for (url, lines, words) in [
        (format!("http://127.0.0.1:{port}/"), vec![], format!("http: ['127.0.0.1:{port}']")),
        (format!("http://127.0.0.1:{port}/"), vec!["127.0.0.1".to_owned()], format!("'127.0.0.1:{port}'")),
        (format!("http://[::1]:{port}/"), vec!["*.com".into()], format!("'[::1]:{port}'")),
        (
            format!("http://localhost:{port}/"),
            vec![format!("127.0.0.1:{port}")],
            format!("'localhost:{port}'"),
        ),
        (
            "http://0x7f.1/".into(),
            vec!["example.com".into()],
            "127.0.0.1:80 may not be reached: write `permissions: [{ http: ['127.0.0.1'] }]`".into(),
        ),
    ] {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let error = post(to(url.clone()), &hosts(&lines)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::DENIED, "{url}: {error}");
        assert!(error.message.contains(&words), "{url}: {error}");
    }
    assert!(futures_util::FutureExt::now_or_never(listener.accept()).is_none(), "nothing has arrived");
}

#[tokio::test]
async fn mistakes_have_kinds_and_tell_no_secrets() {
    let closed = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let here = hosts(&[&format!("127.0.0.1:{closed}"), "192.0.2.1"]);
    let fields = Post { credential: token(), ..to("http://192.0.2.1/".into()) };
    for (request, kind, words) in [
        (to("nonsense".into()), "invalid", "malformed"),
        (to("ftp://127.0.0.1/".into()), "invalid", "https://"),
        (to("https://user:hunter22@127.0.0.1/".into()), "invalid", "secret slot"),
        (to(format!("http://127.0.0.1:{closed}/hunter22")), "network", "cannot send to 127.0.0.1"),
        (fields, "denied", "plain http"),
        (Post { body: vec![0; BODY_LIMIT + 1], ..to("http://192.0.2.1/".into()) }, "too-large", "1 MiB"),
        (Post { content_type: "a\nb".into(), ..to("http://192.0.2.1/".into()) }, "invalid", "media type"),
    ] {
        let error = post(request, &here).await.unwrap_err();
        assert!(error.kind.as_str() == kind && error.message.contains(words), "{error:?}");
        assert!(!error.message.contains("hunter22") && !error.message.contains("value-of-token"), "{error}");
    }
}
