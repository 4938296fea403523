//! What the host and the processes inside a sandbox say to one another. Plain data, no behaviour.

use super::super::ExitStatus;
use crate::step::ErrorKind;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// First id of the host's range that sandbox ids map to when harvest runs as root. Host id 0 is never mapped.
pub(super) const RANGE_BASE: u32 = 1_000_000;
/// Ids in that range.
pub(super) const RANGE_COUNT: u32 = 65_536;

/// The id inside of what no other id stands for.
const NOBODY: u32 = 65_534;

/// How user ids inside map to ids of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::capability::sandbox) enum Ids {
    /// Ids 0.. are [`RANGE_BASE`].. of the host. Needs root.
    Range,
    /// Id 0 is this user and group of the host; chown and set*id succeed without doing anything.
    Emulated {
        /// User of the host.
        uid: u32,
        /// Group of the host.
        gid: u32,
    },
}

impl Ids {
    /// The owner of a sandbox's files on the host, as the sandbox's root.
    pub(super) fn root(self) -> (u32, u32) {
        match self {
            Self::Range => (RANGE_BASE, RANGE_BASE),
            Self::Emulated { uid, gid } => (uid, gid),
        }
    }

    /// Owner and group on the host of what belongs to these ids inside. Ids that no sandbox has are `nobody`.
    pub(super) fn outside(self, uid: u64, gid: u64) -> (u32, u32) {
        let shift = |id| RANGE_BASE + u32::try_from(id).ok().filter(|id| *id < RANGE_COUNT).unwrap_or(NOBODY);
        match self {
            Self::Range => (shift(uid), shift(gid)),
            Self::Emulated { uid, gid } => (uid, gid),
        }
    }

    /// Ids inside of what belongs to these on the host.
    pub(super) fn inside(self, uid: u32, gid: u32) -> (u32, u32) {
        let shift = |id: u32| id.checked_sub(RANGE_BASE).filter(|id| *id < RANGE_COUNT).unwrap_or(NOBODY);
        match self {
            Self::Range => (shift(uid), shift(gid)),
            Self::Emulated { .. } => (0, 0),
        }
    }
}

/// Everything the launcher and the init process need to build a sandbox. Holds no secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) ids: Ids,
    /// Layers, topmost first; the last is the base.
    pub(super) lower: Vec<PathBuf>,
    /// Directory of the sandbox: holds `upper`, `work` and the empty mount point `root`.
    pub(super) directory: PathBuf,
    /// Host directories shown read-only at the same path inside.
    pub(super) binds: Vec<Bind>,
    pub(super) volumes: Vec<Bind>,
    /// Directories of the image that cannot be written.
    pub(super) read_only: Vec<String>,
    /// Whether the sandbox gets a network namespace of its own.
    pub(super) isolate_network: bool,
    /// Made inside when missing.
    pub(super) workdir: Option<String>,
    /// Directories of the groups that the sandbox is put into, and that go with it.
    pub(super) cgroups: Vec<PathBuf>,
    /// RLIMIT_NPROC where no cgroup bounds the number of processes.
    pub(super) process_limit: Option<u64>,
    /// What stands between the sandbox and the kernel, where something does.
    pub(super) runtime: Option<Runtime>,
}

/// gVisor, and what its sandboxes need to run harvest as their first process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::capability::sandbox) struct Runtime {
    /// The program `runsc`.
    pub(in crate::capability::sandbox) program: PathBuf,
    /// Its options on this machine.
    pub(in crate::capability::sandbox) options: Vec<String>,
    /// The dynamic loader among the libraries; `None` where harvest needs neither.
    pub(in crate::capability::sandbox) loader: Option<String>,
    /// What the loader loads, and itself.
    pub(in crate::capability::sandbox) libraries: Vec<Library>,
}

/// A shared library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::capability::sandbox) struct Library {
    /// The name it is looked up by.
    pub(in crate::capability::sandbox) name: String,
    /// Where the host has it.
    pub(in crate::capability::sandbox) path: PathBuf,
}

/// A piece of the host's file tree inside a sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::capability::sandbox) struct Bind {
    pub(in crate::capability::sandbox) source: PathBuf,
    pub(in crate::capability::sandbox) target: String,
    /// Whether the sandbox cannot be without it.
    pub(in crate::capability::sandbox) required: bool,
}

/// What the host asks of the init process. Details travel as a memory file that only the forked helper reads, so that
/// the init process itself never holds a secret. Descriptors: details, replies, then what the request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Request {
    /// Run [`Command`]; then stdout, stderr and, where wanted, stdin.
    Exec,
    /// Read [`FilePath`] into the memory file that follows.
    Read,
    /// Write [`FilePath`] from the memory file that follows.
    Write,
    /// Listen on a loopback port ([`Listen`]); the reply carries the socket.
    Listen,
    /// Hold every process still until the socket for replies closes.
    Freeze,
    /// Listen on a loopback port ([`Listen`]) where no socket can be handed out: after [`Reply::Listening`], each
    /// [`Reply::Connection`] is answered with one end of a socket pair.
    Relay,
}

/// Details of [`Request::Exec`].
#[derive(Serialize, Deserialize)]
pub(super) struct Command {
    pub(super) command: Vec<String>,
    /// The whole environment.
    pub(super) env: Vec<(String, String)>,
    pub(super) workdir: Option<String>,
    pub(super) user: Option<String>,
    /// Whether user ids are really changed; otherwise all run as root inside.
    pub(super) switch_user: bool,
}

/// Details of [`Request::Read`] and [`Request::Write`].
#[derive(Serialize, Deserialize)]
pub(super) struct FilePath {
    pub(super) path: String,
    /// Most bytes to read.
    pub(super) limit: u64,
    /// Permission bits to write with.
    pub(super) mode: u32,
}

/// Details of [`Request::Listen`].
#[derive(Serialize, Deserialize)]
pub(super) struct Listen {
    /// 0 picks a free one.
    pub(super) port: u16,
}

/// What comes back, on the socket that the request brought. For a command, the closed socket says its tree is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::capability::sandbox) enum Reply {
    /// The sandbox is up.
    Ready,
    /// The command is running.
    Started,
    /// The command ended; its children may still run.
    Exited(ExitStatus),
    /// The file is read or written, the port is listened on, or nothing moves any more.
    Done,
    /// The port that is listened on.
    Listening {
        /// Its number.
        port: u16,
    },
    /// Somebody connected to it.
    Connection,
    /// It did not work.
    Failed {
        /// For the caller.
        kind: ErrorKind,
        /// What happened and what to do.
        message: String,
    },
}

/// What the host tells the process that watches over one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Order {
    /// Send this signal to the command.
    Signal(i32),
    /// Kill the command's whole tree.
    Kill,
}
