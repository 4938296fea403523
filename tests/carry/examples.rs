//! What becomes of a push, case by case.

use crate::repository::git;
use crate::session::Session;
use crate::world::World;
use harvest::id::StepId;
use harvest::step::ErrorKind;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_push_carries_commits_forward_and_leaves_the_rest_uncommitted() {
    let world = World::new();
    let session = Session::new(&world).await;
    session.write("a", "mine\n");
    session.commit("mine");
    session.write("b", "not committed\n");
    session.write("new", "not tracked\n");
    session.git(&["config", "core.hooksPath", "/nonexistent"]);
    session.others.push("c", "theirs\n");
    let pushed = session.push("fetch-rebase").await.unwrap();
    assert_eq!(session.subjects("main"), "mine, theirs: c, first, zero");
    assert_eq!(session.git(&["rev-parse", "HEAD"]), pushed["sha"].as_str().unwrap());
    assert_eq!(session.git(&["status", "--porcelain"]), "M b\n?? new");
    assert_eq!(session.git(&["status", "-sb"]).lines().next(), Some("## main...origin/main [ahead 1]"));
    assert_eq!(std::fs::read_to_string(session.tree.join("c")).unwrap(), "theirs\n");
    assert_eq!(session.git(&["log", "-1", "--format=%an"]), "Ann");
    assert_eq!(session.git(&["worktree", "list"]).lines().count(), 1);
    // The files of the commit are the session's alone.
    let committed =
        session.step("commit", json!({"path": session.tree, "message": "more"}), 1).await.unwrap();
    assert_eq!(committed["files"], json!(["a", "b", "new"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_ends_on_a_branch_that_keeps_everything() {
    let world = World::new();
    let session = Session::new(&world).await;
    session.write("a", "mine\n");
    let mine = session.commit("mine");
    session.write("b", "not committed\n");
    let theirs = session.others.push("a", "theirs\n");
    let error = session.push("fetch-rebase").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::CONFLICT, "{error}");
    assert!(
        error.message.starts_with("others changed the same lines of a; all of it is on branch "),
        "{error}"
    );
    let branch = error.message.split_whitespace().find(|word| word.starts_with("harvest/panic-")).unwrap();
    assert_eq!(session.subjects(branch), "wip: snapshot, mine, first, zero");
    assert_eq!(git(&session.remote, &["show", &format!("{branch}:b")]), "not committed");
    // The tree is as it was.
    assert_eq!(session.git(&["rev-parse", "HEAD"]), mine);
    assert_eq!(session.git(&["status", "--porcelain"]), "M b");
    assert_eq!(git(&session.remote, &["rev-parse", "main"]), theirs);
    // Another attempt comes to the same end, on the same branch.
    let again = session.push("fetch-rebase").await.unwrap_err();
    assert_eq!(again, error);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_never_stands_still_is_given_up_after_three_tries() {
    let world = World::new();
    let session = Session::new(&world).await;
    session.write("a", "mine\n");
    session.commit("mine");
    // The calls of a try are: receive, push; then fetch and send.
    let race = (1..=40).map(|at| {
        let others = session.others.clone();
        let act: Box<dyn FnOnce() + Send> = Box::new(move || {
            others.push("b", &format!("{at}\n"));
        });
        (at, act)
    });
    world.fuse.set(None, race.collect());
    let error = session.push("fetch-rebase").await.unwrap_err();
    world.fuse.set(None, Vec::new());
    assert_eq!(error.kind, ErrorKind::CONFLICT);
    assert!(error.message.contains("moved on during each of 3 tries"), "{error}");
    let branch = error.message.split_whitespace().find(|word| word.starts_with("harvest/panic-")).unwrap();
    assert!(session.subjects(branch).starts_with("mine, theirs: b"), "{}", session.subjects(branch));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_rewrite_commits_of_others_stops() {
    let world = World::new();
    let session = Session::new(&world).await;
    session.git(&["reset", "-q", "--hard", "HEAD~1"]);
    let head = git(&session.remote, &["rev-parse", "main"]);
    for strategy in ["refuse", "fetch-rebase"] {
        let error = session.push(strategy).await.unwrap_err();
        assert!(error.message.contains("a push never takes commits away"), "{error}");
    }
    session.write("a", "mine\n");
    session.commit("mine");
    let error = session.push("fetch-rebase").await.unwrap_err();
    assert!(error.message.contains("took commits of others away"), "{error}");
    assert!(error.message.contains("all of it is on branch harvest/panic-"), "{error}");
    assert_eq!(git(&session.remote, &["rev-parse", "main"]), head);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_push_delivers_what_there_is() {
    let world = World::new();
    let session = Session::new(&world).await;
    session.write("a", "mine\n");
    let mine = session.commit("mine");
    session.others.push("b", "theirs\n");
    let error = session.push("refuse").await.unwrap_err();
    assert!(error.message.contains("have it with: git fetch "), "{error}");
    assert_eq!(git(&session.remote, &["rev-parse", &format!("harvest/{}", session.run)]), mine);
}

#[tokio::test(flavor = "multi_thread")]
async fn passing_by_every_rule_loses_nothing() {
    let world = World::new();
    let session = Session::new(&world).await;
    let mut made = Vec::new();
    session.write("a", "first\n");
    made.push(session.commit("first try"));
    session.git(&["reset", "-q", "--hard", "HEAD~1"]);
    session.write("b", "stashed\n");
    session.git(&["stash", "-q"]);
    made.push(session.git(&["rev-parse", "stash"]));
    session.git(&["stash", "drop", "-q"]);
    session.git(&["checkout", "-q", "--orphan", "alone"]);
    made.push(session.commit("an orphan"));
    session.git(&["checkout", "-q", "main"]);
    session.git(&["branch", "-q", "-D", "alone"]);
    session.write("c", "one\ntwo\n");
    made.push(session.commit("amended away"));
    session.git(&["commit", "-q", "--amend", "-m", "kept"]);
    session.git(&["reflog", "expire", "--expire=now", "--all"]);
    let kept = session.step("snapshot", json!({"path": session.tree}), 1).await.unwrap();
    assert_eq!(kept["sha"], session.git(&["rev-parse", "HEAD"]));
    std::fs::remove_dir_all(&session.tree).unwrap();
    let left = session.kept();
    assert!(made.iter().all(|commit| left.contains(commit)), "{made:?}");
    assert_eq!(session.subjects(kept["ref"].as_str().unwrap()), "kept, first, zero");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_only_the_content_shows_is_kept() {
    let world = World::new();
    let session = Session::new(&world).await;
    session.git(&["config", "core.trustctime", "false"]);
    // Size and times are the same as those that git remembers of it.
    let age = |file: &str| {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        std::fs::File::options()
            .append(true)
            .open(session.tree.join(file))
            .unwrap()
            .set_modified(time)
            .unwrap();
    };
    session.write("a", "before\n");
    age("a");
    session.commit("before");
    age(".git/index");
    session.write("a", "after!\n");
    age("a");
    let kept = session.step("snapshot", json!({"path": session.tree}), 1).await.unwrap();
    assert_eq!(git(&session.remote, &["show", &format!("{}:a", kept["sha"].as_str().unwrap())]), "after!");
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_are_signed_by_the_host_also_after_a_rebase() {
    let world = World::new();
    let key = world.path("key");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "dev@example.com", "-f"])
        .arg(&key)
        .status()
        .unwrap();
    assert!(made.success());
    let private = std::fs::read_to_string(&key).unwrap();
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    std::fs::write(world.path("signers"), format!("dev@example.com {public}")).unwrap();
    let session = Session::with_secrets(&world, [("signing".to_owned(), private.clone())].into()).await;
    let verify = |commit: &str| {
        let file = format!("gpg.ssh.allowedSignersFile={}", world.path("signers").display());
        session.git(&["-c", &file, "-c", "gpg.format=ssh", "verify-commit", commit]);
    };
    let secrets = [("signing_key", "signing")];

    session.write("a", "the agent's own\n");
    let unsigned = session.commit("own");
    session.write("a", "the agent's own, and more\n");
    let arguments = json!({"path": session.tree, "message": "é all of it"});
    let committed = session.step_with("commit", arguments, 1, &secrets).await.unwrap();
    let head = committed["sha"].as_str().unwrap();
    assert_eq!(session.git(&["rev-parse", "HEAD"]), head);
    assert_eq!(session.git(&["status", "--porcelain"]), "");
    verify(head);
    verify("HEAD~1");
    assert_eq!(session.git(&["show", "-s", "--format=%s|%an|%ae", "HEAD~1"]), "own|Ann|ann@example.com");
    assert_eq!(session.git(&["diff", &unsigned, "HEAD~1"]), "");
    // Once more changes nothing.
    let again = session.step_with("commit", json!({"path": session.tree, "message": "m"}), 1, &secrets).await;
    assert_eq!(again.unwrap()["sha"], committed["sha"]);

    session.others.push("b", "theirs\n");
    let arguments = json!({"path": session.tree, "strategy": "fetch-rebase"});
    session.step_with("push", arguments, 1, &secrets).await.unwrap();
    assert_eq!(session.subjects("main"), "é all of it, own, theirs: b, first, zero");
    verify("HEAD");
    verify("HEAD~1");
    let kept = session.kept();
    assert!(kept.contains(&unsigned) && kept.contains(head));
    // The key is nowhere that the sandbox could see.
    let line = private.lines().nth(1).unwrap();
    let found = std::process::Command::new("grep").args(["-rlF", line]).arg(&session.tree).output().unwrap();
    assert_eq!(String::from_utf8(found.stdout).unwrap(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_key_is_refused_before_anything_is_rewritten() {
    let world = World::new();
    let session =
        Session::with_secrets(&world, [("signing".to_owned(), "no key at all".to_owned())].into()).await;
    session.write("a", "mine\n");
    let head = session.commit("mine");
    let arguments = json!({"path": session.tree, "message": "m"});
    let error = session.step_with("commit", arguments, 1, &[("signing_key", "signing")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::INVALID, "{error}");
    assert!(
        error.message.contains("OpenSSH private key") && !error.message.contains("no key at all"),
        "{error}"
    );
    assert_eq!(session.git(&["rev-parse", "HEAD"]), head);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_works_on_several_repositories() {
    let world = World::new();
    let session = Session::new(&world).await;
    let place = session.remote.parent().unwrap();
    let other = place.join("other/remote.git");
    git(&session.remote, &["clone", "-q", "--bare", ".", other.to_str().unwrap()]);
    let (parent, beside) = (session.tree.parent().unwrap(), place.join("tree/other"));
    // Two of one name do not fit into one directory.
    let clone = async |into: &std::path::Path| {
        let arguments = json!({"repo": other, "into": into});
        session.step_at(StepId::new("clone_other"), "clone", arguments, 1, &[]).await
    };
    assert_eq!(clone(parent).await.unwrap_err().kind, ErrorKind::CONFLICT);
    let cloned = clone(&beside).await.unwrap();
    let second = std::path::Path::new(cloned["path"].as_str().unwrap());
    assert_eq!(second, beside.join("remote"));
    session.write("a", "in the first\n");
    std::fs::write(second.join("a"), "in the second\n").unwrap();
    let who = json!({"path": second, "name": "Dev", "email": "dev@example.com"});
    session.step("configure", who, 1).await.unwrap();
    for (path, repository, content) in
        [(session.tree.as_path(), &session.remote, "in the first"), (second, &other, "in the second")]
    {
        let committed = session.step("commit", json!({"path": path, "message": "m"}), 1).await.unwrap();
        let line: Vec<&str> = committed["fetch"].as_str().unwrap().split(' ').skip(1).collect();
        git(repository, &line);
        assert_eq!(git(repository, &["show", "FETCH_HEAD:a"]), content);
        let pushed =
            session.step("push", json!({"path": path, "strategy": "fetch-rebase"}), 1).await.unwrap();
        assert_eq!(git(repository, &["rev-parse", "main"]), pushed["sha"].as_str().unwrap());
    }
}
