//! Starts launchers, from one thread that lives as long as the process: for each binary it keeps a fork server, which has
//! loaded it already.
//!
//! A launcher asks the kernel to end it with its parent, and to the kernel the parent is the *thread* that started it, or
//! that started its fork server: one started from a thread of a pool would die when the pool shrinks.

use super::inside::ENTRY;
use super::wire;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use tokio::sync::oneshot;

/// How long a fork server may take to answer: it only forks. What takes longer is something else.
const ANSWER_LIMIT: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };

struct Order {
    binary: PathBuf,
    socket: OwnedFd,
    done: oneshot::Sender<io::Result<Option<Pid>>>,
}

/// Starts a launcher whose standard input is `socket`, as a child of this process, to be waited for by [`reap`]. It gets no
/// environment and no other descriptor. `None` where the binary is none to start launchers with, or was ended meanwhile.
pub(super) async fn launcher(binary: &Path, socket: OwnedFd) -> io::Result<Option<Pid>> {
    static ORDERS: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let gone = || io::Error::other("the thread that starts sandboxes is gone");
    let (done, result) = oneshot::channel();
    let order = Order { binary: binary.into(), socket, done };
    let orders = ORDERS.get_or_init(|| {
        let (sender, receiver) = mpsc::channel();
        // Where the thread cannot be made, the receiver is dropped and every order fails with `gone`.
        drop(std::thread::Builder::new().name("sandbox-spawner".into()).spawn(move || serve(&receiver)));
        Mutex::new(sender)
    });
    orders.lock().map_err(|_| gone())?.send(order).map_err(|_| gone())?;
    result.await.map_err(|_| gone())?
}

/// Waits for the end of a launcher, and frees its pid.
pub(super) fn reap(launcher: Pid) -> io::Result<()> {
    loop {
        match waitpid(Some(launcher), WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            ended => return Ok(ended.map(drop::<Option<(Pid, WaitStatus)>>)?),
        }
    }
}

fn serve(orders: &mpsc::Receiver<Order>) {
    let mut servers = HashMap::new();
    for Order { binary, socket, done } in orders {
        let started = start(&mut servers, &binary, socket.as_fd());
        drop(socket);
        if let Err(Ok(Some(unwanted))) = done.send(started) {
            // It may be gone already.
            let _ = kill_process(unwanted, Signal::KILL);
            drop(reap(unwanted));
        }
    }
}

fn start(
    servers: &mut HashMap<PathBuf, ForkServer>,
    binary: &Path,
    socket: BorrowedFd<'_>,
) -> io::Result<Option<Pid>> {
    let known = servers.remove(binary);
    // One that was killed takes no order, so another can have it.
    let order = |server: &ForkServer| wire::send(server.socket.as_fd(), &(), &[socket]);
    let server = match known {
        Some(server) if order(&server).is_ok() => server,
        _ => {
            let server = ForkServer::start(binary)?;
            if order(&server).is_err() {
                return Ok(None);
            }
            server
        }
    };
    match server.answer()? {
        Some(Ok(pid)) => {
            servers.insert(binary.into(), server);
            Ok(Pid::from_raw(pid))
        }
        Some(Err(code)) => {
            servers.insert(binary.into(), server);
            Err(code.map_or_else(|| io::Error::other("it cannot be forked"), io::Error::from_raw_os_error))
        }
        None => Ok(None),
    }
}

/// A process that becomes launchers. Dropped, it is ended.
struct ForkServer {
    process: Child,
    socket: OwnedFd,
}

impl ForkServer {
    fn start(binary: &Path) -> io::Result<Self> {
        let (socket, inside) = wire::pair()?;
        let process = Command::new(binary)
            .arg(ENTRY)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(inside))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C at the terminal is for harvest to handle.
            .process_group(0)
            .spawn()?;
        Ok(Self { process, socket })
    }

    /// The pid of what was forked, or why it could not be; `None` where nothing of that kind is said.
    fn answer(&self) -> io::Result<Option<Result<i32, Option<i32>>>> {
        let mut socket = [PollFd::new(&self.socket, PollFlags::IN)];
        loop {
            match poll(&mut socket, Some(&ANSWER_LIMIT)) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(0) => return Ok(None),
                ready => {
                    ready?;
                    let answer = wire::receive(self.socket.as_fd()).unwrap_or_default();
                    return Ok(answer.map(|(answer, _)| answer));
                }
            }
        }
    }
}

impl Drop for ForkServer {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
