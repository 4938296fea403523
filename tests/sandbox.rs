//! The local sandbox provider: the contract of all providers, as the user who runs the tests and, where that is root, as an
//! ordinary user too; then what only this provider promises.

mod contract {
    pub(crate) mod sandbox;
}

use contract::sandbox::{collect, open, output, run, sh, spec};
use harvest::capability::sandbox::local::{self, LocalProvider, Upstream};
use harvest::capability::sandbox::{
    Chunk, Credential, ExecSpec, ExitStatus, Network, Sandbox, SandboxProvider, SandboxSpec,
};
use harvest::capability::secret::Secret;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A provider with a home of its own, deleted with it.
struct Local {
    provider: LocalProvider,
    home: tempfile::TempDir,
}

impl std::ops::Deref for Local {
    type Target = LocalProvider;

    fn deref(&self) -> &LocalProvider {
        &self.provider
    }
}

fn launcher() -> PathBuf {
    std::env::var_os("HARVEST_TEST_LAUNCHER")
        .map_or_else(|| env!("CARGO_BIN_EXE_harvest").into(), PathBuf::from)
}

fn local() -> Local {
    with_upstreams(Vec::new())
}

fn with_upstreams(upstreams: Vec<Upstream>) -> Local {
    let home = tempfile::tempdir().expect("a directory");
    let provider = LocalProvider::new(home.path(), launcher(), upstreams).expect("a provider");
    Local { provider, home }
}

mod keeps {
    use super::local;

    crate::sandbox_contract! {
        local();
        streams_are_kept_apart,
        a_signal_is_told_from_a_code,
        signals_reach_the_command,
        stdin_is_delivered_whole_and_ends,
        sixty_four_megabytes_pass_unchanged_both_ways,
        what_cannot_start_says_why,
        environments_add_up,
        the_working_directory_is_made_and_used,
        kill_ends_the_whole_tree_and_nothing_else,
        dropping_a_command_kills_its_tree,
        a_command_that_leaves_daemons_still_ends,
        many_commands_run_at_once,
        without_network_there_is_only_loopback,
        terminate_ends_everything_and_keeps_the_files,
        ids_that_could_be_paths_are_refused,
        an_image_that_does_not_exist_is_named,
        files_are_read_and_written_inside,
        files_and_volumes_survive_and_are_shared,
        volumes_swap_only_what_was_read,
        planted_links_are_not_followed,
        images_are_built_once_per_step,
        equal_images_built_at_once_agree,
        a_snapshot_holds_the_files,
    }
}

/// A text that must turn up nowhere.
const CANARY: &str = "canary-4d1e8c0a";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs a script in a fresh sandbox with this network.
async fn with_network(provider: &Local, network: Network) -> Arc<dyn Sandbox> {
    provider.open(SandboxSpec { network, ..spec() }).await.expect("a sandbox opens")
}

/// Asks for a URL with python's urllib and prints status and body, whatever they are.
fn fetch(url: &str) -> String {
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
async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a request"));
    }
    String::from_utf8(head).expect("text")
}

/// A server on the host's loopback that answers each request with its own head.
async fn echo_server() -> u16 {
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

mod confines {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn host_environment_files_and_processes_are_invisible() {
        let provider = local();
        let marker = provider.home.path().join("marker");
        std::fs::write(&marker, "x").expect("written");
        let sandbox = open(&*provider).await;
        let script = format!(
            "env | sort; ls -A /root /home /tmp /opt /mnt; ls /proc | grep -c '^[0-9]'; test -e {} && echo seen; \
             cat /proc/1/environ /proc/1/maps 2>&1 | grep -c denied; readlink /proc/1/exe /proc/1/cwd /proc/1/root; ls /sys; \
             head -c 1 /proc/keys /proc/kcore /proc/kallsyms 2>/dev/null | tr -d '\\n' | grep -v '==>' | wc -c; true",
            marker.display()
        );
        let seen = output(&*sandbox, &script).await;
        assert!(seen.starts_with("HOME=/root\nLANG=C.UTF-8\n"), "{seen}");
        for name in ["CARGO", "USER=", "RUST", "HARVEST", "seen", &*provider.home.path().to_string_lossy()] {
            assert!(!seen.contains(name), "{name} in {seen}");
        }
        let processes = output(&*sandbox, "ls -d /proc/[0-9]* | wc -l").await;
        assert!(processes.trim().parse::<u32>().expect("a number") < 10, "{processes}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn powers_are_given_up() {
        let provider = local();
        let sandbox = open(&*provider).await;
        let status = output(&*sandbox, "grep -E '^(NoNewPrivs|Seccomp|CapBnd):' /proc/self/status").await;
        assert_eq!(
            status.split_whitespace().collect::<Vec<_>>(),
            ["CapBnd:", "00000000800404fb", "NoNewPrivs:", "1", "Seccomp:", "2"]
        );
        let script = "python3 - <<'END'\n\
            import ctypes, os, errno, socket\n\
            libc = ctypes.CDLL(None, use_errno=True)\n\
            def call(name, *args):\n\
            \x20   r = getattr(libc, name)(*args); print(name, 'allowed' if r >= 0 else errno.errorcode[ctypes.get_errno()])\n\
            call('mount', b'none', b'/mnt', b'tmpfs', 0, None)\n\
            call('umount2', b'/proc', 2)\n\
            call('unshare', 0x10000000)\n\
            call('setns', 0, 0)\n\
            call('syscall', 435, 0, 0)\n\
            call('syscall', 425, 1, 0)\n\
            call('syscall', 321 if os.uname().machine == 'x86_64' else 280, 0, 0, 0)\n\
            for family in (17, 38, 40, 44):\n\
            \x20   try: socket.socket(family, socket.SOCK_DGRAM if family != 38 else socket.SOCK_SEQPACKET); print(family, 'allowed')\n\
            \x20   except OSError as e: print(family, errno.errorcode[e.errno])\n\
            for path in ('/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/proc/sys/kernel/hostname', '/usr/x', '/etc/ssl/certs/x'):\n\
            \x20   try: open(path, 'w'); print(path, 'written')\n\
            \x20   except OSError as e: print(path, 'closed')\n\
            END";
        let expected = "mount EPERM\numount2 EPERM\nunshare EPERM\nsetns EPERM\nsyscall ENOSYS\nsyscall EPERM\nsyscall EPERM\n\
            17 EAFNOSUPPORT\n38 EAFNOSUPPORT\n40 EAFNOSUPPORT\n44 EAFNOSUPPORT\n\
            /proc/sys/kernel/core_pattern closed\n/proc/sysrq-trigger closed\n/proc/sys/kernel/hostname closed\n/usr/x closed\n/etc/ssl/certs/x closed\n";
        assert_eq!(output(&*sandbox, script).await, expected);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn ids_are_never_those_of_the_hosts_root() {
        let provider = local();
        let sandbox = open(&*provider).await;
        assert_eq!(output(&*sandbox, "id -u").await, "0\n");
        let map = output(&*sandbox, "cat /proc/self/uid_map").await;
        let outside: u32 = map.split_whitespace().nth(1).expect("a map").parse().expect("a number");
        assert_ne!(outside, 0);
        // Package managers change owners; where only one id is mapped this succeeds without effect.
        output(&*sandbox, "touch /tmp/f && chown 33:33 /tmp/f").await;
        let expected = if is_root() { "range" } else { "emulated" };
        assert_eq!(sandbox.isolation().ids, expected);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn users_of_the_sandbox_are_switched_to() {
        let provider = local();
        let sandbox =
            provider.open(SandboxSpec { user: Some("user".into()), ..spec() }).await.expect("opens");
        let seen = output(&*sandbox, "id -u; echo $HOME; echo to-stderr > /dev/stderr").await;
        assert_eq!(seen, if is_root() { "1000\n/home/user\n" } else { "0\n/root\n" });
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_command_cannot_outlive_its_killed_supervisor() {
        let provider = local();
        let sandbox = open(&*provider).await;
        // The parent of the shell is its supervisor, and the same user: it may be killed.
        let script =
            ExecSpec { stdin: true, ..sh("setsid sleep 54321 & read go; kill -9 $PPID; sleep 54321") };
        let mut process = sandbox.exec(script).await.expect("starts");
        process.write(b"go\n").await.expect("written");
        assert_eq!(process.wait().await.expect_err("its end is unknown").kind.as_str(), "sandbox-lost");
        let deadline = Instant::now() + Duration::from_secs(10);
        while output(&*sandbox, "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 5432[1]' || true")
            .await
            != "0\n"
        {
            assert!(Instant::now() < deadline, "something survives");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn secrets_are_on_no_disk_and_in_no_later_exec() {
        let provider = local();
        let sandbox = open(&*provider).await;
        let secret = ExecSpec {
            secrets: BTreeMap::from([("TOKEN".into(), Secret::new("token", CANARY))]),
            ..sh("echo $TOKEN | wc -c")
        };
        assert_eq!(run(&*sandbox, secret.clone()).await.stdout.trim(), (CANARY.len() + 1).to_string());
        // While such a command runs, its neighbours see it only as one user sees his own processes.
        assert!(!format!("{secret:?}").contains(CANARY));
        let later = output(&*sandbox, "env; cat /proc/1/environ /proc/1/cmdline 2>/dev/null; true").await;
        assert!(!later.contains(CANARY));
        sandbox.snapshot().await.expect("saved");
        assert_eq!(grep(provider.home.path(), CANARY.as_bytes()), Vec::<PathBuf>::new());
    }

    /// Files below a directory that hold a text.
    pub(super) fn grep(directory: &Path, text: &[u8]) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let kind = entry.file_type().expect("a kind");
            if kind.is_dir() {
                found.extend(grep(&path, text));
            } else if kind.is_file()
                && std::fs::read(&path)
                    .is_ok_and(|content| content.windows(text.len()).any(|window| window == text))
            {
                found.push(path);
            }
        }
        found
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_state_directory_is_closed_and_remove_empties_it() {
        use std::os::unix::fs::PermissionsExt;
        let provider = local();
        let spec = spec();
        let sandbox = provider.open(spec.clone()).await.expect("opens");
        output(&*sandbox, "mkdir -p /d/e && touch /d/e/f && chmod 0 /d/e /d").await;
        for name in ["layers", "images", "volumes", "sandboxes"] {
            let mode =
                std::fs::metadata(provider.home.path().join(name)).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{name}");
        }
        provider.remove(&spec.id).await.expect("removes an open sandbox");
        let left: Vec<_> =
            std::fs::read_dir(provider.home.path().join("sandboxes")).expect("there").collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(sandbox.exec(sh("true")).await.err().expect("ended").kind.as_str(), "sandbox-lost");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_sandbox_ends_at_its_longest_life() {
        let provider = local();
        let spec = SandboxSpec { timeout: Some(Duration::from_millis(300)), ..spec() };
        let sandbox = provider.open(spec).await.expect("opens");
        let mut process = sandbox.exec(sh("sleep 1000")).await.expect("starts");
        let end = tokio::time::timeout(Duration::from_secs(20), process.wait()).await.expect("ends");
        assert_eq!(end.expect_err("ended from outside").kind.as_str(), "sandbox-lost");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn at_the_limit_of_processes_an_exec_is_refused_and_the_sandbox_lives_on() {
        let provider = local();
        let sandbox = open(&*provider).await;
        let script = "python3 -u - <<'END'\n\
            import os, time\n\
            n = 0\n\
            try:\n\
            \x20   while n < 3000:\n\
            \x20       if os.fork() == 0: time.sleep(1000); os._exit(0)\n\
            \x20       n += 1\n\
            except OSError: pass\n\
            print(n); time.sleep(1000)\n\
            END";
        let mut process = sandbox.exec(sh(script)).await.expect("starts");
        let Some(Chunk::Stdout(count)) = process.next().await.expect("output") else { panic!("no count") };
        let count: u32 = String::from_utf8_lossy(&count).trim().parse().expect("a number");
        assert!((900..1030).contains(&count), "{count} processes");
        let error = sandbox.exec(sh("true")).await.err().expect("refused");
        assert_eq!(error.kind.as_str(), "quota", "{error}");
        process.kill().await.expect("killed");
        assert_eq!(output(&*sandbox, "echo alive").await, "alive\n");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn memory_is_held_to_the_limit_where_cgroups_allow() {
        let provider = local();
        let sandbox = provider.open(SandboxSpec { memory: Some(100 << 20), ..spec() }).await.expect("opens");
        let hog = run(&*sandbox, sh("exec python3 -c 'x = bytearray(400 << 20); print(len(x))'")).await;
        match &*sandbox.isolation().memory {
            "cgroup" => assert_eq!(hog.status, ExitStatus::Signal(9), "{hog:?}"),
            // Stated, not hidden: without cgroups nothing bounds it.
            other => assert_eq!((other, hog.status), ("none", ExitStatus::Code(0))),
        }
        assert_eq!(output(&*sandbox, "echo alive").await, "alive\n");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_cgroup_is_left() {
        let provider = local();
        let spec = spec();
        let sandbox = provider.open(spec.clone()).await.expect("opens");
        sandbox.terminate().await.expect("ends");
        let groups = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        for line in groups.lines().filter(|line| line.contains(" - cgroup")) {
            let root = line.split(' ').nth(4).expect("a mount point");
            assert!(!holds(Path::new(root), &spec.id), "{root}");
        }
    }

    /// Whether a directory of this name part is below.
    fn holds(directory: &Path, name: &str) -> bool {
        std::fs::read_dir(directory).into_iter().flatten().flatten().any(|entry| {
            entry.file_type().is_ok_and(|kind| kind.is_dir())
                && (entry.file_name().to_string_lossy().ends_with(name) || holds(&entry.path(), name))
        })
    }

    /// The medians are printed; the bounds only catch a change of kind, on whatever machine this runs.
    #[tokio::test(flavor = "multi_thread")]
    async fn sandboxes_and_commands_start_fast() {
        let provider = local();
        let sandbox = open(&*provider).await;
        let (mut whole, mut execs) = (Vec::new(), Vec::new());
        for _ in 0..11 {
            let start = Instant::now();
            let fresh = open(&*provider).await;
            run(&*fresh, ExecSpec { command: vec!["true".into()], ..ExecSpec::default() }).await;
            fresh.terminate().await.expect("ends");
            whole.push(start.elapsed());
            let start = Instant::now();
            run(&*sandbox, ExecSpec { command: vec!["true".into()], ..ExecSpec::default() }).await;
            execs.push(start.elapsed());
        }
        whole.sort();
        execs.sort();
        println!("create, exec, gone: {:?}; exec: {:?}", whole[5], execs[5]);
        assert!(
            whole[5] < Duration::from_secs(2) && execs[5] < Duration::from_millis(500),
            "{whole:?} {execs:?}"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn probes_say_what_works_here() {
        let provider = local();
        let check = provider.check().await;
        assert!(check.ok, "{check:?}");
        let probes = local::probes(provider.home.path());
        for probe in &probes {
            assert!(probe.ok || !probe.remedy.is_empty(), "{probe:?}");
            assert!(!probe.detail.is_empty(), "{probe:?}");
        }
        for required in ["user namespaces", "overlayfs", "seccomp"] {
            assert!(probes.iter().any(|probe| probe.name == required && probe.ok), "{required}: {probes:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_binary_that_is_no_launcher_is_an_error() {
        let home = tempfile::tempdir().expect("a directory");
        let provider = LocalProvider::new(home.path(), "/bin/true".into(), Vec::new()).expect("a provider");
        let error = provider.open(spec()).await.err().expect("refused");
        assert_eq!(error.kind.as_str(), "unavailable");
        assert!(error.message.contains("/bin/true"), "{error}");
    }
}

mod network {
    use super::*;

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
        let through = "s.recv(1000); s.sendall(b'GET /in HTTP/1.1\\r\\n\\r\\n'); print(s.makefile().read().split()[-2])";
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
}

mod gateway {
    use super::*;

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
            let url = sandbox.forward("api", vec![own]).await.expect("a gateway");
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

            let operators = sandbox.forward("api", Vec::new()).await.expect("a gateway");
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
        assert_eq!(confines::grep(provider.home.path(), CANARY.as_bytes()), Vec::<PathBuf>::new());
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
            let start = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: one\n\n";
            stream.write_all(start.as_bytes()).await.expect("written");
            wait.await.expect("the first event arrives before the second is sent");
            stream.write_all(b"data: two\n\n").await.expect("written");
        });
        let sandbox = open(&*provider).await;
        let url = sandbox.forward("api", Vec::new()).await.expect("a gateway");
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
        let url = sandbox.forward("api", Vec::new()).await.expect("a gateway");
        let seen = output(&*sandbox, &fetch(&url)).await;
        assert!(seen.starts_with("502 {\"type\":\"error\",\"error\":{\"type\":\"api_error\""), "{seen}");
        assert!(!seen.contains("operators-own"));
        let error = sandbox.forward("other", Vec::new()).await.expect_err("unknown");
        assert_eq!(error.kind.as_str(), "not-found");
        assert!(error.message.contains("api"), "{error}");
    }
}

mod survives {
    use super::*;

    /// Processes of this machine whose command line holds a text.
    fn processes(text: &str) -> usize {
        let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
        entries
            .filter(|entry| {
                let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                line.windows(text.len()).any(|window| window == text.as_bytes())
            })
            .count()
    }

    /// The host that is killed: this test binary again, in the role that the environment gives it.
    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_of_a_killed_host() {
        if let Some(home) = std::env::var_os("HARVEST_TEST_VICTIM") {
            let provider = LocalProvider::new(Path::new(&home), launcher(), Vec::new()).expect("a provider");
            let sandbox = provider.open(SandboxSpec { id: "victim".into(), ..spec() }).await.expect("opens");
            let tag = std::env::var("HARVEST_TEST_TAG").expect("a tag");
            let script = format!(
                "echo kept > /root/file; for i in 1 2 3; do setsid sh -c 'trap \"\" TERM HUP; while :; do sleep 0.1; done # {tag}' & done; \
                 (setsid sh -c 'while :; do sleep 0.1; done # {tag}' &); echo ready; wait # {tag}"
            );
            let mut process = sandbox.exec(sh(&script)).await.expect("starts");
            process.next().await.expect("output");
            println!("ready");
            std::future::pending::<()>().await;
        }
        let home = tempfile::tempdir().expect("a directory");
        let tag = format!("tag-{}", std::process::id());
        let mut host = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "survives::nothing_of_a_killed_host", "--nocapture"])
            .env("HARVEST_TEST_VICTIM", home.path())
            .env("HARVEST_TEST_TAG", &tag)
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(host.stdout.take().expect("a pipe")).lines();
        assert!(lines.map_while(Result::ok).any(|line| line.contains("ready")), "the host comes up");
        let deadline = Instant::now() + Duration::from_secs(10);
        while processes(&tag) < 5 {
            assert!(Instant::now() < deadline, "the daemons come up");
        }
        host.kill().expect("killed");
        host.wait().expect("reaped");
        // The same id opens at once: the lock is free only when the last process is gone.
        let provider = LocalProvider::new(home.path(), launcher(), Vec::new()).expect("a provider");
        let again = provider.open(SandboxSpec { id: "victim".into(), ..spec() }).await.expect("opens");
        assert_eq!(processes(&tag), 0, "processes survive their host");
        assert_eq!(output(&*again, "cat /root/file").await, "kept\n");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!mounts.contains(&*home.path().to_string_lossy()), "{mounts}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn another_process_cannot_open_what_is_open() {
        let provider = local();
        let spec = spec();
        let sandbox = provider.open(spec.clone()).await.expect("opens");
        let same = provider.open(spec.clone()).await.expect("the same again");
        assert!(Arc::ptr_eq(&sandbox, &same));
        let changed = SandboxSpec { env: BTreeMap::from([("A".into(), "b".into())]), ..spec.clone() };
        assert_eq!(provider.open(changed).await.err().expect("refused").kind.as_str(), "conflict");
        let other = LocalProvider::new(provider.home.path(), launcher(), Vec::new()).expect("a provider");
        assert_eq!(other.list().await, Ok(vec![(spec.id.clone(), true)]));
        let (opening, removing) = tokio::join!(other.open(spec.clone()), other.remove(&spec.id));
        assert_eq!(opening.err().expect("refused").kind.as_str(), "conflict");
        assert_eq!(removing.expect_err("refused").kind.as_str(), "conflict");
    }
}

/// Everything above once more as a user without any rights, where the tests run as root.
#[test]
fn all_of_it_as_an_ordinary_user() {
    const USER: u32 = 12_345;
    if !is_root() {
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::chown(place.path(), Some(USER), Some(USER)).expect("given away");
    // Where the build directory is closed to others, the user needs copies.
    let reachable = |original: &Path| {
        let copy = place.path().join(original.file_name().expect("a name"));
        std::fs::hard_link(original, &copy)
            .or_else(|_| std::fs::copy(original, &copy).map(drop))
            .expect("copied");
        copy
    };
    let test = reachable(&std::env::current_exe().expect("this test"));
    let launcher = reachable(&launcher());
    let result = Command::new(test)
        .args(["--skip", "all_of_it_as_an_ordinary_user"])
        .env_clear()
        .env("HARVEST_TEST_LAUNCHER", launcher)
        .env("TMPDIR", place.path())
        .env("PATH", "/usr/bin:/bin")
        .current_dir("/")
        .uid(USER)
        .gid(USER)
        .output()
        .expect("runs");
    assert!(
        result.status.success(),
        "{}{}",
        String::from_utf8_lossy(&result.stdout),
        String::from_utf8_lossy(&result.stderr)
    );
}
