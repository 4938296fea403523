//! All sandboxes: made, found, listed.

use crate::cloud::{Cloud, fresh_id, lock};
use crate::error::{Result, status};
use crate::proto::client::network_access::NetworkAccessType;
use crate::proto::client::*;
use crate::sandbox::{Parts, Sandbox};
use crate::token::Audience;
use crate::volume::Mount;
use harvest::capability::sandbox::{ImageSpec, Network, Sandbox as Local, SandboxProvider, SandboxSpec};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::OnceCell;
use tonic::Status;

/// Longest life of a sandbox, in seconds, as Modal has it.
const LIFETIME: u32 = 24 * 60 * 60;
/// Seconds that a sandbox lives whose maker does not say.
const DEFAULT_LIFETIME: u32 = 300;
/// Longest a call waits, whatever it asks for.
const POLL_LIMIT: Duration = Duration::from_secs(55);
/// Least distance between two sandboxes' times of creation, in seconds, so that pages of a list lose none.
const TICK: f64 = 0.000_001;

#[derive(Default)]
pub(crate) struct Sandboxes {
    all: Mutex<Vec<Arc<Sandbox>>>,
    /// Names that are taken by sandboxes on their way: application and name.
    coming: Mutex<Vec<(String, String)>>,
    /// Idempotency keys -> what became of them.
    keys: Mutex<HashMap<String, Arc<OnceCell<Arc<Sandbox>>>>>,
    last: Mutex<f64>,
}

/// Seconds since 1970.
pub(crate) fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Makes a sandbox, or finds the one that was made with the same key.
pub(crate) async fn create(
    cloud: &Arc<Cloud>,
    key: Option<&str>,
    request: SandboxCreateV2Request,
) -> Result<SandboxCreateV2Response> {
    let sandbox = match key {
        None => make(cloud, request).await?,
        Some(key) => {
            let cell = lock(&cloud.sandboxes.keys).entry(key.to_owned()).or_default().clone();
            cell.get_or_try_init(|| make(cloud, request)).await?.clone()
        }
    };
    Ok(SandboxCreateV2Response {
        sandbox_id: sandbox.id.clone(),
        tunnels: tunnels(&sandbox),
        task_id: sandbox.task.clone(),
        metadata: Some(metadata(&sandbox)),
        command_router_access: Some(access(cloud, &sandbox)),
        sandbox_token: sandbox.token.clone(),
    })
}

async fn make(cloud: &Arc<Cloud>, request: SandboxCreateV2Request) -> Result<Arc<Sandbox>> {
    let mut definition =
        request.definition.ok_or_else(|| Status::invalid_argument("a sandbox needs a definition"))?;
    if !cloud.account.has_app(&request.app_id) {
        return Err(Status::not_found(format!("there is no app {}", request.app_id)));
    }
    if definition.timeout_secs == 0 {
        definition.timeout_secs = DEFAULT_LIFETIME;
    }
    if definition.timeout_secs > LIFETIME {
        return Err(Status::invalid_argument(format!(
            "a sandbox lives at most {LIFETIME} s: set timeout_secs"
        )));
    }
    let taken = definition.name.clone().map(|name| (request.app_id.clone(), name));
    cloud.sandboxes.take_name(taken.as_ref())?;
    let made = build(cloud, request.app_id, definition, request.tags, request.secret_sources).await;
    if let Ok(sandbox) = &made {
        lock(&cloud.sandboxes.all).push(sandbox.clone());
    }
    if let Some(taken) = taken {
        lock(&cloud.sandboxes.coming).retain(|coming| *coming != taken);
    }
    made
}

async fn build(
    cloud: &Arc<Cloud>,
    app: String,
    definition: crate::proto::client::Sandbox,
    tags: Vec<SandboxTag>,
    sources: Vec<SecretSource>,
) -> Result<Arc<Sandbox>> {
    let variables = cloud.account.variables(&definition.secret_ids, &sources, &HashMap::new())?;
    let image = cloud.images.ready(&definition.image_id)?;
    let network =
        network(definition.network_access.as_ref(), definition.block_network, &cloud.settings.ports)?;
    let id = fresh_id("sb");
    let mut mounts = Vec::new();
    for (number, mount) in definition.volume_mounts.iter().enumerate() {
        mounts.push(Mount::new(cloud, &id, number, mount.clone()).await?);
    }
    let local = match open(cloud, &id, &definition, image.local, network, &mounts).await {
        Ok(local) => local,
        Err(error) => {
            for mount in &mounts {
                drop(mount.remove(cloud).await);
            }
            return Err(error);
        }
    };
    let command = match definition.entrypoint_args.is_empty() {
        true => image.command,
        false => definition.entrypoint_args.clone(),
    };
    let created_at = cloud.sandboxes.next_time();
    let sandbox = Sandbox::new(Parts { id, app, definition, created_at, tags, variables, mounts, local });
    if let Err(error) = sandbox.begin(cloud, command).await {
        sandbox.finish(cloud, crate::sandbox::ended(generic_result::GenericStatus::InitFailure, 1));
        sandbox.wait(POLL_LIMIT).await;
        return Err(error);
    }
    Ok(sandbox)
}

/// A sandbox of this machine that is what the definition says.
async fn open(
    cloud: &Cloud,
    id: &str,
    definition: &crate::proto::client::Sandbox,
    image: String,
    network: Network,
    mounts: &[Mount],
) -> Result<Arc<dyn Local>> {
    let resources = definition.resources.unwrap_or_default();
    let spec = SandboxSpec {
        id: id.into(),
        image: closed(cloud, image, mounts).await?,
        volumes: mounts.iter().map(|mount| (mount.path.clone(), mount.copy.clone())).collect(),
        network,
        cpu: (resources.milli_cpu_max > 0).then(|| f64::from(resources.milli_cpu_max) / 1000.0),
        memory: (resources.memory_mb_max > 0).then(|| u64::from(resources.memory_mb_max) << 20),
        workdir: definition.workdir.clone().filter(|workdir| !workdir.is_empty()),
        ..SandboxSpec::default()
    };
    cloud.provider.open(spec).await.map_err(status)
}

/// The image with the places closed at which volumes are mounted that cannot be written.
async fn closed(cloud: &Cloud, image: String, mounts: &[Mount]) -> Result<String> {
    let read_only: Vec<_> =
        mounts.iter().filter(|mount| mount.read_only).map(|mount| mount.path.clone()).collect();
    if read_only.is_empty() {
        return Ok(image);
    }
    let spec = ImageSpec { base: image, read_only, ..ImageSpec::default() };
    let (image, _) = cloud.provider.build_image(&spec, None, Arc::new(|_| {})).await.map_err(status)?;
    Ok(image)
}

/// The policy of this machine that is the same; what a line opens has these ports beside those of the web.
/// INVALID_ARGUMENT for what it cannot express.
pub(crate) fn network(access: Option<&NetworkAccess>, block: bool, ports: &[u16]) -> Result<Network> {
    let Some(access) = access else { return Ok(if block { Network::None } else { Network::Host }) };
    match access.network_access_type() {
        NetworkAccessType::Blocked => Ok(Network::None),
        NetworkAccessType::Allowlist if access.allowed_domains.iter().any(|domain| domain == "*") => {
            Ok(Network::Host)
        }
        NetworkAccessType::Allowlist => {
            let addresses = access.allowed_cidrs.iter().map(|cidr| address(cidr));
            let mut lines = access.allowed_domains.clone();
            lines.extend(addresses.collect::<Result<Vec<_>>>()?);
            let further: Vec<_> = lines
                .iter()
                .flat_map(|line| ports.iter().map(move |port| format!("{line}:{port}")))
                .collect();
            Ok(Network::Allow([lines, further].concat()))
        }
        NetworkAccessType::Open | NetworkAccessType::Unspecified if block => Ok(Network::None),
        NetworkAccessType::Open | NetworkAccessType::Unspecified => Ok(Network::Host),
    }
}

/// A block of one address, as a line of an allow-list.
fn address(cidr: &str) -> Result<String> {
    let one = |(address, bits): (&str, &str)| match (address.parse::<IpAddr>().ok()?, bits) {
        (IpAddr::V4(address), "32") => Some(address.to_string()),
        (IpAddr::V6(address), "128") => Some(format!("[{address}]")),
        _ => None,
    };
    cidr.split_once('/').and_then(one).ok_or_else(|| {
        Status::invalid_argument(format!(
            "this server knows no blocks of addresses, so not {cidr}: name each one"
        ))
    })
}

/// Ways to the open ports: a sandbox with an open network has the loopback of this machine.
pub(crate) fn tunnels(sandbox: &Sandbox) -> Vec<TunnelData> {
    let Some(sandbox::OpenPortsOneof::OpenPorts(ports)) = &sandbox.definition.open_ports_oneof else {
        return Vec::new();
    };
    let host = || "127.0.0.1".to_owned();
    let tunnel = |port: &PortSpec| TunnelData {
        host: host(),
        port: port.port,
        unencrypted_host: port.unencrypted.then(host),
        unencrypted_port: port.unencrypted.then_some(port.port),
        container_port: port.port,
    };
    ports.ports.iter().map(tunnel).collect()
}

pub(crate) fn metadata(sandbox: &Sandbox) -> SandboxHandleMetadata {
    SandboxHandleMetadata { result: sandbox.result(), app_id: sandbox.app.clone() }
}

/// A way to the router of a sandbox's worker.
pub(crate) fn access(cloud: &Cloud, sandbox: &Sandbox) -> CommandRouterAccess {
    let jwt = cloud.tokens.issue(Audience::Router(&sandbox.task), cloud.settings.router_life);
    CommandRouterAccess { jwt, url: cloud.url.clone() }
}

/// A time that a client asked to wait, within bounds.
pub(crate) fn bounded(seconds: f32) -> Duration {
    Duration::try_from_secs_f32(seconds.max(0.0)).unwrap_or(POLL_LIMIT).min(POLL_LIMIT)
}

impl Sandboxes {
    fn take_name(&self, taken: Option<&(String, String)>) -> Result<()> {
        let Some((app, name)) = taken else { return Ok(()) };
        let known = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        if name.is_empty() || name.len() > 64 || !name.chars().all(known) {
            let message = format!("`{name}` is no name: use 1 to 64 of A-Z, a-z, 0-9, `-`, `_`, `.`");
            return Err(Status::invalid_argument(message));
        }
        let mut coming = lock(&self.coming);
        let same =
            |sandbox: &&Arc<Sandbox>| sandbox.app == *app && sandbox.definition.name.as_ref() == Some(name);
        if coming.contains(&(app.clone(), name.clone()))
            || lock(&self.all).iter().filter(same).any(|known| known.runs())
        {
            return Err(Status::already_exists(format!("a sandbox named {name} runs already")));
        }
        coming.push((app.clone(), name.clone()));
        Ok(())
    }

    fn next_time(&self) -> f64 {
        let mut last = lock(&self.last);
        *last = seconds(SystemTime::now()).max(*last + TICK);
        *last
    }

    /// The sandbox with this id.
    pub(crate) fn find(&self, id: &str) -> Result<Arc<Sandbox>> {
        let found = lock(&self.all).iter().find(|sandbox| sandbox.id == id).cloned();
        found.ok_or_else(|| Status::not_found(format!("there is no sandbox {id}")))
    }

    /// The sandbox whose task this is.
    pub(crate) fn find_task(&self, task: &str) -> Result<Arc<Sandbox>> {
        let found = lock(&self.all).iter().find(|sandbox| sandbox.task == task).cloned();
        found.ok_or_else(|| Status::not_found(format!("there is no task {task}")))
    }

    /// The one that runs under a name, or where `ended` allows it the last one that did.
    pub(crate) fn find_name(&self, app: &str, name: &str, ended: bool) -> Option<Arc<Sandbox>> {
        let all = lock(&self.all);
        let same =
            |sandbox: &&Arc<Sandbox>| sandbox.app == app && sandbox.definition.name.as_deref() == Some(name);
        let running = all.iter().filter(|sandbox| same(sandbox)).rev().find(|sandbox| sandbox.runs());
        running.or_else(|| all.iter().rev().find(|sandbox| ended && same(sandbox))).cloned()
    }

    /// Ids of those that have not ended.
    pub(crate) fn running(&self) -> Vec<Arc<Sandbox>> {
        lock(&self.all).iter().filter(|sandbox| sandbox.result().is_none()).cloned().collect()
    }

    /// One page, newest first.
    pub(crate) fn list(&self, request: &SandboxListRequest, page: usize) -> SandboxListResponse {
        let all = lock(&self.all);
        let wanted = |sandbox: &&Arc<Sandbox>| {
            let tags = lock(&sandbox.tags);
            (request.app_id.is_empty() || sandbox.app == request.app_id)
                && (request.before_timestamp == 0.0 || sandbox.created_at < request.before_timestamp)
                && (request.include_finished || sandbox.runs())
                && request.tags.iter().all(|tag| tags.contains(tag))
        };
        let sandboxes = all.iter().rev().filter(wanted).take(page).map(|sandbox| info(sandbox)).collect();
        SandboxListResponse { sandboxes }
    }
}

fn info(sandbox: &Sandbox) -> SandboxInfo {
    let task_info = TaskInfo {
        id: sandbox.task.clone(),
        started_at: sandbox.created_at,
        finished_at: sandbox.finished_at.get().copied().map(seconds).unwrap_or_default(),
        result: sandbox.result(),
        enqueued_at: sandbox.created_at,
    };
    SandboxInfo {
        id: sandbox.id.clone(),
        created_at: sandbox.created_at,
        task_info: Some(task_info),
        app_id: sandbox.app.clone(),
        tags: lock(&sandbox.tags).clone(),
        name: sandbox.definition.name.clone().unwrap_or_default(),
        image_id: sandbox.definition.image_id.clone(),
        timeout_secs: sandbox.definition.timeout_secs,
        idle_timeout_secs: sandbox.definition.idle_timeout_secs,
    }
}
