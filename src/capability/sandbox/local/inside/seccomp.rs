//! The system calls that nothing in a sandbox may make, as a classic BPF program.
//!
//! It closes what namespaces leave open: mounts and further namespaces (more kernel surface), socket families that no
//! network namespace covers (AF_VSOCK reaches the hypervisor), and interfaces with a history of holes. clone3 answers
//! ENOSYS because its flags lie in memory where a filter cannot see them; libc then falls back to clone.

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
    libc::SYS_acct,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_vhangup,
];

const SYS_OPEN_TREE_ATTR: libc::c_long = 467;

#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[libc::c_long] =
    &[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_kexec_file_load];
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

const FAMILIES: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

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
    // clone: no new namespaces.
    program.extend([jump(EQUAL, libc::SYS_clone as u32, 0, 4), load(ARGUMENT_0)]);
    program.extend([jump(ANY_BIT, NAMESPACES, 0, 1), give(errno(libc::EPERM)), give(ALLOW)]);
    // ioctl: no typing into a terminal of someone else.
    program.extend([jump(EQUAL, libc::SYS_ioctl as u32, 0, 4), load(ARGUMENT_1)]);
    program.extend([jump(EQUAL, libc::TIOCSTI as u32, 0, 1), give(errno(libc::EPERM)), give(ALLOW)]);
    // socket: only the families that the network namespace covers.
    let families = FAMILIES.len() as u8;
    program.extend([jump(EQUAL, libc::SYS_socket as u32, 0, families + 2), load(ARGUMENT_0)]);
    for (index, family) in FAMILIES.iter().enumerate() {
        program.push(jump(EQUAL, *family as u32, families - index as u8, 0));
    }
    program.push(give(errno(libc::EAFNOSUPPORT)));
    program.push(give(ALLOW));
    program
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
