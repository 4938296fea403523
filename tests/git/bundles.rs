//! What comes out of a sandbox is hostile.

use crate::tree::Tree;
use crate::world::{Host, git, sample};
use harvest::capability::CapabilityError;
use harvest::capability::git::Repository;
use harvest::id::Digest;
use harvest::step::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

struct Case {
    host: Host,
    repository: Arc<dyn Repository>,
    tree: PathBuf,
    base: String,
}

impl Case {
    async fn new() -> Self {
        let mut host = Host::new(&[]);
        host.provider = host.provider.with_largest_bundle(1 << 20);
        let path = sample(&host.path("project"));
        let tree = host.path("tree");
        git(&path, &["clone", "-q", ".", tree.to_str().unwrap()]);
        let repository = host.open(path.to_str().unwrap()).await;
        let base = repository.fetch(None, None).await.unwrap().sha;
        Self { host, repository, tree, base }
    }

    fn bundle(&self, args: &[&str]) -> PathBuf {
        let path = self.host.path("bundle");
        let mut all = vec!["bundle", "create", "-q", path.to_str().unwrap()];
        all.extend(args);
        git(&self.tree, &all);
        path
    }

    async fn refused(&self, path: &Path) -> CapabilityError {
        let refs = self.refs();
        let error = self.repository.receive(&Tree, path.to_str().unwrap()).await.unwrap_err();
        assert_eq!(self.refs(), refs, "nothing is kept of {}", error.message);
        assert_eq!(std::fs::read_dir(self.host.home().join("git/tmp")).unwrap().count(), 0);
        error
    }

    fn refs(&self) -> String {
        let copies = std::fs::read_dir(self.host.home().join("git")).unwrap();
        copies
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "git"))
            .map(|path| git(&path, &["for-each-ref"]))
            .collect()
    }
}

#[tokio::test]
async fn a_huge_bundle_is_refused() {
    let case = Case::new().await;
    // Digests do not compress.
    let noise: String = (0..40_000u32).map(|n| Digest::of(&n.to_le_bytes()).hex()).collect();
    std::fs::write(case.tree.join("big"), noise).unwrap();
    git(&case.tree, &["add", "-A"]);
    git(&case.tree, &["commit", "-qm", "big"]);
    let error = case.refused(&case.bundle(&["main"])).await;
    assert_eq!(error.kind, ErrorKind::TOO_LARGE);
    assert!(error.message.contains("1 MiB"), "{}", error.message);
    // One without end ends as soon.
    assert_eq!(case.refused(Path::new("/dev/zero")).await.kind, ErrorKind::TOO_LARGE);
}

#[tokio::test]
async fn several_refs_a_missing_file_and_no_bundle_are_refused() {
    let case = Case::new().await;
    assert_eq!(case.refused(&case.bundle(&["--all"])).await.kind, ErrorKind::INVALID);
    assert_eq!(case.refused(Path::new("/no/such/bundle")).await.kind, ErrorKind::NOT_FOUND);
    assert_eq!(case.refused(&case.tree.join("file.txt")).await.kind, ErrorKind::INVALID);
    assert_eq!(case.refused(Path::new("relative")).await.kind, ErrorKind::INVALID);
}

#[tokio::test]
async fn a_tree_that_git_must_not_check_out_is_refused() {
    let case = Case::new().await;
    let blob = git(&case.tree, &["rev-parse", "HEAD:file.txt"]);
    // `git mktree` takes a name that a checkout would write into the repository itself.
    let script = format!("printf '100644 blob {blob}\\t.git\\n' | git mktree");
    let output =
        std::process::Command::new("sh").args(["-c", &script]).current_dir(&case.tree).output().unwrap();
    let tree = String::from_utf8(output.stdout).unwrap();
    let commit = git(&case.tree, &["commit-tree", "-p", "HEAD", "-m", "evil", tree.trim()]);
    git(&case.tree, &["branch", "evil", &commit]);
    let error = case.refused(&case.bundle(&["evil", &format!("^{}", case.base)])).await;
    assert!(error.message.contains("hasDotgit"), "{}", error.message);
}

#[tokio::test]
async fn a_bundle_with_holes_or_on_foreign_commits_is_refused() {
    let case = Case::new().await;
    std::fs::write(case.tree.join("a"), "a").unwrap();
    git(&case.tree, &["add", "-A"]);
    git(&case.tree, &["commit", "-qm", "a"]);
    let hidden = git(&case.tree, &["rev-parse", "HEAD"]);
    std::fs::write(case.tree.join("a"), "b").unwrap();
    git(&case.tree, &["commit", "-qam", "b"]);
    let path = case.bundle(&["main", &format!("^{hidden}")]);
    let error = case.refused(&path).await;
    assert_eq!(error.kind, ErrorKind::INVALID);
    assert!(error.message.contains(&hidden), "{}", error.message);

    // The same pack under a header that claims to build on what the host has.
    let text = std::fs::read(&path).unwrap();
    let pack = text.windows(6).position(|window| window == b"\n\nPACK").unwrap() + 2;
    let head = git(&case.tree, &["rev-parse", "HEAD"]);
    let mut forged = format!("# v2 git bundle\n-{} \n{head} refs/heads/main\n\n", case.base).into_bytes();
    forged.extend_from_slice(&text[pack..]);
    std::fs::write(&path, forged).unwrap();
    let error = case.refused(&path).await;
    assert!(matches!(error.kind.as_str(), "invalid" | "other"), "{error:?}");
}
