//! The base image `host`: the skeleton of a file tree, and the pieces of this machine's userland shown in it read-only.
//! Nothing of the host's homes, state, services or configuration beyond the lists below is ever shown.

use super::image::Root;
use super::plan::{Bind, Ids};
use super::store::Store;
use crate::capability::{CapabilityError, Result};
use crate::id::Digest;
use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

/// What the names of layers with a skeleton start with.
pub(super) const PREFIX: &str = "host-";
/// What the names of layers start with that stand for an image of an engine, such as this base once it was handed to one.
pub(in crate::capability::sandbox) const ENGINE: &str = "engine-";

/// Directories with their permission bits.
const DIRECTORIES: &[(&str, u32)] = &[
    ("usr", 0o755),
    ("etc", 0o755),
    ("tmp", 0o1777),
    ("root", 0o700),
    ("home", 0o755),
    ("home/user", 0o755),
    ("run", 0o755),
    ("run/lock", 0o1777),
    ("var", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
    ("dev", 0o755),
    ("proc", 0o555),
    ("sys", 0o555),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("srv", 0o755),
];

/// Files with their content.
const FILES: &[(&str, &str)] = &[
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\n\
         daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
         user:x:1000:1000:user:/home/user:/bin/sh\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    (
        "etc/group",
        "root:x:0:\ndaemon:x:1:\nadm:x:4:\ntty:x:5:\nshadow:x:42:\nstaff:x:50:\nusers:x:100:\nuser:x:1000:\nnogroup:x:65534:\n",
    ),
    ("etc/hosts", "127.0.0.1 localhost sandbox\n::1 localhost ip6-localhost\n"),
    ("etc/hostname", "sandbox\n"),
    (
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    ),
    ("etc/resolv.conf", ""),
    ("etc/shells", "/bin/sh\n/bin/bash\n"),
];

/// Links with their targets.
const LINKS: &[(&str, &str)] = &[
    ("var/run", "/run"),
    ("var/lock", "/run/lock"),
    ("etc/mtab", "/proc/self/mounts"),
    ("etc/os-release", "../usr/lib/os-release"),
];

/// Top-level names that are links into /usr on most systems, and directories of their own on some.
const TOP: &[&str] = &["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Configuration of the host that programs in /usr need: the linker's cache, alternatives, public certificates.
const SHARED: &[&str] = &[
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/etc/services",
    "/etc/protocols",
    "/etc/mime.types",
];

/// The pieces of the host in a sandbox: its userland where the image stands on it, its name servers only where it shares
/// the host's network.
pub(in crate::capability::sandbox) fn binds(root: Root, host_network: bool) -> Vec<Bind> {
    let mut binds = match root {
        Root::Host => userland(),
        Root::None => Vec::new(),
    };
    if host_network && let Ok(source) = fs::canonicalize("/etc/resolv.conf") {
        binds.push(Bind { source, target: "/etc/resolv.conf".into(), required: false });
    }
    binds
}

fn userland() -> Vec<Bind> {
    let bind = |path: &str, required| Bind { source: path.into(), target: path.into(), required };
    let mut binds = vec![bind("/usr", true)];
    for name in TOP {
        let path = format!("/{name}");
        if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
            binds.push(bind(&path, true));
        }
    }
    binds.extend(SHARED.iter().filter(|path| Path::new(path).exists()).map(|path| bind(path, false)));
    binds
}

/// The layer with the skeleton, made on first use. Its name tells its content.
pub(in crate::capability::sandbox) fn layer(store: &Store, ids: Ids) -> Result<PathBuf> {
    let links: Vec<_> =
        TOP.iter().filter_map(|name| Some((*name, fs::read_link(format!("/{name}")).ok()?))).collect();
    let points: Vec<_> = userland()
        .into_iter()
        .filter_map(|bind| Some((bind.target, fs::metadata(bind.source).ok()?.is_dir())))
        .collect();
    let mut description = String::new();
    // Writing to a string cannot fail.
    let _ = write!(description, "{DIRECTORIES:?}{FILES:?}{LINKS:?}{links:?}{points:?}{:?}", ids.root());
    let name = format!("{PREFIX}{}", &Digest::of(description.as_bytes()).hex()[..16]);
    store.publish_layer(&name, |directory| build(directory, &links, &points, ids))
}

/// `points` are what pieces of the host cover, each with whether it is a directory. They are here so that no sandbox has to
/// make files of its own for them.
fn build(root: &Path, links: &[(&str, PathBuf)], points: &[(String, bool)], ids: Ids) -> Result<()> {
    let failed = |error: io::Error| CapabilityError::io("make the base of sandboxes", &error);
    let (uid, gid) = ids.root();
    let own = |path: &Path| lchown(path, Some(uid), Some(gid)).map_err(failed);
    let make = |path: &str, mode: u32| {
        let path = root.join(path);
        if !path.exists() {
            fs::create_dir(&path).map_err(failed)?;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(failed)?;
        own(&path)
    };
    make("", 0o755)?;
    for (path, mode) in DIRECTORIES {
        make(path, *mode)?;
    }
    for (path, content) in FILES {
        fs::write(root.join(path), content).map_err(failed)?;
        own(&root.join(path))?;
    }
    let fixed = LINKS.iter().map(|(path, target)| (*path, Path::new(target)));
    for (path, target) in fixed.chain(links.iter().map(|(path, target)| (*path, target.as_path()))) {
        symlink(target, root.join(path)).map_err(failed)?;
        own(&root.join(path))?;
    }
    for (point, directory) in points {
        let point = Path::new(point.trim_start_matches('/'));
        let parents: Vec<_> = point.ancestors().skip(usize::from(!directory)).collect();
        for parent in parents.into_iter().rev().filter(|path| !root.join(path).exists()) {
            make(&parent.to_string_lossy(), 0o755)?;
        }
        if !directory {
            fs::write(root.join(point), "").map_err(failed)?;
            own(&root.join(point))?;
        }
    }
    Ok(())
}
