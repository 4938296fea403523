//! Repositories that try to run programs on the host, or to be someone else's.

use crate::local::session;
use crate::world::{Host, git, sample};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

/// Lets every way that is known run `program`.
fn poison(path: &Path, program: &Path) {
    let hooks = path.join(".git/hooks");
    std::fs::create_dir_all(&hooks).unwrap();
    let names = [
        "pre-receive",
        "update",
        "post-receive",
        "post-update",
        "reference-transaction",
        "proc-receive",
        "pre-push",
        "post-checkout",
        "post-merge",
        "pre-auto-gc",
        "push-to-checkout",
        "post-commit",
        "pre-commit",
    ];
    for name in names {
        std::fs::copy(program, hooks.join(name)).unwrap();
    }
    let program = program.to_str().unwrap();
    let settings = [
        ("core.fsmonitor", program),
        ("core.hooksPath", hooks.to_str().unwrap()),
        ("core.sshCommand", program),
        ("core.gitProxy", program),
        ("core.askPass", program),
        ("core.pager", program),
        ("core.editor", program),
        ("core.alternateRefsCommand", program),
        ("uploadpack.packObjectsHook", program),
        ("receive.procReceiveRefs", "refs"),
        ("receive.autogc", "true"),
        ("gc.auto", "1"),
        ("remote.origin.url", "ext::sh -c x"),
        ("remote.origin.uploadpack", program),
        ("remote.origin.receivepack", program),
        ("remote.origin.vcs", "ext"),
        ("remote.origin.promisor", "true"),
        ("extensions.partialClone", "origin"),
        ("url.ext::sh.insteadOf", "https://"),
        ("credential.helper", program),
        ("http.proxy", "http://127.0.0.1:1"),
        ("gpg.program", program),
        ("filter.x.smudge", program),
        ("diff.external", program),
        ("hook.x.command", program),
        ("hook.x.event", "reference-transaction"),
        ("include.path", "/dev/stdin"),
    ];
    let mut text = std::fs::read_to_string(path.join(".git/config")).unwrap();
    text = text.replace("repositoryformatversion = 0", "repositoryformatversion = 1");
    for (key, value) in settings {
        let (section, name) = key.rsplit_once('.').unwrap();
        let header = match section.split_once('.') {
            Some((section, rest)) => format!("[{section} \"{rest}\"]"),
            None => format!("[{section}]"),
        };
        text.push_str(&format!("{header}\n\t{name} = {value}\n"));
    }
    std::fs::write(path.join(".git/config"), text).unwrap();
    // A repository of alternates whose own configuration counts as well.
    let alternate = path.join(".git/other/objects");
    std::fs::create_dir_all(&alternate).unwrap();
    std::fs::write(path.join(".git/objects/info/alternates"), format!("{}\n", alternate.display())).unwrap();
}

/// A program that leaves a mark, and where it would be.
fn canary(host: &Host) -> (PathBuf, PathBuf) {
    let (program, mark) = (host.path("program"), host.path("mark"));
    std::fs::write(&program, format!("#!/bin/sh\necho \"$0 $*\" >> {}\ncat >/dev/null\n", mark.display()))
        .unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    (program, mark)
}

#[tokio::test]
async fn nothing_of_a_hostile_repository_runs_on_the_host() {
    let host = Host::new(&[]);
    let (program, mark) = canary(&host);
    let path = sample(&host.path("project"));
    std::fs::write(
        path.join(".gitmodules"),
        format!("[submodule \"s\"]\n\tpath = s\n\turl = {}\n", path.display()),
    )
    .unwrap();
    std::fs::write(path.join(".gitattributes"), "* filter=x diff=x\n").unwrap();
    git(&path, &["add", "-A"]);
    git(&path, &["commit", "-qm", "attributes"]);
    poison(&path, &program);

    // The poison is real: an ordinary git that is pointed at this repository runs it.
    let receive = std::process::Command::new("git")
        .args(["--git-dir", path.join(".git").to_str().unwrap(), "update-ref", "refs/heads/probe", "HEAD"])
        .output()
        .unwrap();
    assert!(mark.exists(), "{}", String::from_utf8_lossy(&receive.stderr));
    std::fs::remove_file(&mark).unwrap();

    let repository = host.open_with(path.to_str().unwrap(), "ghp_canary").await;
    let fetched = repository.fetch(None, None).await.unwrap();
    repository.fetch(Some("develop"), Some(1)).await.unwrap();
    let sha = session(&host, &*repository, &fetched.sha, "hostile").await;
    let delivery = repository.deliver(&sha).await.unwrap();
    repository.push(&sha, "elsewhere").await.unwrap();
    assert!(!delivery.fetch.contains(".bundle"), "{}", delivery.fetch);
    let branch = path.join(".git").join(&delivery.reference);
    assert_eq!(std::fs::read_to_string(branch).unwrap().trim(), sha);
    assert!(!mark.exists(), "ran: {}", std::fs::read_to_string(&mark).unwrap_or_default());
}

#[tokio::test]
async fn a_repository_of_another_user_works_and_stays_theirs() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root has repositories of other users to write to.
    }
    let host = Host::new(&[]);
    for reachable in [true, false] {
        let name = format!("project-{reachable}");
        let path = sample(&host.path(&name));
        own(&path, 4242);
        let mode = if reachable { 0o755 } else { 0o700 };
        std::fs::set_permissions(host.directory.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let repository = host.open(path.to_str().unwrap()).await;
        let fetched = repository.fetch(None, None).await.unwrap();
        let sha = session(&host, &*repository, &fetched.sha, &name).await;
        let delivery = repository.deliver(&sha).await.unwrap();
        assert!(!delivery.fetch.contains(".bundle"), "{}", delivery.fetch);
        assert_eq!(git(&path, &["rev-parse", &delivery.reference]), sha);
        assert_eq!(strangers(&path, 4242), Vec::<PathBuf>::new());
    }
}

fn own(path: &Path, user: u32) {
    std::os::unix::fs::lchown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            own(&entry.unwrap().path(), user);
        }
    }
}

fn strangers(path: &Path, user: u32) -> Vec<PathBuf> {
    let metadata = path.symlink_metadata().unwrap();
    let mut found: Vec<PathBuf> = Vec::new();
    if metadata.uid() != user || metadata.gid() != user {
        found.push(path.to_owned());
    }
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            found.extend(strangers(&entry.unwrap().path(), user));
        }
    }
    found
}

#[tokio::test]
async fn a_user_does_not_read_through_links_what_they_may_not() {
    if !rustix::process::geteuid().is_root() {
        return; // An ordinary user reads with their own rights anyway.
    }
    let host = Host::new(&[]);
    let secret = sample(&host.path("secret"));
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::set_permissions(host.directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = sample(&host.path("project"));
    std::fs::remove_dir_all(path.join(".git/objects")).unwrap();
    std::os::unix::fs::symlink(secret.join(".git/objects"), path.join(".git/objects")).unwrap();
    std::fs::write(path.join(".git/refs/heads/main"), git(&secret, &["rev-parse", "HEAD"])).unwrap();
    for place in [path.as_path(), &path.join(".git")] {
        chown(place, Some(4242), Some(4242)).unwrap();
    }
    assert!(host.open(path.to_str().unwrap()).await.fetch(None, None).await.is_err());
}
