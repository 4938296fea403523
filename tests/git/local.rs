//! Repositories on this machine.

use crate::tree::Tree;
use crate::world::{Host, git, sample};
use harvest::capability::git::{Fetched, Repository};
use harvest::step::ErrorKind;
use std::path::{Path, PathBuf};

/// Takes a commit to a work tree as a sandbox would, changes it there, and hands back the new commit.
pub(crate) async fn session(host: &Host, repository: &dyn Repository, base: &str, message: &str) -> String {
    let tree = host.path(&format!("tree-{message}"));
    let bundle = host.path(&format!("{message}.bundle"));
    repository.send(&Tree, base, bundle.to_str().unwrap()).await.unwrap();
    std::fs::create_dir_all(&tree).unwrap();
    git(&tree, &["init", "-q"]);
    unbundle(&tree, &bundle);
    git(&tree, &["checkout", "-q", "-b", "work", base]);
    std::fs::write(tree.join("new.txt"), message).unwrap();
    git(&tree, &["add", "-A"]);
    git(&tree, &["commit", "-qm", message]);
    let back = host.path(&format!("{message}.back"));
    git(&tree, &["bundle", "create", "-q", back.to_str().unwrap(), "work", &format!("^{base}")]);
    let sha = repository.receive(&Tree, back.to_str().unwrap()).await.unwrap();
    assert_eq!(sha, git(&tree, &["rev-parse", "HEAD"]));
    // The sandbox is gone before anything is delivered.
    std::fs::remove_dir_all(&tree).unwrap();
    sha
}

/// Takes a bundle that the host sent, with its cut history where it has one.
fn unbundle(tree: &Path, bundle: &Path) {
    let shallow = PathBuf::from(format!("{}.shallow", bundle.display()));
    if shallow.exists() {
        std::fs::copy(shallow, tree.join(".git/shallow")).unwrap();
    }
    git(tree, &["fetch", "-q", bundle.to_str().unwrap(), "refs/heads/harvest-base:refs/harvest/base"]);
}

#[tokio::test]
async fn a_commit_made_in_a_sandbox_reaches_the_repository_as_a_branch() {
    let host = Host::new(&[]);
    let path = sample(&host.path("project"));
    let head = git(&path, &["rev-parse", "HEAD"]);
    let repository = host.open(path.to_str().unwrap()).await;
    assert_eq!((repository.name(), repository.identity()), ("project", path.to_str().unwrap()));
    let fetched = repository.fetch(None, None).await.unwrap();
    assert_eq!(fetched, Fetched { sha: head.clone(), branch: Some("main".into()) });

    let sha = session(&host, &*repository, &head, "one").await;
    let delivery = repository.deliver(&sha).await.unwrap();

    assert_eq!(delivery.reference, format!("refs/heads/harvest/{}", host.run));
    assert_eq!(git(&path, &["rev-parse", &delivery.reference]), sha);
    assert_eq!(git(&path, &["symbolic-ref", "HEAD"]), "refs/heads/main");
    assert_eq!(git(&path, &["rev-parse", "HEAD"]), head);
    assert_eq!(git(&path, &["status", "--porcelain"]), "");
    git(&path, &["fsck", "--strict"]);

    // The line works as printed, from a fresh clone.
    let clone = host.path("clone");
    git(&path, &["clone", "-q", ".", clone.to_str().unwrap()]);
    git(&clone, &delivery.fetch.split(' ').skip(1).collect::<Vec<_>>());
    assert_eq!(git(&clone, &["rev-parse", "FETCH_HEAD"]), sha);
    assert_eq!(git(&clone, &["show", "FETCH_HEAD:new.txt"]), "one");
    // Nothing is left of the way there.
    assert_eq!(std::fs::read_dir(host.home().join("git/tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_later_commit_of_the_run_replaces_an_earlier_but_not_a_persons() {
    let host = Host::new(&[]);
    let path = sample(&host.path("project"));
    let repository = host.open(path.to_str().unwrap()).await;
    let base = repository.fetch(None, None).await.unwrap().sha;
    let first = session(&host, &*repository, &base, "first").await;
    let second = session(&host, &*repository, &base, "second").await;
    let branch = repository.deliver(&first).await.unwrap().reference;
    assert_eq!(repository.deliver(&first).await.unwrap().reference, branch);
    repository.deliver(&second).await.unwrap();
    assert_eq!(git(&path, &["rev-parse", &branch]), second);

    // A person goes on from it; what they made stays, and the run's work is kept beside it.
    let theirs = git(&path, &["commit-tree", "-p", &second, "-m", "mine", "HEAD^{tree}"]);
    git(&path, &["update-ref", &branch, &theirs]);
    let bundled = repository.deliver(&first).await.unwrap();
    assert_eq!(git(&path, &["rev-parse", &branch]), theirs);
    git(&path, &bundled.fetch.split(' ').skip(1).collect::<Vec<_>>());
    assert_eq!(git(&path, &["rev-parse", "FETCH_HEAD"]), first);

    // The same where they have it checked out.
    git(&path, &["update-ref", &branch, &second]);
    git(&path, &["checkout", "-q", &format!("harvest/{}", host.run)]);
    assert!(repository.deliver(&first).await.unwrap().fetch.contains(".bundle"));
    assert_eq!(git(&path, &["status", "--porcelain"]), "");
}

#[tokio::test]
async fn branches_tags_and_commits_are_found() {
    let host = Host::new(&[]);
    let path = sample(&host.path("project"));
    let repository = host.open(&format!("file://{}", path.display())).await;
    let commit = |name: &str| git(&path, &["rev-parse", &format!("{name}^{{commit}}")]);
    let old = commit("main~1");
    for (name, branch) in [
        ("develop", Some("develop")),
        ("v1", None),
        ("refs/heads/develop", Some("develop")),
        (old.as_str(), None),
    ] {
        let expected = Fetched { sha: commit(name), branch: branch.map(str::to_owned) };
        assert_eq!(repository.resolve(Some(name)).await.unwrap(), expected, "{name}");
        assert_eq!(repository.fetch(Some(name), None).await.unwrap(), expected, "{name}");
    }
    let error = repository.fetch(Some("devlop"), None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NOT_FOUND);
    assert!(error.message.contains("did you mean develop?"), "{}", error.message);
    let error = repository.fetch(Some(&"0".repeat(40)), None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NOT_FOUND, "{}", error.message);
    let error = repository.fetch(Some("--upload-pack=id"), None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::INVALID);
}

#[tokio::test]
async fn what_is_no_repository_is_not_found() {
    let host = Host::new(&[]);
    std::fs::create_dir(host.path("empty")).unwrap();
    let repository = host.open(host.path("empty").to_str().unwrap()).await;
    assert_eq!(repository.fetch(None, None).await.unwrap_err().kind, ErrorKind::NOT_FOUND);

    std::fs::create_dir(host.path("unborn")).unwrap();
    git(&host.path("unborn"), &["init", "-q"]);
    let repository = host.open(host.path("unborn").to_str().unwrap()).await;
    let error = repository.fetch(None, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NOT_FOUND);
    assert!(error.message.contains("first commit"), "{}", error.message);
}

#[tokio::test]
async fn cut_history_stays_cut_and_whole_history_whole() {
    let host = Host::new(&[]);
    let path = sample(&host.path("project"));
    let repository = host.open(path.to_str().unwrap()).await;
    let base = repository.fetch(None, Some(1)).await.unwrap().sha;
    let bundle = host.path("cut");
    repository.send(&Tree, &base, bundle.to_str().unwrap()).await.unwrap();
    let tree = host.path("tree");
    std::fs::create_dir(&tree).unwrap();
    git(&tree, &["init", "-q"]);
    unbundle(&tree, &bundle);
    assert_eq!(git(&tree, &["rev-list", "--count", "refs/harvest/base"]), "1");

    let sha = session(&host, &*repository, &base, "cut-work").await;
    let delivery = repository.deliver(&sha).await.unwrap();
    assert_eq!(git(&path, &["rev-list", "--count", &delivery.reference]), "4");
    assert!(!path.join(".git/shallow").exists());

    repository.fetch(None, None).await.unwrap();
    let other = host.path("whole");
    host.open(path.to_str().unwrap()).await.fetch(Some("develop"), None).await.unwrap();
    let develop = git(&path, &["rev-parse", "develop"]);
    repository.send(&Tree, &develop, other.to_str().unwrap()).await.unwrap();
    assert!(!host.path("whole.shallow").exists());
}

#[tokio::test]
async fn worktrees_bare_and_packed_repositories_work() {
    let host = Host::new(&[]);
    let path = sample(&host.path("project"));
    git(&path, &["gc", "-q"]);
    git(&path, &["worktree", "add", "-q", "../linked", "develop"]);
    git(&path, &["clone", "-q", "--bare", ".", "../bare.git"]);
    for (place, branch) in [("linked", "develop"), ("bare.git", "main")] {
        let repository = host.open(host.path(place).to_str().unwrap()).await;
        let fetched = repository.fetch(None, None).await.unwrap();
        assert_eq!(fetched.branch.as_deref(), Some(branch), "{place}");
        let sha = session(&host, &*repository, &fetched.sha, place).await;
        let delivery = repository.deliver(&sha).await.unwrap();
        assert_eq!(git(&host.path(place), &["rev-parse", &delivery.reference]), sha, "{place}");
    }
}

#[tokio::test]
async fn push_moves_a_branch_forward_only_and_never_the_one_checked_out() {
    let host = Host::new(&[]);
    let path = sample(&host.path("project"));
    let repository = host.open(path.to_str().unwrap()).await;
    let base = repository.fetch(None, None).await.unwrap().sha;
    let first = session(&host, &*repository, &base, "push-1").await;
    let second = session(&host, &*repository, &base, "push-2").await;
    repository.push(&first, "feature/x").await.unwrap();
    assert_eq!(git(&path, &["rev-parse", "feature/x"]), first);
    for (sha, branch) in [(&second, "feature/x"), (&first, "main")] {
        let error = repository.push(sha, branch).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::CONFLICT, "{branch}: {}", error.message);
    }
    assert_eq!(git(&path, &["rev-parse", "feature/x"]), first);
    assert_eq!(git(&path, &["rev-parse", "main"]), base);
}

#[tokio::test]
async fn a_run_reads_only_what_it_fetched_itself() {
    let host = Host::new(&[]);
    let path = sample(&host.path("project"));
    let sha = host.open(path.to_str().unwrap()).await.fetch(None, None).await.unwrap().sha;
    let other = harvest::id::RunId::generate();
    let repository =
        harvest::capability::git::GitProvider::open(&host.provider, &other, path.to_str().unwrap(), None)
            .await
            .unwrap();
    let target = host.path("stolen");
    let error = repository.send(&Tree, &sha, target.to_str().unwrap()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NOT_FOUND);
    assert!(!target.exists());
}

#[tokio::test]
async fn runs_share_a_copy_at_the_same_time_and_survive_locks_of_the_dead() {
    let host = Host::new(&[]);
    let path = sample(&host.path("project"));
    host.open(path.to_str().unwrap()).await.fetch(None, None).await.unwrap();
    let copy = std::fs::read_dir(host.home().join("git"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "git"))
        .unwrap();
    // As a killed git leaves them.
    std::fs::write(copy.join("packed-refs.lock"), "").unwrap();
    let own = copy.join("refs/harvest").join(host.run.as_str());
    std::fs::write(own.join("incoming.lock"), "").unwrap();
    let fetches = (0..6).map(|_| async {
        let run = harvest::id::RunId::generate();
        let open =
            harvest::capability::git::GitProvider::open(&host.provider, &run, path.to_str().unwrap(), None);
        open.await.unwrap().fetch(Some("develop"), None).await.unwrap().sha
    });
    let shas = futures_util::future::join_all(fetches).await;
    assert!(shas.iter().all(|sha| *sha == git(&path, &["rev-parse", "develop"])));
    host.open(path.to_str().unwrap()).await.fetch(None, None).await.unwrap();
}
