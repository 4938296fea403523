//! The processes of a sandbox while they live: brought up by the launcher, followed until the last of them is gone.
//! A sandbox may have several such lives; its files and its lock go through all of them.

use super::cgroup::{Groups, Limits};
use super::channel::Channel;
use super::guest::Life;
use super::lingering::Lingering;
use super::plan::{Plan, Reply};
use super::store::Lock;
use super::{cgroup, holder, spawn, wire};
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use rustix::process::{Pid, PidfdFlags};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// How long the processes of a sandbox may take to come up.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Pause between two looks at whether an init process without its launcher is gone.
const DEATH_PAUSE: Duration = Duration::from_millis(2);

/// What it takes to bring up a sandbox, as often as needed.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    pub(super) id: String,
    /// The harvest binary.
    pub(super) launcher: PathBuf,
    /// Its groups and its layers are filled in with each start.
    pub(super) plan: Plan,
    /// What the names of the home's control groups start with.
    pub(super) groups: String,
    pub(super) limits: Limits,
}

/// One life of a sandbox.
pub(super) struct Running {
    pub(super) life: Arc<Life>,
    /// The launcher's process: all others descend from it.
    pub(super) launcher: u32,
    pub(super) groups: Arc<Groups>,
    /// Gone with the processes.
    lock: Arc<Mutex<Option<Lock>>>,
}

impl Launch {
    /// Brings the sandbox up on these layers, topmost first. The lock is held until its last process is gone.
    pub(super) async fn start(&self, lower: Vec<PathBuf>, lock: Lock) -> Result<Running> {
        let groups = Arc::new(Groups::make(&self.groups, &self.id, self.limits));
        if self.limits.cpu.is_some() && !groups.cpu {
            tracing::warn!(sandbox = self.id, "the CPU limit cannot be set on this machine");
        }
        let plan = Plan {
            lower,
            cgroups: groups.directories().to_vec(),
            process_limit: (!groups.processes).then_some(cgroup::PROCESS_LIMIT),
            ..self.plan.clone()
        };
        let failed = |error: io::Error| CapabilityError::io("start the launcher of a sandbox", &error);
        let json = serde_json::to_vec(&plan).map_err(|error| failed(error.into()))?;
        let details = wire::memory(&json).map_err(failed)?;
        let (control, inside) = wire::pair().map_err(failed)?;
        let (boot, boot_inside) = wire::pair().map_err(failed)?;
        wire::send(control.as_fd(), &(), &[details.as_fd(), boot_inside.as_fd(), lock.0.as_fd()])
            .map_err(failed)?;
        drop(boot_inside);
        let started = spawn::launcher(&self.launcher, inside).await.map_err(failed)?;
        let launcher = started.ok_or_else(|| self.ended_early())?;
        let lock = Arc::new(Mutex::new(Some(lock)));
        let tree = Lingering::default();
        let gone = watch_over(launcher, lock.clone(), groups.clone(), tree.clone()).map_err(failed)?;
        let boot = Channel::new(boot).map_err(failed)?;
        let control = Channel::new(control).map_err(failed)?;
        tree.hold(self.wait_for(&boot).await?);
        let launcher = launcher.as_raw_pid().cast_unsigned();
        Ok(Running { life: Arc::new(Life { control, gone }), launcher, groups, lock })
    }

    /// Waits until the sandbox is up. Returns its root directory, where its init process can hand that out.
    async fn wait_for(&self, boot: &Channel) -> Result<Option<OwnedFd>> {
        match tokio::time::timeout(START_LIMIT, boot.receive::<Reply>()).await {
            Ok(Ok(Some((Reply::Ready, mut fds)))) => Ok(fds.pop()),
            Ok(Ok(Some((Reply::Failed { kind, message }, _)))) => Err(CapabilityError::new(kind, message)),
            Ok(_) => Err(self.ended_early()),
            Err(_) => Err(CapabilityError::new(
                ErrorKind::UNAVAILABLE,
                format!("the sandbox did not come up within {} s", START_LIMIT.as_secs()),
            )),
        }
    }

    fn ended_early(&self) -> CapabilityError {
        let launcher = self.launcher.display();
        let message = format!("the launcher of sandboxes ended early: is {launcher} harvest itself?");
        CapabilityError::new(ErrorKind::UNAVAILABLE, message)
    }
}

impl Running {
    /// Another holder of the sandbox's lock, unless it is free already.
    pub(super) fn share_lock(&self) -> Option<Lock> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.share().ok()
    }
}

/// Whether the init process is still there.
fn lives(lock: &Mutex<Option<Lock>>) -> bool {
    let lock = lock.lock().unwrap_or_else(PoisonError::into_inner);
    lock.as_ref().is_some_and(|lock| holder::lives(&lock.0))
}

/// Reaps the launcher when it ends, and lets go of the lock when the last process of the sandbox is gone: at the same
/// moment, unless the launcher was killed.
fn watch_over(
    launcher: Pid,
    lock: Arc<Mutex<Option<Lock>>>,
    groups: Arc<Groups>,
    tree: Lingering,
) -> io::Result<watch::Receiver<bool>> {
    let handle = rustix::process::pidfd_open(launcher, PidfdFlags::empty())?;
    // SAFETY: an owned descriptor stays open and the same until it is dropped, with the registration.
    let handle = unsafe { AsyncFd::register_with_interest(handle, tokio::io::Interest::READABLE) }?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        drop(handle.readable().await);
        drop(spawn::reap(launcher));
        while lives(&lock) {
            tokio::time::sleep(DEATH_PAUSE).await;
        }
        tree.let_go();
        groups.remove();
        drop(lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        sender.send_replace(true);
    });
    Ok(receiver)
}
