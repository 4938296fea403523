//! What a sandbox may not do: ids, capabilities, system calls, and the second wall behind them.

use super::contract::sandbox::{open, output, sh, spec};
use super::{Local, is_root, local};
use harvest::capability::sandbox::local::probes;
use harvest::capability::sandbox::{ExitStatus, Network, SandboxProvider, SandboxSpec};
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};

/// Python that makes system calls by number, on both machines, and prints what they answer.
const CALLS: &str = "import ctypes, errno, os, socket\n\
    libc = ctypes.CDLL(None, use_errno=True)\n\
    here = 0 if os.uname().machine == 'x86_64' else 1\n\
    def call(name, numbers, *arguments):\n\
    \x20   if numbers[here] is None: return\n\
    \x20   r = libc.syscall(ctypes.c_long(numbers[here]), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])\n\
    \x20   print(name, 'allowed' if r >= 0 else errno.errorcode[ctypes.get_errno()])\n";

fn python(body: &str) -> String {
    format!("python3 - <<'END'\n{CALLS}{body}\nEND")
}

#[tokio::test(flavor = "multi_thread")]
async fn powers_are_given_up() {
    let provider = local();
    let sandbox = open(&*provider).await;
    let status = output(
        &*sandbox,
        "grep -E '^(Uid|Gid|Groups|Cap.*|NoNewPrivs|Seccomp|Seccomp_filters):' /proc/self/status | tr -s '\\t ' ' '",
    )
    .await;
    // As root, the ten capabilities; within the one-id map they are as good as none, and the same.
    let expected = "Uid: 0 0 0 0\nGid: 0 0 0 0\nGroups:{groups}\nCapInh: 0000000000000000\nCapPrm: 00000000800404fb\n\
        CapEff: 00000000800404fb\nCapBnd: 00000000800404fb\nCapAmb: 0000000000000000\nNoNewPrivs: 1\nSeccomp: 2\nSeccomp_filters: 1\n";
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).expect("groups").trim_end();
    // Groups of the user who runs harvest cannot be dropped without rights; none but the mapped one has a name inside.
    assert!(groups.split_whitespace().all(|group| group == "0" || group == "65534"), "{groups}");
    let status = status.replace(&format!("Groups:{groups} \n"), "Groups:\n");
    assert_eq!(status.replace(&format!("Groups:{groups}\n"), "Groups:\n"), expected.replace("{groups}", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_is_held_as_the_first_is() {
    let provider = local();
    let sandbox = open(&*provider).await;
    // Also by a program with a set-user-id bit, and one with capabilities of its own.
    let script = "cp /usr/bin/grep /root/grep && chmod 4755 /root/grep && setsid /root/grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr -s '\\t' ' '";
    assert_eq!(output(&*sandbox, script).await, "CapBnd: 00000000800404fb\nNoNewPrivs: 1\nSeccomp: 2\n");
    let init =
        output(&*sandbox, "grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/1/status | tr -s '\\t' ' '").await;
    assert_eq!(init, "CapBnd: 00000000800404fb\nNoNewPrivs: 1\nSeccomp: 2\n", "the init process has no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_reach_past_the_sandbox_are_denied() {
    let provider = local();
    let sandbox = open(&*provider).await;
    let script = python(
        "call('mount', (165, 40), b'none', b'/mnt', b'tmpfs', 0, 0)\n\
         call('umount2', (166, 39), b'/proc', 2)\n\
         call('pivot_root', (155, 41), b'/', b'/')\n\
         call('fsopen', (430, 430), b'tmpfs', 0)\n\
         call('open_tree', (428, 428), -100, b'/', 1)\n\
         call('mount_setattr', (442, 442), -100, b'/', 0, 0, 0)\n\
         call('unshare', (272, 97), 0x10000000)\n\
         call('setns', (308, 268), 0, 0)\n\
         call('clone NEWUSER', (56, 220), 0x10000011, 0, 0, 0, 0)\n\
         call('clone NEWNET', (56, 220), 0x40000011, 0, 0, 0, 0)\n\
         call('clone3', (435, 435), 0, 0)\n\
         call('keyctl', (250, 219), 0, -3, 0, 0, 0)\n\
         call('add_key', (248, 217), b'user', b'x', b'y', 1, -3)\n\
         call('bpf', (321, 280), 0, 0, 0)\n\
         call('perf_event_open', (298, 241), 0, 0, 0, 0, 0)\n\
         call('userfaultfd', (323, 282), 1)\n\
         call('io_uring_setup', (425, 425), 1, 0)\n\
         call('open_by_handle_at', (304, 265), -100, 0, 0)\n\
         call('init_module', (175, 105), 0, 0, b'')\n\
         call('kexec_load', (246, 104), 0, 0, 0, 0)\n\
         call('reboot', (169, 142), 0xfee1dead, 672274793, 0, 0)\n\
         call('swapoff', (168, 225), b'/dev/null')\n\
         call('syslog', (103, 116), 3, 0, 0)\n\
         call('clock_settime', (227, 112), 0, ctypes.create_string_buffer(16))\n\
         call('kcmp', (312, 272), 1, 1, 0, 0, 0)\n\
         call('iopl', (172, None), 3)",
    );
    let answers = output(&*sandbox, &script).await;
    for line in answers.lines() {
        let (name, answer) = line.rsplit_once(' ').expect("an answer");
        assert_eq!(answer, if name == "clone3" { "ENOSYS" } else { "EPERM" }, "{name}");
    }
    assert!(answers.lines().count() >= 25, "{answers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_ways_into_the_kernel_are_closed() {
    let provider = local();
    let sandbox = open(&*provider).await;
    let script = python(
        "def attempt(*kind):\n\
         \x20   try: socket.socket(*kind).close(); return 'allowed'\n\
         \x20   except OSError as e: return errno.errorcode[e.errno]\n\
         for family in (3, 5, 9, 15, 17, 21, 29, 30, 31, 38, 40, 42, 43, 44):\n\
         \x20   print(family, attempt(family, 5 if family in (30, 38) else 2))\n\
         for kind in ((2, 1, 132), (2, 1, 262), (16, 3, 12), (16, 3, 16)): print(*kind, attempt(*kind))\n\
         print('raw', attempt(2, 3, 1))\n\
         for kind in ((1, 1), (1, 2), (2, 1), (2, 2, 17), (16, 3, 0), (16, 3, 4)): print(*kind, attempt(*kind))\n\
         for path in ('/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/proc/sys/kernel/hostname', '/proc/sys/vm/drop_caches',\n\
         \x20       '/proc/1/mem', '/usr/x', '/etc/ssl/certs/x', '/dev/mem', '/dev/kmsg', '/dev/sda'):\n\
         \x20   try:\n\
         \x20       f = os.open(path, os.O_RDWR if os.path.exists(path) else os.O_WRONLY | os.O_CREAT)\n\
         \x20       print(path, 'written', os.write(f, b'x'), os.fstat(f).st_size)\n\
         \x20   except OSError as e: print(path, 'closed')\n\
         for kind in (0o020000, 0o060000):\n\
         \x20   try: os.mknod('/root/device', 0o600 | kind, os.makedev(1, 1)); print('made')\n\
         \x20   except OSError as e: print('mknod', errno.errorcode[e.errno])",
    );
    let families = [3, 5, 9, 15, 17, 21, 29, 30, 31, 38, 40, 42, 43, 44];
    let mut expected: Vec<String> = families.iter().map(|family| format!("{family} EAFNOSUPPORT")).collect();
    expected
        .extend(["2 1 132", "2 1 262", "16 3 12", "16 3 16"].map(|kind| format!("{kind} EPROTONOSUPPORT")));
    expected.push("raw EPERM".into());
    expected
        .extend(["1 1", "1 2", "2 1", "2 2 17", "16 3 0", "16 3 4"].map(|kind| format!("{kind} allowed")));
    let closed = [
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/hostname",
        "/proc/sys/vm/drop_caches",
        "/proc/1/mem",
        "/usr/x",
        "/etc/ssl/certs/x",
    ];
    expected.extend(closed.map(|path| format!("{path} closed")));
    // What a program makes under the name of a device is a file.
    expected.extend(["/dev/mem", "/dev/kmsg", "/dev/sda"].map(|path| format!("{path} written 1 1")));
    expected.extend(["mknod EPERM", "mknod EPERM"].map(String::from));
    let seen = output(&*sandbox, &script).await;
    assert_eq!(seen.lines().collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sets_of_system_calls_are_closed() {
    if std::env::consts::ARCH != "x86_64" {
        return;
    }
    let provider = local();
    let sandbox = open(&*provider).await;
    let script = "cd /tmp && cat > a.c <<'END'\n\
        #include <stdio.h>\n#include <errno.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n\
        int main(int n, char **v) {\n\
        long r = syscall(0x40000000 + SYS_getpid); printf(\"x32 %ld %d\\n\", r, errno == ENOSYS); fflush(stdout);\n\
        __asm__ volatile (\"int $0x80\" : \"=a\"(r) : \"a\"(20)); printf(\"i386 %ld\\n\", r); return 0; }\n\
        END\n\
        gcc -o a a.c && ./a; echo $?";
    let seen = output(&*sandbox, script).await;
    assert!(seen.starts_with("x32 -1 1\n") && seen.ends_with("159\n") && !seen.contains("i386"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_never_those_of_the_hosts_root() {
    let provider = local();
    let sandbox = open(&*provider).await;
    assert_eq!(output(&*sandbox, "id -u").await, "0\n");
    for file in ["uid_map", "gid_map"] {
        let map = output(&*sandbox, &format!("cat /proc/self/{file}")).await;
        let numbers: Vec<u32> = map.split_whitespace().map(|text| text.parse().expect("a number")).collect();
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(numbers, if is_root() { [0, 1_000_000, 65_536] } else { [0, own, 1] }, "{file}");
    }
    // Package managers change owners; where only one id is mapped this succeeds without effect.
    output(&*sandbox, "touch /tmp/f && chown 33:33 /tmp/f").await;
    let expected = if is_root() { "range" } else { "emulated" };
    assert_eq!(sandbox.isolation().ids, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_the_sandbox_are_switched_to() {
    let provider = local();
    let sandbox = provider.open(SandboxSpec { user: Some("user".into()), ..spec() }).await.expect("opens");
    let seen = output(&*sandbox, "id -u; echo $HOME; echo to-stderr > /dev/stderr").await;
    assert_eq!(seen, if is_root() { "1000\n/home/user\n" } else { "0\n/root\n" });
}

/// What the kernel's Landlock can do, as it is reported.
fn landlock(provider: &Local) -> u32 {
    let probes = probes(provider.home.path());
    let probe = probes.iter().find(|probe| probe.name == "landlock").expect("a report of Landlock");
    let number =
        probe.detail.split_whitespace().nth(1).and_then(|number| number.trim_end_matches(':').parse().ok());
    number.unwrap_or_default()
}

/// A hole in the first wall, made on purpose: a directory of the host is handed in through a socket in a volume. Its
/// descriptor works, and nothing below it does.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_was_handed_in_stays_shut() {
    let provider = local();
    let host = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(host.path(), PermissionsExt::from_mode(0o777)).expect("opened to all");
    for name in ["read", "write"] {
        std::fs::write(host.path().join(name), "of the host").expect("written");
        std::fs::set_permissions(host.path().join(name), PermissionsExt::from_mode(0o666))
            .expect("opened to all");
    }
    let spec = SandboxSpec { volumes: BTreeMap::from([("/v".into(), "door".into())]), ..spec() };
    let sandbox = provider.open(spec).await.expect("opens");
    let door = provider.home.path().join("volumes/door/socket");
    let listener = UnixListener::bind(&door).expect("a socket");
    std::fs::set_permissions(&door, PermissionsExt::from_mode(0o777)).expect("opened to all");
    let directory = std::fs::File::open(host.path()).expect("opened");
    let open_file = std::fs::File::open(host.path().join("read")).expect("opened");
    let hand_in = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("the sandbox connects");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
        let fds = [directory.as_fd(), open_file.as_fd()];
        assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&fds)));
        let flags = rustix::net::SendFlags::empty();
        rustix::net::sendmsg(&stream, &[IoSlice::new(b"x")], &mut control, flags).expect("sent");
    });
    let script = "python3 - <<'END'\n\
        import os, socket\n\
        s = socket.socket(socket.AF_UNIX); s.connect('/v/socket')\n\
        _, (d, f), _, _ = socket.recv_fds(s, 1, 2)\n\
        def attempt(name, do):\n\
        \x20   try: do(); print(name, 'allowed')\n\
        \x20   except OSError as e: print(name, e.strerror)\n\
        attempt('stat', lambda: os.stat('read', dir_fd=d))\n\
        attempt('read', lambda: os.open('read', os.O_RDONLY, dir_fd=d))\n\
        attempt('write', lambda: os.open('write', os.O_WRONLY, dir_fd=d))\n\
        attempt('make', lambda: os.mkdir('made', dir_fd=d))\n\
        attempt('list', lambda: os.open('.', os.O_RDONLY | os.O_DIRECTORY, dir_fd=d))\n\
        attempt('remove', lambda: os.unlink('read', dir_fd=d))\n\
        os.fchdir(d)\n\
        attempt('from there', lambda: open('read'))\n\
        attempt('execute', lambda: os.execv('./read', ['x']))\n\
        print('what was open', os.read(f, 100).decode())\n\
        END";
    let seen = output(&*sandbox, script).await;
    hand_in.join().expect("handed in");
    let allowed = ["stat", "what"];
    for line in seen.lines() {
        let refused = line.contains("Permission denied");
        let name = line.split(' ').next().expect("a name");
        // Without Landlock it would all be allowed, but for what is no program; then it is reported.
        assert_eq!(
            refused,
            name == "execute" || !allowed.contains(&name) && landlock(&provider) >= 2,
            "{seen}"
        );
    }
    assert_eq!(seen.lines().count(), 9, "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn abstract_sockets_of_the_host_are_refused_on_its_own_network_too() {
    let name = format!("harvest-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("an address");
    let _listener = UnixListener::bind_addr(&address).expect("listens");
    let provider = local();
    let script = format!(
        "python3 - <<'END'\n\
         import socket\n\
         def attempt(name):\n\
         \x20   try: socket.socket(socket.AF_UNIX).connect('\\0' + name); print('connected')\n\
         \x20   except OSError as e: print(e.strerror)\n\
         attempt('{name}')\n\
         own = socket.socket(socket.AF_UNIX); own.bind('\\0{name}-inside'); own.listen(); attempt('{name}-inside')\n\
         END"
    );
    for (network, without_landlock) in [(Network::None, "Connection refused"), (Network::Host, "connected")] {
        let sandbox = provider.open(SandboxSpec { network, ..spec() }).await.expect("opens");
        let seen = output(&*sandbox, &script).await;
        let refused = if landlock(&provider) >= 6 && without_landlock == "connected" {
            "Operation not permitted"
        } else {
            without_landlock
        };
        assert_eq!(seen, format!("{refused}\nconnected\n"));
    }
}

/// What a developer does all day is held back by no wall.
#[tokio::test(flavor = "multi_thread")]
async fn ordinary_work_is_not_held_back() {
    let provider = local();
    let spec = SandboxSpec { volumes: BTreeMap::from([("/v".into(), "work".into())]), ..spec() };
    let sandbox = provider.open(spec).await.expect("opens");
    // Files: links and moves between directories and to a volume, sparse and truncated files, pipes, sockets, times.
    let files = "set -e; mkdir -p /a/b /c; echo x > /a/b/f; mv /a/b/f /c/f; ln /c/f /a/hard; ln -s /c/f /a/soft; mv /a /c/a; cp -a /c /v/c; \
        mv /v/c/f /root/back; truncate -s 1M /root/back; mkfifo /tmp/p; (echo through > /tmp/p &); cat /tmp/p; echo again > /dev/stdout; \
        touch -d 2001-01-01 /c/f; rm -r /v/c; test -e /c/a/hard; (cd /c; tar c .) | (mkdir /t; cd /t; tar x); echo $(ls /t)";
    assert_eq!(output(&*sandbox, files).await, "through\nagain\na f\n");
    let python = "python3 - <<'END'\n\
        import multiprocessing, os, pty, signal, socket, subprocess, sys, tempfile, threading\n\
        with multiprocessing.get_context('fork').Pool(2) as pool: print(sum(pool.map(abs, [-1, -2])))\n\
        s = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(s.getsockname()); print('loopback')\n\
        s = socket.socket(socket.AF_UNIX); s.bind('/tmp/s'); s.listen(); socket.socket(socket.AF_UNIX).connect('/tmp/s'); print('unix')\n\
        pid, fd = pty.fork()\n\
        if pid == 0: os.execvp('tty', ['tty'])\n\
        print(os.read(fd, 100).decode().strip()); os.waitpid(pid, 0)\n\
        child = subprocess.Popen(['sleep', '1000'], start_new_session=True); child.terminate(); print(child.wait())\n\
        t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\n\
        from multiprocessing import shared_memory\n\
        shared = shared_memory.SharedMemory(create=True, size=10); shared.close(); shared.unlink()\n\
        m = os.memfd_create('x'); os.write(m, b'memory'); print(open(f'/proc/self/fd/{m}').read())\n\
        END";
    assert_eq!(output(&*sandbox, python).await, "3\nloopback\nunix\n/dev/pts/0\n-15\nthread\nmemory\n");
    let git = "set -e; cd /root; git init -q r; cd r; git config user.email a@b; git config user.name a; echo 1 > f; git add f; git commit -qm one; \
        git checkout -qb two; git mv f g; git commit -qam two; git clone -q . /tmp/r; git gc -q; git log --format=%s";
    assert_eq!(output(&*sandbox, git).await, "two\none\n");
    // One command may stop another.
    let mut server = sandbox.exec(sh("echo $$ > /tmp/pid; echo up; exec sleep 4321")).await.expect("starts");
    server.next().await.expect("output");
    output(&*sandbox, "kill $(cat /tmp/pid)").await;
    assert_eq!(server.wait().await, Ok(ExitStatus::Signal(15)));
    let node = "command -v node > /dev/null || { echo 42; exit; }; node -e \"const { Worker } = require('worker_threads'); \
        const http = require('http'); new Worker('require(\\\"worker_threads\\\").parentPort.postMessage(41)', { eval: true }).on('message', n => \
        { const s = http.createServer((_, a) => a.end()).listen(0, '127.0.0.1', () => http.get(s.address(), () => { console.log(n + 1); process.exit(); })); })\"";
    assert_eq!(output(&*sandbox, node).await, "42\n");
}
