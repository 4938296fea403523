//! The system calls that nothing in a sandbox may make, as a classic BPF program.
//!
//! It closes what namespaces leave open: mounts and further namespaces (more kernel surface), socket families that no
//! network namespace covers (AF_VSOCK reaches the hypervisor), and interfaces with a history of holes. clone3 answers
//! ENOSYS because its flags lie in memory where a filter cannot see them; libc then falls back to clone.
//!
//! It is a list of what is denied, not of what is allowed: programs written for a newer kernel must go on to work, and a
//! new call is no more than an unknown one to the kernels that lack it. What Docker's default list denies is denied here
//! too, but for what capabilities and namespaces hold by themselves: NUMA placement, the host's name, ptrace.

use libc::sock_filter;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

const fn errno(code: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | code as u32
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

// Offsets in struct seccomp_data; arguments are little-endian on both supported machines.
const NUMBER: u32 = 0;
const MACHINE: u32 = 4;
const ARGUMENT_0: u32 = 16;
const ARGUMENT_1: u32 = 24;
const ARGUMENT_2: u32 = 32;

#[cfg(target_arch = "x86_64")]
const THIS_MACHINE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const THIS_MACHINE: u32 = 0xC000_00B7;
/// Bit that marks calls of the x32 interface, which would bypass every rule below.
const X32: u32 = 0x4000_0000;

const NAMESPACES: u32 = (
    libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
    // CLONE_NEWTIME shares its bit with the exit signal of clone and is only meaningful for unshare, which is denied.
) as u32;

/// Mounts, namespaces, kernel modules, tracing of the kernel, clocks, and other things of the machine as a whole.
const DENIED: &[libc::c_long] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    SYS_OPEN_TREE_ATTR,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_fanotify_init,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_kcmp,
    libc::SYS_lookup_dcookie,
    libc::SYS_acct,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_vhangup,
];

const SYS_OPEN_TREE_ATTR: libc::c_long = 467;

#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[libc::c_long] =
    &[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_uselib];
#[cfg(target_arch = "aarch64")]
const DENIED_HERE: &[libc::c_long] = &[];

/// Calls that succeed without effect where only one user id is mapped, so that package managers and `su` go on.
const EMULATED: &[libc::c_long] = &[
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
];

#[cfg(target_arch = "x86_64")]
const EMULATED_HERE: &[libc::c_long] = &[libc::SYS_chown, libc::SYS_lchown];
#[cfg(target_arch = "aarch64")]
const EMULATED_HERE: &[libc::c_long] = &[];

/// Protocols of AF_INET and AF_INET6. Asking for one of the others makes the kernel load its module, and several of those
/// (SCTP, DCCP, L2TP, SMC) have had holes. 0 is the one that belongs to the type of socket.
const INTERNET_PROTOCOLS: &[libc::c_int] =
    &[0, libc::IPPROTO_ICMP, libc::IPPROTO_TCP, libc::IPPROTO_UDP, libc::IPPROTO_ICMPV6];

/// Protocols of AF_NETLINK: interfaces and addresses, and the sockets that there are. The others speak to parts of the
/// kernel that are nothing to a sandbox.
const NETLINK_PROTOCOLS: &[libc::c_int] = &[libc::NETLINK_ROUTE, libc::NETLINK_SOCK_DIAG];

/// Terminal requests that type for somebody else.
const TYPING: &[libc::c_int] = &[libc::TIOCSTI as libc::c_int, libc::TIOCLINUX as libc::c_int];

/// The filter; `emulate` adds the calls that pretend to succeed.
pub(super) fn program(emulate: bool) -> Vec<sock_filter> {
    let mut program = vec![load(MACHINE), jump(EQUAL, THIS_MACHINE, 1, 0), give(KILL), load(NUMBER)];
    program.extend([jump(AT_LEAST, X32, 0, 1), give(errno(libc::ENOSYS))]);
    for call in DENIED.iter().chain(DENIED_HERE) {
        program.extend(on(*call, errno(libc::EPERM)));
    }
    if emulate {
        for call in EMULATED.iter().chain(EMULATED_HERE) {
            program.extend(on(*call, errno(0)));
        }
    }
    program.extend(on(libc::SYS_clone3, errno(libc::ENOSYS)));
    let namespaces =
        [load(ARGUMENT_0), jump(ANY_BIT, NAMESPACES, 0, 1), give(errno(libc::EPERM)), give(ALLOW)];
    program.extend(within(libc::SYS_clone, namespaces.to_vec()));
    program.extend(within(libc::SYS_ioctl, none_of(ARGUMENT_1, TYPING, errno(libc::EPERM))));
    program.extend(within(libc::SYS_socket, socket()));
    // Linked pairs are AF_UNIX and, with its module, AF_TIPC.
    let pairs = one_of(ARGUMENT_0, &[libc::AF_UNIX], errno(libc::EAFNOSUPPORT));
    program.extend(within(libc::SYS_socketpair, pairs));
    program.push(give(ALLOW));
    program
}

/// Only families that the network namespace covers, with the protocols that people use.
fn socket() -> Vec<sock_filter> {
    let internet = one_of(ARGUMENT_2, INTERNET_PROTOCOLS, errno(libc::EPROTONOSUPPORT));
    let netlink = one_of(ARGUMENT_2, NETLINK_PROTOCOLS, errno(libc::EPROTONOSUPPORT));
    let mut block = vec![load(ARGUMENT_0), jump(EQUAL, libc::AF_UNIX as u32, 0, 1), give(ALLOW)];
    block.push(jump(EQUAL, libc::AF_INET as u32, 1, 0));
    block.push(jump(EQUAL, libc::AF_INET6 as u32, 0, internet.len() as u8));
    block.extend(internet);
    block.push(jump(EQUAL, libc::AF_NETLINK as u32, 0, netlink.len() as u8));
    block.extend(netlink);
    block.push(give(errno(libc::EAFNOSUPPORT)));
    block
}

/// A block for one system call. Every way through it must end in a decision: it may leave an argument loaded.
fn within(call: libc::c_long, block: Vec<sock_filter>) -> Vec<sock_filter> {
    let mut whole = vec![jump(EQUAL, call as u32, 0, block.len() as u8)];
    whole.extend(block);
    whole
}

/// Allows the call where an argument is one of these.
fn one_of(argument: u32, values: &[libc::c_int], refused: u32) -> Vec<sock_filter> {
    choose(argument, values, ALLOW, refused)
}

/// Allows the call where an argument is none of these.
fn none_of(argument: u32, values: &[libc::c_int], refused: u32) -> Vec<sock_filter> {
    choose(argument, values, refused, ALLOW)
}

fn choose(argument: u32, values: &[libc::c_int], found: u32, otherwise: u32) -> Vec<sock_filter> {
    let mut block = vec![load(argument)];
    let count = values.len() as u8;
    block.extend((0..count).zip(values).map(|(index, value)| jump(EQUAL, *value as u32, count - index, 0)));
    block.extend([give(otherwise), give(found)]);
    block
}

fn load(offset: u32) -> sock_filter {
    sock_filter { code: LOAD, jt: 0, jf: 0, k: offset }
}

fn jump(code: u16, value: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter { code, jt: yes, jf: no, k: value }
}

fn give(action: u32) -> sock_filter {
    sock_filter { code: RETURN, jt: 0, jf: 0, k: action }
}

fn on(call: libc::c_long, action: u32) -> [sock_filter; 2] {
    [jump(EQUAL, call as u32, 0, 1), give(action)]
}

#[cfg(test)]
mod tests {
    use super::{DENIED, DENIED_HERE, EMULATED, EMULATED_HERE, program};
    use crate::capability::sandbox::local::inside::sys;
    use std::io::Read;
    use std::os::fd::AsRawFd;

    type Call = [libc::c_long; 4];

    const AF_SMC: libc::c_int = 43;

    /// What calls answer under the filter (0, or the number of the error), made for real by a child process that has
    /// nothing but the filter: the kernel itself may have no other reason to refuse.
    fn answers(emulate: bool, calls: &[Call]) -> Vec<i32> {
        let program = program(emulate);
        let (mut read, write) = std::io::pipe().expect("a pipe");
        let Some(child) = sys::fork().expect("a child") else {
            // Only system calls from here on: another thread may have held any lock at the fork.
            if sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).is_err() || sys::install_filter(&program).is_err() {
                sys::exit(1);
            }
            for [number, a, b, c] in calls {
                // SAFETY: what is not denied gets arguments that the kernel refuses, or makes a socket.
                let result = unsafe { libc::syscall(*number, *a, *b, *c, -1_i64, -1_i64) };
                let error = std::io::Error::last_os_error().raw_os_error().unwrap_or_default();
                let answer = if result < 0 { error } else { 0 };
                // SAFETY: the number outlives the call, and its size is given.
                unsafe { libc::write(write.as_raw_fd(), (&raw const answer).cast(), size_of::<i32>()) };
            }
            sys::exit(0);
        };
        drop(write);
        let mut bytes = Vec::new();
        read.read_to_end(&mut bytes).expect("answers");
        // SAFETY: waits for our own child and wants no status.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        bytes.chunks(4).map(|four| i32::from_ne_bytes(four.try_into().expect("four bytes"))).collect()
    }

    /// Arguments that no call takes.
    fn nonsense(calls: &[libc::c_long]) -> Vec<Call> {
        calls.iter().map(|call| [*call, -1, -1, -1]).collect()
    }

    #[test]
    fn every_call_of_the_list_is_denied_by_the_filter_alone() {
        for calls in [DENIED, DENIED_HERE] {
            assert_eq!(answers(false, &nonsense(calls)), vec![libc::EPERM; calls.len()]);
        }
    }

    #[test]
    fn ids_change_for_show_only_where_they_are_emulated() {
        let calls = nonsense(&[EMULATED, EMULATED_HERE].concat());
        assert_eq!(answers(true, &calls), vec![0; calls.len()]);
        // setfsuid and setfsgid return the id that there was, whatever they were asked; to the four with several ids, -1
        // means to leave one as it is.
        let refused = answers(false, &calls).into_iter().filter(|answer| *answer != 0).count();
        assert_eq!(refused, calls.len() - 2 - 4);
    }

    #[test]
    fn arguments_decide_about_namespaces_terminals_and_sockets() {
        let (stream, packets, raw) =
            (libc::SOCK_STREAM.into(), libc::SOCK_DGRAM.into(), i64::from(libc::SOCK_RAW));
        let family = libc::EAFNOSUPPORT;
        let protocol = libc::EPROTONOSUPPORT;
        let socket = |family: i32, kind: i64, protocol: i32| {
            [libc::SYS_socket, family.into(), kind, i64::from(protocol)]
        };
        let pair = |family: i32| [libc::SYS_socketpair, family.into(), packets, 0];
        let mut expected = vec![
            (socket(libc::AF_UNIX, stream, 0), 0),
            (socket(libc::AF_INET, stream, 0), 0),
            (socket(libc::AF_INET, packets, libc::IPPROTO_UDP), 0),
            (socket(libc::AF_NETLINK, raw, libc::NETLINK_ROUTE), 0),
            (socket(libc::AF_NETLINK, raw, libc::NETLINK_SOCK_DIAG), 0),
            (socket(libc::AF_NETLINK, raw, libc::NETLINK_NETFILTER), protocol),
            (socket(libc::AF_NETLINK, raw, libc::NETLINK_GENERIC), protocol),
            (socket(libc::AF_INET, stream, libc::IPPROTO_SCTP), protocol),
            (socket(libc::AF_INET6, stream, libc::IPPROTO_MPTCP), protocol),
            (socket(libc::AF_INET, 6, libc::IPPROTO_DCCP), protocol),
            (pair(libc::AF_TIPC), family),
            // The address of the pair is nonsense, and the kernel gets to see it.
            (pair(libc::AF_UNIX), libc::EFAULT),
            ([libc::SYS_ioctl, -1, libc::TIOCSTI as i64, 0], libc::EPERM),
            ([libc::SYS_ioctl, -1, libc::TIOCLINUX as i64, 0], libc::EPERM),
            // The upper half of a request means nothing to the kernel, and must not to the filter.
            ([libc::SYS_ioctl, -1, libc::TIOCSTI as i64 | 1 << 40, 0], libc::EPERM),
            ([libc::SYS_ioctl, -1, libc::TIOCGWINSZ as i64, 0], libc::EBADF),
            ([libc::SYS_clone3, -1, -1, -1], libc::ENOSYS),
        ];
        for namespace in [
            libc::CLONE_NEWUSER,
            libc::CLONE_NEWNS,
            libc::CLONE_NEWPID,
            libc::CLONE_NEWNET,
            libc::CLONE_NEWIPC,
            libc::CLONE_NEWUTS,
            libc::CLONE_NEWCGROUP,
        ] {
            expected.push(([libc::SYS_clone, i64::from(namespace), 0, 0], libc::EPERM));
        }
        for other in [
            libc::AF_AX25,
            libc::AF_X25,
            libc::AF_KEY,
            libc::AF_PACKET,
            libc::AF_RDS,
            libc::AF_CAN,
            libc::AF_TIPC,
            libc::AF_BLUETOOTH,
            libc::AF_ALG,
            libc::AF_VSOCK,
            libc::AF_XDP,
            AF_SMC,
        ] {
            expected.push((socket(other, packets, 0), family));
        }
        let (calls, wanted): (Vec<Call>, Vec<i32>) = expected.into_iter().unzip();
        assert_eq!(answers(false, &calls), wanted);
    }
}
