//! Snapshots while no command runs: nothing is copied, and the sandbox goes on.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_copied_and_the_sandbox_goes_on() {
    let provider = Local::new();
    let sandbox = open(&*provider).await;
    output(&*sandbox, "mkdir /data; echo 1 > /data/file; echo 1 > /etc/shells; (setsid sleep 1000 &)").await;
    let inode = fs::metadata(provider.upper(&*sandbox).join("data/file")).expect("there").ino();
    let before = provider.layers();
    let snapshot = sandbox.snapshot().await.expect("saved");
    assert_eq!(snapshot.mode, SnapshotMode::Stacked);
    let made: Vec<_> = provider.layers().difference(&before).cloned().collect();
    let layer = provider.home.path().join("layers").join(&made[0]);
    assert_eq!((made.len(), fs::metadata(layer.join("data/file")).expect("there").ino()), (1, inode));
    // The same sandbox, the same files, and room for new ones.
    assert!(sandbox.is_open());
    output(&*sandbox, "echo 2 >> /data/file; rm /etc/shells; echo mine > /data/own").await;
    assert_eq!(fs::read_to_string(layer.join("data/file")).expect("read"), "1\n");
    let other = provider.open_image(&snapshot.image).await;
    assert_eq!(output(&*other, "cat /data/file /etc/shells; ls /data").await, "1\n1\nfile\n");
    // Also for the next process that opens it, and after a second one.
    sandbox.snapshot().await.expect("saved again");
    output(&*sandbox, "echo 3 >> /data/file").await;
    let spec = SandboxSpec { id: sandbox.id().into(), image: "host".into(), ..SandboxSpec::default() };
    sandbox.terminate().await.expect("ends");
    drop(sandbox);
    let again = LocalProvider::new(provider.home.path(), launcher(), Vec::new()).expect("a provider");
    let again = again.open(spec).await.expect("opens");
    assert_eq!(
        output(&*again, "cat /data/file; ls /data; test -e /etc/shells || echo gone").await,
        "1\n2\n3\nfile\nown\ngone\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_and_the_allow_list_are_there_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi")
                .await;
        }
    });
    let home = tempfile::tempdir().expect("a directory");
    let base_url = format!("http://127.0.0.1:{port}/base");
    let upstream = Upstream { name: "api".into(), base_url, credentials: Vec::new(), metered: false };
    let provider = LocalProvider::new(home.path(), launcher(), vec![upstream]).expect("a provider");
    let allowed = Network::Allow(vec![format!("127.0.0.1:{port}")]);
    for network in [Network::None, Network::Host, allowed] {
        let through_proxy = matches!(network, Network::Allow(_));
        let sandbox = provider.open(SandboxSpec { network, ..spec() }).await.expect("opens");
        let url = sandbox.forward("api", Vec::new(), None).await.expect("a gateway");
        let mut fetch =
            format!("python3 -c \"import urllib.request as r; print(r.urlopen('{url}/x').read())\"");
        if through_proxy {
            let direct = format!("http://127.0.0.1:{port}/");
            fetch = format!(
                "{fetch}; http_proxy=http://127.0.0.1:3128 no_proxy= NO_PROXY= python3 -c \"import urllib.request as r; print(r.urlopen('{direct}').read())\""
            );
        }
        let before = output(&*sandbox, &fetch).await;
        for _ in 0..2 {
            sandbox.snapshot().await.expect("saved");
            assert_eq!(output(&*sandbox, &fetch).await, before);
        }
        assert!(before.starts_with("b'hi'\n"), "{before}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_become_durable() {
    let provider = Local::new();
    let sandbox = open(&*provider).await;
    output(&*sandbox, "echo 1 > /root/file").await;
    let image = sandbox.snapshot().await.expect("saved").image;
    let find = async || {
        let images = provider.list_images().await.expect("listed");
        images.into_iter().find(|listed| listed.id == image).expect("listed at once")
    };
    until("it becomes durable", async || find().await.durable).await;
    assert!(find().await.bytes > 0 && find().await.layers == 1);
    // What has a name is durable at once.
    let second = sandbox.snapshot().await.expect("saved").image;
    provider.tag_image(&second, "second").await.expect("named");
    let images = provider.list_images().await.expect("listed");
    assert!(images.iter().any(|image| image.names == ["second"] && image.durable));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_the_same_time_wait_for_it() {
    let provider = Local::new();
    let sandbox = open(&*provider).await;
    let snapshots = async {
        for _ in 0..5 {
            sandbox.snapshot().await.expect("saved");
        }
    };
    let writes = async {
        for number in 0..40 {
            let path = format!("/root/{number}");
            sandbox.write_file(&path, path.as_bytes(), 0o644).await.expect("written");
            assert_eq!(output(&*sandbox, &format!("cat {path}")).await, path);
        }
    };
    tokio::join!(snapshots, writes);
    assert_eq!(output(&*sandbox, "ls /root | wc -l").await.trim(), "40");
    let (saved, ended) = tokio::join!(sandbox.snapshot(), sandbox.terminate());
    ended.expect("ends");
    assert!(saved.is_ok() || saved.is_err_and(|error| error.kind.as_str() == "sandbox-lost"));
    assert_eq!(sandbox.snapshot().await.expect_err("ended").kind.as_str(), "sandbox-lost");
}
