//! What a sandbox may not do: ids, capabilities, system calls.

use super::contract::sandbox::{open, output, spec};
use super::{is_root, local};
use harvest::capability::sandbox::{SandboxProvider, SandboxSpec};

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
    let sandbox = provider.open(SandboxSpec { user: Some("user".into()), ..spec() }).await.expect("opens");
    let seen = output(&*sandbox, "id -u; echo $HOME; echo to-stderr > /dev/stderr").await;
    assert_eq!(seen, if is_root() { "1000\n/home/user\n" } else { "0\n/root\n" });
}
