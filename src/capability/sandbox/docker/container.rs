//! A container: made, started, and connected to.

use super::super::library;
use super::super::local::shared::{Channel, Reply};
use super::super::local::shared::{Life, Made, PROCESS_LIMIT, binds, make_private, word};
use super::super::local::{Bind, ENTRY, Guest, Library, Lock, Manifest};
use super::super::{Isolation, Network, SandboxSpec};
use super::{Inner, engine};
use crate::capability::allow_list::AllowList;
use crate::capability::{CapabilityError, Result};
use crate::id::Digest;
use crate::step::ErrorKind;
use bollard::Docker;
use bollard::models::{ContainerCreateBody, HealthConfig, HostConfig, Mount, MountType};
use bollard::query_parameters::{CreateContainerOptions, KillContainerOptions, WaitContainerOptions};
use futures_util::StreamExt;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// How long the first process of a container may take to connect.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a container may take to end after its host.
const END_LIMIT: Duration = Duration::from_secs(10);
/// Pause between two looks at a container whose end could not be waited for.
const WATCH_PAUSE: Duration = Duration::from_millis(50);
/// Label with what a container was made to be, images aside.
const DEFINITION: &str = "harvest.definition";
/// What follows a container's name in those of its volumes with the read-only directories of its image.
pub(super) const CLOSED: &str = ".closed";
/// Where harvest and its socket lie inside. The engine keeps nothing of /dev.
const PROGRAMS: &str = "/dev/.harvest";
/// The capabilities that the first process and all others have, as in a local sandbox.
const CAPABILITIES: [&str; 10] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "SETFCAP",
];

/// The harvest binary with what it needs to run where the host's files are not.
pub(super) struct Programs {
    harvest: PathBuf,
    loader: Option<String>,
    libraries: Vec<Library>,
}

impl Programs {
    pub(super) fn of(launcher: &Path) -> Result<Self> {
        let failed =
            |error: io::Error| engine::unavailable(format!("harvest cannot be shown to containers: {error}"));
        let harvest = fs::canonicalize(launcher).map_err(failed)?;
        let (loader, libraries) = library::of(launcher).map_err(failed)?;
        Ok(Self { harvest, loader, libraries })
    }

    fn command(&self) -> Vec<String> {
        let inside = |name: &str| format!("{PROGRAMS}/{name}");
        let mut words = match &self.loader {
            Some(loader) => vec![inside(loader), "--library-path".into(), PROGRAMS.into(), inside("harvest")],
            None => vec![inside("harvest")],
        };
        words.extend([ENTRY, "guest", "connect"].map(ToOwned::to_owned));
        words
    }

    fn mounts(&self) -> Vec<Mount> {
        let libraries = self.libraries.iter().map(|library| (library.path.as_path(), library.name.as_str()));
        std::iter::once((self.harvest.as_path(), "harvest"))
            .chain(libraries)
            .map(|(path, name)| bind(path, &format!("{PROGRAMS}/{name}"), true))
            .collect()
    }
}

fn bind(source: &Path, target: &str, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        // A library is often a link, and so is much of /etc: the engine wants what is behind it.
        source: Some(
            fs::canonicalize(source).unwrap_or_else(|_| source.into()).to_string_lossy().into_owned(),
        ),
        target: Some(target.into()),
        read_only: Some(read_only),
        ..Mount::default()
    }
}

/// How the engine maps ids. `unavailable` where it runs on another kernel: descriptors reach no other machine.
pub(super) async fn ids(engine: &Docker) -> Result<&'static str> {
    let info = engine.info().await.map_err(|error| engine::failed("ask the engine what it is", &error))?;
    let theirs = info.kernel_version.unwrap_or_default();
    let ours = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if theirs != ours.trim() {
        return Err(engine::unavailable(format!(
            "the engine runs on a kernel of its own ({theirs}), as in a virtual machine, and harvest needs one on this kernel"
        )));
    }
    let options = info.security_options.unwrap_or_default();
    let mapped =
        options.iter().any(|option| option.contains("name=userns") || option.contains("name=rootless"));
    Ok(if mapped { "subuid" } else { "host" })
}

impl Inner {
    /// Makes a container where there is none, or where it was made to be something else, starts it, and connects.
    pub(super) async fn start(
        &self,
        spec: &SandboxSpec,
        manifest: &Manifest,
        lock: Lock,
    ) -> Result<Arc<Guest>> {
        if let Network::Allow(lines) = &spec.network {
            AllowList::parse(lines)?;
        }
        let id = &spec.id;
        let failed = |error: io::Error| {
            CapabilityError::io(format!("listen for the container of sandbox {id}"), &error)
        };
        let directory = self.directory(id).join("run");
        make_private(&directory)?;
        self.wait_for_end(id).await?;
        self.create(spec, manifest, &directory).await?;
        let listener = listen(&directory).map_err(failed)?;
        let name = self.name(id);
        self.engine
            .start_container(&name, None)
            .await
            .map_err(|error| engine::failed(format!("start the container of sandbox {id}"), &error))?;
        let gone = watch_over(self.engine.clone(), name.clone(), lock);
        let connected = tokio::time::timeout(START_LIMIT, accept(listener, gone.clone())).await;
        drop(fs::remove_file(directory.join("socket")));
        let control = match connected {
            Ok(Ok(control)) => control,
            other => {
                drop(self.engine.kill_container(&name, None::<KillContainerOptions>).await);
                let why = match other {
                    Ok(Err(error)) => error.to_string(),
                    _ => format!("nobody connected within {} s", START_LIMIT.as_secs()),
                };
                return Err(engine::unavailable(format!("harvest did not come up in the container: {why}")));
            }
        };
        let life = Arc::new(Life { control, gone });
        let made = Made { isolation: self.isolation(spec), kills: None, relayed: false };
        let guest = Guest::new(life, spec, manifest, self.gateways.clone(), made);
        guest.enforce(&spec.network).await?;
        Ok(guest)
    }

    /// Waits until nothing runs in the container, where there is one: what a killed host has left ends by itself.
    async fn wait_for_end(&self, id: &str) -> Result<()> {
        let name = self.name(id);
        if tokio::time::timeout(END_LIMIT, stopped(&self.engine, &name)).await.is_ok() {
            return Ok(());
        }
        drop(self.engine.kill_container(&name, None::<KillContainerOptions>).await);
        tokio::time::timeout(END_LIMIT, stopped(&self.engine, &name)).await.map_err(|_| {
            engine::unavailable(format!("the engine does not end the container of sandbox {id}"))
        })
    }

    /// How well a sandbox is held in.
    pub(super) fn isolation(&self, spec: &SandboxSpec) -> Isolation {
        let held = |limited: bool| if limited { "cgroup" } else { "none" }.into();
        Isolation {
            ids: self.ids.into(),
            memory: held(spec.memory.is_some()),
            pids: "cgroup".into(),
            disk: "none".into(),
            cpu: held(spec.cpu.is_some()),
            network: word(&spec.network).into(),
        }
    }

    /// Makes the container. One that was made for another definition gives its files to a new one.
    async fn create(&self, spec: &SandboxSpec, manifest: &Manifest, directory: &Path) -> Result<()> {
        let (name, id) = (self.name(&spec.id), &spec.id);
        let mut body = self.body(spec, manifest, directory)?;
        let definition = serde_json::to_vec(&body)
            .map_err(|error| CapabilityError::io("describe a container", &error.into()))?;
        let definition = Digest::of(&definition).to_string();
        let known = match self.engine.inspect_container(&name, None).await {
            Ok(found) => Some(found.config.and_then(|config| config.labels?.remove(DEFINITION))),
            Err(error) if engine::is_missing(&error) => None,
            Err(error) => {
                return Err(engine::failed(format!("look for the container of sandbox {id}"), &error));
            }
        };
        body.image = Some(match known {
            Some(Some(known)) if known == definition => return Ok(()),
            Some(_) => {
                let kept = self.images.store.unused_layer("moved");
                let image = self.commit(id, &kept).await?;
                self.drop_container(id).await?;
                image
            }
            None => self.engine_image(manifest).await?,
        });
        body.labels = Some(HashMap::from([(DEFINITION.to_owned(), definition)]));
        let options = CreateContainerOptions { name: Some(name), ..CreateContainerOptions::default() };
        self.engine
            .create_container(Some(options), body)
            .await
            .map(drop)
            .map_err(|error| engine::failed(format!("make the container of sandbox {id}"), &error))
    }

    /// What a container is to be, without its image.
    fn body(&self, spec: &SandboxSpec, manifest: &Manifest, directory: &Path) -> Result<ContainerCreateBody> {
        let mut mounts = self.programs.mounts();
        mounts.push(bind(directory, &format!("{PROGRAMS}/run"), true));
        let shown = |Bind { source, target, .. }: &Bind| bind(source, target, true);
        mounts.extend(binds(manifest.root, false).iter().map(shown));
        for (target, name) in &spec.volumes {
            if !target.starts_with('/') || target.trim_matches('/').is_empty() {
                return Err(CapabilityError::new(
                    ErrorKind::INVALID,
                    format!("volume {name} cannot be mounted at `{target}`: give an absolute path below /"),
                ));
            }
            mounts.push(bind(&self.volumes.make(name)?, target, false));
        }
        // The engine fills a new volume with what the image has there.
        mounts.extend(manifest.read_only.iter().enumerate().map(|(number, target)| Mount {
            typ: Some(MountType::VOLUME),
            source: Some(format!("{}{CLOSED}{number}", self.name(&spec.id))),
            target: Some(target.clone()),
            read_only: Some(true),
            ..Mount::default()
        }));
        let network = if spec.network == Network::Host { "host" } else { "none" };
        let memory = spec.memory.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        let host_config = HostConfig {
            mounts: Some(mounts),
            network_mode: Some(network.into()),
            memory,
            // The same number: no swap.
            memory_swap: memory,
            nano_cpus: spec.cpu.map(|cores| (cores.max(0.01) * 1e9) as i64),
            pids_limit: Some(PROCESS_LIMIT as i64),
            cap_drop: Some(vec!["ALL".into()]),
            cap_add: Some(CAPABILITIES.map(ToOwned::to_owned).to_vec()),
            security_opt: Some(vec!["no-new-privileges".into()]),
            ..HostConfig::default()
        };
        Ok(ContainerCreateBody {
            hostname: (network == "none").then(|| "sandbox".into()),
            entrypoint: Some(self.programs.command()),
            cmd: Some(Vec::new()),
            user: Some("0:0".into()),
            // The engine makes it where it is missing.
            working_dir: Some(
                spec.workdir.clone().or_else(|| manifest.workdir.clone()).unwrap_or_else(|| "/".into()),
            ),
            healthcheck: Some(HealthConfig { test: Some(vec!["NONE".into()]), ..HealthConfig::default() }),
            host_config: Some(host_config),
            ..ContainerCreateBody::default()
        })
    }
}

/// A socket in a directory that the container sees. Ids inside may be mapped, so it is open to all; nobody else on the
/// host can enter the directories above.
fn listen(directory: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let path = directory.join("socket");
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    // The name of a socket is short, the path of a home may not be.
    let opened = File::open(directory)?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/socket", opened.as_raw_fd()))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::bind(&socket, &address)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    rustix::net::listen(&socket, 1)?;
    // SAFETY: an owned descriptor stays open and the same until it is dropped, with the registration.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}

/// The connection of the container's first process, once it says that it is up. There is no second one.
async fn accept(listener: AsyncFd<OwnedFd>, mut ended: watch::Receiver<bool>) -> Result<Channel> {
    let lost = |why: &str| CapabilityError::new(ErrorKind::SANDBOX_LOST, why);
    let failed = |error: io::Error| CapabilityError::io("connect to the container", &error);
    let up = async {
        let socket = listener
            .async_io(Interest::READABLE, |listener| {
                Ok(rustix::net::accept_with(listener, SocketFlags::CLOEXEC)?)
            })
            .await
            .map_err(failed)?;
        let control = Channel::new(socket).map_err(failed)?;
        match control.receive::<Reply>().await.map_err(failed)? {
            Some((Reply::Ready, _)) => Ok(control),
            Some((Reply::Failed { kind, message }, _)) => Err(CapabilityError::new(kind, message)),
            _ => Err(lost("it hung up")),
        }
    };
    tokio::select! {
        up = up => up,
        _ = ended.wait_for(|ended| *ended) => Err(lost("the container ended at once; `docker logs` of it may say why")),
    }
}

/// Holds the lock of a sandbox until its container has ended.
fn watch_over(engine: Docker, name: String, lock: Lock) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        stopped(&engine, &name).await;
        drop(lock);
        sender.send_replace(true);
    });
    receiver
}

/// Waits until nothing runs in a container, or there is none.
async fn stopped(engine: &Docker, name: &str) {
    loop {
        // Of one that was made and never started, the engine would say nothing until it has been.
        let running = match engine.inspect_container(name, None).await {
            Ok(found) => found.state.and_then(|state| state.running).unwrap_or(false),
            Err(error) if engine::is_missing(&error) => false,
            // The engine is being started anew, or it is Podman, which for a moment is in a state of its own.
            Err(_) => {
                tokio::time::sleep(WATCH_PAUSE).await;
                continue;
            }
        };
        if !running {
            return;
        }
        let mut waiting = Box::pin(engine.wait_container(name, None::<WaitContainerOptions>));
        // To the client an exit code is an error too: the next look tells.
        drop(waiting.next().await);
    }
}
