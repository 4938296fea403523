//! Starts launchers from one thread that lives as long as the process.
//!
//! A launcher asks the kernel to end it with its parent, and to the kernel the parent is the *thread* that started it: one
//! started from a thread of a pool would die when the pool shrinks.

use super::inside::ENTRY;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use tokio::sync::oneshot;

struct Order {
    launcher: PathBuf,
    socket: OwnedFd,
    done: oneshot::Sender<io::Result<Child>>,
}

/// Starts a launcher whose standard input is `socket`. It gets no environment and no other descriptor.
pub(super) async fn launcher(launcher: &Path, socket: OwnedFd) -> io::Result<Child> {
    static ORDERS: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let gone = || io::Error::other("the thread that starts sandboxes is gone");
    let (done, result) = oneshot::channel();
    let order = Order { launcher: launcher.into(), socket, done };
    let orders = ORDERS.get_or_init(|| {
        let (sender, receiver) = mpsc::channel();
        // Where the thread cannot be made, the receiver is dropped and every order fails with `gone`.
        drop(std::thread::Builder::new().name("sandbox-spawner".into()).spawn(move || serve(&receiver)));
        Mutex::new(sender)
    });
    orders.lock().map_err(|_| gone())?.send(order).map_err(|_| gone())?;
    result.await.map_err(|_| gone())?
}

fn serve(orders: &mpsc::Receiver<Order>) {
    for order in orders {
        let child = Command::new(&order.launcher)
            .arg(ENTRY)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(order.socket))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C at the terminal is for harvest to handle, not for its sandboxes.
            .process_group(0)
            .spawn();
        if let Err(Ok(mut unwanted)) = order.done.send(child) {
            drop(unwanted.kill());
            drop(unwanted.wait());
        }
    }
}
