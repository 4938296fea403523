//! From a sandbox as workflows describe it to one as Modal is asked for it. What Modal has no word for is refused here.

use super::super::local::{LIFETIME, Manifest};
use super::super::{Isolation, SandboxSpec};
use super::network;
use crate::capability::modal::messages::client as api;
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest life that Modal gives a sandbox.
const LIFE_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes of a mebibyte, in which Modal counts memory.
const MIB: u64 = 1 << 20;

/// What a sandbox is made of, beyond its spec.
pub(super) struct Parts<'a> {
    pub(super) manifest: &'a Manifest,
    /// Modal's image.
    pub(super) image: &'a str,
    /// Mount path -> Modal's volume.
    pub(super) volumes: BTreeMap<String, String>,
    pub(super) name: String,
    pub(super) idle_timeout: Option<Duration>,
}

/// The definition that Modal gets.
pub(super) fn definition(spec: &SandboxSpec, parts: Parts<'_>) -> Result<api::Sandbox> {
    check(spec, parts.manifest)?;
    let life = spec.timeout.unwrap_or(LIFETIME);
    let mounts = parts.volumes.into_iter().map(|(mount_path, volume_id)| api::VolumeMount {
        volume_id,
        mount_path,
        allow_background_commits: true,
        ..Default::default()
    });
    Ok(api::Sandbox {
        image_id: parts.image.into(),
        resources: Some(resources(spec)),
        timeout_secs: seconds(life),
        volume_mounts: mounts.collect(),
        network_access: Some(network::access(&spec.network)?),
        name: Some(parts.name),
        idle_timeout_secs: parts.idle_timeout.map(seconds),
        open_ports_oneof: Some(api::sandbox::OpenPortsOneof::OpenPorts(api::PortSpecs::default())),
        ..Default::default()
    })
}

/// The environment of every command: the image's, then the sandbox's.
pub(super) fn environment(spec: &SandboxSpec, manifest: &Manifest) -> BTreeMap<String, String> {
    let mut env = manifest.env.clone();
    env.extend(spec.env.clone());
    env
}

/// How well Modal holds a sandbox in: on a machine of theirs, under a kernel of its own.
pub(super) fn isolation(spec: &SandboxSpec) -> Isolation {
    let held = |limited: bool| if limited { "cgroup" } else { "none" }.to_owned();
    Isolation {
        ids: "range".into(),
        memory: held(spec.memory.is_some()),
        pids: "none".into(),
        disk: "none".into(),
        cpu: held(spec.cpu.is_some()),
        network: network::word(&spec.network).into(),
    }
}

/// Refuses what Modal has no word for, before anything is made.
pub(super) fn check(spec: &SandboxSpec, manifest: &Manifest) -> Result<()> {
    network::access(&spec.network)?;
    let refused = |what: String| Err(CapabilityError::new(ErrorKind::INVALID, what));
    if spec.disk.is_some() {
        return refused(
            "Modal has no limit for the files of a sandbox: leave `disk` out, or use the provider `local`"
                .into(),
        );
    }
    let user = spec.user.as_deref().or(manifest.user.as_deref()).unwrap_or("root");
    if !matches!(user, "root" | "0") {
        return refused(format!(
            "commands on Modal run as root, not as `{user}`: leave `user` out, or begin the command with `setpriv --reuid {user} --init-groups --`"
        ));
    }
    if let Some(directory) = manifest.read_only.first() {
        return refused(format!(
            "Modal has no read-only directories in a sandbox: leave `read_only: [{directory}]` out of the image"
        ));
    }
    if let Some(life) = spec.timeout.filter(|life| *life > LIFE_LIMIT) {
        let hours = life.as_secs().div_ceil(3600);
        return refused(format!(
            "a sandbox on Modal lives for at most 24h: write `timeout: 24h` in place of {hours}h"
        ));
    }
    for (mount, volume) in &spec.volumes {
        let clean = mount.starts_with('/')
            && mount.trim_matches('/').split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !clean {
            return refused(format!(
                "volume {volume} cannot be mounted at `{mount}`: give an absolute path below /"
            ));
        }
    }
    Ok(())
}

fn resources(spec: &SandboxSpec) -> api::Resources {
    let memory = spec.memory.map_or(0, |bytes| u32::try_from(bytes.div_ceil(MIB)).unwrap_or(u32::MAX));
    // A float beyond the range becomes its end.
    let cores = spec.cpu.map_or(0, |cores| (cores * 1000.0).ceil() as u32);
    api::Resources { memory_mb: memory, milli_cpu: cores, memory_mb_max: memory, milli_cpu_max: cores }
}

/// Whole seconds, never fewer than asked for and never 0, which would be the default.
fn seconds(time: Duration) -> u32 {
    let whole = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    u32::try_from(whole.max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::super::Network;
    use super::*;

    fn parts(manifest: &Manifest) -> Parts<'_> {
        Parts {
            manifest,
            image: "im-1",
            volumes: BTreeMap::from([("/mnt/m".into(), "vo-1".into())]),
            name: "run-main-0123".into(),
            idle_timeout: Some(Duration::from_secs(600)),
        }
    }

    #[test]
    fn everything_that_is_asked_for_is_in_the_definition() {
        let spec = SandboxSpec {
            cpu: Some(1.5),
            memory: Some((1 << 30) + 1),
            timeout: Some(Duration::from_millis(90_500)),
            network: Network::Allow(vec!["example.com".into()]),
            ..SandboxSpec::default()
        };
        insta::assert_debug_snapshot!(definition(&spec, parts(&Manifest::default())).unwrap(), @r#"
        Sandbox {
            entrypoint_args: [],
            image_id: "im-1",
            secret_ids: [],
            resources: Some(
                Resources {
                    memory_mb: 1025,
                    milli_cpu: 1500,
                    memory_mb_max: 1025,
                    milli_cpu_max: 1500,
                },
            ),
            timeout_secs: 91,
            workdir: None,
            block_network: false,
            volume_mounts: [
                VolumeMount {
                    volume_id: "vo-1",
                    mount_path: "/mnt/m",
                    allow_background_commits: true,
                    read_only: false,
                    sub_path: None,
                },
            ],
            network_access: Some(
                NetworkAccess {
                    network_access_type: Allowlist,
                    allowed_cidrs: [],
                    allowed_domains: [
                        "example.com",
                    ],
                },
            ),
            runtime: None,
            verbose: false,
            name: Some(
                "run-main-0123",
            ),
            experimental_options_v2: {},
            idle_timeout_secs: Some(
                600,
            ),
            include_oidc_identity_token: false,
            readiness_probe: None,
            inbound_cidr_allowlist: [],
            open_ports_oneof: Some(
                OpenPorts(
                    PortSpecs {
                        ports: [],
                    },
                ),
            ),
        }
        "#);
    }

    #[test]
    fn what_modal_has_no_word_for_is_refused_with_what_to_write() {
        let refused = |spec: SandboxSpec, manifest: Manifest| {
            let error = definition(&spec, parts(&manifest)).unwrap_err();
            assert_eq!(error.kind, ErrorKind::INVALID);
            error.message
        };
        let plain = SandboxSpec::default;
        let all = [
            refused(SandboxSpec { disk: Some(1), ..plain() }, Manifest::default()),
            refused(SandboxSpec { user: Some("agent".into()), ..plain() }, Manifest::default()),
            refused(plain(), Manifest { read_only: vec!["/app".into()], ..Manifest::default() }),
            refused(
                SandboxSpec { timeout: Some(Duration::from_secs(90_000)), ..plain() },
                Manifest::default(),
            ),
            refused(
                SandboxSpec { volumes: BTreeMap::from([("a/../b".into(), "v".into())]), ..plain() },
                Manifest::default(),
            ),
        ];
        insta::assert_snapshot!(all.join("\n"), @r#"
        Modal has no limit for the files of a sandbox: leave `disk` out, or use the provider `local`
        commands on Modal run as root, not as `agent`: leave `user` out, or begin the command with `setpriv --reuid agent --init-groups --`
        Modal has no read-only directories in a sandbox: leave `read_only: [/app]` out of the image
        a sandbox on Modal lives for at most 24h: write `timeout: 24h` in place of 25h
        volume v cannot be mounted at `a/../b`: give an absolute path below /
        "#);
    }

    #[test]
    fn time_and_memory_are_never_less_than_asked_for() {
        assert_eq!(seconds(Duration::from_millis(1)), 1);
        assert_eq!(seconds(Duration::ZERO), 1);
        assert_eq!(seconds(Duration::from_millis(1001)), 2);
        let spec = SandboxSpec { memory: Some(1), cpu: Some(0.0001), ..SandboxSpec::default() };
        assert_eq!((resources(&spec).memory_mb, resources(&spec).milli_cpu), (1, 1));
    }
}
