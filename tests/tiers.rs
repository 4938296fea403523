//! The stronger tiers: the contract of all providers, then what only they promise. Where the machine has no `runsc` or no
//! engine, each test says so in one line; what nobody has asked for is then still refused.

mod contract {
    pub(crate) mod sandbox;
}
mod harness;

use contract::sandbox::{open, output, run, sh, spec};
use harness::{Home, text};
use harvest::capability::sandbox::local::{LocalProvider, Upstream};
use harvest::capability::sandbox::{Credential, Network, SandboxProvider, SandboxSpec, gvisor};
use harvest::capability::secret::Secret;
use std::path::{Path, PathBuf};
use std::process::Command;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn launcher() -> PathBuf {
    std::env::var_os("HARVEST_TEST_LAUNCHER")
        .map_or_else(|| env!("CARGO_BIN_EXE_harvest").into(), PathBuf::from)
}

/// A provider with a home of its own, deleted with it.
struct Kept<P> {
    provider: P,
    home: tempfile::TempDir,
}

impl<P> std::ops::Deref for Kept<P> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.provider
    }
}

/// `None`, with a line about it, where the machine has none.
fn there<P>(found: harvest::capability::Result<P>, home: tempfile::TempDir) -> Option<Kept<P>> {
    match found {
        Ok(provider) => Some(Kept { provider, home }),
        Err(error) => {
            assert_eq!(error.kind.as_str(), "unavailable", "{error}");
            eprintln!("not tested: {error}");
            None
        }
    }
}

fn upstream(port: u16) -> Upstream {
    let secret = Secret::new("key", "operators-own");
    let credential = Credential { header: "x-api-key".into(), prefix: String::new(), secret };
    Upstream {
        name: "api".into(),
        base_url: format!("http://127.0.0.1:{port}"),
        credentials: vec![credential],
        metered: false,
    }
}

/// A server on the host's loopback that answers each request with its own head.
async fn echo_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.expect("a request"));
                }
                let start =
                    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", head.len());
                stream.write_all(start.as_bytes()).await.expect("written");
                stream.write_all(&head).await.expect("written");
            });
        }
    });
    port
}

/// Asks for URLs, and prints status and body of each.
fn fetch(urls: &[String]) -> String {
    let urls: Vec<_> = urls.iter().map(|url| format!("'{url}'")).collect();
    format!(
        "python3 - <<'END'\n\
         import urllib.request, urllib.error\n\
         for url in [{}]:\n\
         \x20   try: r = urllib.request.urlopen(url, timeout=20); print(r.status, r.read().decode().strip())\n\
         \x20   except urllib.error.HTTPError as e: print(e.code, e.read().decode().strip())\n\
         \x20   except Exception as e: print('failed', e)\n\
         END",
        urls.join(", ")
    )
}

/// An allow-list reaches what it names, also by many connections at once and after a snapshot, until it is taken away; a
/// gateway adds what is not seen inside.
async fn ports_lead_where_they_should(provider: &dyn SandboxProvider, port: u16) {
    let other = echo_server().await;
    let network = Network::Allow(vec![format!("localhost:{port}")]);
    let spec = SandboxSpec { network, ..spec() };
    let foreseen = provider.isolation(&spec).await.expect("foreseen");
    let sandbox = provider.open(spec).await.expect("opens");
    assert_eq!((sandbox.isolation().network.as_str(), sandbox.isolation()), ("allow-list", foreseen));
    let urls = [format!("http://localhost:{port}/yes"), format!("http://localhost:{other}/no")];
    let seen = output(&*sandbox, &fetch(&urls)).await;
    assert!(seen.starts_with("200 GET /yes HTTP/1.1"), "{seen}");
    assert!(seen.contains(&format!("403 harvest: localhost:{other} is not on the allow-list")), "{seen}");
    let direct = format!("http_proxy= NO_PROXY='*' {}", fetch(&[format!("http://127.0.0.1:{port}/")]));
    assert!(output(&*sandbox, &direct).await.starts_with("failed"), "around the proxy");

    sandbox.set_network(Network::None).await.expect("closed");
    let proxied = format!("http_proxy=http://127.0.0.1:3128 no_proxy= {}", fetch(&urls[..1]));
    assert!(output(&*sandbox, &proxied).await.starts_with("403 "), "closed while it lives");

    let url = sandbox.forward("api", Vec::new(), None).await.expect("a gateway");
    sandbox.snapshot().await.expect("saved");
    assert!(output(&*sandbox, &proxied).await.starts_with("403 "), "closed after a snapshot");
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    let asked = (0..20).map(|number| {
        let (sandbox, url) = (sandbox.clone(), format!("{url}/{number}"));
        tokio::spawn(async move { output(&*sandbox, &fetch(&[url])).await })
    });
    for (number, asked) in asked.collect::<Vec<_>>().into_iter().enumerate() {
        let seen = asked.await.expect("no panic").to_lowercase();
        assert!(seen.starts_with(&format!("200 get /{number} http/1.1")), "{seen}");
        assert!(seen.contains("x-api-key: operators-own"), "{seen}");
    }
    let all = output(&*sandbox, "env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'").await;
    assert!(!all.contains("operators-own"), "{all}");
}

/// What a container or gVisor must hold as well as a local sandbox does.
async fn the_host_is_not_there(provider: &Kept<impl SandboxProvider>) {
    let marker = provider.home.path().join("marker");
    std::fs::write(&marker, "x").expect("written");
    let sandbox = open(&**provider).await;
    let script = format!(
        "test -e {} && echo seen; ls -A /root /home/user; grep -c . /proc/1/environ; \
         grep -E '^(CapPrm|CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t'",
        marker.display()
    );
    let seen = run(&*sandbox, sh(&script)).await;
    assert!(!seen.stdout.contains("seen"), "{seen:?}");
    assert!(seen.stdout.contains("CapBnd:00000000800404fb"), "ten capabilities: {seen:?}");
    let denied = "mkdir -p /tmp/m; mount -t tmpfs none /tmp/m 2>/dev/null && echo mounted; \
                  unshare -U true 2>/dev/null && echo unshared; \
                  python3 -c 'import socket; socket.socket(40, socket.SOCK_STREAM)' 2>/dev/null && echo vsock; true";
    assert_eq!(output(&*sandbox, denied).await, "");
}

mod gvisor_tier {
    use super::*;

    fn provider() -> Option<Kept<LocalProvider>> {
        with_upstreams(Vec::new())
    }

    fn with_upstreams(upstreams: Vec<Upstream>) -> Option<Kept<LocalProvider>> {
        let home = tempfile::tempdir().expect("a directory");
        there(gvisor::provider(home.path(), launcher(), upstreams), home)
    }

    mod keeps {
        use super::provider;
        crate::local_sandbox_contract!(match provider() {
            Some(provider) => provider,
            None => return,
        });
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn another_kernel_answers() {
        let Some(provider) = provider() else { return };
        let sandbox = open(&*provider).await;
        let inside = output(&*sandbox, "cat /proc/version").await;
        assert_ne!(inside, std::fs::read_to_string("/proc/version").expect("a version"));
        let boot = output(&*sandbox, "dmesg 2>/dev/null || true").await;
        assert!(boot.is_empty() || boot.contains("gVisor"), "{boot}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_host_is_not_there() {
        let Some(provider) = provider() else { return };
        super::the_host_is_not_there(&provider).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn ports_lead_where_they_should() {
        let port = echo_server().await;
        let Some(provider) = with_upstreams(vec![upstream(port)]) else { return };
        super::ports_lead_where_they_should(&*provider, port).await;
    }

    /// Files, images and volumes are those of local sandboxes.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_one_tier_saves_the_other_opens() {
        let Some(provider) = provider() else { return };
        let local = LocalProvider::new(provider.home.path(), launcher(), Vec::new()).expect("a provider");
        let sandbox = open(&*provider).await;
        output(
            &*sandbox,
            "echo from gvisor > /opt/file; echo kept > /tmp/file; ln -s file /opt/link; rm /etc/shells",
        )
        .await;
        let image = sandbox.snapshot().await.expect("saved").image;
        drop(sandbox);
        let sandbox = local.open(SandboxSpec { image, ..spec() }).await.expect("opens");
        let script = "cat /opt/link /tmp/file; stat -c '%U %a' /opt/file; test -e /etc/shells || echo gone";
        assert_eq!(output(&*sandbox, script).await, "from gvisor\nkept\nroot 644\ngone\n");
        output(&*sandbox, "echo from local > /opt/file").await;
        let image = sandbox.snapshot().await.expect("saved").image;
        let sandbox = provider.open(SandboxSpec { image, ..spec() }).await.expect("opens");
        assert_eq!(
            output(&*sandbox, "cat /opt/link; test -e /etc/shells || echo gone").await,
            "from local\ngone\n"
        );
    }

    /// The host that is killed: this test binary again, in the role that the environment gives it.
    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_of_a_killed_host() {
        if let Some(home) = std::env::var_os("HARVEST_TEST_VICTIM") {
            let provider = gvisor::provider(Path::new(&home), launcher(), Vec::new()).expect("a provider");
            let sandbox = provider.open(SandboxSpec { id: "victim".into(), ..spec() }).await.expect("opens");
            let mut process = sandbox
                .exec(sh("echo kept > /root/file; setsid sleep 1000 & echo up; wait"))
                .await
                .expect("starts");
            process.next().await.expect("output");
            println!("ready");
            std::future::pending::<()>().await;
        }
        let Some(provider) = provider() else { return };
        a_killed_host(&provider, "gvisor_tier::nothing_of_a_killed_host").await;
    }

    /// The contract once more as a user without any rights, where the tests run as root.
    #[test]
    fn all_of_it_as_an_ordinary_user() {
        harness::ordinary_user::again("gvisor_tier", &launcher());
    }
}

/// Kills a host with an open sandbox, and opens it again: its lock is free once nothing of it runs.
async fn a_killed_host(provider: &Kept<impl SandboxProvider>, test: &str) {
    use std::io::{BufRead, BufReader};
    let mut host = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", test, "--nocapture"])
        .env("HARVEST_TEST_VICTIM", provider.home.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(host.stdout.take().expect("a pipe")).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("ready")), "the host comes up");
    assert_eq!(provider.list().await, Ok(vec![("victim".into(), true)]));
    host.kill().expect("killed");
    host.wait().expect("reaped");
    let again = provider.open(SandboxSpec { id: "victim".into(), ..spec() }).await.expect("opens");
    let script = "cat /root/file; cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c '[s]leep 1000'";
    let seen = run(&*again, sh(script)).await;
    assert_eq!(seen.stdout, "kept\n0\n");
}

#[cfg(feature = "docker")]
mod docker_tier {
    use super::*;
    use bollard::query_parameters::{ListImagesOptions, RemoveImageOptions};
    use harvest::capability::sandbox::docker::DockerProvider;
    use std::collections::HashMap;

    /// A provider whose containers and images go with it.
    struct Engine(Option<Kept<DockerProvider>>);

    impl std::ops::Deref for Engine {
        type Target = DockerProvider;

        fn deref(&self) -> &DockerProvider {
            &self.0.as_ref().expect("until dropped").provider
        }
    }

    impl Drop for Engine {
        fn drop(&mut self) {
            let Some(Kept { provider, home }) = self.0.take() else { return };
            let clean = move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(remove_all(&provider));
                drop(home);
            };
            std::thread::spawn(clean).join().expect("cleaned up");
        }
    }

    async fn remove_all(provider: &DockerProvider) {
        for (id, _) in provider.list().await.expect("listed") {
            provider.remove(&id).await.expect("removed");
        }
        let engine = harvest::capability::sandbox::docker::connect().await.expect("an engine");
        let named = HashMap::from([("reference".to_owned(), vec![format!("{}:*", provider.scope())])]);
        let options = ListImagesOptions { filters: Some(named), ..ListImagesOptions::default() };
        let images = engine.list_images(Some(options)).await.expect("listed");
        for name in images.iter().flat_map(|image| &image.repo_tags) {
            let options = RemoveImageOptions { force: true, ..RemoveImageOptions::default() };
            drop(engine.remove_image(name, Some(options), None).await);
        }
    }

    async fn provider() -> Option<Engine> {
        with_upstreams(Vec::new()).await
    }

    async fn with_upstreams(upstreams: Vec<Upstream>) -> Option<Engine> {
        let home = tempfile::tempdir().expect("a directory");
        let found = DockerProvider::connect(home.path(), &launcher(), upstreams).await;
        there(found, home).map(|kept| Engine(Some(kept)))
    }

    mod keeps {
        use super::provider;
        crate::local_sandbox_contract!(match provider().await {
            Some(provider) => provider,
            None => return,
        });
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_host_is_not_there() {
        let Some(provider) = provider().await else { return };
        super::the_host_is_not_there(provider.0.as_ref().expect("kept")).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn ports_lead_where_they_should() {
        let port = echo_server().await;
        let Some(provider) = with_upstreams(vec![upstream(port)]).await else { return };
        super::ports_lead_where_they_should(&*provider, port).await;
    }

    /// What is collected here, the engine does not keep either.
    #[tokio::test(flavor = "multi_thread")]
    async fn images_that_nothing_needs_go_from_the_engine_too() {
        let Some(provider) = provider().await else { return };
        let engine = harvest::capability::sandbox::docker::connect().await.expect("an engine");
        let saved = async || {
            let named = HashMap::from([("reference".to_owned(), vec![format!("{}:*", provider.scope())])]);
            let options = ListImagesOptions { filters: Some(named), ..ListImagesOptions::default() };
            let images = engine.list_images(Some(options)).await.expect("listed");
            images.iter().flat_map(|image| &image.repo_tags).filter(|tag| tag.contains(":saved-")).count()
        };
        let sandbox = open(&*provider).await;
        let first = sandbox.snapshot().await.expect("saved").image;
        output(&*sandbox, "echo kept > /root/file").await;
        let second = sandbox.snapshot().await.expect("saved").image;
        provider.tag_image(&second, "kept").await.expect("named");
        let since = jiff::Timestamp::now();
        let unused = provider.unused_images(since).await.expect("looked for");
        assert_eq!(unused, [first]);
        for (dry, left) in [(true, 2), (false, 1)] {
            let collected = provider.collect(&unused, since, dry).await.expect("collected");
            let kinds: Vec<_> = collected.garbage.iter().map(|garbage| garbage.kind.as_str()).collect();
            assert_eq!((kinds, saved().await), (vec!["image", "layer"], left));
        }
        let copy = provider.open(SandboxSpec { image: "kept".into(), ..spec() }).await.expect("opens");
        assert_eq!(output(&*copy, "cat /root/file").await, "kept\n");
    }

    /// An engine cannot change what a container is: its files move to another.
    #[tokio::test(flavor = "multi_thread")]
    async fn another_definition_finds_the_files() {
        let Some(provider) = provider().await else { return };
        let spec = spec();
        let sandbox = provider.open(spec.clone()).await.expect("opens");
        output(&*sandbox, "echo kept > /root/file").await;
        sandbox.terminate().await.expect("ends");
        let changed = SandboxSpec { memory: Some(256 << 20), network: Network::Host, ..spec };
        let sandbox = provider.open(changed).await.expect("opens");
        assert_eq!(output(&*sandbox, "cat /root/file").await, "kept\n");
        assert_eq!(sandbox.isolation().memory, "cgroup");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_of_a_killed_host() {
        if let Some(home) = std::env::var_os("HARVEST_TEST_VICTIM") {
            let provider =
                DockerProvider::connect(Path::new(&home), &launcher(), Vec::new()).await.expect("a provider");
            let sandbox = provider.open(SandboxSpec { id: "victim".into(), ..spec() }).await.expect("opens");
            let mut process = sandbox
                .exec(sh("echo kept > /root/file; setsid sleep 1000 & echo up; wait"))
                .await
                .expect("starts");
            process.next().await.expect("output");
            println!("ready");
            std::future::pending::<()>().await;
        }
        let Some(provider) = provider().await else { return };
        a_killed_host(provider.0.as_ref().expect("kept"), "docker_tier::nothing_of_a_killed_host").await;
    }
}

mod by_name {
    use super::*;

    const WORKFLOW: &str = r#"
harvest: 1
name: kernel
steps:
  one:
    uses: exec/run
    with: { command: [sh, -c, "cat /proc/version > /root/version"] }
  two:
    uses: exec/run
    needs: [one]
    with: { command: [cat, /root/version, /proc/version] }
outputs:
  versions: "${{ steps.two.stdout }}"
"#;

    /// A run ends as it began: on the tier that it was started on.
    #[test]
    fn a_resumed_run_keeps_its_tier() {
        let home = Home::new();
        let file = home.file("kernel.yaml", WORKFLOW);
        let crashed =
            home.run(&["run", file.to_str().unwrap(), "--provider", "gvisor", "--inject", "two=crash"]);
        if crashed.status.code() == Some(4) {
            eprintln!("not tested: {}", text(&crashed.stderr));
            return;
        }
        let run = home.newest();
        let resumed = home.run(&["resume"]);
        assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed.stderr));
        let shown = home.json(&["show", &run, "--json"]);
        assert_eq!(shown["provider"], "gvisor");
        let versions = shown["outputs"]["versions"].as_str().unwrap();
        let lines: Vec<_> = versions.lines().collect();
        assert_eq!(lines.len(), 2, "{versions}");
        assert_eq!(lines[0], lines[1]);
        assert!(!std::fs::read_to_string("/proc/version").unwrap().contains(lines[0]), "{versions}");
    }

    /// What is missing is said, with what to do; nothing else is taken in its place.
    #[test]
    fn a_tier_that_is_not_there_is_refused() {
        let home = Home::new();
        let file = home.file("kernel.yaml", WORKFLOW);
        let refused = |arguments: &[&str], says: &[&str]| {
            let mut command = home.harvest();
            command.env("PATH", "/nonexistent").env("DOCKER_HOST", "tcp://127.0.0.1:1").args(arguments);
            let output = command.output().unwrap();
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(4), "{said}");
            assert!(says.iter().all(|words| said.contains(words)), "{said}");
            assert!(output.stdout.is_empty(), "something ran");
        };
        refused(
            &["exec", "--provider", "gvisor", "--", "true"],
            &["no `runsc` in the PATH", "apt-get install runsc` on Debian"],
        );
        let file = file.to_str().unwrap();
        refused(&["run", file, "--provider", "gvisor"], &["apt-get install runsc` on Debian"]);
        refused(
            &["run", file, "--provider", "podracer"],
            &["no provider `podracer`", "local, gvisor, docker"],
        );
        let docker = if cfg!(feature = "docker") { "DOCKER_HOST is tcp://" } else { "--features docker" };
        refused(&["exec", "--provider", "docker", "--", "true"], &[docker]);
        assert_eq!(home.json(&["runs", "--json"]), serde_json::json!([]), "no run has begun");
    }

    #[test]
    fn doctor_does_without_them() {
        let home = Home::new();
        let mut command = home.harvest();
        // git is looked up in the PATH as well.
        let output =
            command.env("DOCKER_HOST", "unix:///nonexistent").args(["doctor", "--json"]).output().unwrap();
        let probes: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let probe =
            |name: &str| probes.as_array().unwrap().iter().find(|probe| probe["name"] == name).cloned();
        assert_eq!(probe("gvisor").unwrap()["optional"], true);
        if cfg!(feature = "docker") {
            let docker = probe("docker").unwrap();
            assert_eq!((&docker["ok"], &docker["optional"]), (&false.into(), &true.into()));
            assert!(docker["remedy"].as_str().unwrap().contains("DOCKER_HOST"), "{docker}");
        }
        let needed = probes.as_array().unwrap().iter().filter(|probe| probe["optional"] != true);
        let expected = if needed.clone().all(|probe| probe["ok"] == true) { 0 } else { 4 };
        assert_eq!(output.status.code(), Some(expected), "{probes}");
    }
}
