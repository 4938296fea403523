//! What a sandbox may reach while that changes, and what is told of connections that it may not make.

use super::contract::sandbox::{collect, output, run, sh};
use super::local;
use super::network::{echo_server, fetch, read_head, with_network};
use harvest::capability::sandbox::{Chunk, ExecSpec, Network, Process, Refused, Sandbox};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn allow(lines: &[&str]) -> Network {
    Network::Allow(lines.iter().map(|line| (*line).to_owned()).collect())
}

/// A server on this address that sends back what it is sent, and says when a connection has ended.
async fn mirror(address: &str) -> (u16, tokio::sync::mpsc::UnboundedReceiver<()>) {
    let listener = TcpListener::bind(address).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (ended, ends) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let ended = ended.clone();
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                // A connection that breaks has ended too.
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = ended.send(());
            });
        }
    });
    (port, ends)
}

/// The next line, of a command that waits once it has written one.
async fn line(process: &mut dyn Process) -> String {
    let mut line = String::new();
    while !line.ends_with('\n') {
        match process.next().await.expect("output") {
            Some(Chunk::Stdout(bytes)) => line.push_str(&String::from_utf8_lossy(&bytes)),
            other => panic!("no line: {other:?}"),
        }
    }
    line.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_changes_while_the_sandbox_lives() {
    let port = echo_server().await;
    let provider = local();
    let sandbox = with_network(&provider, Network::None).await;
    let ask = fetch(&format!("http://localhost:{port}/"));
    assert!(output(&*sandbox, &ask).await.contains("refused"), "nothing listens under `none`");
    let open = allow(&[&format!("localhost:{port}")]);
    for _ in 0..3 {
        sandbox.set_network(open.clone()).await.expect("opened");
        assert_eq!(sandbox.isolation().network, "allow-list");
        let seen = output(&*sandbox, &ask).await;
        assert!(seen.starts_with("200 "), "the very first request: {seen}");
        sandbox.set_network(Network::None).await.expect("closed");
        assert_eq!(sandbox.isolation().network, "none");
        let seen = output(&*sandbox, &ask).await;
        // Programs that ask the proxy are told why; without it there is nothing.
        let proxied = format!("http_proxy=http://127.0.0.1:3128 no_proxy= {ask}");
        assert!(seen.contains("refused") || seen.starts_with("403 "), "{seen}");
        assert!(output(&*sandbox, &proxied).await.starts_with("403 "), "the proxy refuses");
    }
    let error = sandbox.set_network(allow(&["http://x/"])).await.expect_err("refused");
    assert_eq!(error.kind.as_str(), "invalid");
    assert_eq!(sandbox.isolation().network, "none", "a policy that makes no sense changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_processes_after_a_snapshot_are_held_to_the_policy_of_the_moment() {
    let port = echo_server().await;
    let provider = local();
    let sandbox = with_network(&provider, Network::None).await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = told.clone();
    sandbox.on_refusal(Arc::new(move |refused: &Refused| sink.lock().unwrap().push(refused.to.clone())));
    let to = format!("localhost:{port}");
    let ask =
        format!("http_proxy=http://127.0.0.1:3128 no_proxy= {}", fetch(&format!("http://localhost:{port}/")));
    sandbox.snapshot().await.expect("saved");
    for (network, seen) in [(allow(&[&to]), "200 "), (Network::None, "403 "), (allow(&[&to]), "200 ")] {
        sandbox.set_network(network).await.expect("set");
        sandbox.snapshot().await.expect("saved");
        assert!(output(&*sandbox, &ask).await.starts_with(seen), "{:?}", sandbox.isolation());
    }
    assert_eq!(*told.lock().unwrap(), [to]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_network_is_neither_entered_nor_left() {
    let provider = local();
    let closed = with_network(&provider, Network::None).await;
    let host = with_network(&provider, Network::Host).await;
    for (sandbox, network) in
        [(&closed, Network::Host), (&host, Network::None), (&host, allow(&["a.example"]))]
    {
        let before = sandbox.isolation();
        let error = sandbox.set_network(network).await.expect_err("refused");
        assert_eq!(error.kind.as_str(), "invalid");
        assert!(error.message.contains("use another sandbox"), "{error}");
        assert_eq!(sandbox.isolation(), before);
    }
    host.set_network(Network::Host).await.expect("what it is already");
}

/// Opens what its arguments name through the proxy; then, for each line of input, says which of them still answer.
const TUNNELS: &str = "python3 -u - \"$@\" 3<&0 <<'END'\n\
    import os, socket, sys\n\
    def tunnel(to):\n\
    \x20   s = socket.create_connection(('127.0.0.1', 3128)); s.sendall(f'CONNECT {to} HTTP/1.1\\r\\n\\r\\n'.encode())\n\
    \x20   head = b''\n\
    \x20   while not head.endswith(b'\\r\\n\\r\\n'): head += s.recv(1)\n\
    \x20   return s\n\
    def answers(s):\n\
    \x20   try: s.sendall(b'x'); return s.recv(1) == b'x'\n\
    \x20   except OSError: return False\n\
    all = [tunnel(to) for to in sys.argv[1:]]\n\
    print(*map(answers, all))\n\
    for _ in os.fdopen(3): print(*map(answers, all))\n\
    END";

fn tunnels(to: &[String]) -> ExecSpec {
    let mut exec = ExecSpec { stdin: true, ..sh(TUNNELS) };
    exec.command.push("tunnels".into());
    exec.command.extend(to.iter().cloned());
    exec
}

#[tokio::test(flavor = "multi_thread")]
async fn tightening_cuts_open_tunnels_and_leaves_those_that_are_still_allowed() {
    let (gone, mut ends) = mirror("127.0.0.1:0").await;
    let (kept, _) = mirror("127.0.0.1:0").await;
    let (gone, kept) = (format!("localhost:{gone}"), format!("localhost:{kept}"));
    let provider = local();
    let sandbox = with_network(&provider, allow(&[&gone, &kept])).await;
    let mut process = sandbox.exec(tunnels(&[gone.clone(), kept.clone()])).await.expect("starts");
    assert_eq!(line(&mut *process).await, "True True");
    sandbox.set_network(allow(&[&kept])).await.expect("tightened");
    process.write(b"look\n").await.expect("written");
    assert_eq!(line(&mut *process).await, "False True");
    ends.recv().await.expect("the server sees the end as well");
    // What was cut is not restored by loosening.
    sandbox.set_network(allow(&[&gone, &kept])).await.expect("loosened");
    process.write(b"look\n").await.expect("written");
    assert_eq!(line(&mut *process).await, "False True");
    sandbox.set_network(Network::None).await.expect("closed");
    process.write(b"look\n").await.expect("written");
    process.close_stdin();
    assert_eq!(collect(process).await.stdout.trim(), "False False");
}

#[tokio::test(flavor = "multi_thread")]
async fn tightening_cuts_answers_that_are_under_way() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbegun").await.expect("written");
        // The other side is gone before the rest is sent.
        stream.read(&mut [0]).await
    });
    let provider = local();
    let sandbox = with_network(&provider, allow(&[&format!("localhost:{port}")])).await;
    let script = format!(
        "python3 -u - <<'END'\n\
         import urllib.request, http.client\n\
         r = urllib.request.urlopen('http://localhost:{port}/'); print(r.read(5).decode())\n\
         try: r.read(); print('whole')\n\
         except (http.client.IncompleteRead, OSError): print('cut')\n\
         END"
    );
    let mut process = sandbox.exec(sh(&script)).await.expect("starts");
    assert_eq!(line(&mut *process).await, "begun");
    sandbox.set_network(Network::None).await.expect("closed");
    assert_eq!(collect(process).await.stdout.trim(), "cut");
    assert!(!matches!(server.await.expect("no panic"), Ok(1..)), "nothing more came through");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_connections_are_told_with_the_line_that_allows_them() {
    let port = echo_server().await;
    let provider = local();
    let sandbox = with_network(&provider, allow(&["a.example"])).await;
    let told = Arc::new(Mutex::new(Vec::<Refused>::new()));
    let sink = told.clone();
    sandbox.on_refusal(Arc::new(move |refused| sink.lock().expect("a list").push(refused.clone())));
    let script = format!(
        "for to in b.example:443 b.example:22 127.0.0.1:{port} '[::1]:80' '[::1]:{port}' 'b!.example:80'; do \
         python3 - $to <<'END'\n\
         import socket, sys\n\
         s = socket.create_connection(('127.0.0.1', 3128))\n\
         s.sendall(f'CONNECT {{sys.argv[1]}} HTTP/1.1\\r\\n\\r\\n'.encode()); print(s.recv(12).decode()[9:])\n\
         END\n\
         done"
    );
    let seen = output(&*sandbox, &script).await;
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["403"; 6], "{seen}");
    let told = told.lock().expect("a list").clone();
    let lines: Vec<_> = told.iter().map(|refused| (refused.to.clone(), refused.line.clone())).collect();
    let expected = [
        ("b.example:443".to_owned(), "b.example".to_owned()),
        ("b.example:22".into(), "b.example:22".into()),
        (format!("127.0.0.1:{port}"), format!("127.0.0.1:{port}")),
        ("::1:80".into(), "::1".into()),
        (format!("::1:{port}"), format!("[::1]:{port}")),
        // What no list can name is told of to the program alone.
    ];
    assert_eq!(lines, expected);
    // With these lines all of it is allowed: what is not reached is another matter.
    let rules: Vec<_> = told.iter().map(|refused| refused.line.clone()).collect();
    sandbox.set_network(Network::Allow(rules)).await.expect("set");
    let seen = output(&*sandbox, &script).await;
    let expected = ["502", "502", "200"];
    assert_eq!(seen.split_whitespace().take(3).collect::<Vec<_>>(), expected, "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_lead_no_further_than_the_list() {
    let beyond = echo_server().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        for to in [format!("http://localhost:{beyond}/"), "http://169.254.169.254/".into()] {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            read_head(&mut stream).await;
            let answer = format!(
                "HTTP/1.1 302 Found\r\nlocation: {to}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await.expect("written");
        }
    });
    let provider = local();
    let sandbox = with_network(&provider, allow(&[&format!("localhost:{port}")])).await;
    for _ in 0..2 {
        let seen = output(&*sandbox, &fetch(&format!("http://localhost:{port}/"))).await;
        assert!(seen.starts_with("403 ") && seen.contains("is not on the allow-list"), "{seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_held_to_the_list_in_every_spelling() {
    let (port, _ends) = mirror("127.0.0.1:0").await;
    let provider = local();
    let sandbox = with_network(&provider, allow(&["*.example.com", &format!("localhost:{port}")])).await;
    let script = format!(
        "for to in 127.0.0.1 127.1 0x7f000001 2130706433 0 '[::ffff:127.0.0.1]' '[::1]' 169.254.169.254 '[fd00:ec2::254]' localhost.; do \
         python3 - $to:{port} <<'END'\n\
         import socket, sys\n\
         s = socket.create_connection(('127.0.0.1', 3128))\n\
         s.sendall(f'CONNECT {{sys.argv[1]}} HTTP/1.1\\r\\n\\r\\n'.encode()); print(s.recv(12).decode()[9:])\n\
         END\n\
         done"
    );
    let seen = output(&*sandbox, &script).await;
    // The last is the allowed name itself, with the dot of the root.
    let expected = [&["403"; 9][..], &["200"]].concat();
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), expected, "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_is_reached_where_it_is_named() {
    let Ok(probe) = TcpListener::bind("[::1]:0").await else {
        // A machine without IPv6 has nothing to reach.
        return;
    };
    drop(probe);
    let (port, _ends) = mirror("[::1]:0").await;
    let provider = local();
    let sandbox = with_network(&provider, allow(&[&format!("[::1]:{port}")])).await;
    let mut process = sandbox.exec(tunnels(&[format!("[::1]:{port}")])).await.expect("starts");
    assert_eq!(line(&mut *process).await, "True");
    process.kill().await.expect("killed");
}

/// The sandbox of a policy that was opened at run time is as closed as any other to what goes around the proxy.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_around_the_proxy() {
    let (port, _ends) = mirror("127.0.0.1:0").await;
    let provider = local();
    let sandbox: Arc<dyn Sandbox> = with_network(&provider, Network::None).await;
    sandbox.set_network(allow(&[&format!("localhost:{port}")])).await.expect("opened");
    let script = format!(
        "python3 - <<'END'\n\
         import socket\n\
         for to in (('127.0.0.1', {port}), ('1.1.1.1', 53), ('169.254.169.254', 80)):\n\
         \x20   try: socket.create_connection(to, 5); print('reached')\n\
         \x20   except OSError as e: print(e.errno)\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         try: s.sendto(b'x', ('1.1.1.1', 53)); print('sent')\n\
         except OSError as e: print(e.errno)\n\
         END"
    );
    let seen = run(&*sandbox, sh(&script)).await.stdout;
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["111", "101", "101", "101"]);
}
